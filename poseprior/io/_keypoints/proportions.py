"""Whether points in the order of a layout make a person: the lengths of their bones."""

from __future__ import annotations

import torch
from torch import Tensor

from ...keypoint_layouts import SMPLX_144, KeypointLayout
from .sizes import seen_points

#: Where points are on a person who stands with the arms down, centimetres from the pelvis: to the left, up, forwards. The right
#: side is the mirror image.
_PLACES = {
    "pelvis": (0, 0, 0), "left_hip": (8, -9, -1), "left_knee": (12, -47, -2), "left_ankle": (8, -87, -5),
    "left_foot": (12, -92, 7), "left_big_toe": (11, -94, 15), "left_heel": (8, -94, -11), "spine1": (0, 11, -2),
    "spine2": (0, 24, -2), "spine3": (0, 29, 0), "neck": (0, 46, -3), "head": (0, 59, -1), "left_shoulder": (16, 43, -2),
    "left_elbow": (21, 17, -6), "left_wrist": (33, -6, -7), "left_index1": (36, -15, -4), "left_middle1": (37, -16, -7),
    "left_pinky1": (35, -14, -11), "nose": (0, 62, 11), "left_eye": (3, 66, 8), "left_ear": (8, 64, -2),
    "face_0": (-6, 63, 2), "face_16": (6, 63, 2), "face_8": (0, 54, 8), "face_27": (0, 66, 9), "face_36": (-5, 65, 6),
    "face_45": (5, 65, 6), "face_48": (-2, 59, 8), "face_54": (2, 59, 8),
}  # fmt: skip
#: Bones between them, and other pairs whose distance hardly changes. A side that is left out is both.
_SIDED = (
    ("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"), ("wrist", "index1"),
    ("wrist", "middle1"), ("wrist", "pinky1"), ("ankle", "big_toe"), ("heel", "big_toe"), ("ankle", "foot"),
    ("ankle", "heel"), ("nose", "ear"), ("nose", "eye"), ("eye", "ear"), ("shoulder", "ear"), ("neck", "shoulder"),
    ("neck", "ear"),
)  # fmt: skip
_MIDDLE = (
    ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"), ("pelvis", "neck"), ("nose", "neck"), ("spine3", "neck"),
    ("neck", "head"), ("spine1", "spine2"), ("pelvis", "spine1"), ("left_ear", "right_ear"), ("left_eye", "right_eye"),
    ("face_0", "face_16"), ("face_8", "face_27"), ("face_36", "face_45"), ("face_48", "face_54"),
)  # fmt: skip
#: Bones that must be seen, and the part of the layout's bones: fewer say too little.
_FEWEST, _PART, _PART_OF_FEW = 12, 0.5, 0.75
#: Below so many frames a wrong detection weighs more, and bounds are wider.
_FEW = 5
#: Points of less than this part of the largest confidence are guesses, of legs outside of the image say.
_SURE = 0.5
#: Frames to look at, spread over the file.
_FRAMES = 100
#: Places nearer than this, centimetres, say little of how far points are apart.
_NEAR = 10.0
# Measured on 4,296 recorded poses of two data sets in the 13 layouts that their number of points decides, with noise of 1 % of
# the person, up to 60 % of the points missing, halves of people, one point in 20 anywhere, and in 2D views of every side from
# 80 degrees below to 80 above: of 68,250 files of 1, 2 and 8 frames in 3D none is noted, in 2D one (of 2 frames). Of random
# orders are noted: in 8 frames 82 to 100 % in 3D and 91 to 100 % in 2D (33 to 38 % of 22 and 24 points), in one frame 48 to
# 88 % and 48 to 88 % (7 to 11 %); of a Kinect's 25 joints 97 % and 73 % in 8 frames, 67 % and 20 % in one; of 70 points of
# faces 100 % and 94 %, 78 % and 31 %.
#: No person beyond both: in 2D the 0.65 quantile and the median of the lengths of bones, in 3D their spread and the median.
_BOUNDS = {2: (3.2, 1.8), 3: (0.4, 1.6)}
_BOUNDS_OF_FEW = {2: (3.9, 2.0), 3: (0.45, 1.8)}


def is_no_person(points: Tensor, confidence: Tensor, layout: KeypointLayout) -> bool:
    """Whether points (F, K, 2 or 3), taken for this layout, clearly have no person's proportions.

    Each bone's length is taken over its usual length, and over how far all points are apart, over their usual distances: 1 is
    a person who stands in the plane of the image. In a wrong order points are far apart that should be near, so that bones
    are longer. In 3D they differ more, too: their spread is the median of |log(length / that of the middle bone)|. In 2D it
    says little, since bones are foreshortened. All are quantiles, which a few wrong detections do not move much.
    """
    index, places, first, second = _bones(layout)
    dimensions = points.shape[-1]
    frames = torch.linspace(0, len(points) - 1, min(len(points), _FRAMES)).round().long()
    points, confidence = points[frames][:, index].double(), confidence[frames][:, index]
    seen = seen_points(points, confidence) & (confidence >= _SURE * confidence.max())
    points = torch.where(seen[..., None], points, 0.0)
    both, pairs = seen[:, first] & seen[:, second], seen[:, :, None] & seen[:, None]
    few = int((both.sum(1) >= _FEWEST).sum()) < _FEW
    shown, usual = both.any(0), torch.cdist(places, places)
    if int(shown.sum()) < max(_FEWEST, (_PART_OF_FEW if few else _PART) * len(first)):
        return False
    apart = torch.cdist(points, points)
    lengths = (_median(apart[:, first, second], both) / usual[first, second])[shown]
    between = (_median(apart, pairs) / usual)[pairs.any(0) & (usual > _NEAR)]
    lengths = (lengths / between.median().clamp_min(1e-9)).clamp_min(1e-9)
    middle = lengths.median()
    high = lengths.quantile(0.65) if dimensions == 2 else (lengths / middle).log().abs().median()
    most, most_middle = (_BOUNDS_OF_FEW if few else _BOUNDS)[dimensions]
    return float(high) > most and float(middle) > most_middle


def _median(values: Tensor, seen: Tensor) -> Tensor:
    """Over frames, of those that are seen; NaN where none is."""
    return torch.where(seen, values, torch.nan).nanmedian(0).values


def _bones(layout: KeypointLayout) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a layout: the points that have a place (N,), these places (N, 3), and the ends of each bone among them."""
    index: dict[str, int] = {}
    for k, joint in enumerate(layout.joints):
        if joint is not None and place_of(SMPLX_144[joint]) is not None:
            index.setdefault(SMPLX_144[joint], k)
    number = {name: k for k, name in enumerate(index)}
    pairs = [*_MIDDLE, *((_on(side, a), _on(side, b)) for side in ("left", "right") for a, b in _SIDED)]
    first, second = zip(*((number[a], number[b]) for a, b in pairs if a in number and b in number), strict=True)
    places = torch.tensor([place_of(name) for name in index], dtype=torch.float64)
    return torch.tensor(list(index.values())), places, torch.tensor(first), torch.tensor(second)


def _on(side: str, name: str) -> str:
    return name if name in _PLACES else f"{side}_{name}"


def place_of(name: str) -> tuple[int, int, int] | None:
    """Where a joint of `SMPLX_144` is on a person who stands: centimetres to the left, up and forwards of the pelvis."""
    if not name.startswith("right_"):
        return _PLACES.get(name)
    mirrored = _PLACES.get("left_" + name.removeprefix("right_"))
    return None if mirrored is None else (-mirrored[0], *mirrored[1:])
