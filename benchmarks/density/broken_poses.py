"""What the thresholds of `score` find, and what they find by mistake: real poses, and the same poses with one thing broken.

    python -m benchmarks.density.broken_poses --data ../shared/data --prior body-mixture

Poses are of people that no shipped prior was trained on: the test people of `smplx_body/` (CMU), and HDM05, whose rig no
prior has seen. A row says per cent of the poses that each threshold marks: of real poses, then of broken ones, which are those
of the test people with

- a knee, or an elbow, that was bent by 30 degrees or more, bent the other way by as much,
- one of the body's joints turned by 45 or 90 degrees about a random axis,
- an arm at rest (zeros): the arm of a T-pose,
- the two arms, or the two legs, exchanged without changing signs,
- degrees taken for radians.

"named": the joint that `attribution` blames most is the broken one, or is next to it on the skeleton.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

import poseprior
from poseprior import PosePrior, skeleton
from poseprior.rotations import random_rotvec, rotvec_to_tangent, tangent_to_rotvec
from poseprior.tasks import score

from ..common import markdown_head, markdown_row, parser_for

_BENT = math.radians(30.0)
_ARMS = ([13, 16, 18, 20], [14, 17, 19, 21])
_LEGS = ([1, 4, 7, 10], [2, 5, 8, 11])
#: Breaks poses (N, 55, 3) and says which joints it broke: (poses, (N, 55) bool).
Break = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--prior", default="body-mixture", help="a shipped prior, or a file")
    parser.add_argument("--count", type=int, default=1000, help="poses of each row")
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = poseprior.load(options.prior)
    test, seen = _poses(options, "test")
    print(markdown_head(["poses", "percentile < 1", "< 5", "joint percentile < 1", "< 5", "attribution > 5", "> 10",
                         "named"]))  # fmt: skip
    print(_row(prior, "real: test people", test, seen, None))
    print(_row(prior, "real: HDM05", *_poses(options, "hdm05"), None), flush=True)
    for name, breaks in BREAKS.items():
        generator = torch.Generator().manual_seed(1)
        broken, where = breaks(test, generator)
        rows = where.any(1)
        print(_row(prior, name, broken[rows], seen[rows], where[rows]), flush=True)


def _poses(options: object, name: str) -> tuple[Tensor, Tensor]:
    data = poseprior.read_poses(options.data / "smplx_body" / f"{name}_poses.npz")  # type: ignore[attr-defined]
    data = data.random_subset(options.count, seed=0)  # type: ignore[attr-defined]
    poses, observed = data.all_poses()
    return torch.where(observed[..., None], poses, 0.0), observed


def _row(prior: PosePrior, name: str, poses: Tensor, observed: Tensor, broken: Tensor | None) -> str:
    result = score(prior, poses, observed=observed, generator=torch.Generator().manual_seed(0))
    worst, blamed = result.attribution.max(-1)
    marked = [
        result.percentile < 1, result.percentile < 5, result.joint_percentile < 1, result.joint_percentile < 5,
        worst > 5, worst > 10,
    ]  # fmt: skip
    cells = [f"{100 * float(m.float().mean()):.1f}" for m in marked]
    named = "-" if broken is None else f"{100 * float(_near(broken)[range(len(blamed)), blamed].float().mean()):.0f}"
    return markdown_row([f"{name} ({len(poses)})", *cells, named])


def _near(joints: Tensor) -> Tensor:
    """The joints (N, 55) with their parents and children."""
    parents = torch.tensor(skeleton.PARENTS)
    child = torch.arange(len(parents))[parents >= 0]
    near = joints.clone()
    near[:, child] |= joints[:, parents[child]]
    for joint in child.tolist():
        near[:, parents[joint]] |= joints[:, joint]
    return near


def _other_way(left: int, right: int) -> Break:
    def apply(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        where = torch.zeros(poses.shape[:2], dtype=torch.bool)
        side = torch.where(torch.rand(len(poses), generator=generator) < 0.5, left, right)
        where[range(len(poses)), side] = poses[range(len(poses)), side].norm(dim=-1) >= _BENT
        return torch.where(where[..., None], -poses, poses), where

    return apply


def _turned(degrees: float) -> Break:
    def apply(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        where = torch.zeros(poses.shape[:2], dtype=torch.bool)
        where[range(len(poses)), torch.randint(1, 22, (len(poses),), generator=generator)] = True
        axis = torch.nn.functional.normalize(random_rotvec(len(poses), 55, generator=generator), dim=-1)
        return torch.where(where[..., None], tangent_to_rotvec(math.radians(degrees) * axis, poses), poses), where

    return apply


def _at_rest(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    where = torch.zeros(poses.shape[:2], dtype=torch.bool)
    left = torch.rand(len(poses), generator=generator) < 0.5
    for side, rows in zip(_ARMS, (left, ~left), strict=True):
        where[rows.nonzero(), torch.tensor(side)] = True
    return torch.where(where[..., None], 0.0, poses), where


def _exchanged(limbs: tuple[list[int], list[int]]) -> Break:
    def apply(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        broken, (left, right) = poses.clone(), limbs
        broken[:, left], broken[:, right] = poses[:, right], poses[:, left]
        return broken, rotvec_to_tangent(broken, poses).norm(dim=-1) > 0.1

    return apply


def _degrees(poses: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return torch.rad2deg(poses), poses.norm(dim=-1) > 0


BREAKS: dict[str, Break] = {
    "a knee the other way": _other_way(4, 5),
    "an elbow the other way": _other_way(18, 19),
    "a joint turned by 45 degrees": _turned(45.0),
    "a joint turned by 90 degrees": _turned(90.0),
    "an arm at rest": _at_rest,
    "arms exchanged": _exchanged(_ARMS),
    "legs exchanged": _exchanged(_LEGS),
    "degrees for radians": _degrees,
}


if __name__ == "__main__":
    main()
