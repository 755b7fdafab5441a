"""Draws of Gaussians and mixtures from noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models import GaussianMixturePrior, GaussianPrior
from ..models.gaussian.masked_mixture import MaskedMixture
from .draw import Draw


class GaussianDraw(Draw):
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


class MixtureDraw(Draw):
    """Of the mixtures of independent groups: a component by its posterior, then its conditional Gaussian."""

    def __init__(self, prior: GaussianPrior | GaussianMixturePrior, observed: list[bool]) -> None:
        super().__init__()
        self.chart = prior.chart
        self.groups = nn.ModuleList()
        for part, place in prior.factors._each():
            self.groups.append(GroupDraw(part, place, [observed[k] for k in place.tolist()]))
        self.normals = 3 * len(prior.joints)
        self.uniforms = len(self.groups)

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        z, _ = self.chart(rotvec, None)
        noise = normal.unflatten(1, (-1, 3))
        for k, group in enumerate(self.groups):
            z = z.index_copy(1, group.place, group(z, noise, uniform[:, k]))
        return self.chart.inverse(z)


class GroupDraw(nn.Module):
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
