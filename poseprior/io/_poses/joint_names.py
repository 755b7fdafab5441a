"""The order in which an array keeps its joints, where the file's `joint_names` or the caller's `layout=` lists them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from ..._text import printable
from ...skeleton import JOINT_NAMES
from .._files.array_file import ArrayFile
from .options import Options
from .orders import Order

KEY = "joint_names"
_INDEX = {name: index for index, name in enumerate(JOINT_NAMES)}
_INDEX |= {"global_orient": 0, "root": 0, "jaw_pose": 22, "left_eye": 23, "right_eye": 24}
#: The left wrist and fingers.
LEFT_HAND: Order = (20, *range(25, 40))
#: Joints of SMPL that SMPL-X does not have: its whole hands.
_NOT_SMPLX = ("left_hand", "right_hand")


def stored_names(file: ArrayFile) -> tuple[str, ...] | None:
    """The names in the file, or None."""
    if KEY not in file:
        return None
    values = np.ravel(file[KEY]).tolist()
    return tuple(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values)


def body_joint(name: str) -> int | None:
    """SMPL-X index of a joint; -1 for what SMPL-X does not have, None for a name that is not known."""
    return -1 if name in _NOT_SMPLX else _INDEX.get(name)


def hand_joint(name: str) -> int | None:
    """SMPL-X index, on the left, of a joint of either hand or of its wrist, with or without the side; else None."""
    index = _INDEX.get(f"left_{re.sub('^(left|right)_', '', name)}", 0)
    return index if index in LEFT_HAND else None


def listed_order(
    key: str,
    usual: Order,
    file: ArrayFile,
    options: Options,
    notes: list[str],
    joint: Callable[[str], int | None] = body_joint,
) -> Order | None:
    """The order of the joints of an array, as `layout=` or the file lists them; None where neither does.

    Args:
        key: of the array.
        usual: the joints that the array has, in the usual order.
        file: where the array is.
        options: of the caller.
        notes: what to tell of names that say nothing is added.
        joint: the number of a joint by its name, as `usual` has it.

    Raises:
        ValueError: names of the file that are in another order than the array would be read in, or of other joints.
    """
    if options.layout.joints is not None:
        told = all_known(["-" if j < 0 else JOINT_NAMES[j] for j in options.layout.joints], joint)
        if told is not None and sorted(told) == sorted(usual):
            options.applied.add("layout")
            return told
    names = stored_names(file)
    if names is None:
        return None
    order = all_known(names, joint)
    if order is not None and sorted(order) == sorted(usual):
        return order
    refuse_other_order(key, names, usual, joint)
    if len(names) == len(usual):
        notes.append(unused_names(len(names)))
    return None


def all_known(names: Sequence[str], joint: Callable[[str], int | None] = body_joint) -> Order | None:
    """The joints of the names; None where one is not known, or where two are of the same joint."""
    order = tuple(-1 if name in ("-", "") else joint(name) for name in names)
    known = tuple(number for number in order if number is not None)
    joints = [number for number in known if number >= 0]
    return known if len(known) == len(order) and len(set(joints)) == len(joints) else None


def refuse_other_order(
    key: str, names: Sequence[str], usual: Order, joint: Callable[[str], int | None] = body_joint
) -> None:
    """Refuse an array that is read in another order than that of the file's names, or whose names are of other joints.

    Names of which some are not known are of something else, such as keypoints.

    Raises:
        ValueError: naming both.
    """
    order = all_known(names, joint)
    if order is None or order == tuple(usual):
        return
    common = [number for number in order if number in usual]
    if len(order) != len(usual) and common == sorted(common, key=usual.index):
        return
    shown = ", ".join(printable(name) for name in names[:4])
    raise ValueError(
        f"key '{KEY}': expected the names of the joints of '{key}', or names in the order in which it is read, got {len(names)} "
        f"({shown}, ...); save the names of '{key}' (poseprior.skeleton.JOINT_NAMES), or pass ignore=({KEY!r},) if they are of "
        "something else."
    )


def unused_names(count: int) -> str:
    """What to note of names that nothing is known by."""
    return f"{KEY} of the file are not {count} different names of SMPL-X joints, and were not used"
