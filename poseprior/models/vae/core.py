"""The variational autoencoder of one group of joints: encoder, decoder, prior on z, and their importance weights."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._tracing import is_traced
from ...rotations import (
    frechet_mean,
    quat_conjugate,
    quat_multiply,
    rotmat_to_rotvec,
    rotmat_to_unitquat,
    rotvec_to_rotmat,
    rotvec_to_unitquat,
    unitquat_log,
    unitquat_to_rotmat,
)
from ..shared.cache import WeightCache, is_frozen
from ..shared.masks import distinct_masks
from .layers import LatentFlow, ResidualMLP, normal_points
from .options import VAEOptions
from .rotation_likelihood import RotationNoise

_LOG_2PI = math.log(2.0 * math.pi)
#: Bounds of the encoder's log-scales, relative to the linear posterior.
_LOG_SCALE_RANGE = 6.0
#: Features get at least this much noise in the linear posterior, so that its precision stays representable.
_LEAST_FEATURE_NOISE = 5e-3
#: Points that measure the prior's standard deviations.
_SPREAD_POINTS = 256


class VAECore(nn.Module):
    """p(z) p(R | z) over J rotations, with q(z | R, mask).

    Rotations enter as the 6 numbers of the first two columns of M_j^-1 R_j (M_j: mean rotation) and leave as 6 numbers
    made orthonormal (Zhou et al. 2019): y = b + W z + net(z). With `linear_path`, q starts as the exact posterior of
    probabilistic PCA (Tipping and Bishop 1999) with Lambda = I + W N^-1 W^T over the observed features,

        z = Lambda^-1 W N^-1 (y - b) + Lambda^-1/2 (delta + T eps),   eps ~ N(0, I),

    delta and the triangular T being what the network adds. Hidden joints only drop out of Lambda and of the input.

    Args:
        num_joints: J.
        options: architecture.
    """

    mean: Tensor
    feature_scale: Tensor
    spread_points: Tensor
    start_points: Tensor

    def __init__(self, num_joints: int, options: VAEOptions) -> None:
        super().__init__()
        dim, features = options.latent_dim, 6 * num_joints
        self.num_joints, self.options, self.dim = num_joints, options, dim
        self.register_buffer("mean", torch.zeros(num_joints, 3))
        self.register_buffer("feature_scale", torch.ones(features))
        self.bias = nn.Parameter(torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(num_joints))
        triangle = dim * (dim - 1) // 2 if options.posterior == "full" else 0
        outputs = features * (2 if options.adaptive_noise else 1)
        self.encoder, self.decoder = (
            ResidualMLP(a, b, hidden=options.hidden, depth=options.depth, dropout=options.dropout)
            for a, b in ((features + num_joints, 2 * dim + triangle), (dim, outputs))
        )
        if options.linear_path:
            self.decode_map = nn.Parameter(torch.zeros(dim, features))
            self.encode_map = nn.Parameter(torch.zeros(dim, features))
            self.encode_log_noise = nn.Parameter(torch.full((features,), math.log(0.1)))
        self.noise = RotationNoise(num_joints)
        self.flow: LatentFlow | None = None
        if options.flow_hidden is not None:  # only with flow_layers
            self.flow = LatentFlow(dim, layers=options.flow_layers, hidden=options.flow_hidden)
        self._triangle = torch.tril_indices(dim, dim, -1)
        self.cache, self.mean_cache = WeightCache(1), WeightCache(1)
        if options.encode_starts > 1:  # the points that further starts of `encode` are made of
            self.register_buffer("spread_points", normal_points(_SPREAD_POINTS, dim), persistent=False)
            self.register_buffer("start_points", normal_points(options.encode_starts - 1, dim), persistent=False)

    # ------------------------------------------------------------------ rotations in and out

    def _relative(self, rotvec: Tensor) -> Tensor:
        """(..., J, 4) quaternions of M^-1 R."""
        return quat_multiply(quat_conjugate(rotvec_to_unitquat(self.mean)), rotvec_to_unitquat(rotvec))

    @staticmethod
    def _features(quat: Tensor) -> Tensor:
        """(..., 6 J) of (..., J, 4): first column, then second, joint by joint."""
        return unitquat_to_rotmat(quat)[..., :2].transpose(-1, -2).flatten(-3)

    def matrices(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Decoded M^-1 R (..., J, 3, 3) of z (..., D), and the noise modulation (..., J, 6) or None."""
        out = self.decoder(z)
        features = 6 * self.num_joints
        y = self.bias + out[..., :features]
        if self.options.linear_path:
            y = y + z @ self.decode_map
        first, second = y.unflatten(-1, (self.num_joints, 2, 3)).unbind(-2)
        a = F.normalize(first, dim=-1)
        b = F.normalize(second - (a * second).sum(-1, keepdim=True) * a, dim=-1)
        rotmat = torch.stack([a, b, torch.linalg.cross(a, b)], dim=-1)
        if not self.options.adaptive_noise:
            return rotmat, None
        return rotmat, out[..., features:].unflatten(-1, (self.num_joints, 6))

    def to_rotvec(self, rotmat: Tensor, residual: Tensor | None = None) -> Tensor:
        """(..., J, 3) rotvecs of decoded M^-1 R, turned by Exp(residual) if given."""
        if residual is not None:
            rotmat = rotmat @ rotvec_to_rotmat(residual)
        return rotmat_to_rotvec(self.mean_cache((self.mean,), None, lambda: rotvec_to_rotmat(self.mean)) @ rotmat)

    # ------------------------------------------------------------------ q(z | pose)

    def posterior(self, rotvec: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gaussian q(z | observed joints).

        Args:
            rotvec: (B, J, 3).
            observed: (B, J) bool; None where all joints are.

        Returns:
            mean (B, D), a factor L (B, D, D) of the covariance L L^T, and log|det L| (B,).
        """
        centred = self._features(self._relative(rotvec)) - self.bias
        weight = torch.ones_like(rotvec[..., 0])
        if observed is not None:
            weight = observed.to(rotvec.dtype)
            centred = centred * weight.repeat_interleave(6, dim=-1)
        out = self.encoder(torch.cat([centred / self.feature_scale, weight], dim=-1))
        shift, log_scale = out[:, : self.dim], out[:, self.dim : 2 * self.dim]
        log_scale = _LOG_SCALE_RANGE * torch.tanh(log_scale / _LOG_SCALE_RANGE)
        factor = torch.diag_embed(log_scale.exp())
        if self.options.posterior == "full":
            rows, columns = self._triangle
            factor = factor.index_put(
                (torch.arange(out.shape[0], device=out.device)[:, None], rows.to(out.device), columns.to(out.device)),
                out[:, 2 * self.dim :],
            )
        log_det = log_scale.sum(-1)
        if not self.options.linear_path:
            return shift, factor, log_det
        mean, root, root_log_det = self._linear_posterior(centred, observed)
        if self.options.posterior == "diagonal":
            root = torch.diag_embed(root.square().sum(-1).sqrt())
            root_log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        mean = mean + (root @ shift[..., None])[..., 0]
        return mean, root @ factor, log_det + root_log_det

    def _linear_posterior(self, centred: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Mean (B, D), square root of the covariance (B, D, D) and its log-determinant, one solve for each mask."""
        if observed is not None and is_traced():
            gain, root, log_det = self._linear_map(observed)
            return (gain @ centred[..., None])[..., 0], root, log_det
        index = None
        if observed is None or bool(observed.all()):
            tensors = (self.encode_map, self.encode_log_noise)
            frozen = is_frozen(self, tensors)
            gain, root, log_det = self.cache(tensors, None, self._linear_map) if frozen else self._linear_map()
        else:
            masks, index = distinct_masks(observed)
            gain, root, log_det = self._linear_map(masks)
        if index is None:
            rows = centred.shape[0]
            return centred @ gain[0].T, root.expand(rows, -1, -1), log_det.expand(rows)
        return (gain[index] @ centred[..., None])[..., 0], root[index], log_det[index]

    def _linear_map(self, masks: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """For M masks (M, J), or one of all joints: the map of features to the mean (M, D, 6J), and as above (M, ...)."""
        precision = torch.exp(-2.0 * self.encode_log_noise.clamp_min(math.log(_LEAST_FEATURE_NOISE)))
        wide = precision[None]
        if masks is not None:
            wide = masks.to(precision.dtype).repeat_interleave(6, dim=-1) * precision
        scaled = self.encode_map * wide[:, None]
        eye = torch.eye(self.dim, dtype=precision.dtype, device=precision.device)
        lower = torch.linalg.cholesky(eye + scaled @ self.encode_map.T)
        inverse = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
        root = inverse.transpose(-1, -2)
        return root @ inverse @ scaled, root, inverse.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    # ------------------------------------------------------------------ weights

    def log_prior(self, z: Tensor) -> Tensor:
        """log p(z) (...), z (..., D)."""
        log_det: Tensor | float = 0.0
        if self.flow is not None:
            z, log_det = self.flow(z)
        return log_det - 0.5 * z.square().sum(-1) - 0.5 * self.dim * _LOG_2PI

    def log_likelihood(self, rotvec: Tensor, observed: Tensor | None, z: Tensor) -> tuple[Tensor, Tensor]:
        """log p(observed joints | z) (B, K) in Haar nats, and the residuals (B, K, J, 3); z is (B, K, D)."""
        rotmat, modulation = self.matrices(z)
        target = self._relative(rotvec)[:, None]
        residual = unitquat_log(quat_multiply(quat_conjugate(rotmat_to_unitquat(rotmat)), target))[0]
        each = self.noise(residual, modulation)
        return (each if observed is None else each * observed[:, None]).sum(-1), residual

    def log_weights(self, rotvec: Tensor, observed: Tensor | None, eps: Tensor) -> tuple[Tensor, Tensor]:
        """log p(observed | z_k) and log p(z_k) - log q(z_k | observed), both (B, K).

        Args:
            rotvec: (B, J, 3).
            observed: (B, J) bool; None where all joints are.
            eps: (K, D) or (B, K, D), normal: z_k = mean + L eps_k.
        """
        return self.weights_under(self.posterior(rotvec, observed), rotvec, observed, eps)

    def weights_under(
        self, posterior: tuple[Tensor, Tensor, Tensor], rotvec: Tensor, observed: Tensor | None, eps: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`log_weights` with what `posterior` gave."""
        mean, factor, log_det = posterior
        z = mean[:, None] + eps @ factor.transpose(-1, -2)
        log_q = -0.5 * (eps.square().sum(-1) + self.dim * _LOG_2PI) - log_det[:, None]
        return self.log_likelihood(rotvec, observed, z)[0], self.log_prior(z) - log_q

    # ------------------------------------------------------------------ the start

    @torch.no_grad()
    def initialise(self, rotvec: Tensor, observed: Tensor, jitter: float) -> None:
        """Mean rotations, feature scales, and the PCA start, of (N, J, 3) rotvecs and their (N, J) mask."""
        self.mean.copy_(frechet_mean(rotvec, observed.double()))
        weight = observed.repeat_interleave(6, dim=-1).double()
        features = self._features(self._relative(rotvec.to(self.mean.dtype))).double()
        count = weight.sum(0).clamp_min(1.0)
        centre = torch.where(weight.sum(0) > 0, (features * weight).sum(0) / count, self.bias.double())
        centred = (features - centre) * weight
        covariance = centred.T @ centred / (weight.T @ weight).clamp_min(1.0)
        self.bias.copy_(centre)
        self.feature_scale.copy_(covariance.diagonal().sqrt() + 0.02)
        floor = max(jitter, 1e-2)
        residual = covariance.diagonal()
        if self.options.linear_path:
            value, vector = torch.linalg.eigh(covariance)
            value, vector = value.flip(0)[: self.dim], vector.flip(1)[:, : self.dim]
            rank = min(self.dim, len(value))
            scaled = (value - floor**2).clamp_min(0.25 * floor**2).sqrt() * vector
            self.decode_map[:rank].copy_(scaled.T)
            self.encode_map[:rank].copy_(scaled.T)
            residual = (covariance.diagonal() - scaled.square().sum(1)).clamp_min(0.0)
            self.encode_log_noise.copy_((residual + floor**2).sqrt().log())
        spread = (residual.unflatten(0, (-1, 6)).sum(-1) / 4.0 + floor**2).sqrt()
        self.noise.log_scale.copy_(spread.log()[:, None].expand(-1, 3))
