"""Pose files: `read_poses` takes the common `.npz` layouts to a `PoseDataset`, `write_poses` writes our own."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..skeleton import JOINT_NAMES
from . import _layouts
from ._folders import SPLITS, pose_files, split_files
from ._open import load_arrays
from .atomic import replacing
from .dataset import PoseDataset

PathInput = str | PathLike[str]

_SUBJECT_KEYS = ("subject", "subject_id")
_SEQUENCE_KEYS = ("seq", "sequence", "recording")
_FPS_KEYS = ("fps", "mocap_framerate", "mocap_frame_rate")
_KEYS = frozenset((*_layouts.KEYS, *_SUBJECT_KEYS, *_SEQUENCE_KEYS, *_FPS_KEYS, "frame", "sitting", "rig"))


def read_poses(
    path: PathInput | Sequence[PathInput],
    *,
    split: str | None = None,
    model_type: str | None = None,
    side: str | int | Sequence[str | int] | None = None,
    subject: str | None = None,
    fps: float | None = None,
    target_fps: float | None = None,
    constant_parts_unobserved: bool = True,
    hands_components: tuple[Tensor, Tensor] | None = None,
    hands_mean: tuple[Tensor, Tensor] | None = None,
    flat_hand_mean: bool | None = None,
    num_pca_comps: int | None = None,
) -> PoseDataset:
    """Read one `.npz`, a list of them, or a folder. Nothing is ever unpickled.

    A file holds `poses` as (N, J, 3) or (N, J * 3) rotvecs in radians: 55 joints (SMPL-X), 53 (no eyes), 52 (SMPL-H) or
    24 (SMPL); or parts by name (`global_orient` or `root_orient`, `body_pose` or `pose_body`, ..., `pose_hand`); or
    single hands, `hand_pose` (N, 15, 3) and `side`. An `observed` mask, an `imputed` mask, `subject`, `sequence` or
    `seq`, `fps`, `frame` and `rig` are used where present; `trans`, `betas`, `gender` and all else is left unread.
    Rotations beyond pi are wrapped.

    A folder is read whole: the files of `read_split`, train before val before test, else every `.npz` below it. Use
    `split=` or `read_split` to keep the parts apart.

    Args:
        path: file, folder, or a list of either.
        split: 'train', 'val' or 'test': only these files of a folder.
        model_type: 'smplx', 'smplh' or 'smpl', overriding `surface_model_type` in the file; settles what the number of
            joints alone does not.
        side: 'left' or 'right' (0 or 1) for single-hand files without `side`.
        subject: name of the subject of all rows, overriding the files. Otherwise it is the file's `subject` ('sitting3'
            for hand files with `sitting`), else the folder of the file: relative to the folder being read ('CMU/01'),
            or for a single AMASS file the name of its parent.
        fps: frame rate of files that do not say.
        target_fps: subsample every file to this rate while reading.
        constant_parts_unobserved: body mocap fills jaw, eyes and hands with constants (AMASS: a fixed mean hand). In
            files of at least two poses without an `observed` mask, each of these that is constant over the file is
            marked unobserved; False keeps them.
        hands_components, hands_mean, flat_hand_mean, num_pca_comps: how hands stored apart from the body are to be
            understood when not as full rotations on the flat hand; see `poseprior.params.pose_from_smplx`.

    Returns:
        One data set of all rows. `sequence` falls back to the file's name, `frame` to the row in the file.

    Raises:
        ValueError: naming the file, the key and what to do: not an npz, a pickle, damaged, no poses, a wrong or
            ambiguous shape, non-finite values on observed joints, an empty file or folder.
    """
    options = _layouts.Options(
        model_type, side, constant_parts_unobserved, hands_components, hands_mean, flat_hand_mean, num_pca_comps
    )
    if split is not None and split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}.")
    entries = [path] if isinstance(path, str | PathLike) else list(path)
    files = [found for entry in entries for found in pose_files(Path(entry), split)]
    if not files:
        raise ValueError("path: expected at least one file, got an empty list.")
    parts = []
    for file, folder in files:
        part = _read_file(file, folder, options, subject, fps)
        parts.append(part if target_fps is None or part.fps is None else part.subsample(target_fps))
    if target_fps is not None and all(part.fps is None for part in parts):
        raise ValueError(f"target_fps: expected files that say their frame rate, got none in {files[0][0]}; pass fps=.")
    return parts[0] if len(parts) == 1 else PoseDataset.concat(parts)


def read_split(
    folder: PathInput, *, model_type: str | None = None, side: str | int | None = None
) -> dict[str, PoseDataset]:
    """The parts of a folder by name, in the order train, val, test.

    Args:
        folder: holds `train_poses.npz`, `val_poses.npz`, `test_poses.npz`, or `hands_train.npz`, ..., or `train.npz`,
            ..., or folders `train`, `val`, `test`, or folders of such folders. Parts that are absent are absent from
            the result, and other files beside named ones are not read. A folder with no such name is one part,
            'train', of every `.npz` below it: split that with `split_by_subject`.
        model_type, side: as in `read_poses`.
    """
    root = Path(folder)
    names = list(split_files(root))
    if not names:
        return {"train": read_poses(root, model_type=model_type, side=side)}
    return {name: read_poses(root, split=name, model_type=model_type, side=side) for name in names}


def write_poses(
    path: PathInput, poses: PoseDataset | Tensor | NDArray[Any], *, observed: Tensor | NDArray[Any] | None = None
) -> Path:
    """Write the library's own layout, beside the target and then renamed; `read_poses` gives the same rows back.

    Args:
        path: ends in `.npz`.
        poses: a data set, or (N, 55, 3) or (55, 3) rotvecs, radians.
        observed: (N, 55) or (55,) bool for bare poses; None for all.

    Returns:
        The path. Keys: `poses` (N, 55, 3) float32, `observed` (N, 55), `joint_names`, `surface_model_type`, and
        `subject`, `sequence`, `fps`, `frame`, `rig`, `imputed` (N, 55) where the data set has them.
    """
    target = Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"path: expected a name that ends in .npz, got {target.name!r}; use {target.name + '.npz'!r}.")
    if isinstance(poses, PoseDataset):
        if observed is not None:
            raise ValueError("observed: expected None with a PoseDataset, which has its own, got an array.")
        data = poses
    else:
        value = torch.as_tensor(poses).detach().float()
        mask = None if observed is None else torch.as_tensor(observed)
        data = PoseDataset(
            value[None] if value.dim() == 2 else value, mask[None] if mask is not None and mask.dim() == 1 else mask
        )
    pose, seen = data.all_poses()
    columns = {name: getattr(data, name) for name in ("subject", "sequence", "fps", "frame", "rig", "imputed")}
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in columns.items() if v is not None}
    arrays.update(
        poses=pose.numpy(), observed=seen.numpy(), joint_names=np.array(JOINT_NAMES), surface_model_type="smplx"
    )
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return target


def _read_file(
    path: Path, folder: Path | None, options: _layouts.Options, subject: str | None, fps: float | None
) -> PoseDataset:
    arrays = load_arrays(path, _KEYS)
    try:
        pose, observed, imputed = _layouts.to_joints55(arrays, options)
        n = len(pose)
        person: Any = subject if subject is not None else _first(arrays, _SUBJECT_KEYS)
        if person is None and "sitting" in arrays:  # prefixed: sitting 2 is not the subject 2 of another file
            person = np.char.add("sitting", arrays["sitting"].astype(np.str_))
        sequence: Any = _first(arrays, _SEQUENCE_KEYS)
        rate: Any = _first(arrays, _FPS_KEYS)
        frame: Any = arrays.get("frame", np.arange(n) if sequence is None else None)
        return PoseDataset(
            pose,
            observed,
            subject=_folder_subject(path, folder, arrays) if person is None else person,
            sequence=path.stem if sequence is None else sequence,
            fps=fps if rate is None else rate,
            frame=frame,
            rig=arrays.get("rig"),
            imputed=imputed,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _first(arrays: _layouts.Arrays, keys: Sequence[str]) -> NDArray[Any] | None:
    return next((arrays[k] for k in keys if k in arrays), None)


def _folder_subject(path: Path, folder: Path | None, arrays: _layouts.Arrays) -> str | None:
    """Name of the person from the folders of an AMASS tree."""
    if folder is not None and path.parent != folder:
        return path.parent.relative_to(folder).as_posix()
    parent = path.resolve().parent.name
    return parent if parent not in SPLITS and any(k in arrays for k in _layouts.AMASS_KEYS) else None
