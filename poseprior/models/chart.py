"""The standardised tangent chart that models work in, and the exact change of variables out of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..io.dataset import PoseDataset
from ..rotations import add_tangent_noise, frechet_mean, rotvec_to_tangent, tangent_to_rotvec
from .kept import Kept
from .log_map import LOG_TWO_PI_SQUARED, kept_turn, log_map

#: No component is scaled by less than this, radians: a joint that never moves must not blow the density up.
_LEAST_SCALE = 1e-3


class TangentChart(nn.Module):
    """Per-joint coordinates z = Log(M_j^-1 R_j) / s_j around each joint's mean rotation M_j.

    `log_haar(z) = log p_z(z) - volume`, with `volume = sum_j [sum_k log s_jk + log h(x_j)]` over observed joints.

    Attributes:
        mean: (J, 3) rotvec of the Fréchet mean.
        scale: (J, 3) standard deviation of each tangent coordinate, radians.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, num_joints: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_joints, 3))
        self.register_buffer("scale", torch.ones(num_joints, 3))
        self.kept = Kept(1)

    def forward(self, rotvec: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised coordinates and the log-volume of the change of variables.

        Args:
            rotvec: (B, J, 3) radians.
            observed: (B, J) bool.

        Returns:
            z (B, J, 3), zero where unobserved, and volume (B,): `log p_haar = log p_z - volume`.
        """
        tangent, ratio = log_map(rotvec, kept_turn(self.mean, self.kept))
        log_volume = -2.0 * ratio[..., 0].log() + (self.scale.log().sum(-1) - LOG_TWO_PI_SQUARED)
        if bool(observed.all()):
            return tangent / self.scale, log_volume.sum(-1)
        seen = observed.to(tangent.dtype)
        return tangent * (seen[..., None] / self.scale), (log_volume * seen).sum(-1)

    def inverse(self, z: Tensor) -> Tensor:
        """(..., J, 3) rotvecs of standardised coordinates; coordinates beyond pi wrap round."""
        return tangent_to_rotvec(z * self.scale, self.mean)

    @torch.no_grad()
    def fit(self, rotvec: Tensor, observed: Tensor, *, jitter: float = 0.0) -> None:
        """Set mean and scale from (N, J, 3) rotvecs and their (N, J) observed mask; `jitter` is the noise they carry."""
        least = max(_LEAST_SCALE, 0.5 * jitter)  # a handful of poses can show less than their noise
        weight = observed.double()
        mean = frechet_mean(rotvec, weight)
        tangent = rotvec_to_tangent(rotvec.double(), mean)
        variance = (weight[..., None] * tangent.square()).sum(0) / weight.sum(0).clamp_min(1.0)[:, None]
        unseen = (weight.sum(0) == 0)[:, None]
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(unseen, torch.ones_like(variance), variance.sqrt().clamp_min(least)))


def training_view(
    data: PoseDataset, joints: tuple[int, ...], *, mirror: bool, jitter: float, seed: int, max_poses: int | None = None
) -> tuple[Tensor, Tensor]:
    """Poses as the loop shows them, for closed-form fits: mirrored copies appended, jitter drawn once.

    Args:
        data: training poses.
        joints: the model's joints.
        mirror: append reflections.
        jitter: tangent noise, radians.
        seed: of jitter and subset.
        max_poses: a random subset of at most this many source poses.

    Returns:
        (N, J, 3) float64 rotvecs and (N, J) observed, rows with no modelled joint left out.
    """
    generator = torch.Generator().manual_seed(seed)
    if max_poses is not None and len(data) > max_poses:
        data = data.select(torch.randperm(len(data), generator=generator)[:max_poses].sort().values)
    pose, observed = (data.mirrored() if mirror else data).all_poses()
    observed = observed[:, list(joints)]
    keep = observed.any(1)
    rotvec = pose[keep][:, list(joints)].double()
    return add_tangent_noise(rotvec, jitter, generator=generator), observed[keep]
