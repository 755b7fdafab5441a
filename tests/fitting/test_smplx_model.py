"""Body models of the smplx package: hands on the flat hand, and one line for what is no model."""

from __future__ import annotations

from pathlib import Path

import pytest

from poseprior.fitting import stand_in_body
from poseprior.fitting.body.smplx_model import load_smplx

smplx = pytest.importorskip("smplx")


def test_the_stand_in_body_and_a_folder_of_it(tmp_path: Path) -> None:
    for model in (load_smplx(), load_smplx(stand_in_body(tmp_path))):
        assert isinstance(model, smplx.SMPLX)
        assert model.flat_hand_mean and not model.use_pca
    with pytest.raises(ValueError, match="gender: expected neutral for the stand-in body, got male"):
        load_smplx(gender="male")


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "smplx").mkdir()
    for write in (lambda path: None, lambda path: path.write_bytes(b"no model" * 50)):
        write(tmp_path / "smplx" / "SMPLX_FEMALE.npz")
        with pytest.raises(ValueError, match=r"a folder .* \(smplx/SMPLX_FEMALE.npz in it\), got") as raised:
            load_smplx(tmp_path, gender="female")
        assert "\n" not in str(raised.value)
