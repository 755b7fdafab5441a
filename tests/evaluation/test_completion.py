"""Completion metrics on priors whose answers are known."""

import math
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from poseprior.evaluation.completion import COMPLETION_PATTERNS, completion_metrics, moved_keypoint_mask
from poseprior.kinematics import KEYPOINT_NAMES, joint_positions
from poseprior.models.gaussian import GaussianPrior
from poseprior.prior import PosePrior
from poseprior.rotations import HAAR_LOG_DENSITY_AT_ZERO
from poseprior.skeleton import JOINT_SETS


class _Isotropic(PosePrior):
    """N(0, scale^2) on each joint's rotvec; small scales only."""

    def __init__(self, joints: Any = "body", scale: float = 0.1, answer: Tensor | None = None) -> None:
        super().__init__(joints)
        self.scale, self.answer = scale, answer

    def get_config(self) -> dict[str, Any]:
        return {"joints": list(self.joints), "scale": self.scale}

    def _log_prob(self, rotvec: Tensor, observed: Tensor, context: Tensor | None) -> Tensor:
        x = rotvec / self.scale
        lebesgue = -0.5 * (x.square().sum(-1) + 3 * math.log(2 * math.pi * self.scale**2))
        return ((lebesgue - HAAR_LOG_DENSITY_AT_ZERO) * observed).sum(-1)

    def _sample(self, num: int, generator: torch.Generator | None, context: Tensor | None) -> Tensor:
        return self.scale * torch.randn(num, len(self.joints), 3, generator=generator)

    def _complete(
        self, rotvec: Tensor, observed: Tensor, num_samples: int, generator: Any, context: Tensor | None
    ) -> Tensor:
        if self.answer is not None:
            return self.answer[:, list(self.joints)].expand(num_samples, *rotvec.shape)
        return self.scale * torch.randn(num_samples, *rotvec.shape, generator=generator)


class _Joint(_Isotropic):
    can_marginalise: ClassVar[bool] = False

    def _complete(self, *args: Any) -> Tensor:
        return PosePrior._complete(self, *args)


def _poses(n: int = 40, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(n, 55, 3, generator=torch.Generator().manual_seed(seed))


def test_patterns_are_the_issue_s() -> None:
    assert set(range(1, 55)) - set(COMPLETION_PATTERNS["trunk"]) == {7, 8, 15, 20, 21}
    assert set(COMPLETION_PATTERNS["legs"]) == {1, 2, 4, 5, 7, 8, 10, 11}
    assert set(COMPLETION_PATTERNS["left_arm"]) & set(JOINT_SETS["body"]) == {13, 16, 18, 20}


def test_the_truth_scores_zero_and_density_is_the_marginal() -> None:
    poses = _poses(1).expand(30, -1, -1)
    result = completion_metrics(_Isotropic(answer=poses[:1]), poses, jitter=0.0)
    assert set(result) == set(COMPLETION_PATTERNS)
    for name, scores in result.items():
        assert scores["mean_mm"] == pytest.approx(0.0, abs=1e-3) and scores["num_poses"] == 30
        hidden = sorted(set(COMPLETION_PATTERNS[name]) & set(JOINT_SETS["body"]))
        x = poses[0, hidden]
        expected = (torch.distributions.Normal(0, 0.1).log_prob(x).sum(-1) - HAAR_LOG_DENSITY_AT_ZERO).sum()
        assert scores["cond_log_prob"] == pytest.approx(float(expected), rel=1e-4)


def test_best_is_below_mean_and_falls_with_more_draws() -> None:
    few = completion_metrics(_Isotropic(), _poses(), num_samples=2)
    many = completion_metrics(_Isotropic(), _poses(), num_samples=20)
    for name in few:
        assert many[name]["best_of_20_mm"] < few[name]["best_of_2_mm"] < few[name]["mean_mm"]  # type: ignore[operator]
    assert few == completion_metrics(_Isotropic(), _poses(), num_samples=2), "seeded"


def test_a_straight_elbow_bent_in_truth_errs_by_the_chord() -> None:
    pose = torch.zeros(1, 55, 3)
    pose[0, 18, 1] = -math.pi / 2
    prior = _Isotropic(answer=torch.zeros(1, 55, 3))
    observed = torch.zeros(1, 55, dtype=torch.bool)
    observed[0, [0, 1, 18]] = True  # of the arm only the elbow was measured
    prior.joints = JOINT_SETS["body"]
    got = completion_metrics(prior, pose, observed)["left_arm"]
    rest = joint_positions(torch.zeros(55, 3))
    forearm = (rest[20] - rest[18])[[0, 2]].norm()  # the elbow's axis is vertical
    assert got["mean_mm"] == pytest.approx(float(1000 * math.sqrt(2) * forearm), rel=1e-4)


def test_unmeasured_joints_are_not_scored() -> None:
    poses = _poses(30)
    observed = torch.ones(30, 55, dtype=torch.bool)
    observed[:, [13, 20]] = False
    changed = poses.clone()
    changed[:, [13, 20]] = 2.0
    prior = _Isotropic(answer=torch.zeros(1, 55, 3))
    assert completion_metrics(prior, poses, observed) == completion_metrics(prior, changed, observed)


def test_patterns_without_hidden_or_shown_joints_are_left_out() -> None:
    assert completion_metrics(_Isotropic("left_hand"), _poses()) == {}
    hands = completion_metrics(_Isotropic("hands"), _poses(5))
    assert set(hands) == {"left_arm", "right_arm"}


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ([16, 18], ["left_elbow", "left_wrist"]),
        ([8, 11], ["right_foot"]),
        ([11], ["right_toe_tip"]),
        ([16, 25], ["left_elbow", "left_wrist"]),
        ([26], ["left_index3", "left_index_tip"]),
        ([22], ["chin"]),
    ],
)
def test_errors_are_of_body_joints_where_there_are_any(hidden: list[int], expected: list[str]) -> None:
    mask = moved_keypoint_mask(torch.isin(torch.arange(55), torch.tensor(hidden))[None])
    assert [KEYPOINT_NAMES[k] for k in mask[0].nonzero()[:, 0].tolist()] == expected


def test_a_prior_that_cannot_says_why() -> None:
    got = completion_metrics(_Joint(), _poses(5))["legs"]
    assert got["mean_mm"] is None and got["best_of_10_mm"] is None and got["cond_log_prob"] is None
    assert "GaussianPrior" in str(got["reason"])


def test_gaussian_prior_beats_ignorance_of_a_correlated_arm() -> None:
    poses = _poses(4000)
    poses[:, 16] = 0.9 * poses[:, 17] + 0.1 * poses[:, 16]
    prior = GaussianPrior("body", covariance="full")
    prior.fit(poses[:3000])
    full = completion_metrics(prior, poses[3000:], num_poses=200)["left_arm"]
    diagonal = GaussianPrior("body", covariance="diagonal")
    diagonal.fit(poses[:3000])
    alone = completion_metrics(diagonal, poses[3000:], num_poses=200)["left_arm"]
    assert full["mean_mm"] < alone["mean_mm"] and full["cond_log_prob"] > alone["cond_log_prob"] + 1  # type: ignore[operator]


def test_errors() -> None:
    with pytest.raises(ValueError, match="poses: expected shape"):
        completion_metrics(_Isotropic(), torch.zeros(55, 3))
    with pytest.raises(ValueError, match="observed: expected a bool"):
        completion_metrics(_Isotropic(), _poses(3), torch.ones(3, 55))
