"""Whether 3D points are mirrored: left-handed coordinates, or left and right named the other way round."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..keypoint_layouts import SMPLX_144

#: Frames that must show it, with a face among the points, and with feet alone, which turn oddly now and then.
_FEWEST, _FEWEST_OF_FEET = 5, 20
#: Feet and faces of people point forward: the median over a recording is about 0.7, and above 0 in 2,341 recordings; that
#: of its mirror image is the opposite. Of 2,700 clips of 20 frames, feet are below the second number in one.
_BACKWARD, _BACKWARD_OF_FEET = -0.3, -0.5


def refuse_mirrored(points: Tensor, confidence: Tensor, joints: tuple[int, ...]) -> None:
    """Refuse people of whom most face the other way than their feet and noses point.

    Forward is left x up, with up from hips to shoulders, and left from the right hip to the left one, or the shoulders. In
    each frame its cosines with ankle to toes of both feet, and with ears (or head) to nose or eyes, are averaged; without a
    face the larger one of both feet counts.

    Args:
        points, confidence: (B, K, 3) and (B, K).
        joints: of the first of the K points, indices into the joints of `smplx`.

    Raises:
        ValueError: a median below -0.3 over 5 frames or more; without a face, below -0.5 over 20 or more.
    """
    place = {SMPLX_144[joint]: k for k, joint in enumerate(joints)}
    missing = torch.full_like(points[:, 0], torch.nan)
    shown = torch.where(confidence[..., None] > 0, points, torch.nan)

    def mean(*names: str) -> Tensor:
        found = [shown[:, place[name]] for name in names if name in place]
        return torch.stack(found).nanmean(0) if found else missing

    def both(name: str) -> tuple[Tensor, Tensor]:
        return mean(f"left_{name}"), mean(f"right_{name}")

    hips, shoulders = both("hip"), both("shoulder")
    up = normalize(shoulders[0] + shoulders[1] - hips[0] - hips[1], dim=-1)
    across_hips, across_shoulders = (left - right for left, right in (hips, shoulders))
    cues = []
    for side in ("left", "right"):
        toes = mean(*(f"{side}_{name}" for name in ("foot", "big_toe", "small_toe")))
        cues.append(_cosine(toes - mean(f"{side}_ankle"), across_hips, up))
    ears = mean("left_ear", "right_ear")
    back = torch.where(torch.isfinite(ears), ears, mean("head"))
    face = mean("nose", "left_eye", "right_eye", "left_eye_smplhf", "right_eye_smplhf")
    cues.append(_cosine(face - back, across_shoulders, up))
    faces = bool(torch.isfinite(cues[-1]).any())
    cosines = torch.stack(cues).nanmean(0) if faces else torch.maximum(cues[0], cues[1])
    cosines = cosines[torch.isfinite(cosines)]
    fewest, backward = (_FEWEST, _BACKWARD) if faces else (_FEWEST_OF_FEET, _BACKWARD_OF_FEET)
    if len(cosines) >= fewest and float(cosines.median()) < backward:
        raise ValueError(
            f"points: expected right-handed coordinates, and left points on the person's left, got feet and faces that point "
            f"backward in {int((cosines < 0).sum())} of {len(cosines)} frames, as in left-handed coordinates (Unity, mirrored "
            "cameras) or with left and right swapped; mirror one axis (points * torch.tensor([-1.0, 1.0, 1.0])), or swap the "
            "left and right points."
        )


def _cosine(direction: Tensor, across: Tensor, up: Tensor) -> Tensor:
    """(B,) of a direction (B, 3) with forward; NaN where a point is missing."""
    return (normalize(direction, dim=-1) * normalize(torch.linalg.cross(across, up), dim=-1)).sum(-1)
