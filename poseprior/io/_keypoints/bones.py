"""The order of 17 points by their bones: COCO's, Human3.6M's, or neither that is sure."""

from __future__ import annotations

import torch
from torch import Tensor

#: Bones of the two orders.
BONES = {
    "coco_17": ((0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12),
                (11, 13), (13, 15), (12, 14), (14, 16)),
    "h36m_17": ((0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9), (9, 10), (8, 11), (11, 12),
                (12, 13), (8, 14), (14, 15), (15, 16)),
}  # fmt: skip
#: Their usual lengths, metres; those of a face with a little more, since noise lengthens short bones most.
_USUAL = {
    "coco_17": (0.1, 0.1, 0.13, 0.13, 0.34, 0.27, 0.25, 0.27, 0.25, 0.49, 0.49, 0.2, 0.39, 0.4, 0.39, 0.4),
    "h36m_17": (0.13, 0.39, 0.4, 0.13, 0.39, 0.4, 0.23, 0.23, 0.11, 0.21, 0.18, 0.27, 0.25, 0.18, 0.27, 0.25),
}
#: Bones of Human3.6M's order against those of COCO's: 0.38 to 0.67 for its people, 0.73 to 1.9 for COCO's.
_H36M_BELOW, _COCO_ABOVE = 0.62, 0.7
#: The longest bone against the middle one, both over their usual lengths: seldom more in the right order, seldom less in another.
_LONGEST = 1.75
#: Bones of each order that must be seen.
_FEWEST = 8


def by_bones(points: Tensor, confidence: Tensor) -> tuple[str, ...]:
    """The one of the orders in which points (F, 17, d) make the bones that people have, else both."""
    means, fits = {}, {}
    for name, bones in BONES.items():
        first, second = torch.tensor(bones).T
        length = (points[:, first] - points[:, second]).norm(dim=-1)
        seen = (confidence[:, first] > 0) & (confidence[:, second] > 0) & torch.isfinite(length)
        shown = seen.any(0)
        if int(shown.sum()) < _FEWEST:
            return tuple(BONES)
        means[name] = float(length[seen].mean())
        mean = (torch.where(seen, length, 0.0).sum(0) / seen.sum(0).clamp_min(1))[shown]
        share = mean / points.new_tensor(_USUAL[name])[shown]
        fits[name] = float(share.max()) <= _LONGEST * float(share.median())
    ratio = means["h36m_17"] / max(means["coco_17"], 1e-12)
    plausible = [name for name in BONES if fits[name]]
    if plausible == ["h36m_17"] and ratio < _H36M_BELOW:
        return ("h36m_17",)
    return ("coco_17",) if plausible == ["coco_17"] and ratio > _COCO_ABOVE else tuple(BONES)
