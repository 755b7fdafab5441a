"""`PosePrior`: the one interface of every prior, and `LatentPosePrior` for those with a latent space.

The public methods check and reshape at the border, once; a model implements the underscored primitives on flat
batches of its own joints.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from . import checkpoint, skeleton
from ._checks import check_floating, check_whole
from ._pose_checks import check_context, check_pose, in_full_precision
from .devices import usable_device
from .io.dataset import PoseDataset, as_dataset
from .models.shared.independent_groups import co_observed
from .training.config import FitConfig, FitResult
from .training.generators import borrowed_generators
from .training.loop import run_loop

_Self = TypeVar("_Self", bound="PosePrior")


class PosePrior(nn.Module, ABC):
    """A probability density over poses.

    A pose is a (*batch, 55, 3) tensor of SMPL-X rotvecs (parent-relative axis-angle, radians); `observed` is a
    (*batch, 55) bool mask. Densities are in nats against the product of normalised Haar measures on SO(3), over the
    joints that are both observed and modelled: the uniform prior scores 0.

    Attributes:
        joints: SMPL-X indices of the joints the prior models, sorted; all others are ignored.
        log_prob_kind: "exact", or "lower_bound" for variational models.
        can_marginalise: whether `log_prob` takes any partial `observed`.
        context_dim: length of the conditioning vector; 0 for unconditional priors.
        fitted: whether the weights come from a fit or a file.
        metadata: JSON-able notes that travel with the weights (training summary, metrics, licence). What a file says
            of itself ("class", "config", "joints", "format_version") is not kept here.
    """

    log_prob_kind: Literal["exact", "lower_bound"] = "exact"
    can_marginalise: bool = True
    #: Whether `fit` without steps finds the weights; fitting again then fits anew.
    closed_form: bool = False
    #: What `fit` uses when no config is given.
    default_fit: ClassVar[FitConfig] = FitConfig()

    def __init__(self, joints: str | int | Iterable[str | int] = "body", *, context_dim: int = 0) -> None:
        super().__init__()
        self.joints: tuple[int, ...] = skeleton.resolve_joints(joints)
        self._joint_index = torch.tensor(self.joints)
        self.context_dim = context_dim
        self.fitted = False
        self.metadata: dict[str, Any] = {}

    # ------------------------------------------------------------------ what a model implements

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """JSON-able keyword arguments such that `type(self)(**config)` has tensors of the same names and shapes."""

    @abstractmethod
    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        """(B,) Haar nats of (B, J, 3) rotvecs over the observed (B, J) of the modelled joints."""

    @abstractmethod
    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        """(num, J, 3) rotvecs; `context` is (num, C) or None."""

    def _complete(
        self,
        rotvec: Tensor,
        observed: Tensor,
        num_samples: int,
        generator: torch.Generator | None,
        context: Tensor | None,
    ) -> Tensor:
        """(S, B, J, 3) draws of the missing joints given the observed; observed entries are overwritten by the caller."""
        raise ValueError(
            f"complete: {type(self).__name__} has no exact conditional; use GaussianPrior, GaussianMixturePrior or "
            "OrderAgnosticPrior."
        )

    @classmethod
    def _stored_config(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Options of a saved prior, completed where the file is older than an option whose default changes tensors."""
        return config

    def _initialise(self, train: PoseDataset, config: FitConfig) -> None:
        """Set data-dependent state (charts, closed-form starts) before the loop. Called once, on an unfitted prior."""

    def _rebuild_config(self, train: PoseDataset, config: FitConfig) -> dict[str, Any]:
        """Constructor arguments fitted to what training observes: joints that are never observed are not modelled."""
        together = co_observed(train, mirror=config.mirror)
        seen = [j for j in self.joints if bool(together[j, j])]
        if not seen:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in self.joints[:4])
            raise ValueError(
                f"train: none of the prior's joints ({names}, ...) is observed in any pose; choose other joints or "
                "other files."
            )
        return {**self.get_config(), "joints": seen}

    def _thaw(self) -> None:
        """Let the weights that `fit` is to train take gradients."""
        self.requires_grad_(True)

    def _stored_metadata(self) -> dict[str, Any]:
        """`metadata` as `save` writes it."""
        return self.metadata

    def _restore_metadata(self, stored: dict[str, Any]) -> None:
        self.metadata = stored

    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """Scalar loss, nats a pose, of a (B, J, 3) batch; the mean negative log-density unless a model overrides it."""
        return -self._log_prob(rotvec, observed, context).mean()

    def selection_penalty(self, rotvec: Tensor, observed: Tensor) -> Tensor | None:
        """(B,) nats that count beside the NLL when validation selects weights; None: likelihood alone decides.

        For models that are trained for something else as well. `rotvec` is (B, J, 3), `observed` (B, J).
        """
        return None

    # ------------------------------------------------------------------ the interface

    @final
    @in_full_precision
    def log_prob(self, pose: Tensor, *, observed: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Log-density of the observed modelled joints.

        Args:
            pose: (*batch, 55, 3) rotvecs, radians; any norm (wrapped to the same rotation).
            observed: (*batch, 55) bool or broadcastable; None means all. Values of unobserved joints are ignored,
                whatever they are.
            context: (*batch, context_dim) conditioning vector, for conditional priors.

        Returns:
            (*batch,) nats against the product of normalised Haar measures.

        Raises:
            ValueError: wrong shape or dtype, non-finite values on observed modelled joints, or a partial `observed`
                for a prior that cannot marginalise.
        """
        batch, rotvec, seen = self._check_pose(pose, observed)
        if not self.can_marginalise:
            self._refuse_partial(seen)
        wide = self._check_context(context, batch)
        value = self._log_prob(rotvec, seen, wide) if len(rotvec) else rotvec.sum((1, 2))
        value = value.to(pose.dtype)
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
            sample_shape: shape of independent draws; an int n means (n,).
            generator: source of randomness, on the prior's device.
            context: (context_dim,) or (*sample, context_dim), for conditional priors.

        Returns:
            (*sample, 55, 3) rotvecs, norms at most pi; joints that are not modelled are zero.
        """
        shape = (int(sample_shape),) if isinstance(sample_shape, int | Integral) else sample_shape
        if not isinstance(shape, Sequence) or not all(isinstance(n, Integral) and n >= 0 for n in shape):
            raise ValueError(f"sample_shape: expected whole sizes of 0 or more, got {sample_shape!r}.")
        shape = tuple(int(n) for n in shape)
        wide = self._check_context(context, shape)
        with torch.no_grad():
            drawn = self._sample(math.prod(shape), generator, wide) if math.prod(shape) else self._nothing(0)
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
            (num_samples, *batch, 55, 3): observed joints as given, missing modelled joints drawn, missing joints that
            are not modelled zero.
        """
        check_whole("num_samples", num_samples, least=1)
        if observed is None:
            raise ValueError(
                f"observed: expected a bool tensor (*batch, {skeleton.NUM_JOINTS}), got None; sample draws whole poses."
            )
        batch, rotvec, seen = self._check_pose(pose, observed)
        wide = self._check_context(context, batch)
        with torch.no_grad():
            drawn = self._nothing(num_samples, 0)
            if len(rotvec):
                drawn = self._complete(rotvec, seen, num_samples, generator, wide)
        full = self._scatter(drawn).reshape(num_samples, *batch, skeleton.NUM_JOINTS, 3).to(pose)
        keep = observed.to(pose.device).expand(*batch, skeleton.NUM_JOINTS)
        return torch.where(keep[..., None], pose, full)

    @final
    def fit(
        self: _Self,
        train: PoseDataset | Tensor,
        *,
        val: PoseDataset | Tensor | None = None,
        config: FitConfig | None = None,
    ) -> FitResult:
        """Train on poses, in place.

        An unfitted prior is first rebuilt for the data: joints that no pose observes are dropped, charts and closed
        forms are set, weights are drawn from `config.seed`. A fitted one goes on from its weights, or is fitted anew where
        they have a closed form. Afterwards the weights are frozen (`requires_grad_(False)`), which keeps gradients to the
        pose cheap.

        Args:
            train: a `PoseDataset`, or a (N, 55, 3) tensor of fully observed poses.
            val: held-out *subjects*; selects the weights that are kept and stops early.
            config: options of the loop; None takes the model's `default_fit`.

        Returns:
            `FitResult`.
        """
        config = self._config(config)
        train = as_dataset(train, "train")
        val = None if val is None else as_dataset(val, "val")
        if self.context_dim:
            raise ValueError(
                f"fit: this prior takes a context (context_dim={self.context_dim}) and PoseDataset carries none; train "
                "it with start_from and a loop of your own on training_loss (examples/use_your_own_loop.py)."
            )
        start_seconds = 0.0
        if self.fitted and config.max_steps == 0 and not self.closed_form:
            raise ValueError(
                f"config: expected max_steps above 0 to train a fitted {type(self).__name__} further, got 0; or fit a new one."
            )
        anew = not self.fitted or config.max_steps == 0
        if anew:
            started = time.monotonic()
            self.start_from(train, config=config)
            start_seconds = time.monotonic() - started
        self._thaw()
        result = run_loop(self, train, val, config)
        if result.stopped == "closed_form":
            result = replace(result, seconds=start_seconds)
        self.requires_grad_(False)
        self.fitted = True
        if not (anew or result.steps):
            return result  # interrupted before its first step: the weights are those of the earlier fit
        self.metadata["training"] = {
            "data_digest": train.digest(),
            "num_poses": len(train),
            "steps": result.steps,
            "seconds": round(result.seconds, 1),
            "best_step": result.best_step,
            "train_nll": result.train_nll,
            "val_nll": result.val_nll,
            "stopped": result.stopped,
            "jitter": config.jitter,
            "mirror": config.mirror,
            "seed": config.seed,
        }
        return result

    @final
    def start_from(self, train: PoseDataset | Tensor, *, config: FitConfig | None = None) -> None:
        """Rebuild this prior for the data, in place: what `fit` does before its first step, for loops of your own.

        Joints that no pose observes are dropped, charts and closed-form starts are set, and all weights are drawn anew
        from `config.seed`: make your optimiser afterwards. The dtype stays.

        Args:
            train: a `PoseDataset`, or a (N, 55, 3) tensor of fully observed poses.
            config: `seed`, `jitter`, `mirror` and `max_steps` matter here; None takes the model's `default_fit`.
        """
        config = self._config(config)
        train = as_dataset(train, "train")
        dtype = self.dtype
        with borrowed_generators(self.device) as seed:
            seed(config.seed)
            type(self).__init__(self, **self._rebuild_config(train, config))
            if self.dtype != dtype:
                self.to(dtype)
            self._initialise(train, config)

    @final
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one `.safetensors` file (beside the target, then renamed) with the tensors and JSON metadata."""
        checkpoint.write(
            Path(path),
            {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()},
            {
                **self._stored_metadata(),
                "class": type(self).__name__,
                "config": self.get_config(),
                "joints": [skeleton.JOINT_NAMES[j] for j in self.joints],
            },
        )

    @classmethod
    @torch.inference_mode(False)  # weights made in inference mode could never pass gradients to a pose
    def load(cls: type[_Self], path: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> _Self:
        """Read a prior that `save` wrote, in its dtype, eval mode and with frozen weights; nothing in the file is executed.

        Args:
            path: a `.safetensors` file of poseprior. Called on `PosePrior`, takes any model.
            device: where to put the weights.

        Raises:
            ValueError: not a poseprior file, a newer format, another class, tensors that do not fit (all listed), or a
                device that is not there.
        """
        device = usable_device(device)
        tensors, meta = checkpoint.read(Path(path))
        known = concrete_models()
        kind = known.get(meta["class"])
        if kind is None:
            raise ValueError(
                f"path: {path} holds a {meta['class']!r}, which this version does not know (it knows "
                f"{', '.join(sorted(known))}); import the module that defines it, or update poseprior."
            )
        if not issubclass(kind, cls):
            raise ValueError(f"path: {path} holds a {kind.__name__}, not a {cls.__name__}; use poseprior.load(path).")
        accepted = set(inspect.signature(kind.__init__).parameters)
        unknown = sorted(set(meta["config"]) - accepted)
        if unknown:
            raise ValueError(f"path: {path} has unknown options {unknown} for {kind.__name__}; update poseprior.")
        prior = kind(**kind._stored_config(meta["config"]))
        checkpoint.load_strict(prior, tensors, Path(path))
        for part in prior.modules():  # itself, and the parts of a product
            if isinstance(part, PosePrior):
                part.fitted = True
        prior._restore_metadata({key: value for key, value in meta.items() if key not in checkpoint.RESERVED})
        return prior.to(device).eval().requires_grad_(False)

    def can_score(self, observed: Tensor) -> Tensor:
        """Which masks `log_prob` takes.

        Args:
            observed: (*batch, 55) bool.

        Returns:
            (*batch,) bool: all True for a prior that can marginalise, otherwise where all its joints are observed (or
            what the model says it can leave out).
        """
        seen = observed[..., list(self.joints)]
        return torch.ones_like(seen[..., 0]) if self.can_marginalise else seen.all(-1)

    # ------------------------------------------------------------------ shared plumbing

    def _config(self, config: FitConfig | None) -> FitConfig:
        if config is not None and not isinstance(config, FitConfig):
            raise ValueError(f"config: expected a FitConfig, got {type(config).__name__}; poseprior.FitConfig(...).")
        return self.default_fit if config is None else config

    def forward(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """`training_loss`, so that DistributedDataParallel sees the forward pass."""
        return self.training_loss(rotvec, observed, context, step)

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars (charts and other buffers do not count)."""
        return sum(p.numel() for p in self.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type the prior computes in; poses are cast to it."""
        return self._reference_tensor().dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self._reference_tensor().device

    def _reference_tensor(self) -> Tensor:
        tensor: Tensor
        for tensor in self.parameters():
            return tensor
        for tensor in self.buffers():
            if tensor.is_floating_point():
                return tensor
        return torch.empty(0)

    def _check_pose(self, pose: Tensor, observed: Tensor | None) -> tuple[torch.Size, Tensor, Tensor]:
        """The batch shape, (B, J, 3) rotvecs with zeros where unobserved, and (B, J) bool; see `check_pose`."""
        return check_pose(pose, observed, self._joint_index, self._reference_tensor())

    def _check_context(self, context: Tensor | None, batch: Sequence[int]) -> Tensor | None:
        if context is None:
            return None
        if not self.context_dim:
            raise ValueError(f"context: {type(self).__name__} was built without context_dim; leave context out.")
        return check_context(context, batch, self.context_dim, self._reference_tensor())

    def _refuse_partial(self, seen: Tensor) -> None:
        if not bool(seen.all()):
            missing = [skeleton.JOINT_NAMES[self.joints[k]] for k in (~seen).any(0).nonzero()[:, 0].tolist()]
            raise ValueError(
                f"observed: {type(self).__name__} cannot marginalise, and {', '.join(missing[:4])} "
                f"{'are' if len(missing) > 1 else 'is'} unobserved; use a prior that can (GaussianPrior, "
                "GaussianMixturePrior, OrderAgnosticPrior)."
            )

    def _nothing(self, *batch: int) -> Tensor:
        """(*batch, J, 3) zeros, for batches of no pose."""
        return torch.zeros(*batch, len(self.joints), 3, dtype=self.dtype, device=self.device)

    def _scatter(self, rotvec: Tensor) -> Tensor:
        """(..., J, 3) of the modelled joints into (..., 55, 3), zero elsewhere."""
        full = rotvec.new_zeros(*rotvec.shape[:-2], skeleton.NUM_JOINTS, 3)
        full[..., list(self.joints), :] = rotvec
        return full


class LatentPosePrior(PosePrior):
    """A prior with a latent space, z ~ N(0, I), to optimise in or to interpolate in.

    Attributes:
        latent_dim: D, the length of a latent vector.
    """

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
        """Latents (*batch, D) of fully observed poses (*batch, 55, 3): the inverse of `decode` for flows, the posterior
        mean for VAEs."""
        batch, rotvec, _ = self._check_pose(pose, None)
        wide = self._check_context(context, batch)
        latent = self._encode(rotvec, wide) if len(rotvec) else rotvec.new_zeros(0, self.latent_dim)
        return latent.to(pose.dtype).reshape(*batch, self.latent_dim)

    @final
    @in_full_precision
    def decode(self, latent: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Poses (*batch, 55, 3) of latents (*batch, D); joints that are not modelled are zero. Differentiable."""
        check_floating("latent", latent, f"(*batch, {self.latent_dim})")
        if latent.shape[-1:] != (self.latent_dim,):
            raise ValueError(f"latent: expected (*batch, {self.latent_dim}), got {tuple(latent.shape)}.")
        batch = latent.shape[:-1]
        flat = latent.to(dtype=self.dtype, device=self.device).reshape(-1, self.latent_dim)
        pose = self._scatter(self._decode(flat, self._check_context(context, batch)))
        return pose.to(latent.dtype).reshape(*batch, skeleton.NUM_JOINTS, 3)


def concrete_models() -> dict[str, type[PosePrior]]:
    """Every model that has been imported, by class name."""
    found: dict[str, type[PosePrior]] = {}
    left = PosePrior.__subclasses__()
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if not inspect.isabstract(kind):
            found[kind.__name__] = kind
    return found
