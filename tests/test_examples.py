"""The examples run, on synthetic poses, as a stranger would run them."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import poseprior

EXAMPLES = Path(__file__).parents[1] / "examples"


def _run(name: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_demo_writes_one_page_that_needs_nothing_else(tmp_path: Path) -> None:
    out = _run("demo.py", cwd=tmp_path)
    assert "demo/index.html" in out
    page = (tmp_path / "demo" / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 7 and "srcdoc=" in page and "left_knee" in page
    for external in ('src="http', "src='http", 'href="http', "src=&quot;http", "href=&quot;http", "@import url"):
        assert external not in page, external


@pytest.mark.slow
def test_demo_takes_poses_of_one_s_own(tmp_path: Path) -> None:
    poseprior.io.write_poses(tmp_path / "mine.npz", poseprior.io.synthetic_poses(200, seed=2))
    _run("demo.py", "--data", "mine.npz", cwd=tmp_path)
    assert "poses of mine.npz" in (tmp_path / "demo" / "index.html").read_text()


def test_fit_smplx_fits_better_with_a_prior(tmp_path: Path) -> None:
    out = _run("fit_smplx.py", "--frames", "2", "--iterations", "20", cwd=tmp_path)
    errors = [int(line.split(":")[1].split()[0]) for line in out.splitlines() if "mean joint error" in line]
    assert errors[1] < errors[0] and (tmp_path / "fits" / "fitted.npz").exists()


@pytest.mark.slow
def test_your_own_loop_learns_the_context(tmp_path: Path) -> None:
    out = _run("use_your_own_loop.py", "--steps", "200", cwd=tmp_path)
    knees = [float(line.split()[-2]) for line in out.splitlines() if line.startswith("label")]
    assert knees[1] > knees[0] + 0.1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train_gaussian.py", "left elbow bends by"),
        pytest.param("train_global_flow.py", "decode(encode(pose)) is off by 0.00", marks=pytest.mark.slow),
        pytest.param("train_joint_flow.py", "left_knee is to blame", marks=pytest.mark.slow),
        pytest.param("train_hand_vae.py", "three hidden fingers", marks=pytest.mark.slow),
    ],
)
def test_training_examples_run_on_synthetic_poses(name: str, says: str, tmp_path: Path) -> None:
    out = _run(name, "--out", "prior.safetensors", cwd=tmp_path)
    assert "synthetic poses" in out
    assert says in out
    assert poseprior.load(tmp_path / "prior.safetensors").fitted


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train_gaussian.py", "body"),
        ("train_joint_flow.py", "body"),
        ("train_global_flow.py", "body"),
        ("train_hand_vae.py", "hands"),
    ],
)
def test_training_examples_run_on_real_files(name: str, part: str, tmp_path: Path, real_data_dir: Path) -> None:
    out = _run(
        name, "--data", str(real_data_dir / part), "--out", "prior.safetensors", "--minutes", "0.05", cwd=tmp_path
    )
    assert "synthetic" not in out
    assert "results: prior.safetensors" in out


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted((EXAMPLES / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run_in_two_minutes(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    started = time.monotonic()
    document = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(document, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert time.monotonic() - started < 120
