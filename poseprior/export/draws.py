"""Draws as functions of noise, for graphs that hold no random numbers.

Noise is standard normal but for the numbers that choose components, which are uniform in [0, 1). Gaussians are drawn
without the truncation at |x| = pi of `sample`, which draws such tangent vectors again: here they wrap round. For the
spreads of limbs that is a draw in millions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..models import GaussianMixturePrior, GaussianPrior, GlobalFlow, ProductPrior
from ..models.gaussian.masked_mixture import MaskedMixture
from ..models.vae.base import BaseVAE
from ..models.vae.core import VAECore
from ..prior import PosePrior


class Draw(nn.Module, ABC):
    """Rotvecs (B, J, 3) of a prior's joints, from noise (B, `normals`), (B, `uniforms`) and the observed joints.

    Attributes:
        normals, uniforms: numbers of each kind that a draw takes.
    """

    normals: int
    uniforms: int = 0

    @abstractmethod
    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        """The prior's rotvecs with the hidden joints drawn; `rotvec` is looked at where joints are observed."""


class _GaussianDraw(Draw):
    """Of a diagonal Gaussian, whose joints are independent: observed ones do not matter."""

    mean: Tensor
    scale: Tensor

    def __init__(self, prior: GaussianPrior) -> None:
        super().__init__()
        self.chart, self.normals = prior.chart, 3 * len(prior.joints)
        self.register_buffer("mean", prior.mean.detach())
        self.register_buffer("scale", prior.log_scale.detach().exp())

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        return self.chart.inverse(self.mean + self.scale * normal.unflatten(1, (-1, 3)))


class _MixtureDraw(Draw):
    """Of the mixtures of independent groups: a component by its posterior, then its conditional Gaussian."""

    def __init__(self, prior: GaussianPrior | GaussianMixturePrior, observed: list[bool]) -> None:
        super().__init__()
        self.chart = prior.chart
        self.groups = nn.ModuleList()
        for part, place in prior.factors._each():
            self.groups.append(_GroupDraw(part, place, [observed[k] for k in place.tolist()]))
        self.normals = 3 * len(prior.joints)
        self.uniforms = len(self.groups)

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        z, _ = self.chart(rotvec, None)
        noise = normal.unflatten(1, (-1, 3))
        for k, group in enumerate(self.groups):
            z = z.index_copy(1, group.place, group(z, noise, uniform[:, k]))
        return self.chart.inverse(z)


