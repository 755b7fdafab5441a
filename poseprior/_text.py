"""Names and other text from files, as messages show them: a terminal prints what is in them, and obeys nothing."""

from __future__ import annotations

import os


def escaped(text: str, keep: str = "") -> str:
    """The text with an escape for each character that is not printed, but for those in `keep`."""
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def printable(text: str, most: int = 60) -> str:
    """Text from a file, escaped, and cut short where it is long."""
    return escaped(text if len(text) <= most else text[:most] + "...")


def shown(path: str | os.PathLike[str]) -> str:
    """The whole path, or name, of a file, escaped."""
    return escaped(os.fspath(path))


def first_line(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """The first line of what an error says, without the path of the file that it may begin with."""
    text = str(error).strip() or type(error).__name__
    start = "" if path is None else f"{shown(path)}: "
    return printable(text.splitlines()[0].removeprefix(start), 300)


def short(error: BaseException) -> str:
    """The kind of an error of Python or a package, and the first sentence of what it says."""
    first = str(error).splitlines()[0].split(". ")[0] if str(error) else "no details"
    return f"{type(error).__name__}: {printable(first, 100)}"
