"""Pose files: `read_poses` takes the layouts that people keep poses in to a `PoseDataset`, `write_poses` writes our own."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .._checks import as_tensor, check_ending, check_number, check_path, check_text
from .._text import shown
from ..skeleton import JOINT_NAMES
from ._dataset.columns import groups, repeated_frame
from ._files.folders import common_root, left_out, pose_files, require_no_mixture, split_files
from ._files.split_names import SPLITS
from ._files.walk import require_once
from ._poses.options import Options
from ._poses.orders import Layout
from ._recordings import read_recordings
from .atomic import replacing
from .dataset import PoseDataset
from .shards import read_index, read_shards

PathInput = str | PathLike[str]


def read_poses(
    path: PathInput | Sequence[PathInput],
    *,
    split: str | None = None,
    model_type: str | None = None,
    layout: str | Sequence[str] | None = None,
    rotations: str | Mapping[str, str] | None = None,
    side: str | int | Sequence[str | int] | None = None,
    group: str | None = None,
    ignore: Sequence[str] = (),
    subject: str | None = None,
    fps: float | None = None,
    target_fps: float | None = None,
    constant_parts_unobserved: bool = True,
    hands_components: tuple[Tensor, Tensor] | None = None,
    hands_mean: tuple[Tensor, Tensor] | None = None,
    flat_hand_mean: bool | None = None,
    num_pca_comps: int | None = None,
    context: str | None = None,
) -> PoseDataset:
    """Read one `.npz`, `.npy` or torch `.pt` file, a list of them, or a folder of `.npz`. Nothing is ever unpickled.

    A file holds `poses` as (N, J, 3) or (N, J * 3) rotvecs in radians: 55 joints (SMPL-X), 53 (no eyes), 52 (SMPL-H) or
    24 (SMPL); or parts by name (`global_orient` or `root_orient`, `body_pose` or `pose_body`, ..., `pose_hand`); or
    single hands, `hand_pose` (N, 15, 3) and `side`. `docs/data_formats.md` lists them all, with code. An `observed` mask,
    an `imputed` mask, `subject`, `sequence` or `seq`, `fps`, `frame` and `rig` are used where present; `trans`, `betas`,
    `gender` are left unread. Any other array that looks like rotations is named in `ignored` of the result, and what
    was decided about the file in its `notes`. Rotations beyond pi are wrapped.

    A folder of shards (`poseprior data import`) is mapped, not read. Any other folder is read whole: the files of
    `read_split`, train before val before test, else every `.npz` below it, frames in the order of time. Files of one pose
    each that are named by number are the frames of a recording. Use `split=` or `read_split` to keep the parts apart.

    Args:
        path: file, folder, or a list of either.
        split: 'train', 'val' or 'test': only these files of a folder.
        model_type: 'smplx', 'smplh' or 'smpl', overriding `surface_model_type` in the file; settles what the number of
            joints alone does not.
        layout: order of the joints: 'smplx', 'smplx_hands_first', 'smplx_53', 'smplx_53_jaw_last',
            'smplx_52_without_root', 'smplh', 'smpl', 'smplx_22'; of the fingers: 'mano' or 'thumb_first'; both, joined by
            '+'; or the list of joint names of `poseprior.skeleton`, '-' for a column to leave out.
        rotations: form of the rotations: 'rotvec', 'matrix', 'quaternion_xyzw', 'quaternion_wxyz', '6d_rows' (PyTorch3D),
            '6d_columns' or '6d_interleaved' (SPIN, HMR), for all arrays or as a dict of key to form. None takes rotvecs,
            and matrices that are orthonormal throughout.
        side: 'left' or 'right' (0 or 1) for single-hand files without `side` or `is_right`.
        group: name of the dict to read of a file that holds several with poses, '' for the top level. A '*' in the place of
            one name, 'frames/*/smpl', reads dicts of one pose each as the frames of a recording.
        ignore: names of arrays to leave unread, in the file or within the group.
        subject: name of the subject of all rows, overriding the files. Otherwise it is the file's `subject` ('sitting3'
            for hand files with `sitting`), else the folder of the file: relative to the folder being read ('CMU/01'),
            to the folder above all paths of a list, or for a single AMASS file the name of its parent. Folders that are
            read one by one (`AMASS/CMU`, then `AMASS/KIT`) can each have a person '01': read them as a list to join them.
        fps: frame rate of files that do not say.
        target_fps: subsample every file to this rate while reading; each file of more than a pose must say its own, or `fps`.
        constant_parts_unobserved: body mocap fills jaw, eyes and hands with constants (AMASS: a fixed mean hand), and what
            it does not measure with zeros. In recordings of at least two poses without an `observed` mask, each of
            these parts that is constant, and every joint that is zero throughout, is marked unobserved and named in
            `notes`, and so are rows that are zero or NaN throughout among others (nobody was found); False keeps them.
        hands_components, hands_mean, flat_hand_mean, num_pca_comps: how hands stored apart from the body are to be
            understood when not as full rotations on the flat hand; see `poseprior.params.pose_from_smplx`.
        context: name of an array that goes with the poses, for conditional priors: (N, C) floats, or (C,) or (1, C) that
            stand for all poses of the file (`betas`, say). Without it none is read.

    Returns:
        One data set of all rows. `sequence` falls back to the file's name, `frame` to the row in the file or the number
        in the file's name.

    Raises:
        ValueError: naming the file, its arrays and what to do: another kind of file, a pickle, damaged, no poses, a wrong
            or ambiguous shape, non-finite values on observed joints, an option that nothing in the files needs, an
            empty file or folder.
    """
    options = Options(
        model_type, side, Layout.of(layout), rotations, group, (ignore,) if isinstance(ignore, str) else ignore,
        constant_parts_unobserved, hands_components, hands_mean, flat_hand_mean, num_pca_comps,
        context,
    )  # fmt: skip
    if split is not None and split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}.")
    entries = _entries(path)
    if subject is not None:
        check_text("subject", subject)
    for name, rate in (("fps", fps), ("target_fps", target_fps)):
        if rate is not None:
            check_number(name, rate, above=0)
    shards = read_index(Path(entries[0])) if len(entries) == 1 else None
    if shards is not None:
        return _read_shards(Path(entries[0]), shards, split, options, subject, fps, target_fps)
    root = common_root([Path(entry) for entry in entries])
    files = [found for entry in entries for found in pose_files(Path(entry), split, root=root)]
    if not files:
        raise ValueError("path: expected at least one file, got an empty list.")
    if twice := [file for file, count in Counter(found.path for found in files).items() if count > 1]:
        raise ValueError(f"path: expected each file once, got {twice[0]} more than once; leave the others out.")
    require_once({found.path: os.path.realpath(found.path) for found in files}, "path")
    parts = read_recordings(files, options, subject, fps, target_fps)
    if target_fps is not None and all(part.fps is None for part in parts):
        raise ValueError(
            f"target_fps: expected files that say their frame rate, got none in {shown(files[0].path)}; pass fps=."
        )
    options.require_effect(str(files[0].path) if len(files) == 1 else f"the {len(files)} files", fps=fps)
    data = parts[0] if len(parts) == 1 else PoseDataset.concat(parts)
    others = [note for entry in entries for note in left_out(Path(entry))] if split is None else []
    return _also_noted(data, [*_repeated(data), *others])


def _repeated(data: PoseDataset) -> list[str]:
    """A note on a recording in which frame numbers come again."""
    columns = data._columns
    twice = repeated_frame(groups(columns.subject, columns.sequence, columns.frame, len(data)), columns.frame)
    return [] if twice is None else [
        f"frame numbers come more than once in a recording ({twice[1]} in {twice[0]!r}): if these are two people or recordings, "
        "name them apart, data.with_names(sequence=...)"
    ]  # fmt: skip


def _entries(path: Any) -> list[PathInput]:
    """The paths that were given, one or several."""
    several = isinstance(path, Iterable) and not isinstance(path, str | bytes | PathLike | Mapping)
    entries = list(path) if several else [path]
    for entry in entries:
        check_path("path", entry)
    return entries


def _read_shards(
    folder: Path, index: dict[str, Any], split: str | None, options: Options, subject: str | None, fps: float | None,
    target_fps: float | None,
) -> PoseDataset:  # fmt: skip
    """A folder of shards: one part, or all of them."""
    if options != Options(context=options.context) or (subject, fps, target_fps) != (None, None, None):
        raise ValueError(
            f"path: expected none of the options that say how files are read, as {shown(folder)} holds shards, which were read "
            "when they were imported; leave the options out, or import the poses again with them."
        )
    parts = index["parts"]
    if split is not None and split not in parts:
        raise ValueError(f"split: expected one of {', '.join(parts)} in {shown(folder)}, got {split!r}.")
    data = read_shards(folder, parts if split is None else {split: parts[split]})
    if options.context is None:
        return data.without_context()
    if options.context != index.get("context"):
        raise ValueError(
            f"context: expected shards that were imported with --context {options.context}, got {index.get('context')!r} in "
            f"{shown(folder)}; import the poses again with it."
        )
    return data


def read_split(
    folder: PathInput,
    *,
    model_type: str | None = None,
    layout: str | Sequence[str] | None = None,
    rotations: str | Mapping[str, str] | None = None,
    side: str | int | None = None,
    ignore: Sequence[str] = (),
    constant_parts_unobserved: bool = True,
    context: str | None = None,
) -> dict[str, PoseDataset]:
    """The parts of a folder by name, in the order train, val, test.

    Args:
        folder: holds `train_poses.npz`, `val_poses.npz`, `test_poses.npz`, or `hands_train.npz`, ..., or `train.npz`,
            ..., or folders `train`, `val`, `test`, or folders of such folders; in any case, and by the usual other words
            (training; valid, validation, dev; testing, eval, evaluation). Parts that are absent are absent from
            the result, and other files beside named ones are not read, but noted. A folder with no such name is one part,
            'train', of every `.npz` below it: split that with `split_by_subject`.
        model_type, layout, rotations, side, ignore, constant_parts_unobserved, context: as in `read_poses`.
    """
    root = Path(folder)
    shards = read_index(root)
    names = list(split_files(root)) if shards is None else list(shards["parts"])

    def read(split: str | None) -> PoseDataset:
        return read_poses(
            root, split=split, model_type=model_type, layout=layout, rotations=rotations, side=side, ignore=ignore,
            constant_parts_unobserved=constant_parts_unobserved, context=context,
        )  # fmt: skip

    if not names:
        require_no_mixture(root)
        return {"train": read(None)}
    parts = {name: read(name) for name in names}
    if shards is None:
        parts[names[0]] = _also_noted(parts[names[0]], left_out(root))
    return parts


def _also_noted(data: PoseDataset, notes: Sequence[str]) -> PoseDataset:
    return data._noted(data.ignored, (*data.notes, *notes)) if notes else data


def write_poses(
    path: PathInput, poses: PoseDataset | Tensor | NDArray[Any], *, observed: Tensor | NDArray[Any] | None = None
) -> Path:
    """Write the library's own layout, beside the target and then renamed; `read_poses` gives the same rows back.

    Args:
        path: ends in `.npz`.
        poses: a data set, or (N, 55, 3) or (55, 3) rotvecs, radians.
        observed: (N, 55) bool for bare poses, or (55,) for all of them alike; None for all joints.

    Returns:
        The path. Keys: `poses` (N, 55, 3) float32, `observed` (N, 55), `joint_names`, `surface_model_type`, and
        `subject`, `sequence`, `fps`, `frame`, `rig`, `imputed` (N, 55) and `context` (N, C) where the data set has them
        (`read_poses(path, context="context")` reads the last).
    """
    check_path("path", path)
    target = Path(path)
    check_ending("path", target, ".npz")
    if isinstance(poses, PoseDataset):
        if observed is not None:
            raise ValueError("observed: expected None with a PoseDataset, which has its own, got an array.")
        data = poses
    else:
        value = as_tensor("poses", poses).detach()
        value = value[None] if value.dim() == 2 else value
        mask = None if observed is None else as_tensor("observed", observed)
        data = PoseDataset(value, mask.expand(len(value), -1) if mask is not None and mask.dim() == 1 else mask)
    pose, seen = data.all_poses()
    columns = {
        name: getattr(data, name) for name in ("subject", "sequence", "fps", "frame", "rig", "imputed", "context")
    }
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in columns.items() if v is not None}
    arrays.update(
        poses=pose.numpy(), observed=seen.numpy(), joint_names=np.array(JOINT_NAMES), surface_model_type="smplx"
    )
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, **arrays)
    return target