class _GroupDraw(nn.Module):
    """The mixture of one group at `place`, given its observed joints: all factors are computed once."""

    place: Tensor
    known: Tensor
    missing: Tensor
    gain: Tensor
    factor: Tensor

    def __init__(self, part: MaskedMixture, place: Tensor, observed: list[bool]) -> None:
        super().__init__()
        self.part, self.mask = part, observed
        flags = torch.tensor(observed, device=place.device).repeat_interleave(3)
        known, missing = flags.nonzero()[:, 0], (~flags).nonzero()[:, 0]
        gain, factor = part._conditional(known, missing)
        tensors = {"place": place, "known": known, "missing": missing, "gain": gain, "factor": factor}
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach())
        part._masked_log_prob(part.mean[:1], observed)  # caches the factor, which a graph then holds

    def forward(self, z: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """(B, Jg, 3) of the group, from (B, J, 3) coordinates and noise of all joints, and uniform (B,)."""
        own, part = z.index_select(1, self.place).flatten(1), self.part
        drawn = noise.index_select(1, self.place).flatten(1).index_select(1, self.missing)
        weight = part.log_weights()[None]
        if len(self.known):
            weight = weight + part._masked_log_prob(own, self.mask)
        chosen = (weight.softmax(-1).cumsum(-1) <= uniform[:, None]).to(torch.long).sum(-1)
        one = nn.functional.one_hot(chosen.clamp_max(part.num_components - 1), part.num_components).to(own.dtype)
        # Every component's draw, of which the chosen one stays: no gather of matrices.
        each = part.mean[:, self.missing] + (self.factor @ drawn[:, None, :, None])[..., 0]
        if len(self.known):
            error = own.index_select(1, self.known)[:, None] - part.mean[:, self.known]
            each = each + (self.gain @ error[..., None])[..., 0]
        filled = (each * one[..., None]).sum(1)
        return own.index_copy(1, self.missing, filled).unflatten(1, (-1, 3))


class _FlowDraw(Draw):
    """Of a flow over the whole pose: what it decodes."""

    def __init__(self, prior: GlobalFlow) -> None:
        super().__init__()
        self.prior, self.normals = prior, prior.latent_dim

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        return self.prior._decode(normal, None)


class _VAEDraw(Draw):
    """Of a variational autoencoder: a latent, what it decodes to, and the noise around that."""

    def __init__(self, prior: BaseVAE) -> None:
        super().__init__()
        self.prior = prior
        self._joints = [len(view.places) for view, _, _ in prior._each()]
        self.normals = prior.latent_dim + 3 * sum(self._joints)
        self.uniforms = sum(self._joints)

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        latent, noise = normal.split((self.prior.latent_dim, 3 * sum(self._joints)), 1)
        parts = []
        noises, levels = noise.unflatten(1, (-1, 3)).split(self._joints, 1), uniform.split(self._joints, 1)
        for (view, core, where), own, level in zip(self.prior._each(), noises, levels, strict=True):
            z = latent[:, where] if core.flow is None else core.flow.inverse(latent[:, where])
            parts.append((view, self._noisy(core, z, own, level)))
        return self.prior._assemble(parts)

    @staticmethod
    def _noisy(core: VAECore, z: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        rotmat, modulation = core.matrices(z)
        factor = core.noise.chosen_factor(core.noise.factor(modulation), level)
        return core.to_rotvec(rotmat, (factor @ noise[..., None])[..., 0])


class _ProductDraw(Draw):
    """Of independent parts."""

    def __init__(self, prior: ProductPrior, observed: list[bool]) -> None:
        super().__init__()
        self.draws, self._views = nn.ModuleList(), []
        for part, view in prior._each():
            draw = draw_of(part, [observed[k] for k in view.places])
            self.draws.append(draw)
            self._views.append((view, draw.normals, draw.uniforms))
        self.normals = sum(normals for _, normals, _ in self._views)
        self.uniforms = sum(uniforms for _, _, uniforms in self._views)

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        normals = normal.split([count for _, count, _ in self._views], 1)
        uniforms = uniform.split([count for _, _, count in self._views], 1)
        for draw, (view, _, _), own, level in zip(self.draws, self._views, normals, uniforms, strict=True):
            index = torch.tensor(view.places, device=rotvec.device)
            drawn = draw(view.reflect(rotvec.index_select(1, index)), own, level)
            rotvec = rotvec.index_copy(1, index, view.reflect(drawn))
        return rotvec


def draw_of(prior: PosePrior, observed: list[bool]) -> Draw:
    """How a prior draws given the joints that are `observed` (J,), or whole poses where none is.

    Raises:
        ValueError: a prior whose draws are no function of noise that a graph can hold.
    """
    some = any(observed)
    if isinstance(prior, ProductPrior):
        return _ProductDraw(prior, observed)
    if isinstance(prior, GaussianPrior) and prior.covariance_kind == "diagonal":
        return _GaussianDraw(prior)
    if isinstance(prior, GaussianPrior | GaussianMixturePrior):
        return _MixtureDraw(prior, observed)
    if not some and isinstance(prior, GlobalFlow) and not prior.context_dim:
        return _FlowDraw(prior)
    if not some and isinstance(prior, BaseVAE):
        return _VAEDraw(prior)
    what, known = ("complete", "GaussianPrior, GaussianMixturePrior") if some else (
        "sample", "GaussianPrior, GaussianMixturePrior, GlobalFlow, a VAE"
    )  # fmt: skip
    raise ValueError(f"what: {type(prior).__name__} has no {what} in ONNX; {known} and products of them have.")
