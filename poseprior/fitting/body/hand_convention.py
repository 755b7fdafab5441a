"""`HandConvention`: how a body model stores its hands, read off the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class HandConvention:
    """Hands as `smplx` stores them; the default is full rotations on the flat hand.

    Attributes:
        components: (left, right), each (n, 45), when hands are PCA coefficients.
        mean: (left, right), each (45,), added to what is stored; None for the flat hand.
    """

    components: tuple[Tensor, Tensor] | None = None
    mean: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(cls, model: nn.Module | None) -> HandConvention:
        """What `model` (from `smplx.create`) does with its hand parameters; None is the default convention.

        Raises:
            ValueError: `model` is not an SMPL-X model.
        """
        if model is None:
            return cls()
        require_smplx(model)
        components = mean = None
        if getattr(model, "use_pca", False):
            components = (_buffer(model, "left_hand_components"), _buffer(model, "right_hand_components"))
        if not getattr(model, "flat_hand_mean", True):
            mean = (_buffer(model, "left_hand_mean"), _buffer(model, "right_hand_mean"))
        return cls(components, mean)

    @property
    def num_coefficients(self) -> int | None:
        """PCA coefficients a hand; None when hands are rotations."""
        return None if self.components is None else len(self.components[0])

    def options(self) -> dict[str, Any]:
        """Keyword arguments of `pose_from_smplx` and `pose_to_smplx`."""
        return {
            "hands_components": self.components,
            "hands_mean": self.mean,
            "flat_hand_mean": self.mean is None,
            "num_pca_comps": self.num_coefficients,
        }


def require_smplx(model: nn.Module) -> None:
    """Refuse what is not an SMPL-X model of the smplx package."""
    wanted = ("J_regressor", "lbs_weights", "expr_dirs", "left_hand_mean")
    missing = [name for name in wanted if not hasattr(model, name)]
    if missing:
        raise ValueError(
            f"model: expected an SMPL-X model, smplx.create(folder, model_type='smplx'), got {type(model).__name__} "
            f"(without {', '.join(missing)})."
        )


def _buffer(model: nn.Module, name: str) -> Tensor:
    value = getattr(model, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"model: expected a tensor {name}, got {type(value).__name__}; use smplx 0.1.28 or later.")
    return value
