"""The fifteen joints of hands apart from the body: their form, their order, and telling rotations from PCA coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._files.npy import as_float64
from . import forms
from .options import Options, to_tensor
from .order_evidence import fingers_speak_for
from .orders import FINGERS, Order

#: Share of the joints beyond pi from which on numbers are no rotations.
_MOST_BEYOND_PI = 0.2
#: Poses that show how columns differ, and the rank correlation of their spread with their place that PCA coefficients have.
_ENOUGH, _FALLING = 20, -0.7


def hand_rotations(
    key: str, array: NDArray[Any], form: str, options: Options, right: Tensor, stored: Order | None = None
) -> Tensor:
    """(N, 15, 3) rotvecs in SMPL-X order, or (N, n) PCA coefficients as they are stored.

    Args:
        key: of the array.
        array: (N, 45), (N, 15, 3), the same in another form, or coefficients (N, n).
        form: of the rotations, a name in `forms.FORMS`.
        options: of the caller.
        right: (N,) or (1,) bool, whether each is a right hand.
        stored: places of the joints among the fifteen, where somebody lists them.
    """
    width = forms.FORMS[form]
    joints = forms.rows_of(array, 15, form)
    if joints is None:
        coefficients = next((a for a in forms.readings(array) if a.ndim == 2 and a.shape[1] <= 45), None)
        if form != "rotvec" or coefficients is None or not array.size:
            hint = forms.batch_hint(array, (15,), form) or forms.other_form_hint(array, 15, form)
            hint = hint or "pass rotations="
            raise ValueError(
                f"key '{key}': expected 15 joints, (N, {15 * width}) as {form}, got {array.shape}; {hint}."
            )
        return to_tensor(coefficients)
    if options.num_pca_comps is not None:
        return to_tensor(joints.reshape(len(joints), 45) if array.shape[-1] == 45 else joints)
    if form == "rotvec":
        refuse_pca45(key, joints, options)
    hand = forms.to_rotvecs(key, to_tensor(joints), form)
    place = stored
    if options.layout.fingers:
        options.applied.add("layout")
        place = options.layout.hand()
    if place is not None:
        return torch.zeros_like(hand).index_copy(1, torch.tensor(place), hand)
    if fingers_speak_for(hand.numpy(), right.expand(len(hand)).numpy()) == "thumb_first":
        both = " or ".join(f"layout={name!r}" for name in FINGERS)
        raise ValueError(
            f"key '{key}': expected the fingers in the order of SMPL-X and MANO (index, middle, pinky, ring, thumb), got "
            f"values that bend as if the thumb came first; pass {both} (thumb, index, middle, ring, pinky)."
        )
    return hand


def refuse_pca45(key: str, array: NDArray[Any], options: Options) -> None:
    """45 PCA coefficients have the shape of 15 rotvecs, but not their sizes."""
    if options.num_pca_comps is not None or options.told(key) == "rotvec" or not array.size:
        return
    flat = np.nan_to_num(as_float64(array), nan=0.0, posinf=0.0, neginf=0.0).reshape(-1, 45)
    norm = np.linalg.norm(flat.reshape(-1, 3), axis=1)
    beyond = float((norm > np.pi).mean()) if norm.max() > 1.5 * np.pi else 0.0
    falling = len(flat) >= _ENOUGH and _rank_correlation(flat.std(0)) < _FALLING
    if beyond > _MOST_BEYOND_PI or falling:
        what = "columns that spread less and less" if falling else f"{100 * beyond:.0f} % of the joints beyond pi"
        raise ValueError(
            f"key '{key}': expected joint rotations, got {what}, up to {norm.max():.1f}, so these are PCA coefficients or "
            "degrees; pass num_pca_comps=45 with hands_components= and hands_mean= of the model, convert to radians, or pass "
            "rotations='rotvec' if they are radians after all."
        )


def _rank_correlation(values: NDArray[np.float64]) -> float:
    """Of values with their place."""
    rank = np.argsort(np.argsort(values)).astype(np.float64)
    place = np.arange(len(values), dtype=np.float64)
    return float(np.corrcoef(rank, place)[0, 1])
