"""What several commands share."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import _text
from .._checks import check_ending, check_whole, nearest
from ._busy import busy

if TYPE_CHECKING:  # torch is imported where it is used, so that --help needs none
    import torch

    from ..io import PoseDataset
    from ..prior import PosePrior

#: The package that writes a kind of file, and the extra that installs it.
_NEEDS = {
    ".png": ("matplotlib", "viz"), ".html": ("trimesh", "viz"), ".obj": ("trimesh", "viz"), ".ply": ("trimesh", "viz"),
    ".glb": ("trimesh", "viz"),
}  # fmt: skip
#: Notes of the reader that a command prints.
_MOST_NOTES = 8
#: Arguments of `read_poses` as its messages name them; commands have no options for them.
_OF_THE_READER = re.compile(
    r"\b(layout|rotations|ignore|side|model_type|group|hands_components|hands_mean|flat_hand_mean|num_pca_comps|"
    r"constant_parts_unobserved)="
)


def load_prior(name: str, device: str = "cpu", *, flag: str = "PRIOR") -> PosePrior:
    """The prior of an argument; what is wrong with it is said under the argument's name."""
    from ..pretrained.loading import load

    with said_of(flag):
        return load(name, device=device)


def require_package(flag: str, package: str, extra: str) -> None:
    """Refuse an option before any work is done, where the package that it needs is not installed."""
    try:
        found = importlib.util.find_spec(package) is not None
    except ImportError:
        found = False
    if not found:
        raise ValueError(f'{flag} needs {package}, which is not installed; run: pip install "poseprior[{extra}]"')


def held_out(path: Path) -> PoseDataset:
    """The poses of `--data`: of a file; of a folder its test split, else its val split, else all."""
    from ..io import read_poses, read_split

    with reading(path, "--data"), busy(f"reading {escaped(str(path))}"):
        if path.is_dir():
            splits = read_split(path)
            data = splits.get("test") or splits.get("val") or read_poses(path)
        else:
            data = read_poses(path)
    say_notes(data)
    return data


def all_of(path: Path, *, flag: str = "--data") -> PoseDataset:
    """All poses of a file or a folder."""
    from ..io import read_poses

    with reading(path, flag), busy(f"reading {escaped(str(path))}"):
        data = read_poses(path)
    say_notes(data)
    return data


def escaped(text: str) -> str:
    """What a command prints, with names of files in it: lines end, and no other control character is obeyed."""
    return _text.escaped(text, keep="\n")


def say_notes(*sets: PoseDataset) -> None:
    """Print what was decided in reading some data sets, and the arrays that look like rotations and were not read."""
    notes = list(dict.fromkeys(note for data in sets for note in data.notes))
    ignored = list(dict.fromkeys(name for data in sets for name in data.ignored))
    if ignored:
        notes.append(f"not read: {', '.join(ignored[:_MOST_NOTES])}{', ...' if len(ignored) > _MOST_NOTES else ''}")
    for note in notes[:_MOST_NOTES]:
        print(f"reading: {escaped(note)}")
    if len(notes) > _MOST_NOTES:
        print(f"reading: {len(notes) - _MOST_NOTES} more notes (poseprior.read_poses(...).notes)")


@contextlib.contextmanager
def reading(path: Path, argument: str) -> Iterator[None]:
    """What is wrong with a file of poses is said of an argument, and how options that commands lack are given in Python."""
    try:
        with said_of(argument):
            yield
    except ValueError as error:
        if not _OF_THE_READER.search(str(error)):
            raise
        raise ValueError(
            f"{error}\nCommands have no such options. In Python, write a file that needs none:\n"
            "from poseprior.io import read_poses, write_poses\n"
            f"write_poses('read.npz', read_poses({str(path)!r}, ...))  # the options in place of the dots"
        ) from None


@contextlib.contextmanager
def said_of(argument: str, *names: str) -> Iterator[None]:
    """What is wrong with a path, or with one of the library's arguments `names`, is said of the command line's argument."""
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(": ")
        if colon and name in (names or ("path", "folder")):
            raise ValueError(f"{argument}: {rest}") from None
        raise


def generator(seed: int, device: torch.device) -> torch.Generator:
    """A source of randomness on the device, from `--seed`."""
    import torch

    check_whole("--seed", seed)
    return torch.Generator(device=device).manual_seed(seed)


def check_suffix(flag: str, path: Path | None, *allowed: str) -> None:
    """Refuse an output of a kind that is not written, or where nothing can be written, before any work is done."""
    from ..io.atomic import require_writable

    if path is None:
        return
    check_ending(flag, path, *allowed)
    if path.suffix.lower() in _NEEDS:
        require_package(flag, *_NEEDS[path.suffix.lower()])
    with said_of(flag):
        require_writable(path)


def hidden_joints(names: str) -> tuple[int, ...]:
    """The joints of `--hide`: parts that are hidden in evaluations, joint sets and joint names, with commas between them."""
    from .. import skeleton
    from ..evaluation.completion import COMPLETION_PATTERNS

    joints: list[int] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        try:
            joints += COMPLETION_PATTERNS.get(name) or skeleton.resolve_joints(name)
        except ValueError:
            known = (*COMPLETION_PATTERNS, *skeleton.JOINT_SETS, *skeleton.JOINT_NAMES)
            raise ValueError(
                f"--hide: expected {', '.join(COMPLETION_PATTERNS)}, a joint set ({', '.join(skeleton.JOINT_SETS)}) or joint "
                f"names, with commas between them, got {name!r}.{nearest(name, known)}"
            ) from None
    return tuple(dict.fromkeys(joints))
