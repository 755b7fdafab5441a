"""`score` finds broken frames among plausible ones, also where half of the poses observe fewer joints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import poseprior
from poseprior.cli import main
from poseprior.io import write_poses
from poseprior.skeleton import JOINT_NAMES


@pytest.mark.parametrize("name", ["body-gaussian", "body-mixture"])
@pytest.mark.parametrize(
    ("joint", "turn"), [("left_knee", (-1.75, 0.0, 0.0)), ("left_elbow", (0.0, 1.75, 0.0)), ("neck", (-2.0, 0.0, 0.0))]
)
def test_joints_bent_the_wrong_way_come_first(
    name: str, joint: str, turn: tuple[float, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = poseprior.load(name)
    pool = prior.sample(300, generator=torch.Generator().manual_seed(1))
    poses = pool[prior.log_prob(pool).argsort(descending=True)[:15]].clone()
    poses[12:, JOINT_NAMES.index(joint)] = torch.tensor(turn)
    seen = torch.zeros(15, 55, dtype=torch.bool)
    seen[:, list(prior.joints)] = True
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    seen[order[:6, None], torch.tensor([10, 11, 20, 21])] = False
    write_poses(tmp_path / "p.npz", poses, observed=seen)
    out = tmp_path / "scores.json"
    command = ["score", name, "--data", str(tmp_path / "p.npz"), "--worst", "3", "--json", str(out)]
    assert main(command) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if f"{joint} does not fit" in line]
    assert {int(row[0]) for row in rows} == {12, 13, 14}
    found = json.loads(out.read_text())
    blame = torch.tensor(found["attribution"]).argmax(1)
    assert all(found["joints"][k] == joint for k in blame[12:].tolist())
