"""Fitted SMPL-X bodies as one `.npz` that both `smplx` and readers of AMASS take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._checks import check_number
from .atomic import replacing

#: Of SMPL-X model files.
GENDERS = ("neutral", "female", "male")


def write_fitted(
    path: Path | str, params: Mapping[str, Tensor], pose: Tensor, *, gender: str = "neutral", fps: float = 30.0
) -> Path:
    """Write the bodies of a fit, beside the target and then renamed.

    Args:
        path: ends in `.npz`.
        params: keyword arguments of the model, (F, n) each, `betas`, `transl` and `expression` among them.
        pose: (F, 55, 3) rotvecs, radians, hands on the flat hand.
        gender: of the model.
        fps: frames a second.

    Returns:
        The path. Keys: the arguments of the model by name (hands as that model stores them), and AMASS's `poses`
        (F, 165), `root_orient`, `pose_body`, `pose_hand`, `pose_jaw`, `pose_eye`, `trans`, `betas` (the mean of the
        frames' if they differ; every frame's are in `betas_by_frame`), `gender`, `surface_model_type`,
        `mocap_frame_rate`; `poseprior.read_poses` reads it too.

    Raises:
        ValueError: another suffix or gender, a frame rate that is not above 0, or a place that cannot be written.
    """
    check_number("fps", fps, above=0.0)
    if gender not in GENDERS:
        raise ValueError(f"gender: expected one of {', '.join(GENDERS)}, got {gender!r}.")
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"path: expected a name that ends in .npz, got {target.name!r}; use {target.name + '.npz'!r}.")
    arrays: dict[str, Any] = {name: np.asarray(value.detach().cpu().float()) for name, value in params.items()}
    betas = arrays.pop("betas")
    flat = torch.as_tensor(pose).detach().cpu().float().flatten(1).numpy()
    arrays.update(
        poses=flat, root_orient=flat[:, :3], pose_body=flat[:, 3:66], pose_jaw=flat[:, 66:69], pose_eye=flat[:, 69:75],
        pose_hand=flat[:, 75:], trans=arrays["transl"], betas=betas.mean(0), betas_by_frame=betas,
        gender=np.array(gender), surface_model_type=np.array("smplx"), mocap_frame_rate=np.array(fps),
    )  # fmt: skip
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return target
