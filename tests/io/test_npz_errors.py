"""Files that `read_poses` must refuse: one ValueError that names the file, the key, what arrived and the remedy."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseprior.io import read_poses, read_split

N = 4


class _Bomb:
    """Unpickling this leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


def _zeros(*shape: int) -> Any:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def _refused(path: Path, text: str, **options: Any) -> None:
    with pytest.raises(ValueError, match=text) as caught:
        read_poses(path, **options)
    assert str(caught.value).count(str(path)) >= 1


# -- broken files --------------------------------------------------------------------------------------------------


def test_pickles_are_never_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    bomb = np.array([_Bomb(trace)], dtype=object)
    np.savez(tmp_path / "a.npz", poses=bomb)
    _refused(
        tmp_path / "a.npz", r"key 'poses' holds Python objects \(a pickle\), which are never loaded; save it as plain"
    )
    np.savez(tmp_path / "b.npz", poses=_zeros(N, 165), subject=bomb)
    _refused(tmp_path / "b.npz", r"key 'subject' holds Python objects")
    (tmp_path / "c.npz").write_bytes(pickle.dumps(_Bomb(trace)))
    _refused(
        tmp_path / "c.npz", r"expected an .npz file, got something else.*pickles are never loaded: save arrays with"
    )
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04rubbish", b"\x80\x04K\x01."])
def test_not_an_npz(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    _refused(path, r"expected an .npz file, got something else or a damaged one")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated(share: float, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, poses=_zeros(N, 165))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    _refused(path, r"damaged")


def test_flipped_bits(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, poses=_zeros(N, 165))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    _refused(path, r"key 'poses' cannot be read .*truncated or damaged: copy or download it again")


def test_damaged_npy(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00")
    _refused(path, r"expected an .npy file, got something else or a damaged one .*a damaged header")
    np.save(path, _zeros(N, 165))
    path.write_bytes(path.read_bytes()[:-7])
    _refused(path, r"key 'poses' cannot be read .*less data than its header says")


def test_missing_paths(tmp_path: Path) -> None:
    _refused(tmp_path / "no.npz", r"expected an .npz file or a folder, got .*no.npz, which does not exist")
    _refused(tmp_path, r"expected .npz files with poses in .* got none; give the folder of the data")
    with pytest.raises(ValueError, match=r"got none; give the folder of the data"):
        read_split(tmp_path)
    with pytest.raises(ValueError, match=r"at least one file, got an empty list"):
        read_poses([])


def test_split_errors(tmp_path: Path) -> None:
    np.savez(tmp_path / "train_poses.npz", poses=_zeros(N, 165))
    _refused(
        tmp_path,
        r"expected val_poses.npz, hands_val.npz or a folder val in .*, got train; .*split_by_subject",
        split="val",
    )
    _refused(tmp_path / "train_poses.npz", r"expected a folder .* got the file .*; leave split out", split="train")
    with pytest.raises(ValueError, match=r"split: expected one of train, val, test, got 'dev'"):
        read_poses(tmp_path, split="dev")


# -- arrays that are wrong, or could mean two things ---------------------------------------------------------------

_NAN = _zeros(N, 165)
_NAN[2, 4 * 3] = np.nan
_INF = _zeros(N, 63)
_INF[1, 0] = np.inf

BAD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"trans": _zeros(N, 3)},
        {},
        r"expected poses under one of the keys poses, .* got trans; no array looks like poses, so give the file",
    ),
    ({"poses": _zeros(0, 165)}, {}, r"key 'poses': expected at least one pose, got none; leave the file out"),
    (
        {"poses": _NAN},
        {},
        r"key 'poses': .*nan or inf in 1 of 4 rows \(rows 2; first joint left_knee\); drop the rows, or mark",
    ),
    ({"body_pose": _INF}, {}, r"key 'body_pose': .*nan or inf in 1 of 4 rows \(rows 1; first joint left_hip\)"),
    (
        {"poses": np.zeros((N, 165), int)},
        {},
        r"key 'poses': expected floating-point radians, got int64; save it as float32",
    ),
    ({"poses": np.array(["a", "b"])}, {}, r"key 'poses': expected floating-point radians, got <U1"),
    (
        {"poses": _zeros(N, 55, 3, 3)},
        {},
        r"key 'poses': expected \(N, J, 3\) .* got \(4, 55, 3, 3\); if it holds rotation matrices: pass rotations='matrix'",
    ),
    ({"poses": _zeros(N, 55, 6)}, {}, r"key 'poses': .*got \(4, 55, 6\); if it holds 6D: pass rotations='6d_rows'"),
    ({"poses": _zeros(N, 164)}, {}, r"key 'poses': expected \(N, J, 3\) or \(N, J \* 3\) rotvecs, got \(4, 164\)"),
    ({"poses": np.float32(1.0)}, {}, r"key 'poses': expected \(N, J, 3\) .* got \(\)"),
    (
        {"poses": _zeros(N, 162)},
        {},
        r"key 'poses': got 54 joints \(162 columns\), expected 55 .*save the parts under their names",
    ),
    (
        {"poses": _zeros(N, 156)},
        {},
        r"got 52 joints \(156 columns\), which may be SMPL-H \(columns 66:69 .*pass model_type='smplh'",
    ),
    ({"poses": _zeros(N, 66)}, {}, r"got 22 joints \(66 columns\).*jaw or finger.*pass model_type='smplx'"),
    (
        {"poses": _zeros(N, 156), "surface_model_type": "smplx"},
        {},
        r"52 joints .* for model type 'smplx'; pass model_type='smplh'",
    ),
    (
        {"poses": _zeros(N, 165)},
        {"model_type": "smplh"},
        r"55 joints .*\[22, 52\] joints for model type 'smplh'; pass model_type='smplx'",
    ),
    (
        {"poses": _zeros(N, 165), "surface_model_type": "flame"},
        {},
        r"key 'surface_model_type': expected smplx, .* got 'flame'; pass",
    ),
    ({"poses": _zeros(N, 165)}, {"model_type": "mano"}, r"model_type: expected smplx, smplh or smpl, got 'mano'"),
    (
        {"body_pose": _zeros(N, 69)},
        {},
        r"key 'body_pose': got 23 joints \(4, 69\), expected 21 .*pass model_type='smpl'",
    ),
    ({"body_pose": _zeros(N, 66)}, {}, r"key 'body_pose': expected 21 body joints, got 22, .*call the array poses"),
    (
        {"body_pose": _zeros(N, 63), "jaw_pose": _zeros(3, 3)},
        {},
        r"parts of one length, or of one row, got .*'jaw_pose': 3",
    ),
    ({"pose_hand": _zeros(N, 24)}, {}, r"key 'pose_hand': expected \(N, 90\) rotvecs, left then right, got \(4, 24\)"),
    ({"pose_eye": _zeros(N, 3)}, {}, r"key 'pose_eye': expected \(N, 6\)"),
    ({"lhand_pose": _zeros(N, 6)}, {}, r"lhand_pose': got \(4, 6\).*6 PCA coefficients.*pass hands_components="),
    (
        {"lhand_pose": _zeros(N, 45) * 100},
        {},
        r"key 'lhand_pose': expected joint rotations, got .* beyond pi.* num_pca_comps=45",
    ),
    (
        {"left_hand_pose": _zeros(N, 45), "flat_hand_mean": False},
        {},
        r"hands_mean: expected \(left, right\) with flat_hand_mean=False",
    ),
    (
        {"hand_pose": _zeros(N, 15, 3)},
        {},
        r"key 'side': expected 0 \(left\) or 1 \(right\) .* got none; pass side='left'",
    ),
    (
        {"hand_pose": _zeros(N, 45), "side": np.full(N, 2)},
        {},
        r"side: expected 0/'left' or 1/'right', one or 4, got \[2\]; if you know the side, pass ignore=\('side',\)",
    ),
    ({"hand_pose": _zeros(N, 45), "side": np.zeros(3)}, {}, r"side: expected .* got \(3,\)"),
    ({"hand_pose": _zeros(N, 45)}, {"side": "up"}, r"side: expected .* got \['up'\]"),
    (
        {"hand_pose": _zeros(N, 12), "side": 0},
        {},
        r"': got \(4, 12\).*12 PCA coefficients.*pass hands_components=",
    ),
    (
        {"hand_pose": _zeros(N, 45) * 100, "side": 0},
        {},
        r"key 'hand_pose': .*PCA coefficients or degrees; pass num_pca_comps=45",
    ),
    (
        {"poses": _zeros(N, 159), "observed": np.ones((N, 52), bool)},
        {},
        r"key 'observed': expected \(4, 53\) or \(4, 55\), .* got \(4, 52\)",
    ),
    ({"poses": _zeros(N, 159), "observed": np.ones((3, 53), bool)}, {}, r"key 'observed': .* got \(3, 53\)"),
    (
        {"poses": _zeros(N, 159), "observed": _zeros(N, 53)},
        {},
        r"key 'observed': expected bool or 0/1, got float32 .*save it as bool",
    ),
    (
        {"poses": _zeros(N, 165), "subject": np.array(["a", "b"])},
        {},
        r"subject: expected 4 names, one per row .* got shape \(2,\)",
    ),
    ({"poses": _zeros(N, 165), "fps": np.float32(0)}, {}, r"fps: expected positive frame rates, got \[0.0\]"),
]


@pytest.mark.parametrize(("arrays", "options", "text"), BAD)
def test_refused(arrays: dict[str, Any], options: dict[str, Any], text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    _refused(path, text, **options)


@pytest.mark.parametrize(
    ("name", "column", "text"),
    [
        ("frame", np.linspace(0, 1, N), "frame: expected 4 integers, one per row, got float64"),
        ("fps", np.array(["fast"]), "fps: expected frame rates as numbers, got <U4"),
        ("subject", np.array(["a", "b"]), "subject: expected 4 names"),
        ("observed", np.ones((N, 40), bool), "key 'observed': expected"),
        ("rig", np.zeros((N, 2)), "rig: expected names or integers"),
        ("surface_model_type", np.array("flame"), "key 'surface_model_type': expected smplx"),
        ("joint_names", np.array(["nose"]), None),
        ("subject", np.array([b"\xff"] * N), None),
    ],
)
def test_columns_that_are_wrong_are_named_and_may_be_left_out(
    name: str, column: Any, text: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, poses=_zeros(N, 165), **{name: column})
    if text is not None:
        _refused(path, rf"{text}.*The file holds .*; ignore=\(NAME,\) leaves an array out")
    assert len(read_poses(path, ignore=(name,))) == N
