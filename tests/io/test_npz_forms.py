"""`read_poses` on rotations that are no rotvecs, against roma and SciPy-style definitions written out here."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
from sample_poses import haar_poses
from sample_poses import save_npz as _save
from torch import Tensor

from poseprior.io import read_poses
from poseprior.rotations import geodesic_distance

N = 5


def _matrices(n: int = N) -> Tensor:
    return roma.rotvec_to_rotmat(haar_poses(n).double())


def _stored(form: str, n: int = N) -> Tensor:
    """(n, 55, width) numbers, as their sources write them."""
    matrix = _matrices(n)
    xyzw = roma.rotvec_to_unitquat(haar_poses(n).double())
    return {
        "matrix": matrix.flatten(-2),
        "quaternion_xyzw": xyzw,
        "quaternion_wxyz": torch.cat((xyzw[..., 3:], xyzw[..., :3]), -1),
        "6d_rows": matrix[..., :2, :].flatten(-2),  # pytorch3d.transforms.matrix_to_rotation_6d
        "6d_columns": torch.cat((matrix[..., 0], matrix[..., 1]), -1),
        "6d_interleaved": matrix[..., :2].flatten(-2),  # what SPIN's rot6d_to_rotmat views as (3, 2)
    }[form]


FORMS = ["matrix", "quaternion_xyzw", "quaternion_wxyz", "6d_rows", "6d_columns", "6d_interleaved"]


def _same(read: Tensor, expected: Tensor) -> None:
    assert float(geodesic_distance(read.double(), expected.double()).max()) < 2e-3


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_whole_arrays(form: str, flat: bool, tmp_path: Path) -> None:
    values = _stored(form).float()
    path = _save(tmp_path / "x.npz", poses=(values.flatten(1) if flat else values).numpy(), surface_model_type="smplx")
    _same(read_poses(path, rotations=form).poses, haar_poses(N))
    one = _save(tmp_path / "y.npz", poses=values[0].numpy(), surface_model_type="smplx")
    _same(read_poses(one, rotations=form).poses, haar_poses(N)[:1])


@pytest.mark.parametrize("form", FORMS)
def test_parts(form: str, tmp_path: Path) -> None:
    values = _stored(form).numpy()
    path = _save(
        tmp_path / "x.npz", global_orient=values[:, 0], body_pose=values[:, 1:22], jaw_pose=values[:, 22:23],
        pose_eye=values[:, 23:25].reshape(N, -1), left_hand_pose=values[:, 25:40], right_hand_pose=values[:, 40:].reshape(N, -1),
    )  # fmt: skip
    data = read_poses(path, rotations=form)
    _same(data.poses, haar_poses(N))
    assert data.observed.all()


def test_shapes_of_matrices(tmp_path: Path) -> None:
    matrix = _matrices()
    halves = matrix[..., :2]
    for path, rotations in (
        (_save(tmp_path / "a.npz", poses=matrix.numpy(), surface_model_type="smplx"), "matrix"),
        (_save(tmp_path / "b.npz", poses=matrix.numpy(), surface_model_type="smplx"), None),
        (_save(tmp_path / "c.npz", poses=halves.numpy(), surface_model_type="smplx"), "6d_interleaved"),
        (_save(tmp_path / "d.npz", poses=halves.mT.numpy(), surface_model_type="smplx"), "6d_columns"),
    ):
        _same(read_poses(path, rotations=rotations).poses, haar_poses(N))


def test_matrices_are_known_by_themselves_and_mixed_files_by_key(tmp_path: Path) -> None:
    matrix = _matrices().numpy()
    body = haar_poses(N)[:, 1:22]
    mixed = _save(tmp_path / "a.npz", global_orient=matrix[:, :1], body_pose=body.numpy())
    _same(read_poses(mixed).poses[:, :22], haar_poses(N)[:, :22])
    quaternion = _stored("quaternion_wxyz")[:, :1].numpy()
    path = _save(tmp_path / "b.npz", global_orient=quaternion, body_pose=body.numpy())
    _same(read_poses(path, rotations={"global_orient": "quaternion_wxyz"}).poses[:, :22], haar_poses(N)[:, :22])
    with pytest.raises(ValueError, match=r"rotations\['jaw_pose'\]: expected something in .* that needs it"):
        read_poses(path, rotations={"global_orient": "quaternion_wxyz", "jaw_pose": "matrix"})


def test_signs_of_quaternions_do_not_matter(tmp_path: Path) -> None:
    values = _stored("quaternion_xyzw").numpy()
    values[::2] *= -1
    path = _save(tmp_path / "x.npz", poses=values, surface_model_type="smplx")
    _same(read_poses(path, rotations="quaternion_xyzw").poses, haar_poses(N))


def test_what_networks_put_out_is_made_orthonormal(tmp_path: Path) -> None:
    rows = _stored("6d_rows")
    first, second = rows[..., :3], rows[..., 3:]
    skew = torch.cat((2.0 * first, 0.5 * second + 0.3 * first), -1)
    path = _save(tmp_path / "x.npz", poses=skew.numpy(), surface_model_type="smplx")
    _same(read_poses(path, rotations="6d_rows").poses, haar_poses(N))


def test_missing_rows_stay_missing(tmp_path: Path) -> None:
    for form in FORMS:
        values = _stored(form).numpy()
        values[2, 4] = np.nan
        seen = np.ones((N, 55), bool)
        path = _save(tmp_path / f"{form}.npz", poses=values, surface_model_type="smplx")
        with pytest.raises(ValueError, match=r"nan or inf in 1 of 5 rows \(rows 2; first joint left_knee\)"):
            read_poses(path, rotations=form)
        seen[2, 4] = False
        told = _save(tmp_path / f"{form}_told.npz", poses=values, observed=seen)
        data = read_poses(told, rotations=form)
        expected = haar_poses(N)
        expected[2, 4] = 0
        _same(data.poses, expected)


REFUSED: list[tuple[Any, str | None, str]] = [
    (
        _stored("quaternion_xyzw"),
        None,
        r"got \(5, 55, 4\); if it holds quaternions: pass rotations='quaternion_wxyz' .* or",
    ),
    (
        _stored("quaternion_xyzw").flatten(1),
        None,
        r"got \(5, 220\); if it holds 55 joints as quaternions: pass rotations=",
    ),
    (
        _stored("6d_rows"),
        None,
        r"expected rotvecs, got \(5, 55, 6\), pairs of orthonormal vectors.*pass rotations='6d_rows' .*'6d_columns'[^']*$",
    ),
    (
        _stored("6d_rows").flatten(1),
        None,
        r"expected rotvecs, got \(5, 330\), pairs of orthonormal vectors.*pass rotations='6d_rows'.* if they are rotvecs after",
    ),
    (_stored("matrix").flatten(1), None, r"got 165 joints .*or, if it holds 55 joints as rotation matrices: pass"),
    (_matrices() * 1.5, None, r"got \(5, 55, 3, 3\); if it holds rotation matrices: pass rotations='matrix'"),
    (
        _matrices() * 1.5,
        "matrix",
        r"expected rotation matrices \(orthonormal, determinant 1\), got others, off by up to 1.3",
    ),
    (-_matrices(), "matrix", r"expected rotation matrices"),
    (_stored("quaternion_xyzw") * 2, "quaternion_xyzw", r"expected quaternions of length 1, got lengths 2 to 2"),
    (
        _stored("6d_interleaved"),
        "6d_rows",
        r"expected 6d_rows, .* not orthonormal that way; pass rotations='6d_interleaved' \(",
    ),
    (
        _stored("6d_rows"),
        "6d_interleaved",
        r"expected 6d_interleaved, .* pass rotations='6d_rows' \(.* or rotations='6d_columns' \(",
    ),
    (torch.ones(N, 55, 6), "6d_rows", r"expected 6D of two directions, got two that are parallel or zero"),
    (haar_poses(N), "quaternion_xyzw", r"expected \(N, J \* 4\) as quaternion_xyzw, got \(5, 55, 3\)"),
    (haar_poses(N), "euler", r"rotations: expected one of rotvec, matrix, .* got 'euler'"),
]


@pytest.mark.parametrize(("values", "form", "text"), REFUSED)
def test_refused(values: Tensor, form: str | None, text: str, tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", poses=values.numpy(), surface_model_type="smplx")
    with pytest.raises(ValueError, match=text):
        read_poses(path, rotations=form)


def test_parts_that_are_no_rotvecs_say_what_to_pass(tmp_path: Path) -> None:
    path = _save(tmp_path / "x.npz", body_pose=_stored("6d_rows")[:, 1:22].numpy())
    with pytest.raises(ValueError, match=r"key 'body_pose': .*got \(5, 21, 6\), pairs of .* pass rotations='6d_rows'"):
        read_poses(path)
    _same(read_poses(path, rotations="6d_rows").poses[:, 1:22], haar_poses(N)[:, 1:22])


@pytest.mark.parametrize("form", ["quaternion_xyzw", "quaternion_wxyz"])
def test_quaternions_with_the_scalar_at_the_other_end(form: str, tmp_path: Path) -> None:
    turns = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (4, 21, 3)))
    stored = roma.rotvec_to_unitquat(turns)
    np.savez(tmp_path / "a.npz", body_pose=stored if form == "quaternion_wxyz" else stored.roll(1, -1))
    other = {"quaternion_xyzw": "quaternion_wxyz", "quaternion_wxyz": "quaternion_xyzw"}[form]
    with pytest.raises(ValueError, match=f"at the other end.*pass rotations='{other}'"):
        read_poses(tmp_path / "a.npz", rotations=form)
    assert torch.allclose(read_poses(tmp_path / "a.npz", rotations=other).poses[:, 1:22].double(), turns, atol=1e-5)


def test_code_that_converts_a_file_runs_as_it_stands_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = np.random.default_rng(0).normal(0, 0.2, (4, 63))
    np.savez("a.npz", results=np.array({"body_pose": body}, dtype=object))
    Path("b.pkl").write_bytes(pickle.dumps({"person": {"body_pose": body}}))
    for name in ("a.npz", "b.pkl"):
        with pytest.raises(ValueError, match="For a file that you trust") as caught:
            read_poses(name)
        lines = str(caught.value).splitlines()
        first = next(k for k, line in enumerate(lines) if line.startswith("import"))
        last = next(k for k, line in enumerate(lines) if line.startswith("np.savez"))
        exec("\n".join(lines[first : last + 1]), {})
        found = read_poses(f"{Path(name).stem}_plain.npz")
        assert np.allclose(found.poses[:, 1:22].flatten(1), body, atol=1e-6)
