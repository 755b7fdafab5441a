"""Which names of files and folders say train, val or test, in any case and by the usual synonyms."""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
#: Words for each part, as the `datasets` library of Hugging Face knows them.
WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_STEMS = {
    stem.format(word): part
    for word, part in WORDS.items()
    for stem in ("{}_poses", "hands_{}", "{}", "poses_{}", "{}_hands")
}
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


def part_of_folder(name: str) -> str | None:
    """The part that a folder's name says."""
    return WORDS.get(name.lower())


def part_of_stem(stem: str) -> str | None:
    """The part that the name of a file says, without its ending: `train`, `Train_poses`, `hands_validation`."""
    return _STEMS.get(stem.lower())


def mixed(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names of which one has a word for train in it and the other one for val or test: `a_train`, `a_test2`."""
    found: dict[bool, str] = {}
    for name in names:
        for token in _TOKEN.findall(name):
            part = WORDS.get(token.lower().removesuffix("set"))
            if part is not None:
                found.setdefault(part == "train", name)
    return (found[True], found[False]) if len(found) == 2 and found[True] != found[False] else None
