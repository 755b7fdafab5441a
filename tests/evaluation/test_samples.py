"""Sample metrics against scipy, brute force, and cases known by hand."""

from itertools import combinations

import pytest
import torch

from poseprior.evaluation import samples as metrics
from poseprior.io import synthetic_poses
from poseprior.kinematics import KEYPOINT_NAMES, keypoint_positions, moving_keypoints
from poseprior.skeleton import JOINT_NAMES

G = torch.Generator


def _points(n: int, dims: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    g = G().manual_seed(seed)
    mix = torch.randn(dims, dims, generator=torch.Generator().manual_seed(seed + 100), dtype=torch.float64)
    return torch.randn(n, dims, generator=g, dtype=torch.float64) @ mix * scale


def _poses(n: int, seed: int, scale: float = 0.3) -> torch.Tensor:
    return scale * torch.randn(n, 55, 3, generator=G().manual_seed(seed))


def test_frechet_equals_scipy() -> None:
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    a, b = _points(400, 9, 0), _points(300, 9, 1, 2.0) + 0.5
    sa, sb = a.T.cov(), b.T.cov()
    expected = (a.mean(0) - b.mean(0)).square().sum() + sa.trace() + sb.trace()
    expected -= 2 * torch.as_tensor(sqrtm((sa @ sb).numpy()).real).trace()
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-8)
    assert metrics.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-6)


def test_frechet_of_a_flat_set_is_finite() -> None:
    a = _points(50, 4, 0)
    flat = torch.cat([a, a], 1)  # rank 4 in 8 dimensions
    moved = flat + 1.0
    assert metrics.frechet_distance(flat, moved) == pytest.approx(8.0, rel=1e-5)


def test_precision_and_recall_equal_brute_force() -> None:
    a, b = _points(41, 6, 0).reshape(41, 2, 3), _points(53, 6, 1, 1.3).reshape(53, 2, 3)

    def covered(points: torch.Tensor, manifold: torch.Tensor) -> float:
        hits = 0
        for p in points:
            for i, m in enumerate(manifold):
                others = sorted(float((m - o).norm()) for j, o in enumerate(manifold) if j != i)
                if float((p - m).norm()) <= others[2]:
                    hits += 1
                    break
        return hits / len(points)

    precision, recall = metrics.precision_recall(a, b)
    assert 0.0 < precision < 1.0 and 0.0 < recall < 1.0
    assert (precision, recall) == pytest.approx((covered(a, b), covered(b, a)))


def test_pairwise_and_nearest_distance_equal_brute_force() -> None:
    a, b = _points(300, 12, 0).reshape(300, 4, 3), _points(20, 12, 1).reshape(20, 4, 3)
    pairs = [float((p - q).norm(dim=-1).mean()) for p, q in combinations(b, 2)]
    assert metrics.average_pairwise_distance(b) == pytest.approx(sum(pairs) / len(pairs), rel=1e-4)
    nearest = [min(float((p - q).norm(dim=-1).mean()) for q in b) for p in a]
    assert metrics.nearest_distance(a, b) == pytest.approx(sum(nearest) / len(nearest))


def test_same_distribution_scores_well_and_another_badly() -> None:
    same = metrics.sample_metrics(_poses(600, 0), _poses(700, 1), joints="body")
    wide = metrics.sample_metrics(_poses(600, 2, 1.2), _poses(700, 1), joints="body")
    frozen = metrics.sample_metrics(_poses(600, 3, 0.01), _poses(700, 1), joints="body")
    assert same["num_poses"] == 600
    assert same["precision"] > 0.8 and same["recall"] > 0.8
    assert same["frechet"] < 0.1 * wide["frechet"] and same["frechet"] < 0.1 * frozen["frechet"]
    assert wide["precision"] < 0.1 and frozen["recall"] < 0.1
    assert same["apd_cm"] == pytest.approx(same["reference_apd_cm"], rel=0.05)
    assert frozen["apd_cm"] < 0.1 * same["apd_cm"] and wide["nn_cm"] > same["nn_cm"] > frozen["nn_cm"]


