"""Which part a person's poses belong to: train, val or test.

The sub-datasets held out are those of VPoser (https://github.com/nghorbani/human_body_prior), which most work on AMASS
follows: HumanEva, MPI_HDM05, SFU and MPI_mosh select, Transitions_mocap and SSM_synced test, and train is all else. Later
releases renamed some of them; both names are known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")

#: Name of each sub-dataset of AMASS, without case and signs, and the part it is in.
AMASS: dict[str, Part] = {
    **dict.fromkeys(("humaneva", "mpihdm05", "hdm05", "sfu", "mpimosh", "mosh"), "val"),
    **dict.fromkeys(("transitionsmocap", "transitions", "ssmsynced", "ssm"), "test"),
    **dict.fromkeys(
        (
            "accad", "biomotionlabntroje", "bmlrub", "bml", "bmlhandball", "bmlmovi", "cmu", "cnrs", "dancedb", "dfaust67",
            "dfaust", "ekut", "eyesjapandataset", "grab", "human4d", "kit", "mpilimits", "poseprior", "soma", "tcdhandmocap",
            "tcdhands", "totalcapture", "weizmann", "moyo",
        ),
        "train",
    ),
}  # fmt: skip


def plain(name: str) -> str:
    """A name without case and signs."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def part_of_source(source: str) -> Part:
    """The part of a sub-dataset of AMASS; those that are not listed are train."""
    return AMASS.get(plain(source), "train")


def part_of_person(person: str, fractions: Sequence[float], seed: int) -> Part:
    """The part of a person, by a hash of the name: the same whoever else there is."""
    digest = hashlib.sha256(f"{seed}:{person}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for part, share in zip(PARTS, fractions, strict=True):
        if place < share:
            return part
        place -= share
    return "train"
