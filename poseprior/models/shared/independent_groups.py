"""Which joints may depend on each other: groups that training never shows together are independent by construction."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def partition(joints: tuple[int, ...], groups: Sequence[Sequence[int]] | None) -> list[list[int]]:
    """The option `groups` of a model, checked: disjoint sorted groups that cover `joints`; None is one group.

    Raises:
        ValueError: groups that are not a partition of the joints.
    """
    members = [list(joints)] if groups is None else [sorted(int(j) for j in group) for group in groups]
    if sorted(j for group in members for j in group) != list(joints):
        raise ValueError(f"groups: expected a partition of the joints {list(joints)}, got {members}.")
    return members


def independent_groups(together: Tensor, joints: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Connected components of the co-observation graph.

    Args:
        together: (55, 55) bool: whether two joints are ever observed in one pose.
        joints: the joints to partition.

    Returns:
        Disjoint sorted groups that cover `joints`. Two groups were never seen in one pose, so no data says how they
        depend on each other, and priors treat them as independent.
    """
    left, groups = set(joints), []
    for start in joints:
        if start not in left:
            continue
        group, frontier = {start}, [start]
        while frontier:
            row = together[frontier.pop()]
            new = {j for j in left - group if bool(row[j])}
            group |= new
            frontier += new
        left -= group
        groups.append(tuple(sorted(group)))
    return tuple(groups)
