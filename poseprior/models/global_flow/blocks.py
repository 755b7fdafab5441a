"""Blocks of joints that `GlobalFlow` chains, so that the joints a data set sometimes misses can be left out exactly.

A flow over the whole pose cannot drop a joint: its marginals have no closed form. But p(A) p(B | A) p(C | A), one
conditional flow for each block, can drop the trailing blocks B and C exactly. Body mocap that lacks toes in some takes
and wrists in others gives A = what every frame shows, B = wrists, C = toes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ... import skeleton
from ..._checks import check_wholes, quoted

#: Joints whose masks differ in at most this share of their rows go into one block.
_TOLERANCE = 0.002
#: Left and right go into one block when rows that show either mostly show both.
_MOSTLY_PAIRED = 0.9

#: Members of each block (SMPL-X indices), and positions of the earlier blocks it is conditioned on.
Blocks = list[tuple[list[int], list[int]]]


def blocks_from_masks(observed: Tensor, joints: tuple[int, ...], *, mirror: bool) -> Blocks:
    """Blocks of joints that are observed together, the most often observed first.

    A block is given every earlier block that is observed in all rows that observe the block itself. Blocks that are not
    given each other are independent.

    Args:
        observed: (N, 55) bool, N >= 1.
        joints: the joints to cover; each observed in some row.
        mirror: keep left and right together, for training with reflections.
    """
    patterns, count = torch.unique(observed[:, list(joints)], dim=0, return_counts=True)
    if mirror:
        patterns = _paired(patterns, count, joints)
    columns: list[Tensor] = []
    members: list[list[int]] = []
    order = sorted(range(len(joints)), key=lambda k: -int(count[patterns[:, k]].sum()))
    for k in order:
        column = patterns[:, k]
        for position, other in enumerate(columns):
            if int(count[column ^ other].sum()) <= _TOLERANCE * int(count[other].sum()):
                members[position].append(joints[k])
                columns[position] = other & column
                break
        else:
            columns.append(column)
            members.append([joints[k]])
    givens = [
        [h for h in range(g) if bool(column.any()) and not bool((column & ~columns[h]).any())]
        for g, column in enumerate(columns)
    ]
    return [(sorted(m), g) for m, g in zip(members, givens, strict=True)]


def _paired(patterns: Tensor, count: Tensor, joints: tuple[int, ...]) -> Tensor:
    place = {joint: k for k, joint in enumerate(joints)}
    result = patterns.clone()
    for joint, k in place.items():
        other = place.get(skeleton.MIRROR[joint])
        if other is None:
            continue
        both, either = patterns[:, k] & patterns[:, other], patterns[:, k] | patterns[:, other]
        if int(count[both].sum()) >= _MOSTLY_PAIRED * int(count[either].sum()):
            result[:, k] = both
    return result


def check_blocks(blocks: Sequence[tuple[Sequence[int], Sequence[int]]], joints: tuple[int, ...]) -> Blocks:
    """The option `blocks`, checked, as lists.

    Raises:
        ValueError: blocks that do not partition `joints`, or that are given later blocks.
    """
    if not isinstance(blocks, list | tuple) or not all(isinstance(b, list | tuple) and len(b) == 2 for b in blocks):
        raise ValueError(
            f"blocks: expected a list of (joints, given) pairs, got {quoted(blocks)}; None makes one block."
        )
    checked = [(sorted(check_wholes("blocks", members)), check_wholes("blocks", given)) for members, given in blocks]
    if sorted(j for members, _ in checked for j in members) != list(joints):
        raise ValueError(
            f"blocks: expected (joints, given) pairs that partition {list(joints)}, got {checked}; None makes one block."
        )
    for position, (_, given) in enumerate(checked):
        if any(not 0 <= g < position for g in given):
            raise ValueError(f"blocks: block {position} is given {given}; expected positions of earlier blocks.")
    return checked


def whole_blocks(observed: Tensor, members: Sequence[Sequence[int]], given: Sequence[Sequence[int]]) -> Tensor:
    """(...) bool of masks (..., J): every block is observed whole, with the blocks it is given, or not at all, and some is.

    Args:
        observed: (..., J) bool.
        members: positions of each block's joints.
        given: positions of the earlier blocks that each block is given.
    """
    whole = [observed[..., list(own)].all(-1) for own in members]
    good = torch.stack(whole).any(0)
    for own, complete, earlier in zip(members, whole, given, strict=True):
        allowed = torch.stack([complete, *(whole[g] for g in earlier)]).all(0)
        good = good & (allowed | ~observed[..., list(own)].any(-1))
    return good


def trailing_blocks(blocks: Blocks) -> str:
    """Names of the joints of all blocks but the first: what can be left out, or be drawn given the rest."""
    return ", ".join(" with ".join(skeleton.JOINT_NAMES[j] for j in members) for members, _ in blocks[1:])


def refuse_broken_blocks(observed: Tensor, good: Tensor, joints: Sequence[int], blocks: Blocks) -> None:
    """Refuse masks (B, J) of which some row is not good (B,).

    Raises:
        ValueError: naming the joints that a bad row leaves out, and those that could be.
    """
    bad = (~good).nonzero()
    if len(bad) == 0:
        return
    row = int(bad[0, 0])
    missing = [skeleton.JOINT_NAMES[joints[k]] for k in (~observed[row]).nonzero()[:, 0].tolist()]
    trailing = trailing_blocks(blocks)
    raise ValueError(
        f"observed: GlobalFlow cannot marginalise{f' (it can only leave out {trailing})' if trailing else ''}, and pose "
        f"{row} leaves out {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}; use a prior that can "
        "(GaussianPrior, GaussianMixturePrior, OrderAgnosticPrior)."
    )
