"""What of a prior is exported: modules from tensors to tensors, which hold no checks and no random numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import skeleton
from .._checks import check_choice
from ..prior import LatentPosePrior, PosePrior
from .draws import draw_of

#: What can be exported, by name.
WHAT = ("log_prob", "grad", "sample", "decode", "complete")
#: Poses of the batch that a graph is traced with; any number works afterwards.
_ROWS = 5


class Function(NamedTuple):
    """One function of a prior.

    Attributes:
        prior: whose function it is.
        module: what computes it.
        inputs: names and sizes (after the batch) of its arguments.
        outputs: names of what it returns.
    """

    prior: PosePrior
    module: nn.Module
    inputs: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]

    def example(self, rows: int = _ROWS, *, seed: int = 0) -> tuple[Tensor, ...]:
        """Arguments of a batch: poses that the prior draws, normal and uniform numbers."""
        generator = torch.Generator().manual_seed(seed)
        made = []
        for name, size in self.inputs.items():
            if name == "pose":
                made.append(self.prior.sample(rows, generator=generator))
            else:
                draw = torch.rand if name == "uniform" else torch.randn
                made.append(draw(rows, *size, generator=generator))
        return tuple(made)


class _LogProb(nn.Module):
    def __init__(self, prior: PosePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, pose: Tensor) -> Tensor:
        return self.prior.log_prob(pose)


class _Decode(nn.Module):
    def __init__(self, prior: LatentPosePrior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, latent: Tensor) -> Tensor:
        return self.prior.decode(latent)


class _Sample(nn.Module):
    """Whole poses of noise."""

    def __init__(self, prior: PosePrior) -> None:
        super().__init__()
        self.prior, self.draw = prior, draw_of(prior, [False] * len(prior.joints))

    def forward(self, normal: Tensor, uniform: Tensor | None = None) -> Tensor:
        rest = normal.new_zeros(normal.shape[0], len(self.prior.joints), 3)
        return self.prior._scatter(self.draw(rest, normal, normal[:, :0] if uniform is None else uniform))


class _Complete(nn.Module):
    """The hidden joints of poses, given the others and noise."""

    hidden: Tensor
    index: Tensor

    def __init__(self, prior: PosePrior, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.prior, self.draw = prior, draw_of(prior, [j not in hidden for j in prior.joints])
        flags = torch.tensor([j in hidden for j in range(skeleton.NUM_JOINTS)])
        self.register_buffer("hidden", flags[:, None])
        self.register_buffer("index", torch.tensor(prior.joints))

    def forward(self, pose: Tensor, normal: Tensor, uniform: Tensor | None = None) -> Tensor:
        known = torch.where(self.hidden, torch.zeros_like(pose), pose)
        level = normal[:, :0] if uniform is None else uniform
        drawn = self.draw(known.index_select(1, self.index), normal, level)
        return torch.where(self.hidden, self.prior._scatter(drawn), pose)


def function_of(prior: PosePrior, what: str, hide: Iterable[int] = ()) -> Function:
    """A function of a prior without context, in single precision, with frozen weights.

    Args:
        prior: the prior.
        what: one of `WHAT`. The module of "grad" is that of "log_prob".
        hide: joints that "complete" draws.

    Raises:
        ValueError: what this prior does not have, or "complete" that hides none or all of its joints.
    """
    check_choice("what", what, WHAT)
    pose: dict[str, tuple[int, ...]] = {"pose": (skeleton.NUM_JOINTS, 3)}
    if what in ("log_prob", "grad"):
        return Function(prior, _LogProb(prior), pose, ("log_prob",) if what == "log_prob" else ("log_prob", "grad"))
    if what == "decode":
        if not isinstance(prior, LatentPosePrior):
            raise ValueError(
                f"what: {type(prior).__name__} has no latent space to decode; JointFlow, GlobalFlow and VAEs have one."
            )
        return Function(prior, _Decode(prior), {"latent": (prior.latent_dim,)}, ("pose",))
    hidden = tuple(sorted(set(hide)))
    if what == "complete":
        left = set(hidden) & set(prior.joints)
        if not left or left == set(prior.joints):
            raise ValueError(
                "hide: expected some of the prior's joints for complete, and not all, got "
                f"{'all' if left else 'none'} of them; name a part, as left_arm, or joints."
            )
    module: _Sample | _Complete = _Complete(prior, hidden) if what == "complete" else _Sample(prior)
    inputs = {**(pose if what == "complete" else {}), "normal": (module.draw.normals,)}
    if module.draw.uniforms:
        inputs["uniform"] = (module.draw.uniforms,)
    return Function(prior, module, inputs, ("completed" if what == "complete" else "pose",))


def exportable(prior: PosePrior) -> tuple[str, ...]:
    """Which of `WHAT` a prior has."""
    hide = prior.joints[-1:] if len(prior.joints) > 1 else ()
    found = []
    for what in WHAT:
        try:
            function_of(prior, what, hide)
        except ValueError:
            continue
        found.append(what)
    return tuple(found)
