"""`BaseVAE`: what the variational autoencoders share (density, latents, draws, training objective)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from ..._checks import check_groups, check_whole
from ..._pose_checks import in_full_precision
from ...trainable import TrainingPoses
from ..shared.independent_groups import independent_groups, partition
from ..shared.mirror import GroupView, mirror_views
from .bounds import BoundedPrior
from .core import VAECore
from .inference import angle_sum, draw_latents, nearest_of_several
from .layers import normal_points
from .objective import group_loss, log_mean_weight
from .options import MOST_BOUND_SAMPLES, PUBLISHED, ClassDefaults, VAEOptions, refuse_joints_outside, upgrade_options
from .posterior import LatentPosterior

_Self = TypeVar("_Self", bound="BaseVAE")

_INITIAL_POSES = 20000
_ACTIVE_VARIANCE = 1e-2


class BaseVAE(BoundedPrior):
    """What the three VAEs share; build `VAEPrior`, `HandVAE` or `BodyVAE`.

    log p(pose) = log of the integral of p(z) prod_j p(R_j | z), with p(R_j | z) a normalised density on SO(3) around
    the decoded rotation (`RotationNoise`). `log_prob` is the importance-weighted lower bound (Burda et al. 2016)

        log 1/K sum_k p(observed | z_k) p(z_k) / q(z_k | observed),

    over `bound_samples` fixed normal points, so it is a differentiable function of the pose. The joints are independent
    given z, so a partial `observed` gives the bound of that marginal: the decoder leaves the hidden joints out, and the
    encoder takes the mask.

    Joints that training never shows together form independent groups with a latent each; two groups that mirror each
    other (hands tracked one at a time) share one network through the left/right mirror.

    Args:
        joints: joints to model; `fit` drops those that no pose observes. Each class has its own default.
        groups: independent groups of joints; `fit` learns them.
        latent_dim: latent numbers for each independent group. Each class has its own default.
        hidden, ..., encode_starts: see `poseprior.models.vae.VAEOptions`, which documents each of them.

    Attributes:
        latent_dim: length of a latent, over all groups together.
        groups: the independent groups.
        options: a `VAEOptions`.

    Raises:
        ValueError: an option of another type, out of range or without effect, or a joint that the class does not take.
    """

    _points: Tensor

    log_prob_kind: Literal["exact", "lower_bound"] = "lower_bound"
    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({"max_steps": 4000, "batch_size": 256})

    def __init__(
        self,
        joints: str | int | Iterable[str | int] | None = None,
        *,
        latent_dim: int | None = None,
        hidden: int = 256,
        depth: int = 2,
        dropout: float = 0.1,
        linear_path: bool = True,
        posterior: Literal["diagonal", "full"] = "full",
        flow_layers: int = 6,
        flow_hidden: int | None = None,
        adaptive_noise: bool = True,
        train_samples: int = 2,
        bound_samples: int = 16,
        kl_weight: float = 1.0,
        kl_warmup: int = 0,
        free_bits: float = 0.0,
        reconstruction_weight: float = 0.0,
        refine_steps: int = 0,
        mask_fraction: float = 0.25,
        encode_steps: int = 10,
        encode_starts: int = 1,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        own = self._class_defaults()
        options = VAEOptions(
            latent_dim=own.latent_dim if latent_dim is None else latent_dim, hidden=hidden, depth=depth, dropout=dropout,
            linear_path=linear_path, posterior=posterior, flow_layers=flow_layers, flow_hidden=flow_hidden,
            adaptive_noise=adaptive_noise, train_samples=train_samples, bound_samples=bound_samples, kl_weight=kl_weight,
            kl_warmup=kl_warmup, free_bits=free_bits, reconstruction_weight=reconstruction_weight,
            refine_steps=refine_steps, mask_fraction=mask_fraction, encode_steps=encode_steps, encode_starts=encode_starts,
        )  # fmt: skip
        super().__init__(own.joints if joints is None else joints)
        refuse_joints_outside(own.within, self.joints, type(self).__name__)
        self.options = options
        self.groups = partition(self.joints, check_groups("groups", groups))
        self._views = mirror_views(self.groups, self.joints)
        sizes = {view.network: len(view.places) for view in self._views}
        self.cores = nn.ModuleList(VAECore(sizes[k], options) for k in range(len(sizes)))
        self.latent_dim = options.latent_dim * len(self._views)
        self.bound_samples = options.bound_samples

    @staticmethod
    @abstractmethod
    def _class_defaults() -> ClassDefaults:
        """What the VAEs differ in."""

    @classmethod
    def published(
        cls: type[_Self],
        joints: str | int | Iterable[str | int] | None = None,
        *,
        latent_dim: int | None = None,
        bound_samples: int = 16,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> _Self:
        """The architecture of the literature, `poseprior.models.vae.options.PUBLISHED`; arguments are those of the class.

        Networks alone, a diagonal posterior, an N(0, I) prior, one noise scale; about 2 million parameters, trained by the
        evidence lower bound with KL warm-up and free bits. `encode` gives the posterior mean.
        """
        return cls(joints, latent_dim=latent_dim, bound_samples=bound_samples, groups=groups, **PUBLISHED)

    @property
    def bound_samples(self) -> int:
        """K of `log_prob`."""
        return self._bound_samples

    @bound_samples.setter
    def bound_samples(self, value: int) -> None:
        self._bound_samples = check_whole("bound_samples", value, least=1, most=MOST_BOUND_SAMPLES)
        points = normal_points(self._bound_samples, self.options.latent_dim)
        self.register_buffer("_points", points.to(self.device), persistent=False)

    def get_config(self) -> dict[str, Any]:
        options = replace(self.options, bound_samples=self.bound_samples)
        return {"joints": list(self.joints), "groups": self.groups, **asdict(options)}

    @classmethod
    def _upgrade_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return upgrade_options(config)

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        rebuilt = super()._fitted_config(train)
        groups = independent_groups(train.co_observed, tuple(rebuilt["joints"]))
        return {**rebuilt, "groups": [list(g) for g in groups]}

    def _initialise(self, train: TrainingPoses) -> None:
        rotvec, observed = train.poses(self.joints, max_poses=_INITIAL_POSES)
        for k in range(len(self.cores)):
            shown = [v.rows(rotvec, observed) for v in self._views if v.network == k]
            rows, seen = torch.cat([r for r, _ in shown]), torch.cat([s for _, s in shown])
            keep = seen.any(1)
            self._core(k).initialise(rows[keep], seen[keep], train.jitter)

    def _core(self, k: int) -> VAECore:
        core = self.cores[k]
        assert isinstance(core, VAECore)
        return core

    def _each(self) -> list[tuple[GroupView, VAECore, slice]]:
        """Every view, its network, and where its latent stands."""
        dim = self.options.latent_dim
        return [(v, self._core(v.network), slice(i * dim, (i + 1) * dim)) for i, v in enumerate(self._views)]

    # ------------------------------------------------------------------ densities

    def _log_prob(self, rotvec: Tensor, observed: Tensor | None, context: Tensor | None) -> Tensor:
        return log_mean_weight(*self._log_weights(rotvec, observed, self._points)).sum(0)

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        return self._log_prob(rotvec, None, context)

    def _log_weights(self, rotvec: Tensor, observed: Tensor | None, points: Tensor) -> tuple[Tensor, Tensor]:
        """log p(observed | z_k) and log p(z_k) / q(z_k), both (views, B, K); 0 where nothing is observed."""
        likelihoods, ratios = [], []
        for view, core, _ in self._each():
            rows, seen = (view.poses(rotvec), None) if observed is None else view.rows(rotvec, observed)
            likelihood, ratio = core.log_weights(rows, seen, points.to(rotvec))
            if seen is not None:
                some = seen.any(1, keepdim=True)
                likelihood = torch.where(some, likelihood, torch.zeros_like(likelihood))
                ratio = torch.where(some, ratio, torch.zeros_like(ratio))
            likelihoods.append(likelihood)
            ratios.append(ratio)
        return torch.stack(likelihoods), torch.stack(ratios)

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        o = self.options
        beta = o.kl_weight * (min(1.0, (step + 1) / o.kl_warmup) if o.kl_warmup else 1.0)
        total = rotvec.new_zeros(())
        for view, core, _ in self._each():
            rows, seen = view.rows(rotvec, observed)
            keep = seen.any(1)
            if bool(keep.any()):
                total = total + group_loss(core, self.options, rows[keep], seen[keep], beta)
        return total / len(rotvec)

    def selection_penalty(self, rotvec: Tensor, observed: Tensor) -> Tensor | None:
        """The weighted angles between poses and their reconstructions, which may still improve when the bound no longer does.

        Reconstructions are those of `decode(encode(pose))`, with `encode` from one start.
        """
        if not self.options.reconstruction_weight:
            return None
        total = torch.zeros_like(rotvec[:, 0, 0])
        for view, core, _ in self._each():
            rows, seen = view.rows(rotvec, observed)
            total = total + angle_sum(core, rows, seen, self._nearest(core, rows, seen, starts=1))
        return self.options.reconstruction_weight * total

    # ------------------------------------------------------------------ latents

    @in_full_precision
    def posterior(self, pose: Tensor, *, observed: Tensor | None = None) -> LatentPosterior:
        """The encoder's q(latent | observed joints) of poses (*batch, 55, 3) with a mask (*batch, 55), None for all.

        Raises:
            ValueError: as `log_prob`.
        """
        batch, rotvec, seen = self._check_pose(pose, observed)
        parts = []
        for view, core, _ in self._each():
            mean, factor, log_det = core.posterior(*view.rows(rotvec, seen))
            parts.append((core.flow, mean, factor, log_det))
        return LatentPosterior(batch, parts, pose.dtype)

    def active_units(self, pose: Tensor) -> int:
        """Latent coordinates whose posterior mean varies over poses (N, 55, 3): variance above 0.01 (Burda 2016)."""
        with torch.no_grad():
            return int((self.posterior(pose).mean.var(0) > _ACTIVE_VARIANCE).sum())

    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        latents = []
        for view, core, _ in self._each():
            z = self._nearest(core, view.poses(rotvec), None, starts=self.options.encode_starts)
            latents.append(z if core.flow is None else core.flow(z)[0])
        return torch.cat(latents, dim=-1)

    def _nearest(self, core: VAECore, rotvec: Tensor, seen: Tensor | None, *, starts: int) -> Tensor:
        """(B, D) z whose decoded pose is nearest to the observed joints."""
        z = core.posterior(rotvec, seen)[0]
        steps = self.options.encode_steps
        return nearest_of_several(core, rotvec, seen, z, steps=steps, starts=starts) if steps else z

    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        parts = []
        for view, core, where in self._each():
            z = latent[:, where] if core.flow is None else core.flow.inverse(latent[:, where])
            parts.append((view, core.to_rotvec(core.matrices(z)[0])))
        return self._assemble(parts)

    def _assemble(self, parts: list[tuple[GroupView, Tensor]]) -> Tensor:
        """(..., J, 3) of every view's rotvecs."""
        if len(parts) == 1 and parts[0][0].is_whole(len(self.joints)):
            return parts[0][1]
        full = parts[0][1].new_zeros(*parts[0][1].shape[:-2], len(self.joints), 3)
        for view, rotvec in parts:
            places = torch.tensor(view.places, device=full.device)
            full = full.index_copy(-2, places, view.reflect(rotvec))
        return full

    # ------------------------------------------------------------------ draws

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        parts = []
        for view, core, _ in self._each():
            z = torch.randn(num, core.dim, generator=generator, dtype=self.dtype, device=self.device)
            z = z if core.flow is None else core.flow.inverse(z)
            parts.append((view, self._noisy(core, z, generator)))
        return self._assemble(parts)

    def _noisy(self, core: VAECore, z: Tensor, generator: torch.Generator | None) -> Tensor:
        rotmat, modulation = core.matrices(z)
        lower = core.noise.factor(modulation).expand(*z.shape[:-1], core.num_joints, 3, 3)
        return core.to_rotvec(rotmat, core.noise.draw(lower, generator))

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        parts = []
        for view, core, _ in self._each():
            rows, seen = view.rows(rotvec, observed)
            z = draw_latents(core, rows, seen, num_samples, generator)
            parts.append((view, self._noisy(core, z, generator)))
        return self._assemble(parts)
