"""Recipes, on synthetic poses: what they read, what they write down, and what is independent by construction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sample_poses import split_people

import poseprior
from poseprior import skeleton
from poseprior.cli import main
from poseprior.io import synthetic_poses, write_poses
from poseprior.recipes import RECIPES, Recipe, check_log_prob, find_recipe, held_out_nll, read_parts, record, together
from poseprior.recipes.sources import SOURCES

LEFT, RIGHT = list(range(25, 40)), list(range(40, 55))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """body/ without fingers, hands/ one hand at a time: the shape of the shared recordings."""
    root = tmp_path_factory.mktemp("recordings")
    for name, part in zip(("train", "val", "test"), split_people(1600), strict=True):
        pose, observed = part.all_poses()
        body = observed.clone()
        body[:, 22:] = False
        hands = torch.zeros_like(observed)
        hands[::2, 25:40] = True
        hands[1::2, 40:] = True
        for folder, mask in (("body", body), ("hands", hands)):
            (root / folder).mkdir(exist_ok=True)
            write_poses(root / folder / f"{name}_poses.npz", pose, observed=mask)
    return root


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """The recipe, with networks of a size for tests."""
    with pytest.MonkeyPatch.context() as patch:
        options = {"hidden": 8, "layers": 1, "num_components": 2, "num_orders": 2}
        patch.setitem(RECIPES, "whole-body", replace(RECIPES["whole-body"], options=options))
        yield


def _train(recipe: str, data: Path, out: Path, steps: int) -> poseprior.PosePrior:
    command = ["train", "--recipe", recipe, "--data", str(data), "--out", str(out), "--batch-size", "64"]
    assert main([*command, "--max-steps", str(steps), "--eval-every", "3", "--checkpoint-every", "2"]) == 0
    return poseprior.load(out / "prior.safetensors")


@pytest.fixture(scope="module")
def whole_body(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[poseprior.PosePrior, Path]:
    out = tmp_path_factory.mktemp("run") / "R"
    return _train("whole-body", data, out, 3), out


def test_there_is_a_recipe_for_each_shipped_prior() -> None:
    assert set(RECIPES) == {
        "body-gaussian", "body-mixture", "body-joint-flow", "body-global-flow", "body-order-agnostic", "body-vae",
        "hand-mixture", "hand-order-agnostic", "hand-vae", "whole-body",
    }  # fmt: skip
    with pytest.raises(ValueError, match="no recipe 'body'; the recipes are body-gaussian"):
        find_recipe("body")


@pytest.mark.parametrize("recipe", list(RECIPES.values()), ids=list(RECIPES))
def test_every_recipe_builds_its_prior_and_fits_8_MB(recipe: Recipe) -> None:
    prior = recipe.build()
    assert isinstance(prior, recipe.prior)
    assert recipe.fit_config().seed == recipe.seed
    size = sum(t.numel() * t.element_size() for t in prior.state_dict().values())
    assert size < 8e6
    assert all(SOURCES[part].notice() for part in recipe.parts)


def test_whole_body_writes_what_the_masks_say(whole_body: tuple[poseprior.PosePrior, Path], data: Path) -> None:
    prior, out = whole_body
    groups = [sorted(skeleton.JOINT_NAMES.index(n) for n in g) for g in prior.metadata["never_shown_together"]]
    assert [g for g in groups if len(g) > 1] == [list(range(1, 22)), LEFT, RIGHT]
    assert prior.get_config()["groups"] == groups
    assert {"pelvis", "jaw", "left_eye_smplhf"} <= set(prior.metadata["not_modelled"])
    assert prior.metadata["name"] == "whole-body"
    assert prior.metadata["training"]["config"]["max_steps"] == 3
    assert prior.metadata["versions"]["torch"] == torch.__version__
    # not the recordings of the recipe: neither their licence nor their notices
    assert prior.metadata["licence"] == "unspecified"
    assert prior.metadata["notices"] == []
    test = read_parts(data, ("body", "hands"))["test"]
    for part, expected in prior.metadata["check"]["subset"].items():
        again = held_out_nll(prior, test[part], max_poses=256)
        assert again == pytest.approx(expected, abs=1e-3)
        assert prior.metadata["metrics"][part]["test"]["num_poses"] == len(test[part])
    check = prior.metadata["check"]
    assert check_log_prob(prior, check["pose"]) == pytest.approx(check["log_prob"], abs=1e-2)
    assert json.loads((out / "metrics.json").read_text()).keys() == {"body", "hands"}


def test_one_network_serves_both_hands(whole_body: tuple[poseprior.PosePrior, Path]) -> None:
    prior, _ = whole_body
    pose = synthetic_poses(20, seed=3, num_subjects=2).poses
    left, right = torch.zeros(2, 20, 55, dtype=torch.bool)
    left[:, LEFT], right[:, RIGHT] = True, True
    mirrored = prior.log_prob(skeleton.mirror(pose), observed=right)
    torch.testing.assert_close(prior.log_prob(pose, observed=left), mirrored, rtol=0, atol=1e-3)


def test_fingers_with_a_body_are_fingers_alone(whole_body: tuple[poseprior.PosePrior, Path]) -> None:
    """Densities add up over body, left and right; draws of fingers do not depend on the body they are drawn with."""
    prior, _ = whole_body
    pose = synthetic_poses(30, seed=4, num_subjects=2).poses
    masks = torch.zeros(3, 55, dtype=torch.bool)
    masks[0, 1:22], masks[1, LEFT], masks[2, RIGHT] = True, True, True
    alone = sum(prior.log_prob(pose, observed=mask.expand(30, -1)) for mask in masks)
    torch.testing.assert_close(prior.log_prob(pose), alone, rtol=0, atol=1e-3)
    crouched = pose[:1].expand(1000, -1, -1)
    generator = torch.Generator().manual_seed(0)
    given_body = prior.complete(crouched, masks[0].expand(1000, -1), generator=generator)[0]
    from_nothing = prior.sample(1000, generator=generator)
    share = torch.tensor([0.1, 0.5, 0.9])
    first, second = (draw[:, LEFT + RIGHT].quantile(share, dim=0) for draw in (given_body, from_nothing))
    spread = from_nothing[:, LEFT + RIGHT].std(0)
    assert float(((first - second).abs() / spread).max()) < 0.35  # five standard errors of a 10 % quantile


def test_data_that_shows_them_together_lifts_the_independence(tmp_path: Path) -> None:
    """The same recipe on a user's folder whose poses show body and fingers in one go."""
    pose, _ = synthetic_poses(300, seed=0, num_subjects=3).all_poses()
    for name, rows in (("train", slice(0, 200)), ("test", slice(200, 300))):
        write_poses(tmp_path / f"{name}_poses.npz", pose[rows])
    recipe, splits = RECIPES["whole-body"], read_parts(tmp_path, ("body", "hands"))
    prior = recipe.build()
    prior.fit(together(splits["train"]), config=replace(recipe.fit_config(), max_steps=1, progress=False))
    record(prior, recipe, splits)
    joints = set(range(1, 55)) - {23, 24}
    assert [set(g) for g in prior.get_config()["groups"]] == [joints]
    assert len(prior.metadata["never_shown_together"]) == 1
    assert list(prior.metadata["metrics"]) == ["jitter", "seed", "all"]


