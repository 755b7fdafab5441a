"""Draws as functions of noise, for graphs that hold no random numbers.

Noise is standard normal but for the numbers that choose components, which are uniform in [0, 1). Gaussians are drawn
without the truncation at |x| = pi of `sample`, which draws such tangent vectors again: here they wrap round. For the
spreads of limbs that is a draw in millions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .. import skeleton
from ..models import GaussianMixturePrior, GaussianPrior, GlobalFlow, JointFlow, OrderAgnosticPrior, ProductPrior
from ..models.joint_flow.graph import with_dependents
from ..models.vae.base import BaseVAE
from ..models.vae.core import VAECore
from ..prior import PosePrior
from .draw import Draw
from .gaussian_draws import GaussianDraw, MixtureDraw
from .order_draws import OrderAgnosticDraw


class _FlowDraw(Draw):
    """Of a flow over the whole pose: what it decodes."""

    def __init__(self, prior: GlobalFlow) -> None:
        super().__init__()
        self.prior, self.normals = prior, prior.latent_dim

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        return self.prior._decode(normal, None)


class _JointFlowDraw(Draw):
    """Of a flow for each joint: parents before their children."""

    def __init__(self, prior: JointFlow, observed: list[bool]) -> None:
        super().__init__()
        self.prior, self.observed, self.normals = prior, observed, 3 * len(prior.joints)
        self.uniforms = len(prior.joints) if prior.architecture == "default" else 0
        hidden = {joint for joint, seen in zip(prior.joints, observed, strict=True) if not seen}
        if more := with_dependents(hidden, prior.parents) - hidden:
            raise ValueError(
                "hide: expected joints of a JointFlow with all that depend on them, whose draws are exact, got some without "
                f"{', '.join(skeleton.JOINT_NAMES[j] for j in sorted(more))}; hide these too."
            )

    def forward(self, rotvec: Tensor, normal: Tensor, uniform: Tensor) -> Tensor:
        normal = normal.unflatten(1, (-1, 3))
        return self.prior.draw_of_noise(rotvec, self.observed, normal, uniform if self.uniforms else normal[..., 0])


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
        return GaussianDraw(prior)
    if isinstance(prior, GaussianPrior | GaussianMixturePrior):
        return MixtureDraw(prior, observed)
    if not some and isinstance(prior, GlobalFlow) and not prior.context_dim:
        return _FlowDraw(prior)
    if isinstance(prior, JointFlow):
        return _JointFlowDraw(prior, observed)
    if isinstance(prior, OrderAgnosticPrior):
        return OrderAgnosticDraw(prior, observed)
    if not some and isinstance(prior, BaseVAE):
        return _VAEDraw(prior)
    what, known = ("complete", "GaussianPrior, GaussianMixturePrior, JointFlow, OrderAgnosticPrior") if some else (
        "sample", "GaussianPrior, GaussianMixturePrior, GlobalFlow, JointFlow, OrderAgnosticPrior, a VAE"
    )  # fmt: skip
    raise ValueError(f"what: {type(prior).__name__} has no {what} in ONNX; {known} and products of them have.")
