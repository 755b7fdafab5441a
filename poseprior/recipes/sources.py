"""Where recordings come from, and the notices that weights trained on them carry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_LICENCES = Path(__file__).resolve().parents[1] / "pretrained" / "licenses"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Recordings that a shipped prior was trained on.

    Attributes:
        title: what and whose.
        licence: in a few words.
        notice_file: text beside the shipped weights that must stay with them.
        train_digest: `PoseDataset.digest()` of the train split: what tells these recordings from a user's own.
    """

    title: str
    licence: str
    notice_file: str
    train_digest: str

    def notice(self) -> str:
        """The text of the notice."""
        return (_LICENCES / self.notice_file).read_text()


#: By the name of the data's subfolder.
SOURCES: dict[str, Source] = {
    "body": Source(
        title="CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu (created with funding from NSF EIA-0196217); "
        "UI-PRMD, Vakanski et al., Data 2018, 3(1), 2",
        licence="CMU: free for all uses; the recordings themselves may not be sold; acknowledge. UI-PRMD: public domain "
        "(PDDL 1.0)",
        notice_file="cmu-mocap.txt",
        train_digest="cad4753120013ae7a1420d10714911ecc881a7f5af18a47ff2a31155ab9c2d0b",
    ),
    "hands": Source(
        title="Thai Sign Language Recognition with Leap Motion, Pakpoom Thaweesitthichat, 2017",
        licence="BSD-3-Clause; keep the notice",
        notice_file="thai-leap-BSD-3-Clause.txt",
        train_digest="f34d8d6a5e9eb16ea549a3e624b28e2930c35c2a2ac9d4a2230fe93667d47325",
    ),
}
