"""Kinds of rig noise, judged on rigs that were left out of training.

For each kind of noise a mixture of 8 Gaussians is trained with it three times: without `uiprmd`, without `daz`, and on all
training rigs for `hdm05`, which is never trained on. Everything is on 17 joints, the body without toes and collars.

  gap        NLL of the left-out rig's poses at jitter 0.1 rad, nats above that of an oracle (`left_out_rigs`)
  surface    per cent of simulated surface fits below the 1st percentile of the prior's samples: val poses whose hinges and
             shares are blurred as fits of SMPL-X blur them; the mean over the three trainings

  python -m benchmarks.density.rig_noise_kinds --data DIR --out runs/rig_noise_kinds [--only none "isotropic, 0.15 rad"]
  python -m benchmarks.density.rig_noise_kinds --out runs/rig_noise_kinds --tables     print what was measured, as Markdown

Weights and numbers are kept in the output folder, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import file_stem, markdown_table, measure_once, parser_for, train_once
from benchmarks.density.left_out_rigs import (
    JOINTS,
    RIGS,
    nll,
    oracle,
    own_percentile,
    poses_of_rig,
    splits_without,
)
from benchmarks.density.rest_frames import DRAWS, Estimate, estimate, groups_of, turned
from poseprior import GaussianMixturePrior, PoseDataset, PosePrior, RigNoise
from poseprior.recipes import RECIPES
from poseprior.skeleton import JOINT_NAMES

#: Of the mixtures: less than the recipe has, so that a row takes half a minute.
_EM_POSES, _EM_ITERATIONS = 10_000, 20
_SURFACE_POSES = 2000
_SHIPPED = RigNoise.estimated("body")
#: Without rest frames: hinges and shares, which a rig did not measure.
_UNMEASURED = replace(_SHIPPED, parent_frame={}, child_frame={}, degrees_of_freedom=None, unmeasured_probability=1.0)
#: The same on half of the poses, for poses whose rest frames are drawn beforehand.
_ON_HALF = replace(_UNMEASURED, unmeasured_probability=_SHIPPED.unmeasured_probability)
_DEGREES = 180.0 / torch.pi


@dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        noise: of `FitConfig`, or what makes it from the training poses without a rig.
        options: fields of `FitConfig` that differ from the recipe's.
        components: of the mixture.
        train: what makes the training poses without a rig; None takes them as they are.
    """

    noise: RigNoise | Callable[[str | None, Path], RigNoise] | None = _SHIPPED
    options: Mapping[str, Any] = field(default_factory=dict)
    components: int = 8
    train: Callable[[str | None, Path], PoseDataset] | None = None


def scaled(noise: RigNoise, factor: float) -> RigNoise:
    """Rest frames that differ `factor` times as much."""
    return _with_frames(noise, lambda matrix: factor**2 * matrix)


def isotropic(noise: RigNoise) -> RigNoise:
    """Rest frames that differ as much, and about all axes of a joint alike."""
    return _with_frames(noise, lambda matrix: matrix.trace() / 3.0 * torch.eye(3, dtype=torch.float64))


def _with_frames(noise: RigNoise, change: Callable[[torch.Tensor], torch.Tensor]) -> RigNoise:
    sides = (
        {joint: change(torch.tensor(rows, dtype=torch.float64)).tolist() for joint, rows in side.items()}
        for side in (noise.parent_frame, noise.child_frame)
    )
    return replace(noise, parent_frame=next(sides), child_frame=next(sides))


def _same_for_all_joints(stddev: float, degrees_of_freedom: int) -> RigNoise:
    """The same noise about each axis of each joint, radians."""
    size = [[(_DEGREES * stddev) ** 2 * (row == column) for column in range(3)] for row in range(3)]
    names = [JOINT_NAMES[j] for j in JOINTS if not JOINT_NAMES[j].startswith("right_")]
    return RigNoise(child_frame=dict.fromkeys(names, size), degrees_of_freedom=degrees_of_freedom)


@cache
def _splits(left_out: str | None, folder: Path) -> dict[str, PoseDataset]:
    return splits_without(left_out, folder)