def test_copies_of_the_reference_are_perfect() -> None:
    poses = _poses(64, 0)
    m = metrics.sample_metrics(poses, poses, joints="whole_body", max_poses=64)
    assert m["precision"] == m["recall"] == 1.0
    assert m["frechet"] == pytest.approx(0.0, abs=1e-5) and m["nn_cm"] == pytest.approx(0.0, abs=1e-4)


def test_is_seeded_and_ignores_other_joints() -> None:
    samples, reference = _poses(300, 0), _poses(300, 1)
    first = metrics.sample_metrics(samples, reference, joints="left_hand", max_poses=100, seed=3)
    assert first == metrics.sample_metrics(samples, reference, joints="left_hand", max_poses=100, seed=3)
    assert first != metrics.sample_metrics(samples, reference, joints="left_hand", max_poses=100, seed=4)
    other = samples.clone()
    other[:, :25] = 1.0
    assert first == metrics.sample_metrics(other, reference, joints="left_hand", max_poses=100, seed=3)


def test_keypoints_are_forward_kinematics_in_cm() -> None:
    pose = _poses(5, 0)
    points = metrics.pose_keypoints(pose, ["left_elbow", "left_wrist"])
    only = torch.zeros_like(pose)
    indices = [JOINT_NAMES.index(n) for n in ("left_elbow", "left_wrist")]
    only[:, indices] = pose[:, indices]
    names = [KEYPOINT_NAMES[k] for k in moving_keypoints(indices)]
    assert names == ["left_wrist", "left_index_tip", "left_pinky_tip"]
    expected = 100 * keypoint_positions(only)[:, [KEYPOINT_NAMES.index(n) for n in names]]
    torch.testing.assert_close(points, expected)


def test_unobserved_reference_rows_and_joints_are_left_out() -> None:
    samples, reference = _poses(100, 0), _poses(120, 1)
    observed = torch.ones(120, 55, dtype=torch.bool)
    observed[:, 13:15] = False  # collars: never
    observed[60:, 20:22] = False  # wrists: in half of the rows
    broken = reference.clone()
    broken[60:] = 3.0
    broken[:, 13:15] = 3.0
    got = metrics.sample_metrics(samples, broken, joints="body", observed=observed)
    joints = [j for j in range(1, 22) if j not in (13, 14)]
    assert got == metrics.sample_metrics(samples, reference[:60], joints=joints)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"samples: expected shape \(N, 55, 3\), got \(4, 53, 3\)"):
        metrics.sample_metrics(torch.zeros(4, 53, 3), torch.zeros(4, 55, 3), joints="body")
    with pytest.raises(ValueError, match="expected more than 3 poses"):
        metrics.sample_metrics(torch.zeros(2, 55, 3), torch.zeros(9, 55, 3), joints="body")
    with pytest.raises(ValueError, match="observed: expected a bool tensor"):
        metrics.sample_metrics(torch.zeros(9, 55, 3), torch.zeros(9, 55, 3), joints="body", observed=torch.ones(9, 55))
    none = torch.zeros(9, 55, dtype=torch.bool)
    with pytest.raises(ValueError, match="measures none of the joints"):
        metrics.sample_metrics(torch.zeros(9, 55, 3), torch.zeros(9, 55, 3), joints="body", observed=none)


def test_hands_tracked_one_at_a_time_are_compared_on_the_side_that_most_poses_show() -> None:
    data = synthetic_poses(300, seed=1)
    pose = data.poses
    observed = torch.zeros(300, 55, dtype=torch.bool)
    observed[:200, 40:] = True
    observed[200:, 25:40] = True
    result = metrics.sample_metrics(pose, pose, joints="hands", observed=observed)
    alone = metrics.sample_metrics(pose, pose[:200], joints="right_hand")
    assert result["num_poses"] == 200
    assert result["num_keypoints"] == alone["num_keypoints"]
    assert result["reference_apd_cm"] == pytest.approx(alone["reference_apd_cm"], rel=1e-6)
