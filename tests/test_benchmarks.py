"""Benchmarks start, stand in their README, and use only what a user of the library may use."""

from __future__ import annotations

import ast
import importlib
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))
COMMANDS = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in FILES if "__main__" in path.read_text()]


def test_every_topic_has_commands() -> None:
    assert {name.split(".")[1] for name in COMMANDS} == {"density", "fitting", "hands", "speed"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_the_command(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    sys.modules.pop(name, None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert stop.value.code == 0
    assert f"python -m {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_describes_the_command(name: str) -> None:
    assert f"`{name.removeprefix('benchmarks.')}`" in (ROOT / "benchmarks" / "README.md").read_text()


def test_documents_name_commands_that_exist() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
    for page in pages:
        for word in page.read_text().replace("`", " ").split():
            assert not word.startswith("benchmarks/") or (ROOT / word.strip(",.:;()")).exists(), f"{page.name}: {word}"
            if word.startswith("benchmarks.") and "<" not in word:
                assert word.strip(",.:;()") in COMMANDS, f"{page.name}: {word}"


#: Modules inside packages that docs/ name as the home of what they hold.
HOMES = ("poseprior.compat.vposer", "poseprior.io.keypoints", "poseprior.models.charts", "poseprior.models.vae")


@pytest.mark.parametrize(
    "path", [*FILES, *sorted((ROOT / "examples").glob("*.py"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_what_is_public_is_imported(path: Path) -> None:
    """Names of a package's `__all__`, and of the modules that stand beside the packages or are named in docs/."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not [a.name for a in node.names if a.name.startswith("poseprior.")], f"line {node.lineno}"
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("poseprior"):
            continue
        home = importlib.import_module(str(node.module))
        assert home.__name__.count(".") < 2 or home.__name__ in HOMES, f"line {node.lineno}: {home.__name__}"
        public = [*getattr(home, "__all__", dir(home)), *(getattr(home, "_SUBMODULES", ()))]
        for alias in node.names:
            assert alias.name in public and not alias.name.startswith("_"), f"line {node.lineno}: {alias.name}"


def test_a_missing_extra_is_named_before_work_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("zuko") is not None:
        pytest.skip("zuko is installed")
    held_out = importlib.import_module("benchmarks.density.held_out")
    monkeypatch.setattr(sys, "argv", ["held_out", "--only", "zuko MAF"])
    with pytest.raises(SystemExit):
        held_out.main()
    assert "pip install zuko" in capsys.readouterr().err
