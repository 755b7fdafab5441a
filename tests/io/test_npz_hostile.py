"""Damaged and hostile `.npz` files: sizes are bounded before anything is unpacked, every outcome is a value or a ValueError."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import textwrap
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bounds import bounded

from poseprior.io import read_poses
from poseprior.io.keypoints import read_keypoints

_DATA = np.random.default_rng(0).normal(0, 0.2, (6, 165)).astype("<f4")


def _npy(descr: str, shape: str, data: bytes = _DATA.tobytes(), fortran: str = "False") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _zip(path: Path, compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_headers_of_python_2_are_read(tmp_path: Path) -> None:
    for shape in ("(6L, 165L)", "(6L, 165)"):
        data = read_poses(_zip(tmp_path / "x.npz", poses=_npy("'<f4'", shape)))
        np.testing.assert_array_equal(data.poses.flatten(1).numpy(), _DATA)
    columns = _npy("'<f4'", "(6, 165)", np.asfortranarray(_DATA).tobytes("F"), "True")
    np.testing.assert_array_equal(read_poses(_zip(tmp_path / "y.npz", poses=columns)).poses.flatten(1).numpy(), _DATA)
    big = _npy("'>f8'", "(6, 165)", _DATA.astype(">f8").tobytes())
    np.testing.assert_array_equal(read_poses(_zip(tmp_path / "z.npz", poses=big)).poses.flatten(1).numpy(), _DATA)


@pytest.mark.parametrize(
    ("descr", "shape"),
    [
        ("'<f4'", "(True, 990)"), ("'<f4'", "(6, -165)"), ("'<f4'", "(6.0, 165)"), ("'<f4'", "[6, 165]"), ("'<f4'", "6"),
        ("'<f4'", "(2305843009213693952, 165)"), ("'<f4'", "(" * 300 + ")" * 300), ("'<f4'", "(6, 165) * 3"),
        ("'|V660'", "(6,)"), ("'|S0'", "(6, 165)"), ("'<U0'", "(6,)"), ("[('a', '<f4')]", "(6, 165)"),
        ("'<f4,<f4'", "(6, 82)"), ("'<M8[s]'", "(6, 82)"), ("'<c8'", "(6, 82)"), ("None", "(6, 165)"), ("5", "(6, 165)"),
        ("'<f9'", "(6, 165)"), ("'<U4000000000'", "(1,)"), ("'<f4'", "(7, 165)"), ("'<f4'", "(5, 165)"),
    ],
)  # fmt: skip
def test_damaged_headers(descr: str, shape: str, tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.npz", poses=_npy(descr, shape))
    with pytest.raises(ValueError, match=r"x.npz: key 'poses' cannot be read .*truncated or damaged: copy or download"):
        read_poses(path)
    unused = _zip(tmp_path / "y.npz", poses=_npy("'<f4'", "(6, 165)"), gender=_npy(descr, shape))
    assert len(read_poses(unused)) == 6, "what nobody reads may be anything"


def test_a_small_file_that_unfolds_to_gigabytes(tmp_path: Path) -> None:
    """In a process of its own, whose memory is measured."""
    path = tmp_path / "bomb.npz"
    rows = 2**29 // 660
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("poses.npy", "w", force_zip64=True) as out,
    ):
        out.write(_npy("'<f4'", f"({rows}, 165)", b""))
        for _ in range(rows // 4096):
            out.write(bytes(660 * 4096))
        out.write(bytes(660 * (rows % 4096)))
    assert path.stat().st_size < 2**20
    code = """
        import sys, time, resource, poseprior
        from poseprior.io.keypoints import read_keypoints
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; start = time.monotonic()
        for read in (poseprior.read_poses, read_keypoints):
            try: read(sys.argv[1])
            except ValueError as error: print(error)
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert used < 100 * 1024 and time.monotonic() - start < 5, used
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "would unfold to 5368" in run.stdout and "which no recording does" in run.stdout


def test_honest_constants_are_read(tmp_path: Path) -> None:
    """Masks of many rows compress a thousandfold."""
    n = 20_000
    np.savez_compressed(tmp_path / "x.npz", poses=np.zeros((n, 63), np.float32), observed=np.ones((n, 55), bool))
    with pytest.raises(ValueError, match="21 joints"):
        read_poses(tmp_path / "x.npz")
    body = np.tile(_DATA[:1, 3:66], (n, 1))
    np.savez_compressed(tmp_path / "y.npz", body_pose=body, observed=np.ones((n, 55), bool))
    assert len(read_poses(tmp_path / "y.npz")) == n


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "link.npz").symlink_to("/dev/zero")
    start = time.monotonic()
    for name in ("pipe.npz", "folder.npz", "link.npz"):
        for read in (read_poses, read_keypoints):
            with pytest.raises(ValueError, match="expected"):
                read(tmp_path / name)
    assert time.monotonic() - start < 2


