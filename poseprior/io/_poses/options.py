"""What the caller of `read_poses` says about the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..._checks import check_switch, check_text, quoted
from ..._hands import HandSpace
from . import forms
from .orders import Layout

#: How hands are stored, in the order of `HandSpace`.
_HANDS = ("hands_components", "hands_mean", "flat_hand_mean", "num_pca_comps")


@dataclass(frozen=True)
class Options:
    """The arguments of `read_poses` that a file's reader needs, and which of them had an effect."""

    model_type: str | None = None
    side: Any = None
    layout: Layout = field(default_factory=Layout)
    rotations: str | Mapping[str, str] | None = None
    group: str | None = None
    ignore: Sequence[str] = ()
    constant_parts_unobserved: bool = True
    hands_components: tuple[Tensor, Tensor] | None = None
    hands_mean: tuple[Tensor, Tensor] | None = None
    flat_hand_mean: bool | None = None
    num_pca_comps: int | None = None
    context: str | None = None
    applied: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        forms.check_form(self.rotations)
        for name in ("model_type", "group", "context"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        if not isinstance(self.ignore, list | tuple) or not all(isinstance(key, str) for key in self.ignore):
            raise ValueError(f"ignore: expected names of arrays, such as ('poses',), got {quoted(self.ignore)}.")
        check_switch("constant_parts_unobserved", self.constant_parts_unobserved)
        HandSpace(*(getattr(self, name) for name in _HANDS))

    def require_effect(self, where: str, *, fps: float | None) -> None:
        """Refuse options that nothing in the files needed, and a frame rate where all files say another."""
        asked = {"side": self.side is not None, "layout": self.layout != Layout()}
        asked |= {f"ignore={key!r}": True for key in self.ignore}
        asked |= {name: getattr(self, name) is not None for name in _HANDS} | {"fps": fps is not None}
        if isinstance(self.rotations, Mapping):
            asked |= {f"rotations[{key!r}]": True for key in self.rotations}
        for name, given in asked.items():
            if given and name not in self.applied:
                raise ValueError(f"{name}: expected something in {where} that needs it, got nothing; leave it out.")

    def told(self, key: str) -> str | None:
        """The form of the rotations under a key, where the caller says it."""
        if isinstance(self.rotations, Mapping):
            self.applied.update(f"rotations[{key!r}]" for _ in range(key in self.rotations))
            return self.rotations.get(key)
        return self.rotations

    def form(self, key: str, array: NDArray[Any]) -> str:
        """The form of the rotations of an array: what the caller says, or rotvecs, or matrices that can be no other."""
        told = self.told(key)
        if told is not None:
            return told
        if forms.are_matrices(array):
            return "matrix"
        forms.refuse_halves(key, array)
        return "rotvec"

    def hand_space(self, stored_flat: bool | None) -> dict[str, Any]:
        """Keywords of `pose_from_smplx` that say how hands are stored apart from the body."""
        self.applied.update(_HANDS)
        flat = self.flat_hand_mean
        if flat is None and self.hands_mean is None:
            flat = stored_flat
        return {name: getattr(self, name) for name in _HANDS} | {"flat_hand_mean": flat}


def to_tensor(array: NDArray[Any]) -> Tensor:
    """A float32 or float64 copy."""
    with np.errstate(invalid="ignore", over="ignore"):
        return torch.from_numpy(np.array(array, np.float64 if array.dtype.itemsize > 4 else np.float32))
