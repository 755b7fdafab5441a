"""How close a prior's samples are to real poses: Fréchet distance, precision, recall, diversity, nearest real pose.

Everything is measured on positions in centimetres of the keypoints that the modelled joints move
(`poseprior.kinematics.moving_keypoints`) on the neutral skeleton, the pelvis at the origin and every other joint at its
rest rotation. So root orientation counts only when the root is modelled, a hand without modelled fingers counts as two
points, and the numbers of two priors compare only when they model the same joints.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .._checks import check_whole
from ..kinematics import keypoint_positions, moving_keypoints
from ..skeleton import JOINT_NAMES, resolve_joints

_CHUNK = 128


def pose_keypoints(pose: Tensor, joints: str | int | Iterable[str | int]) -> Tensor:
    """The keypoints that `joints` move, with every other joint at rest.

    Args:
        pose: (*batch, 55, 3) rotvecs, radians.
        joints: as in `poseprior.skeleton.resolve_joints`.

    Returns:
        (*batch, P, 3) centimetres, root-centred, in the dtype of `pose`.
    """
    chosen = list(resolve_joints(joints))
    alone = torch.zeros_like(pose)
    alone[..., chosen, :] = pose[..., chosen, :]
    return 100.0 * keypoint_positions(alone)[..., list(moving_keypoints(chosen)), :]


def sample_metrics(
    samples: Tensor,
    reference: Tensor,
    *,
    joints: str | int | Iterable[str | int],
    observed: Tensor | None = None,
    max_poses: int = 3000,
    neighbours: int = 3,
    seed: int = 0,
) -> dict[str, float]:
    """Compare samples with real poses; deterministic for a seed.

    Both sides are thinned to one common number of poses, since every quantity here depends on it.

    Args:
        samples: (N, 55, 3) rotvecs, radians, drawn from a prior.
        reference: (M, 55, 3) real poses, not the training set.
        joints: the joints the prior models, as in `poseprior.skeleton.resolve_joints`.
        observed: (M, 55) bool, what `reference` measured; None means all. Joints it never measures are left out of the
            comparison, then so are poses that miss a remaining joint. Where that leaves none (hands tracked one at a
            time), the comparison is on the joints that most poses measure together.
        max_poses: use at most this many poses of each side, drawn at random.
        neighbours: k of precision and recall.
        seed: of the random subsets.

    Returns:
        `frechet`: Fréchet distance of the Gaussian fits, |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), cm^2, summed over
        the 3 P coordinates (Heusel et al. 2017, on positions in place of network features).
        `precision`, `recall`: share of samples inside the real manifold and of real poses inside the sampled one; a
        manifold is the union of balls to each pose's k-th neighbour (Kynkäänniemi et al. 2019).
        `apd_cm`, `reference_apd_cm`: average pairwise distance of the samples and of the real poses, a mean over the
        keypoints: diversity, best when the two agree.
        `nn_cm`: mean over samples of the distance to the nearest real pose, a mean over the keypoints.
        `num_poses`, `num_keypoints`: how many of each were compared.

    Raises:
        ValueError: wrong shapes, too few poses, or numbers out of range.
    """
    check_whole("max_poses", max_poses, least=1)
    check_whole("neighbours", neighbours, least=1)
    check_whole("seed", seed)
    chosen = resolve_joints(joints)
    _check_poses(samples, "samples")
    _check_poses(reference, "reference")
    if observed is not None:
        chosen, reference = _complete_rows(reference, observed, chosen)
    num = min(len(samples), len(reference), max_poses)
    if num <= neighbours:
        raise ValueError(
            f"samples, reference: expected more than {neighbours} poses on each side, got {len(samples)} samples and "
            f"{len(reference)} fully observed reference poses (max_poses={max_poses}); pass more poses, or a smaller "
            "`joints` that more poses observe in full."
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        rows = [torch.randperm(len(poses), generator=generator)[:num] for poses in (samples, reference)]
        first = pose_keypoints(samples[rows[0].to(samples.device)].double(), chosen)
        second = pose_keypoints(reference[rows[1].to(reference.device)].double(), chosen)
        precision, recall = precision_recall(first, second, neighbours=neighbours)
        return {
            "frechet": frechet_distance(first.flatten(1), second.flatten(1)),
            "precision": precision,
            "recall": recall,
            "apd_cm": average_pairwise_distance(first),
            "reference_apd_cm": average_pairwise_distance(second),
            "nn_cm": nearest_distance(first, second),
            "num_poses": num,
            "num_keypoints": first.shape[1],
        }


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Fréchet (2-Wasserstein, squared) distance between Gaussian fits of two point sets (N, D) and (M, D)."""
    first, second = first.double(), second.double()
    covariance, other = _covariance(first), _covariance(second)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0.0).sqrt() @ vectors.T
    # tr (S1 S2)^1/2 = tr (S1^1/2 S2 S1^1/2)^1/2, which is symmetric.
    cross = torch.linalg.eigvalsh(root @ other @ root).clamp_min(0.0).sqrt().sum()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    return float((mean + covariance.trace() + other.trace() - 2.0 * cross).clamp_min(0.0))


