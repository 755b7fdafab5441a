"""The VPoser stand-in: shapes and orders that old code expects, and the loop that SMPLify-X runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import roma
import torch

from poseprior import FitConfig, GaussianPrior
from poseprior.compat.vposer import VPoser, load_model, load_vposer
from poseprior.io import synthetic_poses
from poseprior.kinematics import REST_OFFSETS
from poseprior.models.vae import BodyVAE, HandVAE
from poseprior.rotations import geodesic_distance
from poseprior.skeleton import PARENTS


@cache
def _prior() -> BodyVAE:
    prior = BodyVAE(latent_dim=16, hidden=64, depth=1, flow_layers=2, flow_hidden=32, dropout=0.0)
    train = synthetic_poses(1200, seed=0, num_subjects=4)
    prior.fit(train, config=FitConfig(max_steps=100, batch_size=128, progress=False))
    return prior


def _body(count: int) -> torch.Tensor:
    """(count, 63) rotvecs of the body joints that the prior models."""
    pose = _prior().sample(count, generator=torch.Generator().manual_seed(0))
    return pose[:, 1:22].flatten(1)


def test_version_2_shapes_and_orders() -> None:
    vposer = VPoser(_prior()).eval()
    assert (vposer.latentD, vposer.num_joints, vposer.num_neurons) == (16, 21, 64)
    body = _body(5)
    encoded = vposer.encode(body)
    assert encoded.mean.shape == encoded.scale.shape == (5, 16)
    decoded = vposer.decode(encoded.mean)
    assert decoded["pose_body"].shape == (5, 21, 3)
    assert decoded["pose_body_matrot"].shape == (5, 21, 9)
    matrices = decoded["pose_body_matrot"].view(5, 21, 3, 3)
    torch.testing.assert_close(matrices, roma.rotvec_to_rotmat(decoded["pose_body"]), rtol=0, atol=1e-5)
    error = geodesic_distance(decoded["pose_body"], body.view(5, 21, 3))
    assert float(error.mean()) < 0.1


def test_encode_takes_matrices_row_by_row_too() -> None:
    vposer = VPoser(_prior())
    body = _body(4)
    matrices = roma.rotvec_to_rotmat(body.view(4, 21, 3))
    for given in (body.view(4, 1, 21, 3), matrices.reshape(4, 189), matrices.reshape(4, 1, 21, 9)):
        torch.testing.assert_close(vposer.encode(given).mean, vposer.encode(body).mean, rtol=0, atol=1e-2)


def test_version_1_types() -> None:
    vposer = VPoser(_prior(), version=1)
    latent = torch.randn(3, vposer.latentD, generator=torch.Generator().manual_seed(0))
    assert vposer.decode(latent).shape == (3, 1, 21, 9)
    assert vposer.decode(latent, output_type="matrot").shape == (3, 1, 21, 9)
    rotvec = vposer.decode(latent, output_type="aa")
    assert rotvec.shape == (3, 1, 21, 3)
    assert vposer.decode(latent[:1], output_type="aa").view(1, -1).shape == (1, 63)  # as SMPLify-X writes it
    torch.testing.assert_close(rotvec[:, 0], VPoser(_prior()).decode(latent)["pose_body"])
    decoded, q_z = vposer(rotvec)
    assert decoded.shape == (3, 1, 21, 9) and q_z.mean.shape == (3, 16)
    assert vposer.sample_poses(2).shape == (2, 1, 21, 3)
    assert vposer.sample_poses(2, output_type="matrot").shape == (2, 1, 21, 9)


def test_calling_and_sampling_like_version_2() -> None:
    vposer = VPoser(_prior())
    result = vposer(_body(2))
    assert set(result) == {"pose_body", "pose_body_matrot", "poZ_body_mean", "poZ_body_std", "q_z"}
    state = torch.get_rng_state()
    first, second = vposer.sample_poses(3, seed=1), vposer.sample_poses(3, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first["pose_body"], second["pose_body"])
    assert first["pose_body"].shape == (3, 21, 3)


def test_loading_by_name(tmp_path: Path) -> None:
    path = tmp_path / "body.safetensors"
    _prior().save(path)
    vposer, config = load_model(path, model_code=None, remove_words_in_model_weights="vp_model.", disable_grad=True)
    assert (config.model_params.latentD, config.model_params.num_neurons) == (16, 64)
    assert not any(p.requires_grad for p in vposer.parameters()) and not vposer.training
    assert load_model(path, load_only_cfg=True).model_params.latentD == 16
    old, settings = load_vposer(str(path), vp_model="snapshot")
    assert old.version == 1 and settings.latentD == 16
    latent = torch.zeros(1, 16)
    torch.testing.assert_close(old.decode(latent, output_type="aa")[:, 0], vposer.decode(latent)["pose_body"])


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prior: expected a prior with a latent space .* got GaussianPrior"):
        VPoser(GaussianPrior())
    with pytest.raises(ValueError, match=r"prior: expected one that models body joints"):
        VPoser(HandVAE())
    with pytest.raises(ValueError, match=r"version: expected 1 or 2, got 3"):
        VPoser(_prior(), version=3)
    vposer = VPoser(_prior())
    with pytest.raises(ValueError, match=r"pose_body: expected \(N, 63\).*got \(2, 69\).*SMPL's 23"):
        vposer.encode(torch.zeros(2, 69))
    with pytest.raises(ValueError, match=r"pose_body: .*add the batch axis"):
        vposer.encode(torch.zeros(63))
    with pytest.raises(ValueError, match=r"output_type: expected 'aa' or 'matrot', got 'quat'"):
        vposer.decode(torch.zeros(1, 16), output_type="quat")
    (tmp_path / "V02_05" / "snapshots").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"expr_dir: .* original VPoser folder.*BodyVAE"):
        load_model(tmp_path / "V02_05")
    gauss = GaussianPrior()
    gauss.save(tmp_path / "g.safetensors")
    with pytest.raises(ValueError, match=r"expr_dir: .* GaussianPrior, which has no latent space"):
        load_vposer(tmp_path / "g.safetensors")
    with pytest.raises(ValueError, match=r"model_cfg_override: expected None"):
        load_model(tmp_path / "g.safetensors", model_cfg_override={"latentD": 3})


def _write_stand_in(folder: Path) -> None:
    """The smallest file that smplx reads as SMPL-X: one vertex a joint, the rest at the head."""
    joints = REST_OFFSETS.clone()
    for j in range(1, 55):
        joints[j] += joints[PARENTS[j]]
    count = 9930  # smplx picks keypoint vertices up to 9929
    owner = np.full(count, 15)
    owner[:55] = np.arange(55)
    weights = np.zeros((count, 55), np.float32)
    weights[np.arange(count), owner] = 1.0
    regressor = np.zeros((55, count), np.float32)
    regressor[np.arange(55), np.arange(55)] = 1.0
    tree = np.stack([np.asarray(PARENTS), np.arange(55)]).astype(np.int64)
    tree[0, 0] = 4294967295
    (folder / "smplx").mkdir()
    np.savez_compressed(
        folder / "smplx" / "SMPLX_NEUTRAL.npz", v_template=joints.numpy().astype(np.float32)[owner],
        f=np.zeros((60, 3), np.uint32), shapedirs=np.zeros((count, 3, 20), np.float32),
        posedirs=np.zeros((count, 3, 486), np.float32), J_regressor=regressor, weights=weights, kintree_table=tree,
        hands_componentsl=np.eye(45, dtype=np.float32), hands_componentsr=np.eye(45, dtype=np.float32),
        hands_meanl=np.zeros(45, np.float32), hands_meanr=np.zeros(45, np.float32),
        lmk_faces_idx=np.zeros(51, np.int64), lmk_bary_coords=np.full((51, 3), 1 / 3, np.float32),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_the_loop_that_smplify_x_runs(tmp_path: Path) -> None:
    smplx = pytest.importorskip("smplx", reason="smplx (non-commercial licence) is not installed")
    _write_stand_in(tmp_path)
    body_model = smplx.create(str(tmp_path), model_type="smplx", ext="npz", use_pca=False, flat_hand_mean=True)
    vposer = VPoser(_prior(), version=1).to(torch.float32).eval()
    target = body_model(body_pose=_body(1)).joints[:, :22].detach()

    pose_embedding = torch.zeros([1, 16], requires_grad=True)
    optimiser = torch.optim.LBFGS([pose_embedding], lr=1.0, max_iter=30, line_search_fn="strong_wolfe")

    def distance() -> torch.Tensor:
        body_pose = vposer.decode(pose_embedding, output_type="aa").view(1, -1)
        return (body_model(return_verts=False, body_pose=body_pose).joints[:, :22] - target).norm(dim=-1).mean()

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = 100.0 * distance().square() + pose_embedding.pow(2).sum() * 1e-4
        loss.backward()
        return loss

    start = float(distance().detach())
    for _ in range(3):
        optimiser.step(closure)
    assert float(distance().detach()) < 0.25 * start
