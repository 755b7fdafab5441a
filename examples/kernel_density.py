"""A complete prior in one short class: a kernel density of rotations around stored poses.

p(pose) = 1/M sum_m prod_j k(R_j; R_mj). With c the inner product of the unit quaternions of R_j and R_mj and s the
tangent of half the bandwidth, k = s^-3 ((1 - c^2) / s^2 + c^2)^-2 is the angular central Gaussian (Tyler 1987) in Haar
nats: with v ~ N(0, s^2 I_3) and w ~ N(0, 1), the quaternion (v, w) / |(v, w)| is a draw around the identity.
"""

import math

import torch

from poseprior import PosePrior
from poseprior.rotations import quat_multiply, rotvec_to_unitquat, unitquat_to_rotvec


class KernelDensity(PosePrior):
    default_fit, closed_form = {"max_steps": 0}, True  # `fit` takes no training steps

    def __init__(self, joints="body", *, num_poses=1000, bandwidth=0.15):
        super().__init__(joints)
        self.num_poses, self.bandwidth, self.scale = num_poses, bandwidth, math.tan(bandwidth / 2)
        self.register_buffer("centres", torch.eye(4)[3].repeat(num_poses, len(self.joints), 1))

    def get_config(self):
        return {"joints": list(self.joints), "num_poses": self.num_poses, "bandwidth": self.bandwidth}

    def _whole_poses(self, train, joints):
        rotvec, observed = train.poses(joints)
        whole = rotvec[observed.all(1)]
        if not len(whole):
            raise ValueError("train: expected poses that show all joints of the prior, got none; use fewer joints.")
        order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(train.seed))
        return whole[order[: self.num_poses]]

    def _fitted_config(self, train):
        config = super()._fitted_config(train)
        return {**config, "num_poses": len(self._whole_poses(train, config["joints"]))}

    def _initialise(self, train):
        self.centres.copy_(rotvec_to_unitquat(self._whole_poses(train, self.joints)))

    def _log_kernels(self, rotvec, observed):  # (B, M), products over the observed joints
        squared = torch.einsum("bjq,mjq->bmj", rotvec_to_unitquat(rotvec), self.centres).square()
        log_kernel = -3 * math.log(self.scale) - 2 * ((1 - squared) / self.scale**2 + squared).log()
        return (log_kernel * observed[:, None]).sum(-1)

    def _log_prob(self, rotvec, observed, context):
        return self._log_kernels(rotvec, observed).logsumexp(1) - math.log(self.num_poses)

    def _complete(self, rotvec, observed, num_samples, generator, context):
        weights = self._log_kernels(rotvec, observed).softmax(1)
        centres = self.centres[torch.multinomial(weights, num_samples, replacement=True, generator=generator).T]
        noise = torch.randn(centres.shape, generator=generator, dtype=self.dtype, device=self.device)
        noise[..., :3] *= self.scale
        return unitquat_to_rotvec(quat_multiply(centres, noise / noise.norm(dim=-1, keepdim=True)))

    def _sample(self, num, generator, context):
        rest = self._zeros(1)
        return self._complete(rest, rest[..., 0].bool(), num, generator, context)[:, 0]
