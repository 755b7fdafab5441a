"""Fitted SMPL-X bodies as one `.npz` that both `smplx` and readers of AMASS take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._checks import check_ending, check_number, check_path, quoted
from ..skeleton import PART_SLICES
from .atomic import replacing
from .continuous import continuous

#: Of SMPL-X model files.
GENDERS = ("neutral", "female", "male")


def write_fitted(
    path: Path | str,
    params: Mapping[str, Tensor],
    pose: Tensor,
    *,
    gender: str = "neutral",
    fps: float = 30.0,
    frame_names: Sequence[str] | None = None,
    coordinates: str = "unknown",
    up_axis: str | None = None,
    observed: Tensor | None = None,
    measured: Tensor | None = None,
    converged: Tensor | None = None,
    num_observed: Tensor | None = None,
    num_outliers: Tensor | None = None,
) -> Path:
    """Write the bodies of a fit, beside the target and then renamed.

    Args:
        path: ends in `.npz`.
        params: keyword arguments of the model, (F, n) each, `betas`, `transl` and `expression` among them.
        pose: (F, 55, 3) rotvecs, radians, hands on the flat hand.
        gender: of the model.
        fps: frames a second.
        frame_names: (F,) names of the frames, of images say.
        coordinates: in which the bodies stand, in words.
        up_axis: the axis of these that points up: "y", "z", "-y" or "-z"; None where nobody knows.
        observed: (F, 55) bool, the joints that readers take for poses; None for all.
        measured: (F, 55) bool, the joints that measurements show: a prior filled in the others. None leaves it out.
        converged, num_observed, num_outliers: (F,) of the frames' fits, written beside them; None leaves them out.

    Returns:
        The path. Keys: the arguments of the model by name (hands as that model stores them), and AMASS's `poses`
        (F, 165), `root_orient`, `pose_body`, `pose_hand`, `pose_jaw`, `pose_eye`, `trans`, `betas` (the mean of the
        frames' if they differ; every frame's are in `betas_by_frame`), `gender`, `surface_model_type`,
        `mocap_frame_rate`, and `frame_names` where given; `coordinates` and `up_axis` ("unknown" for None) say in which
        coordinates the bodies stand. `poseprior.read_poses` reads it too. From one frame to the next
        rotations take the shorter way (`continuous`), so that a person who turns round does not jump by 2 pi.

    Raises:
        ValueError: another suffix or gender, a frame rate that is not above 0, or a place that cannot be written.
    """
    check_number("fps", fps, above=0.0)
    if gender not in GENDERS:
        raise ValueError(f"gender: expected one of {', '.join(GENDERS)}, got {gender!r}.")
    check_path("path", path)
    target = Path(path)
    check_ending("path", target, ".npz")
    arrays: dict[str, Any] = {name: np.asarray(value.detach().cpu().float()) for name, value in params.items()}
    betas = arrays.pop("betas")
    steady = continuous(torch.as_tensor(pose).detach().cpu().float())
    flat = steady.flatten(1).numpy()
    for name, part in PART_SLICES.items():
        if name in arrays and not name.endswith("hand_pose"):
            arrays[name] = steady[:, part].reshape(arrays[name].shape).numpy()
    if frame_names is not None:
        listed = hasattr(frame_names, "__len__") and not isinstance(frame_names, str)
        if not listed or len(frame_names) != len(flat):
            got = len(frame_names) if listed else quoted(frame_names)
            raise ValueError(f"frame_names: expected {len(flat)}, one for each frame, got {got}.")
        arrays["frame_names"] = np.asarray([str(name) for name in frame_names])
    arrays.update(
        poses=flat, root_orient=flat[:, :3], pose_body=flat[:, 3:66], pose_jaw=flat[:, 66:69], pose_eye=flat[:, 69:75],
        pose_hand=flat[:, 75:], trans=arrays["transl"], betas=betas.mean(0), betas_by_frame=betas,
        gender=np.array(gender), surface_model_type=np.array("smplx"), mocap_frame_rate=np.array(fps),
        coordinates=np.array(coordinates), up_axis=np.array(up_axis or "unknown"),
    )  # fmt: skip
    for key, values, shape in (
        ("observed", observed, tuple(pose.shape[:2])), ("converged", converged, (len(flat),)),
        ("measured", measured, tuple(pose.shape[:2])),
        ("num_observed", num_observed, (len(flat),)), ("num_outliers", num_outliers, (len(flat),)),
    ):  # fmt: skip
        if values is None:
            continue
        if tuple(values.shape) != shape:
            raise ValueError(f"{key}: expected {shape}, got {tuple(values.shape)}.")
        arrays[key] = values.detach().cpu().numpy()
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return target
