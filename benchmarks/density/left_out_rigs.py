"""How priors hold on rigs that they were not trained on.

Each prior is trained without one rig (`uiprmd`, `daz`) and judged on that rig's people; `hdm05`, which is never trained
on, judges the prior of all other rigs. Everything is on 17 joints, the body without toes and collars.

  NLL      mean negative log-density at jitter 0.1 rad, Haar nats
  gap      NLL above that of an oracle: a mixture fitted to other people of the very rig
  <1, <5   per cent of the poses below the prior's own 1st and 5th percentile (of its samples, each under the pose's mask)
  5..95    per cent of the poses between its 5th and 95th
  recorded, jittered, calibrated   of the poses as recorded and under the jitter that the prior was trained with, among the
           prior's samples; and of the poses as recorded among held-out people of the rigs that were trained on

  python -m benchmarks.density.left_out_rigs --out runs/left_out_rigs [--only mixture gaussian] [--rigs uiprmd]
  python -m benchmarks.density.left_out_rigs --out runs/left_out_rigs --shipped   the priors that ship, on hdm05
  python -m benchmarks.density.left_out_rigs --out runs/left_out_rigs --tables    print what was measured, as Markdown
  python -m benchmarks.density.left_out_rigs --other-movements   NLL of an oracle of other people and other movements

Weights and numbers are kept in the output folder, so that an interrupted run goes on where it stopped. A prior that cannot
marginalise is trained on the joints that the left-out rig shows: `daz` has no wrists.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import poseprior
from benchmarks.common import markdown_head, markdown_row, parser_for, train_once, write_json
from poseprior import PoseDataset, PosePrior, read_poses
from poseprior.evaluation import calibrate, standard_scores
from poseprior.recipes import RECIPES, Recipe, read_parts
from poseprior.rotations import add_tangent_noise

JITTER = 0.1
JOINTS = tuple(j for j in range(1, 22) if j not in (10, 11, 13, 14))
#: Families by the recipe that they are trained as.
FAMILIES = {
    "gaussian": "body-gaussian", "mixture": "body-mixture", "joint-flow": "body-joint-flow",
    "global-flow": "body-global-flow", "order-agnostic": "body-order-agnostic", "vae": "body-vae",
}  # fmt: skip
RIGS = ("uiprmd", "daz", "hdm05")
_ORACLE_COMPONENTS = (1, 2, 4, 8)
_FOLDS = 5
_MOST_POSES = 4000
#: What the percentiles of a row are of, and its columns.
_KINDS = ("recorded", "jittered", "calibrated")
_SHARES = ("below 1", "below 5", "within")


def rows_of(data: PoseDataset, rig: str, *, without: bool = False) -> PoseDataset:
    """The poses of a rig, or all others."""
    same = np.asarray(data.rig) == rig
    return data.select(np.flatnonzero(~same if without else same))


def poses_of_rig(folder: Path, rig: str) -> PoseDataset:
    """Every person of a rig, whatever split they are in; at most a fixed random few thousand poses."""
    if rig in ("uiprmd", "hdm05"):
        data = read_poses(folder / f"{rig}_poses.npz")
    else:
        data = PoseDataset.concat(
            [rows_of(read_poses(folder / f"{s}_poses.npz"), rig) for s in ("train", "val", "test")]
        )
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:_MOST_POSES].sort().values
    return data.select(chosen)


def oracle_nll(folder: Path, rig: str, *, other_movements: bool = False) -> float:
    """NLL at the jitter of mixtures fitted to other people of the rig, the best number of components.

    Args:
        folder: of the pose files.
        rig: its name.
        other_movements: fit to other people and other movements, of a rig whose recordings are named RIG_MOVEMENT_...
    """
    data = poses_of_rig(folder, rig)
    people = np.asarray(data.subject)
    movements = np.asarray([name.split("_")[1] if other_movements else "" for name in np.asarray(data.sequence)])
    best = float("inf")
    for components in _ORACLE_COMPONENTS:
        total = 0.0
        for same_people, same_movements in product(_folds(people), _folds(movements)):
            test = same_people & same_movements
            train = ~same_people & ~same_movements if other_movements else ~same_people
            prior = poseprior.GaussianMixturePrior(JOINTS, num_components=components)
            prior.fit(data.select(np.flatnonzero(train)), config=poseprior.FitConfig(jitter=JITTER, progress=False))
            pose, observed = data.select(np.flatnonzero(test)).all_poses()
            total += float(nll(prior, pose, observed).sum())
        best = min(best, total / len(data))
    return best


def _folds(labels: np.ndarray) -> list[np.ndarray]:
    """(N,) bool masks of up to five groups of labels."""
    names = np.unique(labels)
    return [np.isin(labels, part) for part in np.array_split(names, min(_FOLDS, len(names)))]


def nll(prior: PosePrior, pose: Tensor, observed: Tensor) -> Tensor:
    """(B,) NLL at the jitter, over the 17 joints."""
    return -prior.log_prob(jittered(pose), observed=observed & _mask())


def jittered(pose: Tensor) -> Tensor:
    """Poses under the jitter, the same noise in every call."""
    return add_tangent_noise(pose, JITTER, generator=torch.Generator().manual_seed(2))


def _mask() -> Tensor:
    mask = torch.zeros(55, dtype=torch.bool)
    mask[list(JOINTS)] = True
    return mask


def trained(family: str, left_out: str | None, folder: Path, out: Path) -> PosePrior:
    """The family's prior of the 17 joints, or of those that the left-out rig shows, trained without the rig."""
    recipe = RECIPES[FAMILIES[family]]
    joints = JOINTS
    if left_out and not recipe.prior.can_marginalise:
        shown = poses_of_rig(folder / "smplx_body", left_out).all_poses()[1].any(0)
        joints = tuple(j for j in JOINTS if shown[j])

    def build() -> PosePrior:
        return recipe.prior(joints, **recipe.options)

    options = {f: v for f, v in vars(recipe.fit_config()).items() if v is not None}
    path = out / f"{family}-without-{left_out or 'none'}.safetensors"
    return train_once(path, build, partial(splits_without, left_out, folder), options)


