"""README and docs/ as a reader uses them: every block of code runs, in order, in a fresh folder.

A page says in comments, which no reader sees, what its blocks need in the tests:

    <!-- hidden          Python that makes what the reader has already, such as pose files. Ends the comment.
    <!-- not run: why    The next block is left to the reader.
    <!-- in tests: A -> B     The next block runs with A replaced by B, such as fewer steps.
    <!-- slow            The page takes more than a few seconds. Pages with commands do.

Python blocks of a page share their names, as in a notebook.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
#: Where the pages of this tree are on the web, and its pictures.
_WEB = re.compile(
    r"https://(?:github\.com/poseprior/poseprior/(?:blob|tree)|raw\.githubusercontent\.com/poseprior/poseprior)/main/"
)
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
#: Blocks of these pages run elsewhere: each by itself.
_ELSEWHERE = {"data_formats.md": "io/test_data_formats.py"}
#: Fences that hold code, and those that show something else.
_CODE, _OTHER = ("python", "sh"), ("text",)

_TOKEN = re.compile(
    r"^<!-- (?P<word>hidden|not run|in tests|slow)\b:?(?P<text>.*?)-->|^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
#: [text](target), and [name]: target at the foot of a page.
_LINK = re.compile(r"\[(?:[^\]\[]|\[[^\]]*\])*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)


@dataclass
class Block:
    """One fenced block, with the comments before it."""

    language: str
    code: str
    hidden: bool = False
    reason: str = ""
    swaps: list[tuple[str, str]] = field(default_factory=list)

    @property
    def as_tested(self) -> str:
        code = self.code
        for old, new in self.swaps:
            assert old in code, f"'in tests: {old} -> ...' stands before a block without it"
            code = code.replace(old, new)
        return code


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page in order, hidden ones too."""
    found, reason, swaps = [], "", []
    for token in _TOKEN.finditer(page.read_text()):
        word, text = token["word"], (token["text"] or "").strip()
        if word == "hidden":
            found.append(Block("python", text, hidden=True))
        elif word == "not run":
            reason = text
        elif word == "in tests":
            old, _, new = text.partition(" -> ")
            swaps.append((old, new))
        elif word is None:
            found.append(Block(token["language"], token["code"], False, reason, swaps))
            reason, swaps = "", []
    assert not reason and not swaps, f"{page}: a comment is not followed by a block"
    return found


def _is_slow(page: Path) -> bool:
    commands = any(block.language == "sh" and not block.reason for block in read_blocks(page))
    return commands or "<!-- slow" in page.read_text()


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _runnable() -> list:
    chosen = []
    for page in PAGES:
        blocks = [b for b in read_blocks(page) if b.language in _CODE and not b.reason]
        if blocks and page.name not in _ELSEWHERE:
            chosen.append(pytest.param(page, id=_name(page), marks=[pytest.mark.slow] if _is_slow(page) else []))
    return chosen


@pytest.mark.parametrize("page", _runnable())
def test_every_block_runs_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for number, block in enumerate(read_blocks(page), 1):
            if block.language == "sh" and not block.reason:
                _shell(block.as_tested, tmp_path)
            elif block.language == "python" and not block.reason:
                exec(compile(block.as_tested, f"{page.name}, block {number}", "exec"), names)


def _shell(code: str, folder: Path) -> None:
    """Run commands where `poseprior` and `python` are this environment's, and the package is this tree."""
    bin_folder = folder.parent / f"{folder.name}-bin"
    bin_folder.mkdir(exist_ok=True)
    for name, module in (("poseprior", "-m poseprior"), ("python", "")):
        script = bin_folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n')
        script.chmod(0o755)
    paths = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize("number", range(3))
def test_a_snippet_of_the_readme_runs_by_itself(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    snippets = [block for block in read_blocks(README) if block.language == "python"]
    assert len(snippets) == 3 and not any(block.reason or block.swaps for block in snippets)
    exec(compile(snippets[number].code, f"README, snippet {number}", "exec"), {"__name__": "readme"})


def test_from_install_to_a_picture_are_five_lines() -> None:
    first = next(block for block in read_blocks(README) if block.language == "sh")
    lines = [line for line in first.code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 5 and any("pip install" in line for line in lines) and lines[-1].endswith(".png")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_what_is_not_run_says_why(page: Path) -> None:
    for block in read_blocks(page):
        assert block.language in _CODE + _OTHER, (
            f"{block.language!r}: name the language; {_OTHER} is for what is no code"
        )
        if block.reason:
            assert len(block.reason.split()) >= 3, block.code
    # No fence escaped the pattern: one that is indented, say.
    assert page.read_text().count("```") == 2 * sum(not block.hidden for block in read_blocks(page))


#: What only this project's makers know: who asked, which try it was, where files lie on their machines.
_HISTORY = re.compile(
    r"\.\./shared|/work/|/tmp/|\bissue #?\d|\bpull request\b|\bwas asked\b|\bas asked\b|\bfirst (design|version|try)\b"
    r"|\bscratch run\b|\bgit show\b|\b(older|earlier|previous) (prior|mixture|model|weights)\b"
    r"|\bround \d|\bthe judge\b|\bTODO\b|\bFIXME\b",
    re.IGNORECASE,
)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_pages_are_for_strangers(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert [f"{k}: {line}" for k, line in enumerate(lines, 1) if _HISTORY.search(line)] == []
    # A web address cannot be broken.
    assert [f"{k}: {line}" for k, line in enumerate(lines, 1) if len(line) > 100 and "https://" not in line] == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = _TOKEN.sub("", page.read_text())
    defined = set(re.findall(r"^\[([^\]]+)\]: ", text, re.MULTILINE))
    prose = re.sub(r"`[^`]*`", "", text)
    assert set(re.findall(r"\]\[([^\]]+)\]", prose)) <= defined
    for inline, reference in _LINK.findall(text):
        link = inline or reference
        target, _, anchor = link.partition("#")
        if _WEB.match(target):
            path = ROOT / _WEB.sub("", target)
        elif target.startswith("http"):
            continue
        else:
            assert page != README, f"{link}: a package index knows no relative links"
            path = page.parent / target if target else page
        assert path.exists(), link
        if anchor and path.suffix == ".md":
            assert anchor in _anchors(path), link


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_index_and_in_the_site() -> None:
    index, site = (DOCS / "README.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for page in DOCS.glob("*.md"):
        if page.name != "README.md":
            assert f"({page.name})" in index, f"docs/README.md does not name {page.name}"
            assert page.name in site, f"mkdocs.yml does not name {page.name}"
