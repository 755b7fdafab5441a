"""Conventions that poses give away: constant joints, hinges, the mean hand, swapped sides, degrees, the vertical."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..prior import PosePrior
from ..rotations import rotvec_to_tangent, rotvec_to_unitquat
from ..skeleton import JOINT_NAMES, JOINT_SETS, MIRROR
from ..training.pose_rows import MovingRows, quick_mean

HintName = Literal["degrees", "swapped sides", "mean hand", "hinges", "constant", "z up"]

_HINGES = ("left_knee", "right_knee", "left_elbow", "right_elbow")
#: A hinge turns by less than this about its other axes while it bends by more than that, degrees.
_HINGE, _BENDS = 1.5, 8.0
#: Poses are in degrees where more than this share of their rotvecs is longer than 2 pi.
_BEYOND = 0.1
#: Sides are swapped where exchanging them makes poses likelier: by this many nats at the median, and this share of them.
_LIKELIER, _MOST = 10.0, 0.75
#: Only finger joints that the prior bends by more than the first, degrees, tell the mean hand from the flat one. A joint is
#: near the flat hand where its mean is within the second, a share of the prior's bend. The third says how many must be.
_BENT, _FLAT, _FINGERS = 10.0, 0.4, 4
#: A joint is looked at where this many poses show it.
_LEAST_POSES = 8


@dataclass(frozen=True)
class Hint:
    """A convention that poses give away.

    Attributes:
        name: what was found.
        text: one sentence for people, with a remedy.
        spoils: whether the poses must be converted before a prior can judge them.
    """

    name: HintName
    text: str
    spoils: bool

    def __str__(self) -> str:
        return self.text


def find_hints(prior: PosePrior, rows: MovingRows, observed: Tensor, samples: Tensor) -> tuple[Hint, ...]:
    """The conventions found in poses.

    Args:
        prior: that judges them.
        rows: the poses, and which of their joints move.
        observed: (N, 55) bool, all joints that are observed.
        samples: (M, 55, 3) of the prior.
    """
    pose, moving = rows.pose, rows.moving
    if in_degrees(pose, observed):
        text = "degrees: rotations are far beyond 2 pi; multiply the rotvecs by pi / 180."
        return (Hint("degrees", text, True),)
    found = (
        _swapped(prior, pose, moving), _mean_hand(prior, pose, moving, samples), _hinges(pose, moving),
        _constant(rows.constant), _vertical(pose, observed),
    )  # fmt: skip
    return tuple(hint for hint in found if hint is not None)


def in_degrees(pose: Tensor, observed: Tensor) -> bool:
    """Whether numbers are degrees: rotvecs longer than a whole turn are rare in radians."""
    length = pose[:, 1:][observed[:, 1:]].norm(dim=-1)
    return len(length) > 0 and float((length > 2.0 * math.pi).float().mean()) > _BEYOND


def _constant(still: list[str]) -> Hint | None:
    # The root of a body that is drawn in its own frame does not move.
    names = [name for name in still if name != JOINT_NAMES[0]]
    if not names:
        return None
    return Hint(
        "constant", f"{_listed(names)} never move: filled in, not recorded, and taken as unobserved here.", False
    )


def _hinges(pose: Tensor, observed: Tensor) -> Hint | None:
    names = []
    for name in _HINGES:
        joint = JOINT_NAMES.index(name)
        values = pose[observed[:, joint], joint]
        if len(values) < _LEAST_POSES:
            continue
        tangent = rotvec_to_tangent(values.double(), quick_mean(values[:, None])[0])
        spread = torch.rad2deg(torch.linalg.svdvals(tangent - tangent.mean(0)) / math.sqrt(len(values)))
        if float(spread[1]) < _HINGE and float(spread[0]) > _BENDS:
            names.append(name)
    if not names:
        return None
    text = (
        f"{_listed(names)} are exact hinges, as skeleton solvers leave them: calibrated percentiles compare such poses "
        "with other solvers'."
    )
    return Hint("hinges", text, False)


def _swapped(prior: PosePrior, pose: Tensor, observed: Tensor) -> Hint | None:
    """Right values under left names: unlike a reflection, which changes signs too, no body can do that."""
    flip = list(MIRROR)
    sided = [j for j in prior.joints if MIRROR[j] != j and MIRROR[j] in prior.joints]
    both = observed & observed[:, flip]
    usable = prior.can_score(both) & both[:, sided].any(1) if sided else torch.zeros_like(both[:, 0])
    if int(usable.sum()) < _LEAST_POSES:
        return None
    given, seen = pose[usable], both[usable]
    gain = prior.log_prob(given[:, flip], observed=seen) - prior.log_prob(given, observed=seen)
    if float(gain.median()) < _LIKELIER or float((gain > 0).float().mean()) < _MOST:
        return None
    text = (
        f"left and right swapped: with the two sides' joints exchanged the poses are {float(gain.median()):.0f} nats likelier; "
        "exchange them when you save the file."
    )
    return Hint("swapped sides", text, True)


def _mean_hand(prior: PosePrior, pose: Tensor, observed: Tensor, samples: Tensor) -> Hint | None:
    sides = []
    for side in ("left_hand", "right_hand"):
        joints = sorted(set(JOINT_SETS[side]) & set(prior.joints))
        joints = [j for j in joints if int(observed[:, j].sum()) >= _LEAST_POSES]
        if not joints:
            continue
        rest, mean = quick_mean(samples[:, joints]), quick_mean(pose[:, joints], observed[:, joints])
        bent = torch.rad2deg(rest.norm(dim=-1)) > _BENT
        # How far along the prior's bend the mean of the poses is: 0 flat, 1 as bent.
        near = ((mean * rest).sum(-1) / rest.square().sum(-1)).abs()[bent] < _FLAT
        if len(near) >= _FINGERS and float(near.double().mean()) >= _MOST:
            sides.append(side)
    if not sides:
        return None
    text = (
        f"{_listed(sides)} look relative to the mean hand (smplx with flat_hand_mean=False): add hands_mean of the model "
        "file, or read the file with hands_mean=(left, right)."
    )
    return Hint("mean hand", text, True)


def _vertical(pose: Tensor, observed: Tensor) -> Hint | None:
    values = pose[observed[:, 0], 0]
    if len(values) < _LEAST_POSES or float(values.norm(dim=-1).max()) < 1e-3:
        return None
    x, y, z, w = rotvec_to_unitquat(values).unbind(-1)
    up = torch.stack([2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)], -1)  # where the body's y goes
    if float((up[:, 2].abs() > math.sqrt(0.5)).float().mean()) < _MOST:
        return None
    text = (
        "z up: global_orient stands the body along z, as AMASS does; for pictures and cameras with y up turn it by -90 "
        "degrees about x (priors of the body do not look at it)."
    )
    return Hint("z up", text, False)


def _listed(names: list[str]) -> str:
    """Names with commas, both sides of a pair in one word where both are there."""
    words: dict[str, None] = {}
    for name in names:
        bare = name.removeprefix("left_").removeprefix("right_")
        paired = {f"left_{bare}", f"right_{bare}"} <= set(names)
        words[f"left and right {bare}" if paired else name] = None
    return ", ".join(words)
