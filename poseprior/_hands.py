"""Hands as smplx stores them (rotations, offsets from a mean hand, PCA coefficients) and as rotations on the flat hand."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import check_effect, check_switch, check_whole

_SIDES = ("left", "right")
_REMEDY = (
    "pass hands_components=(left, right) from the model file (hands_componentsl/r), or save hands as 45 numbers "
    "(smplx.create(..., use_pca=False))"
)


class HandSpace:
    """How hands are stored; arguments as in `poseprior.params.pose_from_smplx`."""

    def __init__(
        self,
        components: tuple[Tensor, Tensor] | None,
        mean: tuple[Tensor, Tensor] | None,
        flat: bool | None,
        num_pca_comps: int | None,
    ) -> None:
        if num_pca_comps is not None:
            check_whole("num_pca_comps", num_pca_comps, least=1, most=45)
        if flat is not None:
            check_switch("flat_hand_mean", flat)
        if num_pca_comps is not None and components is None:
            raise ValueError(
                f"hands_components: expected them with num_pca_comps={num_pca_comps}, got None; {_REMEDY}."
            )
        if flat:
            check_effect("hands_mean", mean, None, "flat_hand_mean=True", "flat_hand_mean=False")
        if flat is False and mean is None:
            raise ValueError(
                "hands_mean: expected (left, right) with flat_hand_mean=False, got None; pass hands_meanl/r of the "
                "model file, or flat_hand_mean=True if the hands are relative to the flat hand."
            )
        self._components = self._pair("hands_components", components, 2)
        self._mean = None if flat else self._pair("hands_mean", mean, 1)
        self._flat_known = flat is not None or mean is not None
        self._num = num_pca_comps

    def to_rotvec(self, name: str, value: Tensor, side: int) -> Tensor:
        """(*, 15, 3) from a stored hand: (*, 45), (*, 15, 3), or (*, n) coefficients."""
        if value.shape == (15, 3) and self._num is None and self._components is not None:
            raise ValueError(
                f"{name}: (15, 3) is either the rotations of one hand or 3 PCA coefficients of 15 hands; pass "
                "num_pca_comps=3 for coefficients, or rotations as (*, 45)."
            )
        if value.shape[-2:] == (15, 3) and self._num is None:
            hand = value.flatten(-2)
        elif value.dim() and value.shape[-1] == 45 and self._num is None:
            hand = value
        else:
            hand = self._expand(name, value, side)
        if self._mean is not None:
            hand = hand + self._mean[side].to(hand)
        return hand.unflatten(-1, (15, 3))

    def from_rotvec(self, hand: Tensor, side: int, flat: bool) -> Tensor:
        """The stored form of a hand (*, 15, 3); coefficients if `num_pca_comps` was given."""
        vector = hand.flatten(-2)
        if self._mean is not None:
            vector = vector - self._mean[side].to(vector)
        if self._num is None:
            return vector if flat else vector.unflatten(-1, (15, 3))
        self._require_mean_known("hands")
        basis = self._basis("hands", self._num, side, vector)
        return vector @ torch.linalg.pinv(basis)

    def _expand(self, name: str, value: Tensor, side: int) -> Tensor:
        if not value.dim() or value.shape[-1] > 45 or value.shape[-1] != (self._num or value.shape[-1]):
            expected = f"{self._num} coefficients" if self._num else "(*, 45), (*, 15, 3) or PCA coefficients (*, n)"
            raise ValueError(f"{name}: expected {expected}, got {tuple(value.shape)}.")
        count = value.shape[-1]
        if self._components is None:
            raise ValueError(
                f"{name}: got {tuple(value.shape)}, which looks like {count} PCA coefficients; "
                f"expected 45 numbers; {_REMEDY}."
            )
        self._require_mean_known(name)
        return value @ self._basis(name, count, side, value)

    def _basis(self, name: str, count: int, side: int, like: Tensor) -> Tensor:
        assert self._components is not None  # checked by the callers
        components = self._components[side]
        if count > len(components):
            raise ValueError(
                f"{name}: {count} PCA coefficients need as many components, got hands_components with "
                f"{len(components)} rows; pass all 45."
            )
        return components[:count].to(like)

    def _require_mean_known(self, name: str) -> None:
        if not self._flat_known:
            raise ValueError(
                f"{name}: PCA hands are relative to the mean hand or to the flat hand, got neither hands_mean nor "
                "flat_hand_mean; pass hands_mean=(left, right) (smplx default), or flat_hand_mean=True."
            )

    @staticmethod
    def _pair(name: str, pair: tuple[Tensor, Tensor] | None, dim: int) -> tuple[Tensor, Tensor] | None:
        if pair is None:
            return None
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = f"{len(pair)} entries" if isinstance(pair, tuple | list) else type(pair).__name__
            raise ValueError(f"{name}: expected a pair (left, right), got {got}.")
        try:
            values = tuple(torch.as_tensor(v) for v in pair)
        except (TypeError, ValueError, RuntimeError):
            kinds = " and ".join(type(v).__name__ for v in pair)
            raise ValueError(f"{name}: expected two arrays of numbers, got {kinds}.") from None
        if dim == 1:
            values = tuple(v.flatten() for v in values)
        for side, value in zip(_SIDES, values, strict=True):
            if value.dim() != dim or value.shape[-1] != 45:
                wanted = "(45,)" if dim == 1 else "(n, 45)"
                raise ValueError(f"{name}: expected {wanted} for the {side} hand, got {tuple(value.shape)}.")
        return values[0], values[1]
