"""What training needs of a model, and what a model may see of training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor, nn

from . import skeleton
from ._checks import check_joint_names, check_mapping, check_option_names, check_whole
from ._shown import joints_text, prior_html, training_text

_Self = TypeVar("_Self", bound="Trainable")

#: Longest conditioning vector.
_MOST_CONTEXT_DIM = 65536


class TrainingPoses(Protocol):
    """What a model may look at before the first training step: the training poses as the loop will show them.

    Attributes:
        seed: of everything random.
        mirror: whether training shows reflections too.
        jitter: tangent noise on every pose, radians.
        closed_form: whether no training step follows.
        progress: whether long work shows a bar.
    """

    seed: int
    mirror: bool
    jitter: float
    closed_form: bool
    progress: bool

    @property
    def observed(self) -> Tensor:
        """(N, 55) bool, the masks of the poses, without reflections."""

    @property
    def co_observed(self) -> Tensor:
        """(55, 55) bool: whether some pose (or, with `mirror`, its reflection) shows both joints."""

    def poses(self, joints: Sequence[int], *, max_poses: int | None = None) -> tuple[Tensor, Tensor]:
        """(N, J, 3) float64 rotvecs and (N, J) observed: every pose once (or a random subset), then the reflections."""

    def batches(self, joints: Sequence[int], max_poses: int) -> tuple[Tensor, Tensor]:
        """(N, J, 3) rotvecs and (N, J) observed, drawn as training batches are (balanced, mirrored at random)."""

    def out_of_time(self) -> bool:
        """Whether the time that `FitConfig.minutes` allows is over: iterations should end with what they have."""


class Trainable(nn.Module, ABC):
    """The part of a prior that `poseprior.training` works with: options, starts, losses and notes.

    A fitted prior all of whose parameters are frozen (`requires_grad_(False)`, as `fit` and `load` leave them) stays in
    evaluation mode: putting a module that holds it in training mode does not make its density random. One that is frozen
    while it is in training mode leaves it when it is next used.

    Attributes:
        joints: SMPL-X indices of the joints the model has, sorted.
        context_dim: length of the conditioning vector; 0 for unconditional models.
        fitted: whether the weights come from a fit or a file.
        metadata: JSON-able notes that are saved with the weights (training summary, metrics, licence). Entries that
            describe the file itself ("class", "config", "joints", "format_version", "digest") cannot be among them.
    """

    #: Whether `fit` finds the weights without optimiser steps. Fitting again without steps then starts anew.
    closed_form: bool = False
    #: The model's own defaults for `FitConfig` fields, where they differ from the general ones.
    default_fit: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init__(self, joints: str | int | Iterable[str | int] = "body", *, context_dim: int = 0) -> None:
        super().__init__()
        self.joints: tuple[int, ...] = skeleton.resolve_joints(check_joint_names(joints))
        self._joint_index = torch.tensor(self.joints)
        self.context_dim = check_whole("context_dim", context_dim, most=_MOST_CONTEXT_DIM)
        self.fitted = False
        self.metadata: dict[str, Any] = {}

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """JSON-able options from which `from_config` builds a prior with tensors of the same names and shapes."""

    @classmethod
    def from_config(cls: type[_Self], config: Mapping[str, Any]) -> _Self:
        """An unfitted prior from what `get_config` gave, in this version or an older one.

        Args:
            config: options by name; what is left out has its default.

        Raises:
            ValueError: an option that the class does not take, or a value that cannot be.
        """
        options = cls._upgrade_config(check_mapping("config", config))
        check_option_names(cls, options, cls.__name__)
        return cls(**options)

    @classmethod
    def _upgrade_config(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The options of this version that mean what `config`, of any version, says."""
        return dict(config)

    def _fitted_config(self, train: TrainingPoses) -> dict[str, Any]:
        """`get_config`, fitted to what training observes: joints that are never observed are not modelled.

        Raises:
            ValueError: no pose observes any of the prior's joints.
        """
        together = train.co_observed
        seen = [j for j in self.joints if bool(together[j, j])]
        if not seen:
            names = ", ".join(skeleton.JOINT_NAMES[j] for j in self.joints[:4])
            raise ValueError(
                f"train: none of the prior's joints ({names}, ...) is observed in any pose; choose other joints or "
                "other files."
            )
        return {**self.get_config(), "joints": seen}

    def _initialise(self, train: TrainingPoses) -> None:
        """Set what depends on data (charts, closed-form starts) before the first step; called on an unfitted prior."""

    def _thaw(self) -> None:
        """Let the weights that `fit` is to train take gradients."""
        self.requires_grad_(True)

    def _stored_metadata(self) -> dict[str, Any]:
        """`metadata` as `save` writes it."""
        return self.metadata

    def _restore_metadata(self, stored: dict[str, Any]) -> None:
        self.metadata = stored

    @abstractmethod
    def training_loss(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """Scalar loss, nats a pose, of a (B, J, 3) batch of rotvecs and its (B, J) mask."""

    def selection_penalty(self, rotvec: Tensor, observed: Tensor) -> Tensor | None:
        """(B,) nats that are added to the NLL when validation selects weights; None where the NLL alone decides.

        For models that are trained for more than likelihood. `rotvec` is (B, J, 3), `observed` (B, J).
        """
        return None

    def forward(self, rotvec: Tensor, observed: Tensor, context: Tensor | None, step: int) -> Tensor:
        """`training_loss`, so that DistributedDataParallel sees the forward pass."""
        return self.training_loss(rotvec, observed, context, step)

    def train(self: _Self, mode: bool = True) -> _Self:
        """As `nn.Module.train`, except that a fitted prior with frozen weights stays in evaluation mode."""
        return super().train(mode and not self._is_frozen())

    def _is_frozen(self) -> bool:
        return self.fitted and not any(parameter.requires_grad for parameter in self.parameters())

    def _settle(self) -> None:
        """Leave training mode if the weights have been frozen since `train()`.

        Weights can be frozen without a word to the prior (a parent's `requires_grad_` reaches the parameters alone), so
        that this is decided at each use. A prior that holds others settles them too: its own mode does not show theirs.
        """
        if self.training and self._is_frozen():
            self.train(False)

    def _settled(self) -> Tensor:
        """`_reference_tensor`, for whatever computes a result for a user: the prior is in the right mode from here on."""
        self._settle()
        return self._reference_tensor()

    def _check_weights(self) -> None:
        """Refuse weights that the model cannot compute with; called when they come from a file.

        Raises:
            ValueError: what is wrong with them.
        """

    def __repr__(self) -> str:
        facts = (joints_text(self.joints), f"{self.num_parameters:,} parameters")
        context = (f"context of {self.context_dim}",) if self.context_dim else ()
        how = training_text(self.metadata) if self.fitted else "not fitted"
        return f"{type(self).__name__}({', '.join((*facts, *context, how))})"

    def _repr_html_(self) -> str:
        return prior_html(self)

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

    def _zeros(self, *batch: int) -> Tensor:
        """(*batch, J, 3) zeros of the prior's type, on its device."""
        return torch.zeros(*batch, len(self.joints), 3, dtype=self.dtype, device=self.device)
