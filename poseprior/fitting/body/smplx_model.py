"""SMPL-X models of the smplx package, from a folder of model files or of the stand-in body."""

from __future__ import annotations

import os
import tempfile

from torch import nn

from ..._text import first_line
from .stand_in import stand_in_body


def load_smplx(
    folder: str | os.PathLike[str] | None = None, *, gender: str = "neutral", argument: str = "model"
) -> nn.Module:
    """A model whose hands are rotations on the flat hand, as poses of this library hold them.

    Args:
        folder: for `smplx.create` (`models`, for `models/smplx/SMPLX_NEUTRAL.npz`); None for the stand-in body.
        gender: which of the folder's models; the stand-in body is neutral.
        argument: the name under which the caller was given the folder, for messages.

    Raises:
        ValueError: no smplx package, no such model in the folder, or another gender of the stand-in body.
    """
    try:
        import smplx
    except ModuleNotFoundError as error:
        raise ValueError(f'{argument}: expected the smplx package; run: pip install "poseprior[fitting]".') from error
    if folder is None and gender != "neutral":
        raise ValueError(
            f"gender: expected neutral for the stand-in body, got {gender}; give the folder of your own model files."
        )
    with tempfile.TemporaryDirectory() as temporary:
        place = stand_in_body(temporary) if folder is None else folder
        try:
            model: nn.Module = smplx.create(
                os.fspath(place), model_type="smplx", use_pca=False, flat_hand_mean=True, gender=gender
            )
        except Exception as error:  # of as many kinds as there are files that are no model
            raise ValueError(
                f"{argument}: expected a folder that smplx.create loads (smplx/SMPLX_{gender.upper()}.npz in it), got "
                f"{os.fspath(place)} ({first_line(error)})."
            ) from None
    return model
