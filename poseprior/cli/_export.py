"""`poseprior export`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ._busy import busy
from ._common import check_suffix, hidden_joints, load_prior, require_package
from ._parse import Prior


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a prior as ONNX, for onnxruntime on servers, phones and in browsers; every file is checked against it."""

    prior: Prior
    onnx: Path
    """The .onnx to write; several functions go into several files, with their names before the suffix."""
    what: tuple[Literal["log_prob", "grad", "sample", "decode", "complete"], ...] = ("log_prob",)
    """log_prob; grad: log_prob and its gradient; sample and complete: poses of noise; decode: poses of latents."""
    hide: str = ""
    """What complete draws: left_arm, right_arm, legs, trunk, a joint set, or joint names with commas."""

    def run(self) -> None:
        from ..export import export_onnx

        check_suffix("--onnx", self.onnx, ".onnx")
        for package in ("onnx", "onnxscript", "onnxruntime"):
            require_package("--onnx", package, "onnx")
        if bool(self.hide) != ("complete" in self.what):
            raise ValueError("--hide: expected joints with --what complete, and only then; as --hide left_arm.")
        hide = hidden_joints(self.hide)
        # torch's exporter warns of torchvision, which no prior needs.
        logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
        prior = load_prior(self.prior)
        with busy(f"writing {self.onnx}"):
            files = export_onnx(prior, self.onnx, what=self.what, hide=hide)
        for name, path in files.items():
            print(f"{name}: {path}")
