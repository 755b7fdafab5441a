"""Names of files in messages: nothing in them is obeyed by a terminal, and they are shown whole."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import poseprior
from poseprior._text import escaped, first_line, printable, shown
from poseprior.io import read_poses, read_split, write_poses
from poseprior.io.atomic import new_folder, write_json
from poseprior.io.keypoints import read_keypoints

ODD = "a\x1b[31m\nb\u202e" + "long" * 30
SHOWN = "a\\x1b[31m\\nb\\u202e" + "long" * 30


def _file(folder: Path, ending: str, content: bytes = b"?") -> Path:
    path = folder / f"{ODD}{ending}"
    path.write_bytes(content)
    return path


def _refused(call: Callable[..., Any], *arguments: object, **options: object) -> str:
    with pytest.raises(ValueError, match=r"a\\x1b\[31m\\nb") as refusal:
        call(*arguments, **options)
    text = str(refusal.value)
    assert SHOWN in text and escaped(text, keep="\n") == text
    return text


def test_texts_are_escaped() -> None:
    assert shown(Path("x") / ODD) == f"x{os.sep}{SHOWN}"
    assert shown(os.fsdecode(b"\xff.npz")) == "\\udcff.npz"
    assert printable(ODD, 5) == "a\\x1b[31..."
    assert escaped("a\n\tb", keep="\n") == "a\n\\tb"


@pytest.mark.parametrize("ending", [".npz", ".npy", ".pt", ".json", ".pkl", ".png"])
def test_files_of_poses(tmp_path: Path, ending: str) -> None:
    _refused(read_poses, tmp_path / f"{ODD}{ending}")
    path = _file(tmp_path, ending)
    text = _refused(read_poses, path)
    said = first_line(ValueError(text), path)
    assert said.startswith("expected ") and text.startswith(f"{shown(path)}: {said.removesuffix('...')}")


def test_files_without_poses_and_folders(tmp_path: Path) -> None:
    np.savez(path := tmp_path / f"{ODD}.npz", betas=np.zeros(10))
    assert _refused(read_poses, path).startswith(f"{shown(path)}: expected poses")
    (folder := tmp_path / ODD).mkdir()
    _refused(read_poses, folder)
    _refused(read_split, folder)
    for part in ("train", "test"):
        np.savez(folder / f"{part}_poses.npz", poses=np.zeros((2, 55, 3)))
    (folder / f"x{ODD}.npz").write_bytes(b"?")
    assert all(escaped(note) == note for note in read_poses(folder, constant_parts_unobserved=False).notes)


def test_code_for_a_pickle_finds_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, ".pkl", pickle.dumps({"body_pose": np.full((3, 63), 0.1)}))
    text = _refused(read_poses, path)
    code = text[text.index("import numpy") :]
    exec(code[: code.index("\nThe file holds")] if "\nThe file holds" in code else code, {})
    assert len(read_poses(path.with_name(f"{path.stem}_plain.npz"))) == 3


@pytest.mark.parametrize("content", [b"?", b"{}", json.dumps({"people": [{}]}).encode()])
def test_files_of_keypoints(tmp_path: Path, content: bytes) -> None:
    _refused(read_keypoints, tmp_path / f"{ODD}.json")
    _refused(read_keypoints, _file(tmp_path, ".json", content))
    np.savez(tmp_path / f"{ODD}.npz", keypoints=np.zeros((2, 17)))
    _refused(read_keypoints, tmp_path / f"{ODD}.npz")


def test_priors(tmp_path: Path) -> None:
    _refused(poseprior.load, tmp_path / f"{ODD}.safetensors")
    _refused(poseprior.load, _file(tmp_path, ".safetensors"))
    (tmp_path / ODD).mkdir()
    _refused(poseprior.load, tmp_path / ODD)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    folder = _file(tmp_path, "")
    _refused(write_json, folder / "a.json", {})
    with (
        pytest.raises(ValueError, match=r"folder: expected a path that does not exist yet") as refusal,
        new_folder(folder),
    ):
        pass
    assert SHOWN in str(refusal.value)
    data = read_poses(_npz(tmp_path))
    _refused(write_poses, folder / "a.npz", data)


def _npz(folder: Path) -> Path:
    np.savez(folder / "a.npz", poses=np.random.default_rng(0).normal(0, 0.1, (4, 55, 3)))
    return folder / "a.npz"
