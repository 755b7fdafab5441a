"""The weights that ship still give the numbers written in them, and carry what they must."""

from __future__ import annotations

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import poseprior
from poseprior import PoseDataset, PosePrior, skeleton
from poseprior.pretrained.listing import FOLDER, pretrained_files
from poseprior.recipes import RECIPES, check_log_prob, held_out_nll, read_parts
from poseprior.recipes.sources import SOURCES

NAMES = tuple(RECIPES)
#: Nats. Mean densities of held-out poses must not drift by more.
TOLERANCE = 0.1


@cache
def _load(name: str) -> PosePrior:
    return poseprior.load(name)


@cache
def _test_split(folder: Path, part: str) -> PoseDataset:
    return read_parts(folder, (part,))["test"][part]


def test_every_recipe_ships_and_nothing_else() -> None:
    assert sorted(pretrained_files()) == sorted(NAMES)
    assert list(poseprior.list_pretrained()) == sorted(NAMES)
    assert sum(file.stat().st_size for file in pretrained_files().values()) < 40e6


@pytest.mark.parametrize("name", NAMES)
def test_the_file_says_how_it_was_made(name: str) -> None:
    prior, recipe = _load(name), RECIPES[name]
    meta = prior.metadata
    assert type(prior) is recipe.prior
    assert meta["name"] == name
    assert meta["recipe"]["name"] == name
    assert meta["recipe"]["options"] == json.loads(json.dumps(dict(recipe.options)))
    assert meta["training"]["seed"] == recipe.seed
    assert meta["licence"] == "MIT"
    assert meta["num_parameters"] == prior.num_parameters
    assert meta["data_digests"]["train"] == {part: SOURCES[part].train_digest for part in recipe.parts}
    assert meta["notices"] == [SOURCES[part].notice() for part in recipe.parts]
    assert {"pelvis", "jaw"} <= set(meta["not_modelled"])
    for part in recipe.parts:
        assert meta["metrics"][part]["test"]["nll"] < 0
        assert (FOLDER / "licenses" / SOURCES[part].notice_file).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_densities_of_recorded_draws_have_not_moved(name: str) -> None:
    """Needs no data: poses written into the file, and what log_prob gave for them, in single precision, to four digits."""
    check = _load(name).metadata["check"]
    exact = deepcopy(_load(name)).double()
    assert check_log_prob(exact, check["pose"]) == pytest.approx(check["log_prob"], abs=2e-4)


@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_nll_on_a_fixed_subset_has_not_moved(name: str, real_data_dir: Path) -> None:
    for part, recorded in _load(name).metadata["check"]["subset"].items():
        found = held_out_nll(_load(name), _test_split(real_data_dir, part), max_poses=recorded["num_poses"])
        assert found["num_poses"] == recorded["num_poses"]
        assert found["nll"] == pytest.approx(recorded["nll"], abs=TOLERANCE)


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", NAMES)
def test_nll_on_all_held_out_poses_has_not_moved(name: str, real_data_dir: Path) -> None:
    metrics: dict[str, Any] = _load(name).metadata["metrics"]
    for part in RECIPES[name].parts:
        recorded = metrics[part]["test"]
        found = held_out_nll(_load(name), _test_split(real_data_dir, part))
        assert found["num_poses"] == recorded["num_poses"]
        assert found["nll"] == pytest.approx(recorded["nll"], abs=TOLERANCE)


def test_whole_body_keeps_apart_what_no_row_shows_together() -> None:
    """Fingers drawn with a body are distributed as fingers drawn alone, and so are left fingers with right ones."""
    prior = _load("whole-body")
    left, right = list(range(25, 40)), list(range(40, 55))
    body = [j for j in prior.joints if j < 22]
    groups = [sorted(group) for group in prior.get_config()["groups"]]
    for own, other in ((body, left), (body, right), (left, right)):
        assert not any(set(own) & set(group) and set(other) & set(group) for group in groups)
    generator = torch.Generator().manual_seed(0)
    pose = prior.sample(1, generator=generator)
    given = torch.zeros(55, dtype=torch.bool)
    given[[*body, *right]] = True
    with_body = prior.complete(pose[0], given, num_samples=1500, generator=generator)[:, left]
    alone = prior.sample(1500, generator=generator)[:, left]
    share = torch.tensor([0.1, 0.5, 0.9])
    gap = (with_body.quantile(share, dim=0) - alone.quantile(share, dim=0)).abs() / alone.std(0)
    # A quantile's standard error is about 0.06 deviations at most here (skewed marginals); 3 x 45 of them are compared.
    assert float(gap.max()) < 0.3
    whole, parts = torch.ones(55, dtype=torch.bool), torch.zeros(3, 55, dtype=torch.bool)
    parts[0, body], parts[1, left], parts[2, right] = True, True, True
    each = sum(prior.log_prob(pose, observed=mask) for mask in parts)
    torch.testing.assert_close(prior.log_prob(pose, observed=whole), each, rtol=0, atol=1e-2)


def test_whole_body_uses_one_network_for_both_hands() -> None:
    prior = _load("whole-body")
    pose = prior.sample(16, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 55, dtype=torch.bool)
    masks[0, 25:40], masks[1, 40:] = True, True
    mirrored = prior.log_prob(skeleton.mirror(pose), observed=masks[1])
    torch.testing.assert_close(prior.log_prob(pose, observed=masks[0]), mirrored, rtol=0, atol=1e-2)