def test_names_in_messages_obey_nothing(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.npz", **{"\x1b[31mred\x07" + "x" * 300: _npy("'<f4'", "(6, 165)")})
    with pytest.raises(ValueError, match="expected poses under one of the keys") as caught:
        read_poses(path)
    assert "\x1b" not in str(caught.value) and "\\x1b" in str(caught.value) and "x" * 80 not in str(caught.value)


def test_two_arrays_of_one_name_and_thousands_of_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("poses.npy", _npy("'<f4'", "(6, 165)"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("poses.npy", _npy("'<f4'", "(6, 165)"))
    many = _zip(tmp_path / "y.npz", **{f"a{k}": b"" for k in range(6000)})
    for path, what in ((tmp_path / "x.npz", "two arrays of one name"), (many, "at most 5000 arrays, got 6000")):
        with pytest.raises(ValueError, match=what):
            read_poses(path)


def _mutated(rng: np.random.Generator, base: bytes) -> bytes:
    """A file with bytes changed, cut off, put in, or sizes replaced by extreme ones."""
    data = bytearray(base)
    kind = rng.integers(4)
    if kind == 0:
        for at in rng.integers(len(data), size=rng.integers(1, 20)):
            data[at] = rng.integers(256)
    elif kind == 1:
        data = data[: rng.integers(len(data))]
    elif kind == 2:
        at = int(rng.integers(len(data)))
        data[at:at] = rng.bytes(int(rng.integers(1, 50)))
    else:
        for at in rng.integers(len(data) - 8, size=3):
            data[at : at + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**31, 2**32 - 1])))
    return bytes(data)


_DESCR = [
    "'<f4'",
    "'|V8'",
    "'|S0'",
    "'|O'",
    "'<c8'",
    "[('a', '<f4')]",
    "'|b1'",
    "'<f16'",
    "5",
    "'<U1000000000'",
    "'<i8'",
]
_SHAPES = ["(6, 165)", "(True, 165)", "(6, -1)", "(1000000000, 165)", "()", "(0, 165)", "(6, 1e9)", "6", "(1,) * 40"]
_KEYS = [
    "poses", "observed", "subject", "fps", "frame", "hand_pose", "side", "sitting", "rig", "joint_names", "imputed",
    "surface_model_type", "flat_hand_mean", "global_orient", "body_pose", "seq", "is_right", "pose_hand",
]  # fmt: skip


@pytest.mark.slow
def test_two_thousand_broken_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bases = []
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"poses": _DATA, "subject": np.array(["a"] * 6), "fps": np.float32(30), "frame": np.arange(6)},
            {"hand_pose": _DATA[:, :45], "side": np.zeros(6, int), "sitting": np.arange(6)},
            {"global_orient": _DATA[:, :3], "body_pose": _DATA[:, :63], "imputed": np.zeros((6, 55), bool)},
        ):
            buffer = io.BytesIO()
            save(buffer, **arrays)  # type: ignore[arg-type]
            bases.append(buffer.getvalue())
    path = tmp_path / "x.npz"
    for k in range(2000):
        if k % 2:
            path.write_bytes(_mutated(rng, bases[rng.integers(len(bases))]))
        else:
            data = rng.bytes(int(rng.choice([0, 1, 3960, 7920])))
            odd = {str(rng.choice(_KEYS)): _npy(str(rng.choice(_DESCR)), str(rng.choice(_SHAPES)), data)}
            _zip(path, **({"poses": _npy("'<f4'", "(6, 165)")} | odd))
        read = read_keypoints if k % 5 == 4 else read_poses
        with bounded():
            try:
                read(path)
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017


@pytest.mark.parametrize("key", ["poses", "body_pose", "left_hand_pose", "hand_pose", "pose_eye", "flat_hand_mean"])
def test_flags_in_place_of_rotations_are_not_unpacked(key: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    other = {"left_hand_pose": np.zeros((2, 45), np.float32)} if key == "flat_hand_mean" else {}
    np.savez_compressed(path, **other, **{key: np.zeros(500 * 2**20, bool)})
    with bounded(gigabytes=0.2), pytest.raises(ValueError, match=f"key '{key}'"):
        read_poses(path)


def test_odd_python_in_a_header_is_refused_without_a_warning(tmp_path: Path) -> None:
    path = _zip(tmp_path / "x.npz", poses=_npy(r"'\d'", "(6, 165)"))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="key 'poses' cannot be read"):
            read_poses(path)
    assert not told


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_file_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"^/proc/self/mem: expected a file that can be read, got Input/output error"):
        read_poses("/proc/self/mem")
