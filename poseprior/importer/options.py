"""What an import does with the recordings of a tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .._checks import check_choice, check_effect, check_number, check_text, check_whole

#: Options that may differ between an import and its resumption: they choose among rows that are on disk.
FREE_OPTIONS = ("cap",)
_FRACTIONS = (0.8, 0.1, 0.1)


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Which frames of which recordings are kept, and in which part.

    Attributes:
        fps: keep at most so many frames a second; None keeps all.
        source_fps: frame rate of recordings that do not say. Without it they are skipped where `fps` needs one.
        trim: share of a recording that is left out at its start, and at its end (calibration poses and T-poses).
        thin: degrees; a frame in which no joint turned by more since the last one kept is left out. 0 keeps all.
        split: "amass", the sub-datasets that VPoser's authors hold out (`poseprior.importer.splits`); "person", by a hash
            of the person's name and `fractions`; "none", all is train.
        fractions: expected shares of the people in train, val and test, for "person".
        cap: most training poses of one source (a sub-dataset); a random subset counts, the rest stays on disk. None for
            no cap.
        context: name of an array of the files to keep as the context, see `read_poses`.
        model_type, constant_parts_unobserved: as in `read_poses`.
        seed: of the frames that `fps` keeps, the people of "person", and the subsets of `cap`.

    Raises:
        ValueError: a value of another type or out of range.
    """

    fps: float | None = 30.0
    source_fps: float | None = None
    trim: float = 0.1
    thin: float = 1.5
    split: Literal["amass", "person", "none"] = "amass"
    fractions: Sequence[float] = _FRACTIONS
    cap: int | None = None
    context: str | None = None
    model_type: str | None = None
    constant_parts_unobserved: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("fps", "source_fps"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), above=0.0)
        check_number("trim", self.trim, least=0.0, below=0.5)
        check_number("thin", self.thin, least=0.0, most=180.0)
        check_choice("split", self.split, ("amass", "person", "none"))
        for share in self.fractions:
            check_number("fractions", share, least=0.0, most=1.0)
        if len(self.fractions) != 3 or abs(sum(self.fractions) - 1.0) > 1e-6:
            raise ValueError(
                f"fractions: expected the shares of train, val and test, which sum to 1, got {tuple(self.fractions)}."
            )
        if self.split != "person":
            check_effect("fractions", tuple(self.fractions), _FRACTIONS, f"split={self.split!r}", "split='person'")
        if self.cap is not None:
            check_whole("cap", self.cap, least=1)
        for name in ("context", "model_type"):
            if getattr(self, name) is not None:
                check_text(name, getattr(self, name))
        check_whole("seed", self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it."""
        return {**asdict(self), "fractions": list(self.fractions)}