@cache
def _estimate(left_out: str | None, folder: Path, draws: int) -> Estimate:
    return estimate(groups_of(_splits(left_out, folder)["train"], JOINTS), JOINTS, draws=draws)


def estimated_anew(left_out: str | None, folder: Path, *, draws: int, of_all_rigs: bool = False) -> RigNoise:
    """Rest frames as the training poses have them, without the left-out rig or of all rigs; the rest as shipped."""
    found = _estimate(None if of_all_rigs else left_out, folder, draws).rig_noise()
    return replace(_SHIPPED, parent_frame=found.parent_frame, child_frame=found.child_frame)


def without_rest_frames(left_out: str | None, folder: Path) -> PoseDataset:
    """The training poses with the most likely rest frames of each person and rig taken off."""
    train = _splits(left_out, folder)["train"]
    frames = _estimate(left_out, folder, DRAWS).by_group()
    return turned(train, JOINTS, frames, inverse=True)


def few_rigs(left_out: str | None, folder: Path, *, rigs: int) -> PoseDataset:
    """Each person's training poses as so many random rigs would have recorded them, each rig an equal part of them."""
    train, generator = _splits(left_out, folder)["train"], torch.Generator().manual_seed(0)
    part = np.random.default_rng(0).integers(rigs, size=len(train))
    apart = train.with_names(subject=[f"{who}/{p}" for who, p in zip(np.asarray(train.subject), part, strict=True)])
    factors = torch.stack(_SHIPPED.frame_factors(JOINTS), 1)
    frames = {}
    freedom = _SHIPPED.degrees_of_freedom
    assert freedom is not None
    for group in sorted(set(zip(np.asarray(apart.rig), np.asarray(apart.subject), strict=True))):
        scale = ((freedom - 2) / torch.randn(freedom, generator=generator).square().sum()).sqrt()
        white = torch.randn(*factors.shape[:3], 1, generator=generator, dtype=torch.float64)
        frames[group] = scale * (factors @ white)[..., 0]
    moved = turned(apart, JOINTS, frames)
    return moved.with_names(subject=np.asarray(train.subject))


KINDS: dict[str, Kind] = {
    "none": Kind(None),
    "isotropic, 0.15 rad": Kind(None, {"jitter": 0.15}),
    "isotropic, 0.2 rad": Kind(None, {"jitter": 0.2}),
    "isotropic, 0.25 rad": Kind(None, {"jitter": 0.25}),
    "isotropic, 0.15 rad, Student-t(4), one scale a pose": Kind(_same_for_all_joints((0.15**2 - 0.1**2) ** 0.5, 4)),
    "hinges and shares only, on every pose": Kind(_UNMEASURED),
    "rest frames only": Kind(replace(_SHIPPED, unmeasured={}, shares=())),
    "rest frames only, at 0.7 of their size": Kind(replace(scaled(_SHIPPED, 0.7), unmeasured={}, shares=())),
    "rest frames, hinges and shares on every pose": Kind(replace(_SHIPPED, unmeasured_probability=1.0)),
    "**rest frames, hinges and shares on half of the poses**": Kind(),
    "the same with another seed": Kind(options={"seed": 1}),
    "the same with normal tails": Kind(replace(_SHIPPED, degrees_of_freedom=None)),
    "the same at 0.7 of the rest frames' size": Kind(scaled(_SHIPPED, 0.7)),
    "the same, isotropic within a joint": Kind(isotropic(_SHIPPED)),
    "the same, people and rigs weighted by their number of poses": Kind(
        options={"subject_balance": 0.0, "rig_balance": 0.0}
    ),
    "the same, people and rigs weighted equally": Kind(options={"subject_balance": 1.0, "rig_balance": 1.0}),
    "the same, one rig drawn for a person": Kind(_ON_HALF, train=partial(few_rigs, rigs=1)),
    "the same, eight rigs drawn for a person": Kind(_ON_HALF, train=partial(few_rigs, rigs=8)),
    "the same, rest frames of the training people inferred and taken off": Kind(train=without_rest_frames),
    "one full Gaussian": Kind(components=1),
    "one full Gaussian, hinges and shares on every pose": Kind(
        replace(_SHIPPED, unmeasured_probability=1.0), components=1
    ),
    **{
        f"rest frames estimated anew without the left-out rig, {draws} draws a person": Kind(
            partial(estimated_anew, draws=draws)
        )
        for draws in (DRAWS, 10, 50)
    },
    **{
        f"the same of all training rigs, {draws} draws a person": Kind(
            partial(estimated_anew, draws=draws, of_all_rigs=True)
        )
        for draws in (DRAWS, 50)
    },
}


