"""Damaged and hostile `.pt` files: every outcome is a value or one ValueError, within little time and memory."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bounds import bounded

from poseprior.io import read_poses


class _Runs:
    """An object whose unpickling would run a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def _saved(value: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def test_nothing_is_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for content in (_saved({"poses": _Runs(ran)}), pickle.dumps(_Runs(ran))):
        (tmp_path / "x.pt").write_bytes(content)
        with pytest.raises(ValueError, match="those are pickles, which are never loaded"):
            read_poses(tmp_path / "x.pt")
    assert not ran.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"poses": torch.zeros(1).expand(10**9, 165)},
        [{"poses": torch.zeros(165)[None].expand(20_000, 165)}] * 200,
        {str(k): {"body_pose": torch.zeros(63).expand(60_000, 63)} for k in range(50)},
    ],
)
def test_few_numbers_that_stand_for_many(value: Any, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(_saved(value))
    with bounded(), pytest.raises(ValueError, match="more numbers than the file"):
        read_poses(tmp_path / "x.pt")


def test_an_expanded_tensor_of_honest_size_is_read(tmp_path: Path) -> None:
    torch.save({"body_pose": (0.1 * torch.ones(63)).expand(100, 63)}, tmp_path / "x.pt")
    assert len(read_poses(tmp_path / "x.pt", constant_parts_unobserved=False)) == 100


@pytest.mark.slow
def test_a_thousand_broken_torch_files(tmp_path: Path) -> None:
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    body, root = (0.2 * torch.randn(6, n, generator=generator) for n in (63, 3))
    bases = [
        _saved({"smpl_params_global": {"body_pose": body, "global_orient": root}}),
        _saved([{"poses": torch.cat((root, body), 1)[0]}] * 3), _saved(torch.cat((root, body), 1)),
        _saved({"body_pose": body, "global_orient": root}, _use_new_zipfile_serialization=False),
    ]  # fmt: skip
    odd = [None, [], {}, "x", 10**400, float("nan"), [[[]]], {1: 2}, torch.zeros(0, 63), torch.zeros(6, 63).to_sparse(),
           torch.zeros(6, 63, dtype=torch.complex64), torch.zeros((1,) * 30), [body, root], {"body_pose": {"a": body}},
           torch.zeros(6, 63, dtype=torch.bfloat16), torch.zeros(6, 63, dtype=torch.float8_e4m3fn), body[None], True]  # fmt: skip
    path = tmp_path / "x.pt"
    for k in range(1000):
        data = bytearray(bases[k % len(bases)])
        kind = rng.integers(4)
        if kind == 0:
            for at in rng.integers(len(data), size=rng.integers(1, 8)):
                data[at] = rng.integers(256)
        elif kind == 1:
            data = data[: rng.integers(len(data))]
        elif kind == 2:
            data = bytearray(_saved({"body_pose": odd[rng.integers(len(odd))], "fps": odd[rng.integers(len(odd))]}))
        else:
            data = bytearray(_repacked(bytes(data), rng))
        path.write_bytes(bytes(data))
        with bounded():
            try:
                read_poses(path)
            except ValueError as error:
                assert str(path) in str(error)  # noqa: PT017


def _repacked(content: bytes, rng: np.random.Generator) -> bytes:
    """With bytes of its pickle changed, behind a check sum that fits."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return content[1:]
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = bytearray(old.read(name))
            if name.endswith("data.pkl"):
                for at in rng.integers(len(data), size=rng.integers(1, 5)):
                    data[at] = rng.integers(256)
            new.writestr(name, bytes(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [[{"poses": torch.zeros(1_000_000)}] + [{}] * 20_000, ["x" * 1_000_000] + ["x"] * 20_000],
    ids=["frames that lack a large tensor", "one long text"],
)
def test_lists_that_would_unfold(content: list[Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with bounded(), pytest.raises(ValueError, match="would unfold"):
        read_poses(tmp_path / "x.pt")
