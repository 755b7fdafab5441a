"""The page that `demo.py` writes: sections of text, pictures and a scene, in one file that needs nothing else."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6577; --paper: #f7f8fa; --card: #fff; --line: #dfe3ea; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecf3; --soft: #a3adbf; --paper: #14181f; --card: #1c222c; --line: #303846; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; margin: .4em 0 .2em; } h2 { font-size: 1.2rem; margin: 0 0 .3em; }
p { margin: .3em 0 .8em; } .soft { color: var(--soft); font-size: .92rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px; margin: 18px 0; }
figure { margin: 0 0 .6em; overflow-x: auto; }
img { display: block; width: 100%; height: auto; border-radius: 8px; background: #fff; }
iframe { display: block; width: 100%; height: min(80vh, 680px); border: 0; border-radius: 8px; background: #fff; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px 16px; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: 6px 8px; border-bottom: 1px solid var(--line); }
code { background: var(--paper); padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
@media (max-width: 640px) {
  img.wide { width: 760px; max-width: none; } iframe { height: 300px; }
  figure.slide::before { content: "slide sideways to see all of it"; color: var(--soft); font-size: .85rem; }
  section { padding: 12px; } td, th { padding: 6px; font-size: .92rem; } }
"""


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: heading.
        text: what one sees.
        picture: a PNG, or None.
        rows: of a table, the first its head.
        scene: HTML of a scene, or None.
        code: the call that made it.
    """

    title: str
    text: str
    picture: Path | None = None
    rows: tuple[tuple[str, ...], ...] = ()
    scene: str | None = None
    code: str = ""


def write_page(path: Path, title: str, introduction: str, sections: list[Section], *, code: str, foot: str) -> None:
    """Write the page: what this is, how to begin, the sections, how it was made."""
    body = "".join(_section(section) for section in sections)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{html.escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main><h1>{html.escape(title)}</h1><p>{html.escape(introduction)}</p>"
        f'<pre>{html.escape(code)}</pre>{body}<p class="soft">{html.escape(foot)}</p></main>'
        f"</body></html>\n"
    )
    path.write_text(page)


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.text)}</p>"]
    if section.rows:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.rows[0])
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in section.rows[1:]
        )
        parts.append(f"<figure><table><tr>{head}</tr>{rows}</table></figure>")
    if section.picture is not None:
        data = base64.b64encode(section.picture.read_bytes()).decode()
        alt = html.escape(section.title)
        parts.append(
            f'<figure class="slide"><img class="wide" alt="{alt}" src="data:image/png;base64,{data}"></figure>'
        )
    if section.scene is not None:
        parts.append(f'<iframe title="{html.escape(section.title)}" srcdoc="{html.escape(section.scene)}"></iframe>')
    if section.code:
        parts.append(f'<p class="soft"><code>{html.escape(section.code)}</code></p>')
    return f"<section>{''.join(parts)}</section>"