def splits_without(left_out: str | None, folder: Path) -> dict[str, PoseDataset]:
    """Train and val without a rig."""
    parts = read_parts(folder, ("body",))
    found = {name: parts[name]["body"] for name in ("train", "val")}
    return {k: v if left_out is None else rows_of(v, left_out, without=True) for k, v in found.items()}


def judge(prior: PosePrior, data: PoseDataset, val: PoseDataset, recipe: Recipe) -> dict[str, float]:
    """NLL, percentiles among the prior's own samples and calibrated percentiles of a rig's poses."""
    pose, observed = data.all_poses()
    observed = observed & _mask()
    usable = prior.can_score(observed)
    pose, observed = pose[usable], observed[usable]
    reference = prior.sample(2000, generator=torch.Generator().manual_seed(1))
    table = calibrate(prior, val, rig_noise=recipe.fit.rig_noise, jitter=JITTER)
    percentiles = {
        "recorded": own_percentile(prior, reference, pose, observed),
        "jittered": own_percentile(prior, reference, jittered(pose), observed),
        "calibrated": table.percentile(pose, observed, standard_scores(prior, pose, observed, reference)),
    }
    numbers = {"nll": float(nll(prior, pose, observed).mean()), "num_poses": float(len(pose))}
    for kind in _KINDS:
        value = percentiles[kind]
        shares = (value < 1, value < 5, (value >= 5) & (value <= 95))
        numbers |= {f"{kind} {name}": 100.0 * float(s.float().mean()) for name, s in zip(_SHARES, shares, strict=True)}
    return numbers


def own_percentile(prior: PosePrior, reference: Tensor, pose: Tensor, observed: Tensor) -> Tensor:
    """(B,) per cent of the prior's samples `reference` that are less likely than each pose, under the pose's mask."""
    result = torch.zeros(len(pose))
    masks, which = observed.unique(dim=0, return_inverse=True)
    for number, mask in enumerate(masks):
        rows = which == number
        usual, value = (prior.log_prob(some, observed=mask) for some in (reference, pose[rows]))
        result[rows] = 100.0 * (usual[None] < value[:, None]).float().mean(1)
    return result


def print_table(out: Path) -> None:
    """All that was measured, one line for each family and left-out rig, as Markdown."""
    oracles = {rig: json.loads((out / f"oracle-{rig}.json").read_text()) for rig in RIGS}
    print(markdown_head(["family", "left out", "NLL", "gap", *_KINDS]))
    for prefix in ("", "shipped-"):
        for family in FAMILIES:
            for rig in RIGS:
                path = out / f"{prefix}{family}-{rig}.json"
                if path.exists():
                    row = json.loads(path.read_text())
                    shares = ("/".join(f"{row[f'{kind} {share}']:.1f}" for share in _SHARES) for kind in _KINDS)
                    name = f"`{FAMILIES[family]}`" if prefix else family
                    gap = row["nll"] - oracles[rig]
                    print(markdown_row([name, f"`{rig}`", f"{row['nll']:.1f}", f"{gap:.1f}", *shares]))
    for rig, value in oracles.items():
        print(markdown_row(["oracle", f"`{rig}`", f"{value:.1f}", "0", *["-"] * len(_KINDS)]))


def measure(family: str, rig: str, folder: Path, out: Path, *, shipped: bool) -> dict[str, float]:
    """`judge` of a family's prior on a rig, trained first if need be."""
    left_out = None if rig == "hdm05" else rig
    prior = poseprior.load(FAMILIES[family]) if shipped else trained(family, left_out, folder, out)
    val = splits_without(left_out, folder)["val"]
    return judge(prior, poses_of_rig(folder / "smplx_body", rig), val, RECIPES[FAMILIES[family]])


def oracle(folder: Path, rig: str, out: Path) -> float:
    """`oracle_nll`, measured once and kept in the output folder."""
    return float(_cached(out / f"oracle-{rig}.json", partial(oracle_nll, folder, rig)))


def _cached(path: Path, compute: Callable[[], Any]) -> Any:
    if not path.exists():
        write_json(path, compute())
    return json.loads(path.read_text())


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/left_out_rigs"))
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--rigs", nargs="+", choices=RIGS, default=list(RIGS))
    parser.add_argument("--shipped", action="store_true", help="judge the priors that ship, on hdm05")
    parser.add_argument("--tables", action="store_true", help="print what was measured; nothing is trained")
    parser.add_argument("--other-movements", action="store_true", help="only an oracle of other movements, on uiprmd")
    args = parser.parse_args()
    torch.set_num_threads(1)
    body = args.data / "smplx_body"
    if args.other_movements:
        print(f"{oracle_nll(body, 'uiprmd', other_movements=True) - oracle(body, 'uiprmd', args.out):.1f} nats above")
        return
    for rig in RIGS:
        oracle(body, rig, args.out)
    for family in () if args.tables else args.only:
        for rig in ["hdm05"] if args.shipped else args.rigs:
            name = f"shipped-{family}" if args.shipped else family
            path = args.out / f"{name}-{rig}.json"
            _cached(path, partial(measure, family, rig, args.data, args.out, shipped=args.shipped))
    print_table(args.out)


if __name__ == "__main__":
    main()
