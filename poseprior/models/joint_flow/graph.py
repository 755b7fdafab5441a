"""Which joints depend on which: parents and sampling order of `JointFlow`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ... import skeleton
from ..shared.near_joints import STAND_INS

#: Parents in the default architecture beside the nearest ancestor: the grandparent where a limb acts as a whole, and for
#: right joints also the same joint on the left. `docs/flows.md` has the measurements.
_EXTRA_PARENTS: dict[int, tuple[int, ...]] = {
    2: (1,), 4: (2,), 5: (4, 1), 7: (1,), 8: (2, 7), 10: (4,), 11: (5, 10), 12: (6,), 14: (13,), 15: (9,),
    16: (9, 3), 17: (9, 16, 3), 18: (9,), 19: (18, 16), 20: (16,), 21: (17, 20),
    # Fingers: the finger beside it, from the index outwards; SMPL-X order is index, middle, pinky, ring, thumb.
    **{base + k: (base + k - beside,) for base in (25, 40) for k, beside in (
        (3, 3), (9, 6), (6, -3), (12, 12), (4, 3), (10, 6), (7, -3),
    )},
}  # fmt: skip


def parent_joints(
    joints: tuple[int, ...], *, extra: bool, groups: Sequence[Sequence[int]] | None = None
) -> dict[int, tuple[int, ...]]:
    """The joints that each joint is conditioned on; acyclic, within `joints`.

    Args:
        joints: modelled joints, SMPL-X indices.
        extra: besides the nearest modelled ancestor, use the stand-ins and extra parents.
        groups: partition of `joints`; parents stay within a group. None is one group.
    """
    group_of = {joint: set(group) for group in (groups or [joints]) for joint in group}
    result = {}
    for joint in joints:
        known = group_of[joint]
        parent = STAND_INS.get(joint, -1) if extra else -1
        if parent not in known:
            parent = skeleton.PARENTS[joint]
            while parent not in known and parent != -1:
                parent = skeleton.PARENTS[parent]
        chosen = [parent] if parent in known else []
        if extra:
            chosen += [j for j in _EXTRA_PARENTS.get(joint, ()) if j in known and j not in chosen]
        result[joint] = tuple(chosen)
    return result


def depth_levels(parents: Mapping[int, tuple[int, ...]]) -> list[list[int]]:
    """Joints in layers such that every parent is in an earlier layer."""
    depth: dict[int, int] = {}
    while len(depth) < len(parents):
        for joint, own in parents.items():
            if joint not in depth and all(c in depth for c in own):
                depth[joint] = 1 + max((depth[c] for c in own), default=-1)
    return [[j for j in parents if depth[j] == level] for level in range(1 + max(depth.values()))]


def with_dependents(joints: Iterable[int], parents: Mapping[int, tuple[int, ...]]) -> set[int]:
    """Joints, and all whose conditionals depend on them directly or through others."""
    found, size = set(joints), -1
    while len(found) > size:
        size = len(found)
        found |= {joint for joint, own in parents.items() if found.intersection(own)}
    return found
