"""The examples run, on synthetic poses, as a stranger would run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert page.count("data:image/png;base64,") == 5 and "srcdoc=" in page and "left_knee" in page
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
    assert (tmp_path / "fits" / "overlay.png").read_bytes().startswith(b"\x89PNG")


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


NOTEBOOKS = sorted((EXAMPLES / "notebooks").glob("*.ipynb"))


def _pictures(document: dict[str, Any]) -> list[tuple[str, bool]]:
    """The cells that end in a picture, by their last line, and whether a PNG came out."""
    found = []
    for cell in document["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "code" and source.splitlines()[-1].startswith("plot_"):
            outputs = [output.get("data", {}) for output in cell["outputs"]]
            found.append((source.splitlines()[-1], any(data.get("image/png") for data in outputs)))
    return found


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_with_their_pictures(notebook: Path) -> None:
    document = json.loads(notebook.read_text())
    shown = _pictures(document)
    assert len(shown) >= 2 and all(drawn for _, drawn in shown), shown
    counts = [cell["execution_count"] for cell in document["cells"] if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert notebook.stat().st_size < 1_500_000


@pytest.mark.slow
def test_notebooks_run_and_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    _run("run_notebooks.py", "--out", "executed", cwd=tmp_path)
    for notebook in NOTEBOOKS:
        executed = _pictures(json.loads((tmp_path / "executed" / notebook.name).read_text()))
        assert executed == _pictures(json.loads(notebook.read_text()))


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn(tmp_path: Path) -> None:
    _run("draw_people.py", "--out", "people.png", cwd=tmp_path)
    image = pytest.importorskip("PIL.Image")
    with (
        image.open(EXAMPLES.parent / "docs" / "images" / "people.png") as stored,
        image.open(tmp_path / "people.png") as drawn,
    ):
        assert abs(drawn.width - stored.width) < 50 and abs(drawn.height - stored.height) < 50
