"""What a trained recipe writes into its file: origin, licences, held-out numbers, and the means to check them later."""

from __future__ import annotations

import math
from typing import Any

import torch

from .. import skeleton
from .._version import __version__
from ..io import PoseDataset
from ..models.shared.independent_groups import independent_groups
from ..prior import PosePrior
from ..training.initial_poses import co_observed
from ..training.validation import mean_active_dims, mean_haar_log_density, mean_nll, scorable_rows
from .data import Splits, together
from .sources import SOURCES
from .table import Recipe

#: Every recorded NLL is at this jitter, radians, drawn with this seed: the jitter of the recipes.
JITTER, SEED = 0.1, 0
#: Poses of the test split whose NLL is recorded apart, cheap enough to be checked in every test run.
SUBSET_POSES = 256
_CHECK_POSES = 4
_CHECK_DECIMALS = 5


def held_out_nll(prior: PosePrior, data: PoseDataset, *, max_poses: int | None = None) -> dict[str, Any]:
    """Mean NLL of the poses that the prior can score, jitter 0.1 rad, fixed seed.

    Returns:
        `nll` (nats a pose against Haar), `nll_rotvec` (against Lebesgue measure of rotvecs), `bpd`, `num_poses`,
        `active_dims`, `log_prob_kind`.
    """
    pose, observed, *_ = scorable_rows(prior, data, "data", jitter=JITTER, seed=SEED, max_poses=max_poses)
    nll = mean_nll(prior, pose, observed)
    rotvec = nll - mean_haar_log_density(prior, pose, observed)
    dims = mean_active_dims(prior, observed)
    numbers = {"nll": nll, "nll_rotvec": rotvec, "bpd": rotvec / (math.log(2.0) * dims), "active_dims": dims}
    return {k: round(v, 4) for k, v in numbers.items()} | {
        "num_poses": len(pose), "log_prob_kind": prior.log_prob_kind,
    }  # fmt: skip


def record(prior: PosePrior, recipe: Recipe, splits: Splits, *, licence: str | None = None) -> None:
    """Fill `prior.metadata` after a fit.

    The recipe's licence and the notices of its sources are written only when the training data are those sources; data of
    one's own get `licence`, or "unspecified".
    """
    train = splits["train"]
    digests = {split: {part: data.digest() for part, data in parts.items()} for split, parts in splits.items()}
    known = all(part in SOURCES and SOURCES[part].train_digest == digests["train"][part] for part in train)
    sources = [SOURCES[part] for part in train] if known else []
    groups = independent_groups(co_observed(together(train), mirror=prior.metadata["training"]["mirror"]), prior.joints)
    prior.metadata |= {
        "name": recipe.name,
        "description": recipe.description,
        "licence": licence or (recipe.licence if known else "unspecified"),
        "sources": [{"title": source.title, "licence": source.licence} for source in sources],
        "notices": [source.notice() for source in sources],
        "data_digests": digests,
        "versions": {"poseprior": __version__, "torch": str(torch.__version__)},
        "num_parameters": prior.num_parameters,
        "never_shown_together": [[skeleton.JOINT_NAMES[j] for j in group] for group in groups],
        "not_modelled": [name for j, name in enumerate(skeleton.JOINT_NAMES) if j not in prior.joints],
        "metrics": {
            "jitter": JITTER,
            "seed": SEED,
            **{
                part: {
                    split: held_out_nll(prior, splits[split][part])
                    for split in ("val", "test")
                    if part in splits.get(split, {})
                }
                for part in train
            },
        },
        "check": _check(prior, splits.get("test") or splits.get("val") or train),
    }


def _check(prior: PosePrior, held_out: dict[str, PoseDataset]) -> dict[str, Any]:
    """NLL on a small subset for each part, and log-densities of the prior's own draws, which need no data to repeat."""
    generator = torch.Generator(device=prior.device).manual_seed(SEED)
    drawn = prior.sample(_CHECK_POSES, generator=generator).cpu()[:, list(prior.joints)]
    pose = [[[round(float(v), _CHECK_DECIMALS) for v in joint] for joint in row] for row in drawn]
    return {
        "subset": {part: held_out_nll(prior, data, max_poses=SUBSET_POSES) for part, data in held_out.items()},
        "pose": pose,
        "log_prob": [round(v, 4) for v in check_log_prob(prior, pose)],
    }


def check_log_prob(prior: PosePrior, pose: list[Any]) -> list[float]:
    """Log-densities of the recorded draws, rotvecs of the modelled joints, (4, J, 3)."""
    full = torch.zeros(len(pose), skeleton.NUM_JOINTS, 3, dtype=torch.float64, device=prior.device)
    full[:, list(prior.joints)] = torch.tensor(pose, dtype=torch.float64, device=prior.device)
    with torch.no_grad():
        return [float(v) for v in prior.log_prob(full)]
