"""What a user installs holds the weights and the notices that must stay with them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import poseprior

ROOT = Path(__file__).resolve().parents[1]


def test_the_citation_has_the_version() -> None:
    assert f"\nversion: {poseprior.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_python_that_ci_runs_is_a_classifier_and_no_other() -> None:
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert matrix is not None
    tested = re.findall(r"\d+\.\d+", matrix[1])
    assert tested == re.findall(r"Python :: (\d+\.\d+)\n", (ROOT / "setup.cfg").read_text())
    assert f"python_requires = >={tested[0]}\n" in (ROOT / "setup.cfg").read_text()


@pytest.mark.slow
def test_the_wheel_holds_weights_and_notices(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "poseprior", source / "poseprior", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    folder = ROOT / "poseprior" / "pretrained"
    shipped = [p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert len(shipped) > 10
    assert {p.relative_to(ROOT).as_posix() for p in shipped} <= names
    assert "poseprior/py.typed" in names
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"poseprior"}
    for notice in ("LICENSE", "NOTICE.md", "cmu-mocap.txt", "thai-leap-BSD-3-Clause.txt"):
        assert any(".dist-info/licenses/" in name and name.endswith(notice) for name in names)
