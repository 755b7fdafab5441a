"""The other libraries' models that `benchmarks.speed.peers` times, at the number of parameters of one of ours.

Densities get 63 numbers a pose, the tangent coordinates of the 21 body joints, ready made: their authors' libraries know no
rotations. The priors of poseprior get rotvecs and map them to such coordinates themselves.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import gradient_step

_DIMS = 63
#: Transforms of a flow, whatever its width: what the libraries' own examples use.
_TRANSFORMS = {"MAF": 5, "NSF": 3}


@dataclass
class Timed:
    """What is timed of one model.

    Attributes:
        num_parameters: of the model; weights that a mask sets to zero have no part in it and do not count.
        step: from poses or coordinates (B, ...) to a call that computes log-density and gradient.
        inputs: B of them.
        sample: a call that draws 1,024 poses; None for models that are not timed by it.
        loss: the training loss of a batch; None for models that are not trained here.
        module: what has the parameters; None for models without tensors.
        note: what differs from log-density and gradient.
    """

    num_parameters: int
    step: Callable[[Tensor], Callable[[], object]]
    inputs: Callable[[int], Tensor]
    sample: Callable[[], object] | None = None
    loss: Callable[[Tensor], Tensor] | None = None
    module: nn.Module | None = None
    note: str = ""


def missing(package: str) -> bool:
    """Whether a package is not installed."""
    return importlib.util.find_spec(package) is None


def coordinates(count: int) -> Tensor:
    """Standardised coordinates (count, 63)."""
    return torch.randn(count, _DIMS, generator=torch.Generator().manual_seed(0))


def zuko_flow(kind: str, num_parameters: int, *, stored: bool = False) -> Timed:
    """zuko's MAF or NSF of the width that comes closest to a number of parameters.

    About half of the weights that an autoregressive flow stores are set to zero by its masks. They count with `stored`.
    """
    import zuko  # in a process of its own: it changes torch.distributions

    def build(width: int) -> nn.Module:
        flow: nn.Module = getattr(zuko.flows, kind)(_DIMS, transforms=_TRANSFORMS[kind], hidden_features=(width, width))
        return flow

    count = _count_stored if stored else _count
    flow = build(_closest_width(build, num_parameters, count))
    return Timed(
        num_parameters=_count(flow),
        step=lambda x: gradient_step(lambda z: flow().log_prob(z), x),
        inputs=coordinates,
        sample=lambda: flow().sample((1024,)),
        loss=lambda x: -flow().log_prob(x).mean(),
        module=flow,
        note=f"{_count_stored(flow):,} stored",
    )


def normflows_spline(num_parameters: int) -> Timed:
    """normflows' rational-quadratic spline couplings with LU permutations, as its examples build them."""
    import normflows

    def build(width: int) -> nn.Module:
        flows: list[Any] = []
        for _ in range(4):
            flows += [
                normflows.flows.CoupledRationalQuadraticSpline(_DIMS, 2, width),
                normflows.flows.LULinearPermute(_DIMS),
            ]
        model: nn.Module = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(_DIMS), flows)
        return model

    flow = build(_closest_width(build, num_parameters)).eval()
    return Timed(
        num_parameters=_count(flow),
        step=lambda x: gradient_step(flow.log_prob, x),  # type: ignore[arg-type]
        inputs=coordinates,
        sample=lambda: flow.sample(1024),  # type: ignore[operator]
        loss=lambda x: -flow.log_prob(x).mean(),  # type: ignore[operator]
        module=flow,
    )


def sklearn_mixture(num_components: int) -> Timed:
    """scikit-learn's mixture of full Gaussians: the density alone, it has no gradient."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(num_components, max_iter=2, random_state=0).fit(coordinates(2000).numpy())
    return Timed(
        num_parameters=num_components * (1 + _DIMS + _DIMS * (_DIMS + 1) // 2) - 1,
        step=lambda x: lambda: mixture.score_samples(x.numpy()),
        inputs=coordinates,
        sample=lambda: mixture.sample(1024),
        note="density without gradient",
    )


def vposer() -> Timed:
    """VPoser of human_body_prior: encode and decode (to matrices) with the gradient to the pose."""
    from human_body_prior.train.vposer_smpl import VPoser

    model = VPoser(num_neurons=512, latentD=32, data_shape=[1, 21, 3], use_cont_repr=True)
    model.eval().requires_grad_(False)

    def energy(x: Tensor) -> Tensor:
        matrices: Tensor = model.decode(model.encode(x).mean, output_type="matrot")
        return matrices.flatten(1).sum(1)

    return Timed(
        num_parameters=_count(model), step=lambda x: gradient_step(energy, 0.3 * x), inputs=coordinates,
        sample=lambda: model.decode(torch.randn(1024, 32), output_type="matrot"), note="encode, decode and gradient",
    )  # fmt: skip


def _count_stored(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _count(module: nn.Module) -> int:
    """Parameters that a model's values depend on: masked weights do not count."""
    masks = (getattr(layer, "mask", None) for layer in module.modules())
    return _count_stored(module) - sum(int((mask == 0).sum()) for mask in masks if isinstance(mask, Tensor))


def _closest_width(
    build: Callable[[int], nn.Module], num_parameters: int, count: Callable[[nn.Module], int] = _count
) -> int:
    """The width of the hidden layers that comes closest to a number of parameters, which grows with the width."""
    low, high = 1, 2048
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(build(middle)) <= num_parameters else (low, middle)
    return min((low, high), key=lambda width: abs(count(build(width)) - num_parameters))