def test_a_run_folder_of_another_recipe_is_refused(
    whole_body: tuple[poseprior.PosePrior, Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = whole_body
    assert main(["train", "--recipe", "body-gaussian", "--data", str(data), "--out", str(out)]) == 2
    assert "already holds another prior" in capsys.readouterr().err


def test_refusals(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*command: str) -> str:
        assert main(["train", "--data", str(data), "--out", str(tmp_path / "x"), *command]) == 2
        return capsys.readouterr().err

    assert "a model (gaussian, joint-flow, ...; see --help) or --recipe" in refused()
    assert "expected the model first" in refused("--recipe", "body-gaussian", "gaussian")
    assert "a recipe says which joints" in refused("--recipe", "body-gaussian", "--joints", "hands")
    assert "the recipes are" in refused("--recipe", "elephant")
    with pytest.raises(ValueError, match="got no hands"):
        (tmp_path / "half" / "body").mkdir(parents=True)
        read_parts(tmp_path / "half", ("body", "hands"))


def test_parts_are_put_together_with_the_rest_unobserved(data: Path) -> None:
    splits = read_parts(data, ("body", "hands"))
    whole = together(splits["train"])
    assert len(whole) == len(splits["train"]["body"]) + len(splits["train"]["hands"])
    assert not bool((whole.observed[:, 1] & whole.observed[:, 30]).any())
    assert list(read_parts(data / "body", ("body",))["train"]) == ["body"]
    assert list(read_parts(data / "body", ("body", "hands"))["train"]) == ["all"]


@pytest.mark.real_data
def test_the_digests_name_the_shared_recordings(real_data_dir: Path) -> None:
    data = poseprior.read_poses(real_data_dir / "hands" / "hands_train.npz")
    assert data.digest() == SOURCES["hands"].train_digest
