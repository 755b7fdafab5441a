"""`poseprior fit`: files in, files out, and errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior import read_poses, skeleton
from poseprior.cli import main
from poseprior.cli._fit import _chunks
from poseprior.fitting import Camera, layout
from poseprior.rotations import geodesic_distance


@pytest.fixture
def keypoints(tmp_path: Path, model: nn.Module, people: Tensor, joints_of: Callable[..., Tensor]) -> Path:
    truth = joints_of(model, people[:2])
    pixels = Camera(1000.0, (500.0, 500.0)).project(truth[:, [j or 0 for j in layout("openpose_25").joints]])
    path = tmp_path / "keypoints.npz"
    np.savez(path, keypoints=pixels.numpy(), layout="openpose_25", focal_length=1000.0, principal_point=[500, 500])
    return path


@pytest.fixture
def prior_file(tmp_path: Path, body_prior: poseprior.PosePrior) -> Path:
    body_prior.save(tmp_path / "prior.safetensors")
    return tmp_path / "prior.safetensors"


def test_fit_writes_parameters_picture_and_scene(
    keypoints: Path, prior_file: Path, body_folder: Path, tmp_path: Path, model: nn.Module,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out, png, html = (tmp_path / "new" / name for name in ("fit.npz", "fit.png", "fit.html"))
    code = main([
        "fit", str(keypoints), "--out", str(out), "--prior", str(prior_file), "--model", str(body_folder),
        "--iterations", "15", "--png", str(png), "--html", str(html),
    ])  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0 and "2 frames" in said and str(out) in said
    assert read_poses(out).poses.shape == (2, 55, 3)
    with np.load(out) as file:
        names = (*skeleton.PART_SLICES, "transl", "expression")
        params = {name: torch.from_numpy(file[name]) for name in names}
        params["betas"] = torch.from_numpy(file["betas_by_frame"])
    assert model(**params).vertices.isfinite().all()
    assert png.read_bytes().startswith(b"\x89PNG")
    page = html.read_text()
    assert ('src="http' not in page and "glTF" in page) or "B64" in page or len(page) > 10_000


def test_3d_keypoints_need_no_camera(
    tmp_path: Path, people: Tensor, joints_of: Callable[..., Tensor], model: nn.Module
) -> None:
    path = tmp_path / "joints.npz"
    np.savez(path, keypoints3d=joints_of(model, people[:2])[:, :55].numpy(), layout="smplx_55")
    code = main(["fit", str(path), "--out", str(tmp_path / "f.npz"), "--prior", "none", "--iterations", "10",
                 "--png", str(tmp_path / "f.png")])  # fmt: skip
    assert code == 0 and (tmp_path / "f.npz").exists()


def test_fingers_that_are_seen_have_a_prior_of_their_own(
    tmp_path: Path, prior_file: Path, people: Tensor, joints_of: Callable[..., Tensor], model: nn.Module,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    fingers = range(25, 55)
    generator = torch.Generator().manual_seed(0)
    truth = people[:2].clone()
    truth[:, fingers] = poseprior.load("hand-order-agnostic").sample(2, generator=generator)[:, fingers]
    joints = joints_of(model, truth)[:, :55]
    points = tmp_path / "joints.npz"
    np.savez(points, keypoints3d=joints + 0.003 * torch.randn(joints.shape, generator=generator), layout="smplx_55")
    out = tmp_path / "f.npz"
    options = ["fit", str(points), "--out", str(out), "--sigma", "0.003", "--iterations", "40", "--prior"]

    def error(*more: str) -> float:
        assert main([*options, *more]) == 0
        return float(geodesic_distance(read_poses(out).poses, truth)[:, fingers].mean())

    with_prior = error(str(prior_file))
    assert "hand-mixture judges them" in capsys.readouterr().out
    assert with_prior < 0.6 * error(str(prior_file), "--hand-prior", "none")
    assert main([*options, str(prior_file), "--hand-prior", "whole-body"]) == 2
    assert "--hand-prior: expected a prior of fingers alone" in capsys.readouterr().err
    error("whole-body")
    assert "judges them" not in capsys.readouterr().out
    for judge, why in (("whole-body", "whole-body knows fingers itself"), ("none", "no prior is used")):
        assert main([*options, judge, "--hand-prior", "hand-mixture"]) == 2
        assert f"--hand-prior: {why}, so hand-mixture would not be used" in capsys.readouterr().err


def test_many_frames_go_in_chunks(
    tmp_path: Path, keypoints: Path, prior_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import poseprior.cli._fit as command

    monkeypatch.setattr(command, "_CHUNK", 1)
    whole, parts = tmp_path / "whole.npz", tmp_path / "parts.npz"
    options = ["--prior", str(prior_file), "--iterations", "15"]
    assert main(["fit", str(keypoints), "--out", str(parts), *options]) == 0
    monkeypatch.undo()
    assert main(["fit", str(keypoints), "--out", str(whole), *options]) == 0
    difference = (read_poses(whole).poses - read_poses(parts).poses).abs().max()
    assert float(difference) < 0.05


def test_clear_errors(keypoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "f.npz")
    bare = tmp_path / "bare.npz"
    np.savez(bare, keypoints=np.random.default_rng(0).uniform(100, 500, (1, 25, 2)), layout="openpose_25")
    deep = tmp_path / "deep.npz"
    np.savez(deep, keypoints3d=np.random.default_rng(0).uniform(0, 1.7, (1, 22, 3)), layout="smpl_22")
    for arguments, expected in (
        ([str(deep), "--out", out, "--focal", "500"], "--focal: expected none for 3D keypoints"),
        ([str(deep), "--out", out, "--center", "1", "1"], "--center: expected none for 3D keypoints"),
        ([str(deep), "--out", out, "--image-size", "9", "9"], "--image-size: expected None for 3D keypoints"),
        ([str(keypoints), "--out", str(tmp_path / "f.pkl")], "ends in .npz"),
        ([str(tmp_path / "no.json"), "--out", out], "KEYPOINTS: expected an .npz"),
        ([str(keypoints), "--out", "/proc/nowhere/f.npz"], "--out: cannot write /proc/nowhere/f.npz"),
        ([str(keypoints), "--out", out, "--png", "/proc/nowhere/f.png"], "--png: cannot write"),
        ([str(keypoints), "--out", out, "--html", str(tmp_path)], "--html: expected a name that ends in .html"),
        ([str(keypoints), "--out", out, "--focal", "1e30"], "focal: expected finite numbers of at most 1e+08"),
        ([str(bare), "--out", out], "--image-size"),
        ([str(keypoints), "--out", out, "--prior", "body-gaussain"], "--prior: no file or folder 'body-gaussain'"),
        ([str(keypoints), "--out", out, "--prior", "none", "--model", str(tmp_path)], "--model"),
        ([str(bare), "--out", out, "--prior", "none", "--focal", "0", "--center", "1", "1"], "focal lengths above 0"),
        ([str(keypoints), "--out", out, "--smooth", "-1"], "--smooth: expected a finite number"),
    ):
        assert main(["fit", *arguments]) == 2
        said = capsys.readouterr()
        assert expected in said.err and "frames in" not in said.out, "refused before the fit"
    assert not Path(out).exists()


def test_chunks_of_frames_without_anybody_go_with_their_neighbours() -> None:
    seen = torch.zeros(300, dtype=torch.bool)
    seen[[100, 290]] = True
    pieces = _chunks(seen)
    assert torch.equal(torch.cat(pieces), torch.arange(300))
    assert [len(piece) for piece in pieces] == [256, 44] and all(seen[piece].any() for piece in pieces)
    assert [len(piece) for piece in _chunks(torch.ones(130, dtype=torch.bool))] == [64, 64, 2]


def test_frames_without_anybody_are_unobserved_in_the_file(keypoints: Path, tmp_path: Path) -> None:
    with np.load(keypoints) as file:
        arrays = dict(file)
    arrays["keypoints"] = np.concatenate([arrays["keypoints"], np.full((1, 25, 2), np.nan)])
    arrays["keypoints"][1, [4, 7]] = np.nan  # both wrists
    np.savez(tmp_path / "gap.npz", **arrays)
    out = tmp_path / "f.npz"
    assert main(["fit", str(tmp_path / "gap.npz"), "--out", str(out), "--prior", "none", "--iterations", "40"]) == 0
    data = read_poses(out)
    index = {name: joint for joint, name in enumerate(skeleton.JOINT_NAMES)}
    seen = data.observed
    assert len(seen) == 3 and not seen[2].any() and seen[:2, [index["left_knee"], index["spine1"], 0]].all()
    assert not seen[:, 25:].any(), "no finger was seen"
    with np.load(out) as file:
        assert file["num_observed"].tolist() == [25, 23, 0] and file["num_outliers"].tolist()[2] == 0
        elbow = file["measured"][:, index["left_elbow"]]
        assert elbow.tolist() == [True, False, False], "a wrist shows how the elbow is turned"
        assert file["converged"].shape == (3,) and not file["converged"][2]


def test_endings_in_capitals_are_written(keypoints: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "F.NPZ", tmp_path / "F.HTML"
    options = ["--prior", "none", "--iterations", "2", "--html", str(page)]
    assert main(["fit", str(keypoints), "--out", str(out), *options]) == 0
    assert len(read_poses(out)) == 2 and page.stat().st_size > 1000
    assert main(["sample", "body-gaussian", "-n", "3", "--out", str(tmp_path / "S.NPZ")]) == 0
    assert len(read_poses(tmp_path / "S.NPZ")) == 3


@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_say_what_single_fits_say(
    workers: str, keypoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    with np.load(keypoints) as file:
        arrays = dict(file)
    np.savez(folder / "good.npz", **arrays)
    np.savez(folder / "mixed.npz", **{**arrays, "keypoints": arrays["keypoints"][:, ::-1]})
    options = ["fit", str(folder), "--out", str(out), "--prior", "none", "--iterations", "5", "--workers", workers]
    for _ in range(2):  # the second run finds all results, and says the same of them
        assert main(options) == 0
        said = capsys.readouterr().out
        assert "bodies converged" in said and "1 of 2 results (first: mixed.npz) do not explain most points" in said
    stored = json.loads((out / "run.json").read_text())["said"]
    assert set(stored) == {"good.npz", "mixed.npz"} and "check the layout" in stored["mixed.npz"][0]


def test_cameras_that_contradict_the_picture(
    keypoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(keypoints) as file:
        arrays = dict(file)
    for change, expected in (
        ({"focal_length": 35.0}, "focal: expected a focal length in pixels, got 35"),
        ({"principal_point": [0.5, 0.5]}, "center: expected the principal point in pixels"),
        ({"image_size": [160, 90]}, "size: expected an image that holds most points"),
    ):
        np.savez(tmp_path / "k.npz", **{**arrays, **change})
        assert main(["fit", str(tmp_path / "k.npz"), "--out", str(tmp_path / "f.npz"), "--prior", "none"]) == 2
        assert expected in capsys.readouterr().err
