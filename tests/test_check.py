"""`check`: good poses raise no hint; every way of breaking them raises its own."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from poseprior import FitConfig, GaussianMixturePrior, GaussianPrior, PoseDataset, PosePrior
from poseprior.cli import main
from poseprior.io import synthetic_poses, write_poses
from poseprior.rotations import add_tangent_noise, frechet_mean, tangent_to_rotvec
from poseprior.skeleton import JOINT_NAMES, JOINT_SETS, MIRROR, mirror
from poseprior.tasks import CheckResult, check

JOINTS = ("body", "left_hand", "right_hand")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _index(*names: str) -> list[int]:
    return [JOINT_NAMES.index(name) for name in names]


@cache
def _whole() -> tuple[Tensor, Tensor]:
    """Synthetic poses that observe everything, of people to train on and of others, with noise on every axis."""
    data = synthetic_poses(4500, seed=0, num_subjects=10)
    train, rest = data.split_by_subject([0.7, 0.3], seed=0)
    parts = []
    for seed, part in enumerate((train, rest)):
        pose, observed = part.all_poses()
        pose = pose[observed.all(1)].clone()
        noisy = add_tangent_noise(pose, 0.1, generator=_generator(seed))
        noisy[:, 0] = pose[:, 0]
        parts.append(noisy)
    return parts[0], parts[1]


@cache
def _prior() -> PosePrior:
    prior = GaussianMixturePrior(JOINTS, num_components=2, em_iterations=5)
    prior.fit(_whole()[0], config=FitConfig(jitter=0.1, progress=False))
    return prior


def _good() -> Tensor:
    return _whole()[1][:300].clone()


def _names(result: CheckResult) -> list[str]:
    return [hint.name for hint in result.hints]


def test_good_poses_raise_no_hint_and_hold() -> None:
    result = check(_prior(), _good())
    assert _names(result) == []
    assert result.advice == "holds"
    assert result.num_poses == 300
    assert sum(result.histogram) == pytest.approx(1.0)
    assert len(result.joints) == len(_prior().joints)


def test_draws_of_a_prior_hold_evenly() -> None:
    result = check(_prior(), _prior().sample(1000, generator=_generator(4)))
    assert _names(result) == []
    assert result.advice == "holds"
    expected = (0.01, 0.04, 0.2, 0.25, 0.25, 0.2, 0.05)
    for found, share in zip(result.histogram, expected, strict=True):
        assert abs(found - share) < 5 * math.sqrt(share / 1000) + 0.01


def _constant(pose: Tensor) -> Tensor:
    pose[:, _index("left_collar", "right_collar")] = 0.0
    return pose


def _hinged(pose: Tensor) -> Tensor:
    pose[:, _index("left_knee", "right_knee")] *= torch.tensor([1.0, 0.0, 0.0])
    return pose


def _relative_to_the_mean_hand(pose: Tensor) -> Tensor:
    hands = list(JOINT_SETS["left_hand"] + JOINT_SETS["right_hand"])
    pose[:, hands] -= frechet_mean(_whole()[0][:, hands]).float()  # smplx adds the mean to the numbers
    return pose


def _swapped(pose: Tensor) -> Tensor:
    return pose[:, list(MIRROR)]


def _z_up(pose: Tensor) -> Tensor:
    turn = torch.tensor([math.pi / 2, 0.0, 0.0]).expand(len(pose), 3)
    pose[:, 0] = tangent_to_rotvec(pose[:, 0], turn)
    return pose


def _degrees(pose: Tensor) -> Tensor:
    return torch.rad2deg(pose)


BROKEN: dict[str, tuple[Callable[[Tensor], Tensor], str, bool]] = {
    "constant": (_constant, r"left and right collar never move: filled in, not recorded", False),
    "hinges": (_hinged, r"left and right knee are exact hinges", False),
    "mean hand": (_relative_to_the_mean_hand, r"left and right hand look relative to the mean hand", True),
    "swapped sides": (_swapped, r"left and right swapped: .* nats likelier", True),
    "z up": (_z_up, r"z up: global_orient stands the body along z", False),
    "degrees": (_degrees, r"degrees: rotations are far beyond 2 pi", True),
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_each_way_of_breaking_poses_has_its_hint(name: str) -> None:
    breaks, text, spoils = BROKEN[name]
    result = check(_prior(), breaks(_good()))
    assert _names(result) == [name]
    (hint,) = result.hints
    assert hint.spoils == spoils
    assert re.search(text, hint.text)
    assert (result.advice == "convert") == spoils
    assert f"hint: {hint.text}" in str(result)


def test_reflected_poses_are_poses() -> None:
    """A reflection is another body of the same kind: no side is swapped."""
    assert "swapped sides" not in _names(check(_prior(), mirror(_good())))


def test_a_turned_rest_frame_is_found_and_measured() -> None:
    pose = _good()
    (head,) = _index("head")
    pose[:, head] = tangent_to_rotvec(torch.tensor([0.0, math.radians(60.0), 0.0]).expand(len(pose), 3), pose[:, head])
    result = check(_prior(), pose)
    (found,) = [joint for joint in result.joints if joint.disagrees]
    assert (found.name, found.disagrees) == ("head", "rest frame")
    usual = next(joint.offset for joint in check(_prior(), _good()).joints if joint.name == "head")
    assert abs(found.offset - 60.0) < usual + 3.0
    assert result.advice == "adapt"
    assert "poseprior adapt" in str(result)
    assert "head" in str(result)


def test_a_wide_joint_is_found() -> None:
    pose = _good()
    (neck,) = _index("neck")
    pose[:, neck] = add_tangent_noise(pose[:, neck], 0.6, generator=_generator(3))
    assert [j.disagrees for j in check(_prior(), pose).joints if j.name == "neck"] == ["spread"]


def test_what_cannot_be_scored_is_counted_or_refused() -> None:
    pose = _good()
    observed = torch.ones(len(pose), 55, dtype=torch.bool)
    observed[:10, 1:22] = False
    body = GaussianPrior("body")
    body.fit(_whole()[0], config=FitConfig(progress=False))
    assert check(body, PoseDataset(pose, observed)).num_left_out == 10
    with pytest.raises(ValueError, match=r"poses: expected poses that the prior can score, got none in 10"):
        check(body, PoseDataset(pose[:10], observed[:10]))
    with pytest.raises(ValueError, match=r"prior: expected a fitted prior"):
        check(GaussianPrior("body"), pose)


@pytest.mark.parametrize("number", [1, 7])
def test_few_poses_are_judged_without_comparing_joints(number: int) -> None:
    result = check(_prior(), _good()[:number])
    assert result.num_poses == number and result.joints == ()
    assert "no joint was compared: that takes 8 poses that show it" in str(result)
    assert len(check(_prior(), _good()[:8]).joints) > 0


def test_check_and_adapt_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    _prior().save(tmp_path / "prior.safetensors")
    write_poses(tmp_path / "mine.npz", _good())
    prior, data = str(tmp_path / "prior.safetensors"), str(tmp_path / "mine.npz")
    picture, numbers = tmp_path / "c.png", tmp_path / "c.json"
    assert main(["check", prior, "--data", data, "--png", str(picture), "--json", str(numbers)]) == 0
    assert picture.stat().st_size > 10_000
    assert '"advice": "holds"' in numbers.read_text()
    assert "300 poses, GaussianMixturePrior of 51 joints" in capsys.readouterr().out
    out = tmp_path / "mine.safetensors"
    assert main(["adapt", prior, "--data", data, "--out", str(out), "--steps", "3"]) == 0
    assert "nats on these very poses" in capsys.readouterr().out
    assert main(["score", str(out), "--data", data]) == 0
    assert main(["adapt", prior, "--data", data, "--out", str(tmp_path / "mine.npz")]) == 2
    assert "--out: expected a name that ends in .safetensors" in capsys.readouterr().err


def test_a_picture_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["check", "no such prior", "--data", str(tmp_path / "none.npz"), "--png", str(tmp_path / "c.png")]) == 2
    assert "--png needs matplotlib, which is not installed" in capsys.readouterr().err
