"""A drop-in for code written against VPoser v1 (SMPLify-X) or v2 (human_body_prior 2), backed by any `LatentPosePrior`.

Shapes and orders are theirs: 21 body joints in SMPL-X order, rotvecs (N, 21, 3) or row-major matrices (N, 21, 9); what
differs is in docs/vposer.md. Sources: Pavlakos et al., "Expressive Body Capture" (CVPR 2019); the public interface of
human_body_prior 1.0 and 2.0, of which no code is used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._checks import check_effect
from ..models.vae.base import BaseVAE
from ..pretrained.loading import load
from ..prior import LatentPosePrior
from ..rotations import rotmat_to_rotvec, rotvec_to_rotmat
from ..skeleton import NUM_JOINTS, PART_SLICES

_BODY = PART_SLICES["body_pose"]
_NUM_BODY = 21
#: A flow's latent is a function of the pose; torch's Normal wants a scale above 0.
_EXACT_SCALE = 1e-6


class VPoser(nn.Module):
    """`encode`, `decode`, `sample_poses` as VPoser has them.

    Args:
        prior: any prior with a latent space that models body joints. Body joints it does not model come out as zero
            rotations; joints beyond the body are taken as zero by `encode` and left out of `decode`.
        version: which VPoser's return types `decode(z)`, `sample_poses` and calling the object follow.

    Attributes:
        latentD: length of a latent.
        num_neurons: width of the prior's networks, 0 where it has none.
        num_joints: 21.

    >>> from poseprior.models.vae import BodyVAE
    >>> vposer = VPoser(BodyVAE())
    >>> vposer.decode(torch.zeros(4, vposer.latentD))["pose_body"].shape
    torch.Size([4, 21, 3])
    >>> vposer.decode(torch.zeros(4, vposer.latentD), output_type="aa").shape
    torch.Size([4, 1, 21, 3])
    """

    def __init__(self, prior: LatentPosePrior, *, version: Literal[1, 2] = 2) -> None:
        super().__init__()
        if not isinstance(prior, LatentPosePrior):
            raise ValueError(
                f"prior: expected a prior with a latent space (LatentPosePrior: BodyVAE, a flow), got "
                f"{type(prior).__name__}."
            )
        if not any(_BODY.start <= j < _BODY.stop for j in prior.joints):
            raise ValueError("prior: expected one that models body joints, got one that models none; use BodyVAE.")
        if version not in (1, 2):
            raise ValueError(f"version: expected 1 or 2, got {version!r}.")
        self.prior, self.version = prior, version
        self.latentD = prior.latent_dim
        self.num_neurons = prior.options.hidden if isinstance(prior, BaseVAE) else 0
        self.num_joints = _NUM_BODY

    def encode(self, pose_body: Tensor) -> torch.distributions.Normal:
        """Distribution of the latent, `.mean` and `.scale` (N, latentD).

        Args:
            pose_body: body joints, as (N, 63), (N, 21, 3) or (N, 1, 21, 3) rotvecs, or as (N, 189), (N, 21, 9) or
                (N, 1, 21, 9) rotation matrices, row by row.
        """
        pose = self._full_pose(pose_body)
        mean = self.prior.encode(pose)
        if isinstance(self.prior, BaseVAE):
            scale = self.prior.posterior(pose).stddev.clamp_min(_EXACT_SCALE)
        else:
            scale = torch.full_like(mean, _EXACT_SCALE)
        return torch.distributions.Normal(mean, scale)

    def decode(self, Zin: Tensor, output_type: Literal["aa", "matrot"] | None = None) -> Any:
        """Body poses of latents (N, latentD).

        Args:
            Zin: latents.
            output_type: None for the version's own (v2: the mapping; v1: "matrot"); "aa" or "matrot" for v1's tensors.

        Returns:
            v2: {"pose_body": (N, 21, 3) rotvecs, "pose_body_matrot": (N, 21, 9)};
            v1: (N, 1, 21, 3) for "aa", (N, 1, 21, 9) for "matrot".
        """
        if output_type not in (None, "aa", "matrot"):
            raise ValueError(f"output_type: expected 'aa' or 'matrot', got {output_type!r}.")
        rotvec = self.prior.decode(Zin)[..., _BODY, :].contiguous()
        if output_type is None and self.version == 1:
            output_type = "matrot"
        if output_type == "aa":
            return rotvec[:, None]
        matrot = rotvec_to_rotmat(rotvec).flatten(-2)
        return matrot[:, None] if output_type == "matrot" else {"pose_body": rotvec, "pose_body_matrot": matrot}

    def forward(
        self, pose_body: Tensor, input_type: str = "aa", output_type: Literal["aa", "matrot"] = "matrot"
    ) -> Any:
        """Encode, draw a latent, decode. `input_type` is ignored: the shape tells rotvecs from matrices.

        `output_type` is that of v1; v2 returns both.

        Returns:
            v2: what `decode` returns, with "poZ_body_mean", "poZ_body_std" and "q_z"; v1: (decoded, q_z).
        """
        if self.version == 2:
            check_effect("output_type", output_type, "matrot", "version 2, which returns both types", "version=1")
        q_z = self.encode(pose_body)
        latent = q_z.rsample()
        if self.version == 1:
            return self.decode(latent, output_type=output_type), q_z
        return {**self.decode(latent), "poZ_body_mean": q_z.mean, "poZ_body_std": q_z.scale, "q_z": q_z}

    def sample_poses(
        self, num_poses: int, output_type: Literal["aa", "matrot"] | None = None, seed: int | None = None
    ) -> Any:
        """Decoded draws of z ~ N(0, I), in the types of `decode` (v1: "aa" unless told).

        `seed` makes them repeatable and leaves the global generators alone.
        """
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        latent = torch.randn(num_poses, self.latentD, generator=generator, dtype=self.prior.dtype)
        if self.version == 1 and output_type is None:
            output_type = "aa"
        with torch.no_grad():
            return self.decode(latent.to(self.prior.device), output_type=output_type)

    def _full_pose(self, pose_body: Tensor) -> Tensor:
        if not isinstance(pose_body, Tensor) or pose_body.dim() < 2:
            got = tuple(pose_body.shape) if isinstance(pose_body, Tensor) else type(pose_body).__name__
            raise ValueError(f"pose_body: expected a tensor (N, 63) or (N, 189), got {got}; add the batch axis.")
        flat = pose_body.reshape(len(pose_body), -1)
        if flat.shape[1] == 3 * _NUM_BODY:
            rotvec = flat.unflatten(1, (_NUM_BODY, 3))
        elif flat.shape[1] == 9 * _NUM_BODY:
            rotvec = rotmat_to_rotvec(flat.unflatten(1, (_NUM_BODY, 3, 3)))
        else:
            raise ValueError(
                f"pose_body: expected (N, 63) rotvecs or (N, 189) matrices of 21 joints, got {tuple(pose_body.shape)}; "
                "leave out the root, the hands and the face (poses[:, 3:66] of SMPL-X), and wrists of SMPL's 23 joints."
            )
        full = rotvec.new_zeros(len(rotvec), NUM_JOINTS, 3)
        full[:, _BODY] = rotvec
        return full


def load_model(
    expr_dir: str | os.PathLike[str],
    model_code: Any = None,
    remove_words_in_model_weights: str | None = None,
    load_only_cfg: bool = False,
    disable_grad: bool = True,
    model_cfg_override: Mapping[str, Any] | None = None,
) -> Any:
    """VPoser v2's loader: (VPoser, configuration) of a poseprior file.

    Args:
        expr_dir: path or name of a poseprior prior, as `poseprior.load` takes.
        model_code: ignored; the file names its class.
        remove_words_in_model_weights: ignored.
        load_only_cfg: return the configuration alone.
        disable_grad: ignored when true (loaded weights are frozen); False makes them trainable.
        model_cfg_override: must be empty.

    Raises:
        ValueError: an original VPoser folder, or a file `poseprior.load` refuses.
    """
    if model_cfg_override:
        raise ValueError(
            "model_cfg_override: expected None, the architecture is fixed by the file; train another prior."
        )
    vposer = _load(expr_dir, 2)
    config = SimpleNamespace(model_params=SimpleNamespace(num_neurons=vposer.num_neurons, latentD=vposer.latentD))
    if load_only_cfg:
        return config
    vposer.requires_grad_(not disable_grad)
    return vposer, config


def load_vposer(expr_dir: str | os.PathLike[str], vp_model: Any = "snapshot") -> tuple[VPoser, SimpleNamespace]:
    """VPoser v1's loader: (VPoser with v1's return types, settings). `vp_model` is ignored."""
    vposer = _load(expr_dir, 1)
    return vposer, SimpleNamespace(
        num_neurons=vposer.num_neurons, latentD=vposer.latentD, data_shape=[1, _NUM_BODY, 3], best_model_fname=expr_dir
    )


def _load(expr_dir: str | os.PathLike[str], version: Literal[1, 2]) -> VPoser:
    snapshots = Path(expr_dir) / "snapshots"
    if snapshots.is_dir():
        raise ValueError(
            f"expr_dir: {expr_dir} is an original VPoser folder, with pickled weights under their own licence; "
            "pass a .safetensors file of poseprior (train one with BodyVAE)."
        )
    prior = load(expr_dir)
    if not isinstance(prior, LatentPosePrior):
        raise ValueError(
            f"expr_dir: {expr_dir} holds a {type(prior).__name__}, which has no latent space; expected one that has, "
            "such as BodyVAE."
        )
    return VPoser(prior, version=version).eval()
