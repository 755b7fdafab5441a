"""Which joints are near each other on the skeleton."""

from __future__ import annotations

from collections.abc import Sequence

from ... import skeleton

#: Another parent for joints whose kinematic parent says nothing about them: the thighs, whose parent is the root, which
#: heads where the person goes, get the spine.
STAND_INS: dict[int, int] = {1: 3, 2: 3}
#: Joints at most that `near_joints` gives to a joint.
MOST_NEAR = 6


def near_joints(joints: Sequence[int]) -> list[list[int]]:
    """Places in `joints` of those near each joint: its parent, children, grandparent and mirror image.

    The thighs, whose parent is the root, also have the spine. At most `MOST_NEAR` for a joint.

    Args:
        joints: joints of one group, SMPL-X indices.
    """
    place = {joint: k for k, joint in enumerate(joints)}
    result = []
    for joint in joints:
        parent = skeleton.PARENTS[joint]
        stand_in = STAND_INS.get(joint)
        wanted = [parent, *(j for j in joints if skeleton.PARENTS[j] == joint)]
        wanted += [] if stand_in is None else [stand_in, skeleton.MIRROR[joint]]
        wanted += [skeleton.PARENTS[parent] if parent > 0 else -1, skeleton.MIRROR[joint]]
        near = dict.fromkeys(place[j] for j in wanted if j in place and j != joint)
        result.append(list(near)[:MOST_NEAR])
    return result
