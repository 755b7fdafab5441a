"""The methods that `benchmarks.fitting.compare_priors` compares: which prior judges which body."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import poseprior
from benchmarks.common import measure_once
from benchmarks.density.left_out_rigs import FAMILIES, JITTER, nll, poses_of_rig
from benchmarks.fitting.tasks import Bodies
from poseprior import FitConfig, PoseDataset, PosePrior

_HANDS = ("hand-mixture", "hand-order-agnostic", "hand-vae")
_ORACLE_COMPONENTS = (1, 2, 4, 8)
_ORACLE_FOLDS = 5


@dataclass(frozen=True)
class Method:
    """A prior for all bodies, or one for each person, and the space that is searched.

    Attributes:
        name: of its rows.
        prior: judges the poses; None for no prior.
        by_person: in place of `prior`, the prior that judges each person, by name.
        space: "pose" or "latent".
        l2: whether the rest regulariser stands in for a prior.
    """

    name: str
    prior: PosePrior | None = None
    by_person: dict[str, PosePrior] | None = None
    space: Literal["pose", "latent"] = "pose"
    l2: bool = False

    @property
    def judged(self) -> bool:
        """Whether a prior judges the bodies."""
        return self.prior is not None or self.by_person is not None

    def groups(self, bodies: Bodies) -> list[tuple[Tensor, PosePrior | None]]:
        """Rows of bodies that one prior judges, and that prior; every body is in one of them."""
        if self.by_person is None:
            return [(torch.arange(len(bodies.people)), self.prior)]
        judges = [self.by_person[name] for name in bodies.people]
        different = {id(judge): judge for judge in judges}
        rows = {key: [k for k, judge in enumerate(judges) if id(judge) == key] for key in different}
        return [(torch.tensor(rows[key]), prior) for key, prior in different.items()]


def baselines() -> list[Method]:
    """Neither prior nor regulariser, and the regulariser alone."""
    return [Method("none"), Method("l2", l2=True)]


def shipped(part: Literal["body", "hand"]) -> list[Method]:
    """The priors of a part that ship."""
    names = tuple(FAMILIES.values()) if part == "body" else _HANDS
    return [method_of(name, poseprior.load(name)) for name in names]


def left_out(folder: Path, rig: str) -> list[Method]:
    """The priors that `benchmarks.density.left_out_rigs` trained without a rig and kept in `folder`, named as shipped."""
    paths = {name: folder / f"{family}-without-{rig}.safetensors" for family, name in FAMILIES.items()}
    return [method_of(name, poseprior.load(path)) for name, path in paths.items() if path.exists()]


def method_of(name: str, prior: PosePrior) -> Method:
    """A prior in the space that suits it: VAEs are searched in latent space."""
    if isinstance(prior, poseprior.BodyVAE | poseprior.HandVAE):
        return Method(f"{name}, latent", prior, space="latent")
    return Method(name, prior)


def oracle(folder: Path, rig: str, joints: tuple[int, ...], out: Path) -> Method:
    """What a prior of the rig itself would give: mixtures fitted to its poses, each person's to the other people.

    People are split into five folds; a mixture of as many Gaussians as have the best likelihood on the people who were
    left out judges the poses of each fold.

    Args:
        folder: holds the rig's files.
        rig: its name.
        joints: that the mixtures model.
        out: folder that keeps likelihoods and weights.
    """
    data = poses_of_rig(folder, rig)
    people = np.asarray(data.subject)
    folds = np.array_split(np.unique(people), min(_ORACLE_FOLDS, len(np.unique(people))))
    conditions = {"poses": len(data), "joints": list(joints), "folds": [[str(p) for p in fold] for fold in folds]}
    choose = partial(_held_out_nll, data, people, folds, joints)
    found = measure_once(out / f"oracle-{rig}-{len(joints)}.json", conditions, choose)
    best = min(_ORACLE_COMPONENTS, key=lambda count: found["held_out_nll"][str(count)])
    priors = []
    for number, fold in enumerate(folds):
        path = out / f"oracle-{rig}-{len(joints)}-{best}-{number}.safetensors"
        if not path.exists():
            _mixture(data.select(np.flatnonzero(~np.isin(people, fold))), joints, best).save(path)
        priors.append(poseprior.load(path))
    return Method("oracle", by_person={str(p): priors[k] for k, fold in enumerate(folds) for p in fold})


def _held_out_nll(
    data: PoseDataset, people: np.ndarray, folds: list[np.ndarray], joints: tuple[int, ...]
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Mean NLL of people who were left out, by the number of components."""
    found = {}
    for count in _ORACLE_COMPONENTS:
        total = 0.0
        for fold in folds:
            test = np.isin(people, fold)
            prior = _mixture(data.select(np.flatnonzero(~test)), joints, count)
            total += float(nll(prior, *data.select(np.flatnonzero(test)).all_poses()).sum())
        found[str(count)] = total / len(data)
    return {"held_out_nll": found}


def _mixture(data: PoseDataset, joints: tuple[int, ...], count: int) -> PosePrior:
    prior = poseprior.GaussianMixturePrior(joints, num_components=count)
    prior.fit(data, config=FitConfig(jitter=JITTER, progress=False))
    return prior
