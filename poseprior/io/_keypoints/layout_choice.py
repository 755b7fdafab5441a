"""Which layout keypoints have: what the caller or the file says, or the number of points where that decides it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..._checks import nearest
from ..._text import printable, shown
from ...keypoint_layouts import LAYOUTS, SMPLX_144, KeypointLayout, LayoutInput, layouts_of_length
from ...keypoint_layouts import layout as find_layout
from .._files.json_file import read_json
from .bones import BONES, by_bones
from .proportions import is_no_person


def layout_argument(layout: LayoutInput | Path | None) -> KeypointLayout | None:
    """A layout from what a caller passes: a name, a table, or the `.json` file of a table.

    In the file a vertex is `{"vertex": 3500}` or `["vertex", 3500]`.
    """
    if layout is None:
        return None
    if isinstance(layout, Path) or (isinstance(layout, str) and layout.lower().endswith(".json")):
        path = Path(layout)
        table = read_json(path)
        if not isinstance(table, dict):
            raise ValueError(
                f"layout: expected an object of point to joint in {shown(path)}, got {type(table).__name__}."
            )
        return find_layout(
            {k: ("vertex", v["vertex"]) if isinstance(v, dict) and "vertex" in v else v for k, v in table.items()}
        )
    return find_layout(layout)


def choose_layout(
    points: Tensor, confidence: Tensor, asked: KeypointLayout | None, stored: str | None, path: Path,
    named: KeypointLayout | None = None,
) -> tuple[KeypointLayout, tuple[str, ...], bool]:  # fmt: skip
    """The layout of points (F, K, d), what to note, and whether only its number of points says that it is this one.

    Args:
        points: (F, K, d).
        confidence: (F, K).
        asked: what the caller passes.
        stored: what the file says. A name that is not known, or that has another number of points, decides nothing.
        path: of the file, for messages.
        named: the layout that the names of the points in the file make.

    Raises:
        ValueError: no layout of so many points, several that the values do not tell apart, or one that does not fit.
    """
    count = points.shape[1]
    said = find_layout(stored) if stored in LAYOUTS else None
    fits = said is not None and len(said) == count
    if said is not None and fits and asked is not None and asked.name not in (stored, "own"):
        raise ValueError(
            f"layout: expected {stored!r}, which {shown(path.name)} says, got {asked.name!r}; leave it out, or save the file "
            "with the layout that its points are in."
        )
    if stored is not None and not fits and asked is None and named is None:
        raise ValueError(_useless(printable(stored), said, count, path))
    chosen, notes = asked or said, list[str]()
    if named is not None:
        _check_names(named, asked, said if fits else None, count, path)
        if asked is not None and asked.name == "own" and asked != named:
            notes.append(f"not read: the names of the points of {shown(path.name)}, since a layout was passed")
        chosen = asked or named
    if asked is not None and stored not in (None, asked.name):
        notes.append(f"not read: layout {printable(str(stored))!r} of {shown(path.name)}, since another was passed")
    guessed = chosen is None
    if chosen is None:
        found = layouts_of_length(count)
        if set(found) == set(BONES):
            found = by_bones(points, confidence)
        if not found:
            raise ValueError(
                f"layout: expected one of {', '.join(LAYOUTS)}, got {count} points in {shown(path.name)}, which none of them "
                "has; pass a table of your own, layout={point: joint} (on the command line --layout table.json)."
            )
        if len(found) > 1:
            one_of = " or ".join(f"layout={name!r}" for name in found)
            raise ValueError(
                f"layout: expected one of {', '.join(found)} for the {count} points of {shown(path.name)}; its number of "
                f"points does not decide it: pass {one_of}, or your own table, layout={{point: joint}}."
            )
        chosen = find_layout(found[0])
    if len(chosen) != count:
        raise ValueError(
            f"layout: expected {len(chosen)} points for {chosen.name!r}, got {count} in {shown(path.name)}."
        )
    return chosen, tuple(notes), guessed


def order_doubts(points: Tensor, confidence: Tensor, layout: KeypointLayout, path: Path) -> tuple[str, ...]:
    """What to note of points (F, K, d), in pixels or metres, that make no person in a layout that only their number suggests.

    Several orders of 17 points are told apart by their bones before.
    """
    if len(layouts_of_length(len(layout))) > 1 or not is_no_person(points, confidence, layout):
        return ()
    return (
        f"no person has such bones: the {len(layout)} points of {shown(path.name)} were taken in the order of {layout.name!r}, "
        "the only layout of so many; if they are in another, pass your own table, layout={point: joint} (on the command line "
        f"--layout table.json), else layout={layout.name!r}",
    )


def _check_names(
    named: KeypointLayout, asked: KeypointLayout | None, said: KeypointLayout | None, count: int, path: Path
) -> None:
    """Refuse names of points that are not of these, or that contradict a layout, but for a table of the caller's own."""
    if asked is not None and asked.name == "own":
        return
    if len(named) != count:
        raise ValueError(
            f"layout: expected {count} names for the points of {shown(path.name)}, got {len(named)}; leave the names out of "
            "the file, or pass your own table, layout={point: joint}."
        )
    other = asked or said
    if other is None or len(other) != count:
        return
    for k, (one, two) in enumerate(zip(named.joints, other.joints, strict=True)):
        if one != two and one is not None and two is not None:
            what = "leave it out" if asked is not None else "leave one of them out of the file"
            raise ValueError(
                f"layout: expected point {k} to be {SMPLX_144[one]}, as the names of the points in {shown(path.name)} say, got "
                f"{SMPLX_144[two]} in {other.name!r}; {what}, or pass your own table, layout={{point: joint}}."
            )


def _useless(stored: str, said: KeypointLayout | None, count: int, path: Path) -> str:
    """The error for a layout in a file that is not known, or that has another number of points."""
    if said is not None:
        return (
            f"layout: expected {len(said)} points for {stored!r}, which {shown(path.name)} says, got {count}; pass layout= "
            "with that of the points, which then decides."
        )
    return (
        f"layout: expected one of {', '.join(LAYOUTS)}, got {stored!r} in {shown(path.name)}.{nearest(stored, LAYOUTS)} Pass "
        "layout= with that of the points, which then decides (on the command line --layout)."
    )
