"""What the values of joints say about their order, where shapes cannot tell: a jaw bends about one axis, fingers one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...skeleton import PARENTS, REFLECTION
from .._files.npy import as_float64
from .orders import FINGERS, Order

#: Rotvecs of right fingers on the flat hand, in SMPL-X order: a typical value and how far hands go from it, radians. On the
#: left (x, -y, -z). Rounded from sign language; wide enough for any use of a hand.
_FINGER = np.array([
    [[-0.1, -0.1, 0.7], [0.2, 0.2, 0.6]], [[0, 0, 0.5], [0.15, 0.15, 0.6]], [[0, 0, 0.5], [0.15, 0.15, 0.4]],
    [[-0.2, 0, 0.8], [0.25, 0.2, 0.6]], [[-0.1, 0, 0.7], [0.2, 0.15, 0.6]], [[0, 0, 0.5], [0.15, 0.15, 0.4]],
    [[-0.5, 0.3, 0.6], [0.4, 0.3, 0.5]], [[-0.4, 0, 0.6], [0.4, 0.15, 0.5]], [[-0.2, 0, 0.5], [0.2, 0.15, 0.4]],
    [[-0.4, 0, 0.8], [0.25, 0.2, 0.6]], [[-0.2, 0, 0.7], [0.25, 0.15, 0.6]], [[-0.1, 0, 0.5], [0.15, 0.2, 0.4]],
    [[0.3, -0.6, 0.2], [0.3, 0.3, 0.3]], [[0, 0, 0], [0.3, 0.3, 0.3]], [[0.2, -0.3, 0.2], [0.3, 0.3, 0.3]],
])  # fmt: skip
_JAW = np.array([[0.15, 0, 0], [0.2, 0.04, 0.04]])
_LEFT = np.array(REFLECTION)
_STILL = 1e-6
#: Nats a pose by which one order must lead: by itself, and where only its jaw bends about one axis.
_LEAD, _LEAD_WITH_HINGE = 6.0, 2.0
#: Nats a pose that speak against a default, and those that chance gives to a single pose.
_LEAST_LEAD, _CHANCE = 1.0, 6.0
#: Radians that a jaw turns about its other axes at most.
_OFF_HINGE = 0.08
_MOST_ROWS, _LARGEST = 4096, 1e6
#: Bones that show whether joints are points, the part of its length by which one may vary, and how far joints then move.
_ENOUGH_BONES, _RIGID, _MOVING = 10, 1e-3, 0.01
#: Runs of rows that are looked at apart, rows that one has, the part of its length by which a bone of points varies less, and
#: the ratio of variances that theirs is below.
_MOST_RUNS, _ROWS_OF_RUN, _VARIES, _LENGTHENS = 8, 16, 0.05, 0.1
#: About as many rows are looked at for it.
_FEW_ROWS = 256


def decide(joints: NDArray[np.floating], orders: Mapping[str, Order], default: str | None = None) -> str | None:
    """The one of several orders of jaw and hands that the values speak for.

    Args:
        joints: (N, J, 3) rotvecs.
        orders: by name, J indices each.
        default: what to take where the values are silent; None is the answer where they speak against it, too.
    """
    sample = _sample(joints)
    score = {name: _whole_score(sample, order) for name, order in orders.items()}
    jaw_alone = [name for name, order in orders.items() if _only_the_jaw_moves(sample, order)]
    if default is not None and jaw_alone and default not in jaw_alone:
        return None  # in the default order that is somebody who moves one joint of a finger and nothing else
    best = max(score, key=lambda name: score[name])
    hinged = [name for name, order in orders.items() if _bends_about_one_axis(sample[:, order.index(22)])]
    lead = score[best] - max(value for name, value in score.items() if name != best)
    if best in hinged and lead >= _LEAD:
        return best
    only = hinged == [best] and lead >= max(_LEAST_LEAD, _CHANCE / len(sample) ** 0.5)
    if default is None:
        return best if only and lead >= _LEAD_WITH_HINGE else None
    return None if only and best != default else default


def are_positions(joints: NDArray[np.floating], order: Order) -> bool:
    """Whether joints (N, J, 3) are points, of one person or of several: bones turn, and their lengths hardly change.

    The length of a bone varies by a few per cent, and its variance is compared with that of the vector along it: of points
    it is 0 to 0.08 times as large, of real rotations 0.15 times or more.
    """
    bones = [(k, order.index(PARENTS[j])) for k, j in enumerate(order) if j > 0 and PARENTS[j] in order]
    if len(joints) < 2 or len(bones) < _ENOUGH_BONES:
        return False
    sample = _sample(joints[:: 1 + len(joints) // _FEW_ROWS])
    child, parent = np.array(bones).T
    bone = sample[:, child] - sample[:, parent]
    length = np.linalg.norm(bone, axis=-1)
    if float(sample.std(0).max(1).mean()) > _MOVING and bool((length.std(0) < _RIGID * length.mean(0)).all()):
        return True
    # People of other sizes follow each other: some of the runs of rows are of one person alone.
    runs = np.array_split(np.arange(len(sample)), max(1, min(_MOST_RUNS, len(sample) // _ROWS_OF_RUN)))
    ratios = []
    for rows in runs:
        turns = bone[rows].var(0).sum(-1)
        moving = turns > _MOVING**2
        if len(rows) >= _ROWS_OF_RUN and moving.sum() >= _ENOUGH_BONES:
            some = length[rows][:, moving]
            varies = float(np.median(some.std(0) / some.mean(0)))
            ratios.append(float(np.median(some.var(0) / turns[moving])) if varies < _VARIES else 1.0)
    return bool(ratios) and float(np.median(ratios)) < _LENGTHENS


def positions_error(key: str) -> ValueError:
    """For an array of points where rotations are expected."""
    return ValueError(
        f"key '{key}': expected rotations, got points: the distances between neighbouring joints hardly change; fit them "
        "(poseprior fit, keypoints3d), or pass rotations='rotvec' if they are rotations after all."
    )


def same_joints(joints: NDArray[np.floating], orders: Mapping[str, Order]) -> bool:
    """Whether the joints on which orders differ are zero throughout, so that all read the same."""
    columns = [k for k, index in enumerate(zip(*orders.values(), strict=True)) if len(set(index)) > 1]
    return not np.nan_to_num(np.abs(joints[:, columns])).max(initial=0.0) > _STILL


def fingers_speak_for(hand: NDArray[np.floating], right: NDArray[np.bool_]) -> str | None:
    """Name of the order of the fifteen joints (N, 15, 3) that the values speak for, on the side that is said."""
    sample = _sample(hand)
    keep = np.linspace(0, len(hand) - 1, len(sample)).astype(int)
    turned = np.where(right[keep, None, None], sample, sample * _LEFT)
    if np.abs(turned).max(initial=0.0) <= _STILL:
        return None
    if (turned == turned[:1]).all():
        turned = turned[:1]  # a hand that is held still: the mean over its rows is that of one
    score = {name: _log_density(turned, _FINGER[list(places)]) for name, places in FINGERS.items()}
    best = max(score, key=lambda name: score[name])
    lead = score[best] - max(value for name, value in score.items() if name != best)
    return best if lead >= _LEAD else None


def bends_backwards(hand: NDArray[np.floating], right: NDArray[np.bool_]) -> bool:
    """Whether fingers (N, 15, 3) in SMPL-X order bend the way of the other hand than the one that is said."""
    if not len(hand):
        return False
    sample = _sample(hand)
    keep = np.linspace(0, len(hand) - 1, len(sample)).astype(int)
    turned = np.where(right[keep, None, None], sample, sample * _LEFT)
    return _log_density(turned * _LEFT, _FINGER) - _log_density(turned, _FINGER) >= _LEAD


def _sample(joints: NDArray[np.floating]) -> NDArray[np.float64]:
    """At most so many rows, spread over the file; what is no number counts as zero, and squares do not overflow."""
    keep = np.linspace(0, len(joints) - 1, min(len(joints), _MOST_ROWS)).astype(int)
    return np.nan_to_num(as_float64(joints[keep]), nan=0.0, posinf=0.0, neginf=0.0).clip(-_LARGEST, _LARGEST)


def _bends_about_one_axis(jaw: NDArray[np.float64]) -> bool:
    """Whether the joint (N, 3) turns about x alone, as a jaw does."""
    return float(np.sqrt(np.square(jaw[:, 1:]).mean())) <= _OFF_HINGE


def _only_the_jaw_moves(sample: NDArray[np.float64], order: Sequence[int]) -> bool:
    """Whether of jaw, eyes and fingers only the jaw is ever turned, about one axis."""
    turned = {order[int(k)] for k in np.flatnonzero(np.abs(sample).max((0, 2)) > _STILL)}
    return turned.difference(range(22)) == {22} and _bends_about_one_axis(sample[:, order.index(22)])


def _whole_score(sample: NDArray[np.float64], order: Sequence[int]) -> float:
    """Nats a pose of the jaw and the hands of an order."""
    jaw = sample[:, [order.index(22)]]
    left = sample[:, [order.index(k) for k in range(25, 40)]] * _LEFT
    right = sample[:, [order.index(k) for k in range(40, 55)]]
    return _log_density(jaw, _JAW[None]) + _log_density(left, _FINGER) + _log_density(right, _FINGER)


def _log_density(values: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    """Mean over rows of the log density (N, J, 3) under Cauchy laws (J, 2, 3): strange values cost little."""
    centre, width = table[:, 0], table[:, 1]
    return float((-np.log1p(np.square((values - centre) / width)) - np.log(width)).sum((1, 2)).mean())