def precision_recall(samples: Tensor, reference: Tensor, *, neighbours: int = 3) -> tuple[float, float]:
    """Improved precision and recall of samples (N, P, 3) against a reference (M, P, 3); see `sample_metrics`."""
    first, second = samples.flatten(1).double(), reference.flatten(1).double()
    return _covered(first, second, neighbours), _covered(second, first, neighbours)


def average_pairwise_distance(positions: Tensor) -> float:
    """Mean over pairs of poses (N, P, 3), N >= 2, of the mean distance between their keypoints, in the input's unit."""
    total = sum(float(rows.double().sum()) for rows in _keypoint_distances(positions, positions))
    return total / (len(positions) * (len(positions) - 1))


def nearest_distance(samples: Tensor, reference: Tensor) -> float:
    """Mean over samples (N, P, 3) of the mean keypoint distance to the nearest reference pose (M, P, 3)."""
    nearest = torch.cat([rows.argmin(1) for rows in _keypoint_distances(samples, reference)])
    return float((samples - reference[nearest]).norm(dim=-1).mean())


def _keypoint_distances(first: Tensor, second: Tensor) -> Iterable[Tensor]:
    """Mean keypoint distances between two pose sets, in blocks of rows (<= _CHUNK, M), in float32 for speed."""
    # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b cancels: centring each keypoint keeps the error near 0.1 mm.
    centre = second.mean(0)
    rows, columns = ((points - centre).transpose(0, 1).float().contiguous() for points in (first, second))
    for start in range(0, rows.shape[1], _CHUNK):
        total = rows.new_zeros(rows[0, start : start + _CHUNK].shape[0], columns.shape[1])
        for a, b in zip(rows[:, start : start + _CHUNK], columns, strict=True):
            total += _squared_distances(a, b).sqrt_()
        yield total / len(rows)


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """(N, M) squared distances of (N, D) and (M, D) as one matrix product."""
    squares = torch.addmm(second.square().sum(1)[None], first, second.T, alpha=-2.0)
    return squares.add_(first.square().sum(1, keepdim=True)).clamp_min_(0.0)


def _covered(points: Tensor, manifold: Tensor, neighbours: int) -> float:
    """Share of `points` (N, D) that lie in a ball around a point of `manifold` (M, D) out to its k-th neighbour."""
    nearest = [
        # The nearest of all is the point itself.
        _squared_distances(rows, manifold).topk(neighbours + 1, dim=1, largest=False).values[:, -1]
        for rows in manifold.split(_CHUNK)
    ]
    radius = torch.cat(nearest)
    inside = [(_squared_distances(rows, manifold) <= radius).any(1) for rows in points.split(_CHUNK)]
    return float(torch.cat(inside).double().mean())


def _covariance(points: Tensor) -> Tensor:
    centred = points - points.mean(0)
    return centred.T @ centred / (len(points) - 1)


def _check_poses(poses: Tensor, argument: str) -> None:
    if poses.ndim != 3 or poses.shape[1:] != (len(JOINT_NAMES), 3):
        raise ValueError(
            f"{argument}: expected shape (N, {len(JOINT_NAMES)}, 3), got {tuple(poses.shape)}; flatten the batch "
            "and convert other layouts with poseprior.params."
        )


def _complete_rows(reference: Tensor, observed: Tensor, joints: tuple[int, ...]) -> tuple[tuple[int, ...], Tensor]:
    if observed.dtype != torch.bool or observed.shape != reference.shape[:-1]:
        raise ValueError(
            f"observed: expected a bool tensor {tuple(reference.shape[:-1])}, got {observed.dtype} "
            f"{tuple(observed.shape)}."
        )
    seen = tuple(j for j in joints if bool(observed[:, j].any()))
    if not seen:
        names = ", ".join(JOINT_NAMES[j] for j in joints[:4])
        raise ValueError(f"observed: the reference measures none of the joints ({names}, ...); pass other poses.")
    whole = observed[:, list(seen)].all(1)
    if not bool(whole.any()):
        patterns, count = torch.unique(observed[:, list(seen)], dim=0, return_counts=True)
        common = patterns[(count * patterns.any(1)).argmax()]
        seen = tuple(j for j, shown in zip(seen, common.tolist(), strict=True) if shown)
        whole = observed[:, list(seen)].all(1)
    return seen, reference[whole]
