"""`PosePrior`: the one interface of every prior, and `LatentPosePrior` for those with a latent space.

The public methods check and flatten what users pass; models implement the underscored primitives on flat batches.
"""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, final

import torch
from torch import Tensor

from . import _pose_checks, _weight_checks, checkpoint, skeleton
from ._checks import check_whole
from ._chunks import in_chunks
from ._compiled import Compilable
from ._pose_checks import in_full_precision
from ._tracing import is_traced
from .io.dataset import PoseDataset
from .trainable import Trainable

if TYPE_CHECKING:  # `fit` and `adapt` are training, which knows priors: they import it when they are called
    from .training import FitConfig, FitResult

_Self = TypeVar("_Self", bound="PosePrior")


class PosePrior(Compilable, Trainable):
    """A probability density over poses.

    A pose is a (*batch, 55, 3) tensor of SMPL-X rotvecs (parent-relative axis-angle, radians); `observed` is a
    (*batch, 55) bool mask. Densities are in nats against the product of normalised Haar measures on SO(3), over the
    joints that are both observed and modelled: the uniform prior scores 0.

    Attributes:
        joints: SMPL-X indices of the joints the prior models, sorted; all others are ignored.
        log_prob_kind: "exact", or "lower_bound" for variational models.
        can_marginalise: whether `log_prob` takes any partial `observed`.
        context_dim: length of the conditioning vector; 0 for unconditional priors.
        fitted, metadata: see `Trainable`.
    """

    log_prob_kind: Literal["exact", "lower_bound"] = "exact"
    can_marginalise: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        checkpoint.register(cls)

    # ------------------------------------------------------------------ what a model implements

    @abstractmethod
    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        """(B,) Haar nats of (B, J, 3) rotvecs over the observed (B, J) of the modelled joints."""

    @abstractmethod
    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        """(num, J, 3) rotvecs; `context` is (num, C) or None."""

    def _log_prob_whole(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        """`_log_prob` of poses that show every joint: traced code calls it, which cannot see that a mask is all True."""
        return self._log_prob(rotvec, torch.ones_like(rotvec[..., 0], dtype=torch.bool), context)

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        """(S, B, J, 3) draws of the missing joints given the observed; the caller overwrites observed entries."""
        raise ValueError(
            f"complete: {type(self).__name__} has no exact conditional; use GaussianPrior, GaussianMixturePrior or "
            "OrderAgnosticPrior."
        )

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """The mean negative log-density of a (B, J, 3) batch, nats a pose, unless a model overrides it."""
        return -self._log_prob(rotvec, observed, context).mean()

    def can_score(self, observed: Tensor) -> Tensor:
        """(*batch,) bool, which masks (*batch, 55) bool `log_prob` takes.

        A prior that can marginalise takes all masks. Any other takes masks that show all its joints, and those that its
        class documents beside them.
        """
        seen = observed[..., list(self.joints)]
        return torch.ones_like(seen[..., 0]) if self.can_marginalise else seen.all(-1)

    def _refuse_partial(self, seen: Tensor) -> None:
        """Raise for masks (B, J) that a prior that cannot marginalise does not take."""
        _pose_checks.refuse_partial(type(self).__name__, self.joints, seen)

    # ------------------------------------------------------------------ the interface

    @final
    @in_full_precision
    @in_chunks
    def log_prob(self, pose: Tensor, *, observed: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Log-density of the observed modelled joints.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians; any norm (wrapped to the same rotation).
            observed: (*batch, 55) bool or broadcastable; None means all. Values of unobserved joints are ignored,
                whatever they are.
            context: (*batch, context_dim) conditioning vector, for conditional priors.

        Returns:
            (*batch,) nats against the product of normalised Haar measures, of the pose's dtype (single precision for
            half-precision poses, whose range ends at 65,504 nats).

        Raises:
            ValueError: wrong shape or dtype, non-finite values on observed modelled joints, or a partial `observed`
                for a prior that cannot marginalise.
        """
        batch, rotvec, seen = self._check_pose(pose, observed)
        condition = self._check_context(context, batch)
        if is_traced():
            whole = observed is None
            value = self._log_prob_whole(rotvec, condition) if whole else self._log_prob(rotvec, seen, condition)
        else:
            if not self.can_marginalise:
                self._refuse_partial(seen)
            compiled = self._compiled_log_prob(rotvec, observed, condition)
            value = self._log_prob(rotvec, seen, condition) if compiled is None else compiled
        value = value.to(_pose_checks.density_dtype(pose))
        return value if len(batch) == 1 else value.reshape(batch)

    @final
    @in_full_precision
    def sample(
        self,
        sample_shape: int | Sequence[int] = (),
        *,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw poses.

        Args:
            sample_shape: of independent draws; an int n means (n,).
            generator: source of randomness, on the prior's device.
            context: (context_dim,) or (*sample, context_dim), for conditional priors.

        Returns:
            (*sample, 55, 3) rotvecs, norms at most pi; joints that are not modelled are zero.

        Raises:
            ValueError: sizes that are not whole numbers of 0 or more, too many poses, or a context of another size.
        """
        _pose_checks.check_precision(self._settled())
        shape = _pose_checks.check_sample_shape(sample_shape)
        _pose_checks.check_generator(generator, self.device)
        condition = self._check_context(context, shape)
        with torch.no_grad():
            drawn = self._sample(math.prod(shape), generator, condition) if math.prod(shape) else self._zeros(0)
        return self._scatter(drawn).reshape(*shape, skeleton.NUM_JOINTS, 3)

    @final
    @in_full_precision
    def complete(
        self,
        pose: Tensor,
        observed: Tensor,
        *,
        num_samples: int = 1,
        generator: torch.Generator | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Draw the missing modelled joints from p(missing | observed).

        Args:
            pose: (*batch, 55, 3) rotvecs, radians; values of unobserved joints are ignored.
            observed: (*batch, 55) bool or broadcastable to it.
            num_samples: draws for each pose.
            generator: source of randomness, on the prior's device.
            context: (*batch, context_dim), for conditional priors.

        Returns:
            (num_samples, *batch, 55, 3): observed joints as given, missing ones drawn, or zero where not modelled.

        Raises:
            ValueError: as `log_prob`, or a prior that has no conditional for this mask.
        """
        check_whole("num_samples", num_samples, least=1)
        _pose_checks.check_generator(generator, self.device)
        if observed is None:
            raise ValueError(
                f"observed: expected a bool tensor (*batch, {skeleton.NUM_JOINTS}), got None; sample draws whole poses."
            )
        batch, rotvec, seen = self._check_pose(pose, observed)
        _pose_checks.check_draws("num_samples", num_samples * max(1, len(rotvec)), num_samples)
        condition = self._check_context(context, batch)
        with torch.no_grad():
            drawn = self._zeros(num_samples, 0)
            if len(rotvec):
                drawn = self._complete(rotvec, seen, num_samples, generator, condition)
        full = self._scatter(drawn).reshape(num_samples, *batch, skeleton.NUM_JOINTS, 3).to(pose)
        keep = observed.to(pose.device).expand(*batch, skeleton.NUM_JOINTS)
        return torch.where(keep[..., None], pose, full)

    @final
    def fit(
        self, train: PoseDataset | Tensor, *, val: PoseDataset | Tensor | None = None, config: FitConfig | None = None
    ) -> FitResult:
        """Train on poses, in place; see `poseprior.training.fit`, which has the same arguments."""
        from . import training

        return training.fit(self, train, val=val, config=config)

    @final
    def adapt(self, poses: PoseDataset | Tensor, *, steps: int = 200, seed: int = 0) -> PosePrior:
        """A prior for the rig that recorded the poses, from 100 or more of them; see `poseprior.tasks.adapt`."""
        from . import training

        return training.adapt(self, poses, steps=steps, seed=seed)

    @final
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.safetensors` file (beside the target, then renamed); ValueError for weights that `load` refuses."""
        checkpoint.save(self, path)

    @classmethod
    def load(cls: type[_Self], path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> _Self:
        """Read a prior that `save` wrote, in its dtype, in evaluation mode and with frozen weights; executes nothing.

        Args:
            path: a `.safetensors` file of poseprior. Called on `PosePrior`, takes any model.
            device: where to put the weights.

        Raises:
            ValueError: not a poseprior file, a newer format, another class, tensors that do not fit (all listed), or a
                device that is not there.
        """
        return checkpoint.load(path, cls, device=device)

    # ------------------------------------------------------------------ shared plumbing

    def _check_weights(self) -> None:
        _weight_checks.check_density(self._log_prob, self._zeros(1), self.context_dim)
        _weight_checks.check_draws(self._log_prob, self._sample, self._zeros(1), self.context_dim)

    def _check_pose(self, pose: Tensor, observed: Tensor | None) -> tuple[torch.Size, Tensor, Tensor]:
        """The batch shape, (B, J, 3) rotvecs with zeros where unobserved, and (B, J) bool; see `check_pose`."""
        return _pose_checks.check_pose(pose, observed, self._joint_index, self._settled())

    def _check_context(self, context: Tensor | None, batch: Sequence[int]) -> Tensor | None:
        if context is None:
            return None
        return _pose_checks.check_context(
            context, batch, self.context_dim, self._reference_tensor(), type(self).__name__
        )

    def _scatter(self, rotvec: Tensor) -> Tensor:
        """(..., J, 3) of the modelled joints into (..., 55, 3), zero elsewhere."""
        full = rotvec.new_zeros(*rotvec.shape[:-2], skeleton.NUM_JOINTS, 3)
        return full.index_copy(-2, self._joint_index.to(full.device), rotvec)


class LatentPosePrior(PosePrior):
    """A prior with a latent space for optimisation and interpolation: z ~ N(0, I), of length `latent_dim`."""

    latent_dim: int

    @abstractmethod
    def _encode(self, rotvec: Tensor, context: Tensor | None) -> Tensor:
        """(B, D) latents of (B, J, 3) rotvecs."""

    @abstractmethod
    def _decode(self, latent: Tensor, context: Tensor | None) -> Tensor:
        """(B, J, 3) rotvecs of (B, D) latents."""

    @final
    @in_full_precision
    def encode(self, pose: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Latents (*batch, D) of fully observed poses (*batch, 55, 3); raises as `log_prob`.

        The inverse of `decode` for flows, the latent whose decoded pose is nearest for VAEs.
        """
        batch, rotvec, _ = self._check_pose(pose, None)
        condition = self._check_context(context, batch)
        latent = self._encode(rotvec, condition) if rotvec.shape[0] else rotvec.new_zeros(0, self.latent_dim)
        return latent.to(pose.dtype).reshape(*batch, self.latent_dim)

    @final
    @in_full_precision
    def decode(self, latent: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Poses (*batch, 55, 3) of latents (*batch, D), differentiable; joints that are not modelled are zero."""
        _pose_checks.check_precision(self._settled())
        _pose_checks.check_latent(latent, self.latent_dim)
        batch = latent.shape[:-1]
        flat = latent.to(dtype=self.dtype, device=self.device).reshape(-1, self.latent_dim)
        pose = self._scatter(self._decode(flat, self._check_context(context, batch)))
        return pose.to(latent.dtype).reshape(*batch, skeleton.NUM_JOINTS, 3)
