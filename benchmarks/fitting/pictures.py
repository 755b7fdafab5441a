"""What fits to pictures gain when limbs are tried at other depths, and hands with other fingers.

    python -m benchmarks.fitting.pictures --data ../shared/data --out runs/pictures

Frames of people, with hands of others, are seen by one camera. Each is fitted as `fit_body` does, without other hands,
without other depths as well, and from the true pose. "above" counts fits whose energy is more than 5 nats above that of the
fit from the true pose, and "wrong" those of them that call themselves converged.

Fits are stored in `--out`: interrupt the command, and it goes on where it stopped. Delete the folder when the code of fits
has changed.

Data: smplx_body and hands. About 8 minutes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import tempfile
import time
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import torch
import tyro
from torch import Tensor, nn

import poseprior
from benchmarks.common import measure_once
from benchmarks.fitting.tasks import Bodies, keypoints, points, read_bodies
from poseprior.fitting import BodyFit, PosePriorTerm, Target, fit_body, stand_in_body
from poseprior.io import read_poses
from poseprior.skeleton import JOINT_SETS, mirror

_RUN = "poseprior.fitting.solver.run."
#: How bodies are fitted, and the parts of the search that are left out.
_FITS = {
    "from the true pose": (), "first minimum": ("other_hands", "other_depths"), "other depths": ("other_hands",),
    "other depths and hands": (),
}  # fmt: skip
_ABOVE = 5.0  # nats
_BODY = tuple(range(22))
_HANDS = {"left_hand": 20, "right_hand": 21}


@dataclasses.dataclass(frozen=True)
class Options:
    """Command line."""

    data: Path = Path("../shared/data")
    out: Path = Path("runs/pictures")
    """Results go here."""
    split: Literal["val", "test"] = "val"
    """Whose poses."""
    count: int = 64
    """Bodies."""
    priors: tuple[str, ...] = ("body-mixture+hand-mixture", "whole-body")
    """Priors whose energies are added, by the names of shipped weights."""
    views: tuple[str, ...] = ("coco_wholebody:2", "openpose_25:5")
    """Layouts of points, and their noise in pixels."""


def main() -> None:
    """Print one row for each view, prior and fit."""
    import smplx

    options = tyro.cli(Options, prog="python -m benchmarks.fitting.pictures", description=__doc__)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = smplx.create(str(stand_in_body(folder)), "smplx", use_pca=False, flat_hand_mean=True)
    bodies = people_with_hands(options.data, options.split, options.count)
    print("| view | priors | fit | joints, mm | fingers, mm | above | wrong | seconds |")
    print("|---" * 8 + "|")
    for view in options.views:
        layout, sigma = view.split(":")
        target = keypoints(sigma=float(sigma), name=layout)(model, bodies)
        for priors in options.priors:
            found = {}
            for name in _FITS:
                what = {"split": options.split, "count": options.count, "view": view, "priors": priors, "fit": name}
                file = options.out / f"{'-'.join(map(str, what.values())).replace(' ', '-')}.json"
                found[name] = measure_once(file, what, functools.partial(measure, model, bodies, target, priors, name))
            for name, numbers in found.items():
                cells = " | ".join(table_cells(numbers, found["from the true pose"]))
                print(f"| {layout}, {sigma} px | {priors} | {name} | {cells} |", flush=True)


def people_with_hands(data: Path, split: str, count: int) -> Bodies:
    """Frames of people, with the fingers of recorded right hands of others; the left ones are mirrored."""
    bodies = read_bodies(data / "smplx_body" / f"{split}_poses.npz", count)
    hands = read_poses(data / "hands" / f"hands_{split}.npz")
    rows = hands.observed[:, list(JOINT_SETS["right_hand"])].all(-1).nonzero()[:, 0]
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))[: 2 * count]]
    for name, poses in zip(_HANDS, (mirror(hands.poses[rows[:count]]), hands.poses[rows[count:]]), strict=True):
        fingers = list(JOINT_SETS[name])
        bodies.pose[:, fingers] = poses[:, fingers]
    return bodies


def measure(model: nn.Module, bodies: Bodies, target: Target, priors: str, name: str) -> dict[str, Any]:
    """By body: errors of 22 joints and of the fingers, mm, the energy, nats, whether it converged; seconds for all."""
    first, *others = (poseprior.load(prior) for prior in priors.split("+"))
    terms = [PosePriorTerm(prior, reduction="sum") for prior in others]
    start = bodies.pose if name == "from the true pose" else None
    with contextlib.ExitStack() as without:
        for part in _FITS[name]:
            without.enter_context(patch(_RUN + part, lambda *_, **__: iter(())))
        started = time.process_time()
        fit = fit_body(model, target, prior=first, terms=terms, start=start)
        seconds = time.process_time() - started
    fingers = [errors(model, fit, bodies, wrist, JOINT_SETS[hand]) for hand, wrist in _HANDS.items()]
    return {
        "joints": errors(model, fit, bodies, 0, _BODY).tolist(), "fingers": torch.stack(fingers).mean(0).tolist(),
        "energy": fit.energy.tolist(), "converged": fit.converged.tolist(), "seconds": seconds,
    }  # fmt: skip


def errors(model: nn.Module, fit: BodyFit, bodies: Bodies, origin: int, joints: tuple[int, ...]) -> Tensor:
    """(B,) mean distance of joints, mm, seen from one of them."""
    found = Bodies(fit.pose, bodies.observed, fit.params["betas"], fit.params["transl"], bodies.people)
    ours, true = (points(model, each, (origin, *joints)) for each in (found, bodies))
    return 1000.0 * ((ours - ours[:, :1]) - (true - true[:, :1]))[:, 1:].norm(dim=-1).mean(-1)


def table_cells(numbers: dict[str, Any], best: dict[str, Any]) -> list[str]:
    """Cells of one fit, beside that from the true pose."""
    joints, fingers, energy = (torch.tensor(numbers[name]) for name in ("joints", "fingers", "energy"))
    above = energy - torch.tensor(best["energy"]) > _ABOVE
    wrong = above & torch.tensor(numbers["converged"])
    counts = (f"{int(above.sum())}", f"{int(wrong.sum())}")
    return [f"{float(joints.mean()):.1f}", f"{float(fingers.mean()):.1f}", *counts, f"{numbers['seconds']:.0f}"]


if __name__ == "__main__":
    main()