def trained(title: str, left_out: str | None, folder: Path, out: Path) -> PosePrior:
    """The mixture of a kind of noise, trained without a rig by the recipe of `body-mixture`."""
    kind = KINDS[title]

    def splits() -> dict[str, PoseDataset]:
        found = _splits(left_out, folder)
        return found if kind.train is None else {**found, "train": kind.train(left_out, folder)}

    def build() -> PosePrior:
        return GaussianMixturePrior(
            JOINTS, num_components=kind.components, em_poses=_EM_POSES, em_iterations=_EM_ITERATIONS
        )

    noise = kind.noise
    if callable(noise):
        noise = noise(left_out, folder)
    recipe = {f: v for f, v in vars(RECIPES["body-mixture"].fit_config()).items() if v is not None}
    options = {**recipe, "rig_noise": noise, "progress": False, **kind.options}
    return train_once(out / f"{_stem(title)}-without-{left_out or 'none'}.safetensors", build, splits, options)


def measure(title: str, rig: str, folder: Path, out: Path) -> dict[str, float]:
    """The gap of a kind's mixture on a left-out rig, and the simulated surface fits that it calls unusual."""
    left_out = None if rig == "hdm05" else rig
    prior = trained(title, left_out, folder, out)
    pose, observed = poses_of_rig(folder / "smplx_body", rig).all_poses()
    reference = prior.sample(2000, generator=torch.Generator().manual_seed(1))
    surface, seen = surface_fits(_splits(left_out, folder)["val"])
    low = own_percentile(prior, reference, surface, seen) < 1.0
    return {
        "gap": float(nll(prior, pose, observed).mean()) - oracle(folder / "smplx_body", rig, out),
        "surface": 100.0 * float(low.float().mean()),
    }


def surface_fits(val: PoseDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses of val as fits of a surface would have them, and their masks: hinges and shares blurred, without jitter."""
    data = val.random_subset(_SURFACE_POSES, seed=0)
    pose, observed = data.all_poses()
    imputed = None if data.imputed is None else torch.as_tensor(np.asarray(data.imputed))
    moved = _UNMEASURED.apply(pose, observed, imputed, generator=torch.Generator().manual_seed(3))
    modelled = torch.zeros(observed.shape[1], dtype=torch.bool)
    modelled[list(JOINTS)] = True
    return moved, observed & modelled


def print_table(out: Path) -> None:
    """Every kind that was measured."""
    rows = []
    for title in KINDS:
        paths = [out / f"{_stem(title)}-{rig}.json" for rig in RIGS]
        if all(path.exists() for path in paths):
            found = [json.loads(path.read_text()) for path in paths]
            surface = sum(row["surface"] for row in found) / len(found)
            rows.append([title, *(f"{row['gap']:.1f}" for row in found), f"{surface:.1f}"])
    print(markdown_table(["noise beside jitter 0.1", *RIGS, "surface"], rows))


def _stem(title: str) -> str:
    return file_stem(title.replace("*", ""))


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/rig_noise_kinds"))
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), metavar="KIND")
    parser.add_argument("--tables", action="store_true", help="print what was measured; nothing is trained")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for title in () if args.tables else args.only:
        for rig in RIGS:
            path = args.out / f"{_stem(title)}-{rig}.json"
            row = measure_once(
                path, {"kind": title, "rig": rig, "poses": _EM_POSES}, partial(measure, title, rig, args.data, args.out)
            )
            print(f"{title}: {rig} {row['gap']:.1f}", file=sys.stderr, flush=True)
    print_table(args.out)


if __name__ == "__main__":
    main()
