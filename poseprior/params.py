"""Poses in other people's layouts to and from `(*, 55, 3)`: SMPL-X keywords, 53 joints, SMPL-H, SMPL and flat vectors.

Every `pose_from_*` returns the pose and the mask (*, 55) of the joints that the layout holds; every `pose_to_*` takes a
pose. All are differentiable, take any batch shape, and keep dtype and device. Nothing is wrapped or clipped.

Hands are full rotations relative to the flat hand. smplx stores them in two more ways, and both need the model's own
arrays, which are never guessed: relative to a mean hand (`flat_hand_mean=False`), and as `num_pca_comps` coefficients
of `hands_components` (`use_pca=True`):  hand = coefficients @ components[:n] + (0 or mean).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ._checks import check_effect, check_floating
from ._hands import HandSpace
from .skeleton import NUM_JOINTS, PART_SLICES

#: SMPL-X index of each joint of a layout.
JOINTS_53: tuple[int, ...] = (*range(23), *range(25, 55))
JOINTS_SMPLH: tuple[int, ...] = (*range(22), *range(25, 55))
JOINTS_SMPL: tuple[int, ...] = tuple(range(22))

#: Length of a flat vector -> (joints stored, SMPL-X index of the leading ones).
VECTOR_LAYOUTS: dict[int, tuple[int, tuple[int, ...]]] = {
    165: (55, tuple(range(NUM_JOINTS))),
    159: (53, JOINTS_53),
    156: (52, JOINTS_SMPLH),
    72: (24, JOINTS_SMPL),
}
_HANDS = ("left_hand_pose", "right_hand_pose")
_Pair = tuple[Tensor, Tensor]


def pose_from_smplx(
    params: Mapping[str, Tensor | None],
    *,
    hands_components: _Pair | None = None,
    hands_mean: _Pair | None = None,
    flat_hand_mean: bool | None = None,
    num_pca_comps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Pose and observed from the keyword arguments of an SMPL-X model.

    Args:
        params: any of `global_orient`, `body_pose`, `jaw_pose`, `leye_pose`, `reye_pose`, `left_hand_pose`,
            `right_hand_pose`, each (*batch, J * 3) or (*batch, J, 3), radians, batches that broadcast. What is absent
            or None is unobserved and zero. `betas`, `transl`, `expression` and the like are ignored.
        hands_components: (left, right), each (n or 45, 45): `hands_components` of the model file.
        hands_mean: (left, right), each (45,): `hands_mean` of the model file.
        flat_hand_mean: False when the hands are relative to `hands_mean`, which is then added; True, without
            `hands_mean`, when they are relative to the flat hand. None means True for hands given as 45 numbers without
            `hands_mean`, False with it; PCA hands must say.
        num_pca_comps: number of PCA coefficients. Only needed where rotations look the same: for 45 of them, or 3 of a
            batch of 15.

    Returns:
        Pose (*batch, 55, 3) and observed (*batch, 55) bool.

    Raises:
        ValueError: no pose parameter or an unknown one, a wrong size, or PCA hands without components.

    >>> pose, observed = pose_from_smplx({"body_pose": torch.zeros(2, 63)})
    >>> pose.shape, int(observed[0].sum())
    (torch.Size([2, 55, 3]), 21)
    """
    if not isinstance(params, Mapping):
        raise ValueError(f"params: expected the keyword dict of smplx, got {type(params).__name__}.")
    given = {name: value for name, value in params.items() if value is not None and name in PART_SLICES}
    if params.get("pose2rot") is False:
        raise ValueError(
            "params: expected rotvecs (pose2rot=True), got pose2rot=False; convert rotation matrices first."
        )
    switches = ("pose2rot", "return_full_pose")
    unknown = [n for n in params if n not in (*PART_SLICES, *switches) and ("pose" in n or "orient" in n)]
    if unknown or not given:
        what = f"unknown names {unknown}" if unknown else f"none of them in {sorted(params)}"
        raise ValueError(f"params: expected some of {', '.join(PART_SLICES)}, got {what}; rename the keys.")
    for name, value in given.items():
        check_floating(name, value)
    hands = HandSpace(hands_components, hands_mean, flat_hand_mean, num_pca_comps)
    parts: dict[str, Tensor] = {}
    single: dict[str, Tensor] = {}
    for name, value in given.items():
        if name in _HANDS:
            parts[name] = hands.to_rotvec(name, value, _HANDS.index(name))
        elif PART_SLICES[name].stop - PART_SLICES[name].start == 1:
            single[name] = value
        else:
            parts[name] = _joints(name, value, 21)
    ranks = {part.dim() for part in parts.values()}
    for name, value in single.items():
        parts[name] = _one_joint(name, value, max(ranks) if ranks else None)
    return _assemble(parts)


def pose_to_smplx(
    pose: Tensor,
    *,
    flat: bool = True,
    hands_components: _Pair | None = None,
    hands_mean: _Pair | None = None,
    flat_hand_mean: bool | None = None,
    num_pca_comps: int | None = None,
) -> dict[str, Tensor]:
    """Keyword arguments of an SMPL-X model from a pose (*batch, 55, 3).

    Args:
        pose: (*batch, 55, 3) rotvecs, radians.
        flat: (*batch, J * 3) values, else (*batch, J, 3).
        hands_components, hands_mean, flat_hand_mean: as in `pose_from_smplx`; components with `num_pca_comps` alone.
        num_pca_comps: write hands as this many coefficients, the least-squares projection onto the first components.
            Lossy unless the hand lies in their span: the other directions are lost.

    Returns:
        The seven parameters by name.
    """
    _check_pose(pose)
    hands = HandSpace(hands_components, hands_mean, flat_hand_mean, num_pca_comps)
    if num_pca_comps is None:
        check_effect("hands_components", hands_components, None, "num_pca_comps=None", "num_pca_comps")
    params = {}
    for name, part in PART_SLICES.items():
        value = pose[..., part, :]
        if name in _HANDS:
            params[name] = hands.from_rotvec(value, _HANDS.index(name), flat)
        else:
            params[name] = value.flatten(-2) if flat else value
    return params


def pose_from_joints53(joints: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """From (*, 53, 3) or (*, 159): root, 21 body joints, jaw, 15 left and 15 right hand joints. No eyes.

    Args:
        joints: rotvecs, radians.
        observed: (*, 53) bool, None for all.

    Returns:
        Pose (*, 55, 3) with zero eyes, and observed (*, 55) with unobserved eyes.
    """
    return _spread(joints, observed, 159)


def pose_to_joints53(pose: Tensor) -> Tensor:
    """(*, 55, 3) to (*, 53, 3): the eyes are dropped. Masks: `observed[..., JOINTS_53]`."""
    return pose_to_vector(pose, 159).unflatten(-1, (53, 3))


def pose_from_smplh(joints: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """From SMPL-H (*, 52, 3) or (*, 156): root, 21 body, 15 left and 15 right hand joints. Jaw and eyes unobserved."""
    return _spread(joints, observed, 156)


def pose_to_smplh(pose: Tensor) -> Tensor:
    """(*, 55, 3) to SMPL-H (*, 52, 3): jaw and eyes are dropped. Masks: `observed[..., JOINTS_SMPLH]`."""
    return pose_to_vector(pose, 156).unflatten(-1, (52, 3))


def pose_from_smpl(joints: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """From SMPL (*, 24, 3) or (*, 72). Its joints 22 and 23 are whole hands, which SMPL-X lacks: they are dropped."""
    return _spread(joints, observed, 72)


def pose_to_smpl(pose: Tensor) -> Tensor:
    """(*, 55, 3) to SMPL (*, 24, 3) with its two hand joints zero; jaw, eyes and fingers are dropped."""
    return pose_to_vector(pose, 72).unflatten(-1, (24, 3))


def pose_from_vector(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Pose (*, 55, 3) and observed (*, 55) from a flat vector (*, D), by its length.

    D is 165 (SMPL-X), 159 (53 joints), 156 (SMPL-H) or 72 (SMPL); any other is a ValueError.
    """
    check_floating("vector", vector, "(*, D)")
    _check_length(vector.shape[-1] if vector.dim() else 0)
    return _spread(vector, None, vector.shape[-1])


def pose_to_vector(pose: Tensor, length: int = 165) -> Tensor:
    """Flat vector (*, length) from a pose (*, 55, 3); `length` is one of 165, 159, 156, 72."""
    _check_pose(pose)
    _check_length(length)
    count, index = VECTOR_LAYOUTS[length]
    joints = pose[..., list(index), :]
    if count > len(index):
        joints = torch.cat([joints, joints.new_zeros(*joints.shape[:-2], count - len(index), 3)], -2)
    return joints.flatten(-2)


def _spread(joints: Tensor, observed: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Put the joints of a layout at their SMPL-X indices."""
    count, index = VECTOR_LAYOUTS[length]
    check_floating("joints", joints, f"(*, {count}, 3)")
    value = _joints("joints", joints, count)[..., : len(index), :]
    pose = value.new_zeros(*value.shape[:-2], NUM_JOINTS, 3)
    pose[..., list(index), :] = value
    mask = torch.zeros(pose.shape[:-1], dtype=torch.bool, device=pose.device)
    if observed is None:
        mask[..., list(index)] = True
    else:
        seen = torch.as_tensor(observed, device=mask.device)
        try:
            seen = seen.expand(*mask.shape[:-1], count)
        except RuntimeError:
            raise ValueError(
                f"observed: expected {(*mask.shape[:-1], count)} to match joints, got {tuple(seen.shape)}."
            ) from None
        mask[..., list(index)] = seen[..., : len(index)].bool()
        pose = torch.where(mask[..., None], pose, torch.zeros_like(pose))
    return pose, mask


def _assemble(parts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    try:
        batch = torch.broadcast_shapes(*(part.shape[:-2] for part in parts.values()))
    except RuntimeError:
        shapes = {name: tuple(part.shape[:-2]) for name, part in parts.items()}
        raise ValueError(f"params: expected batch shapes that broadcast, got {shapes}.") from None
    first = next(iter(parts.values()))
    pieces, flags = [], []
    for name, part in PART_SLICES.items():
        count = part.stop - part.start
        value = parts.get(name)
        pieces.append(first.new_zeros(*batch, count, 3) if value is None else value.expand(*batch, count, 3))
        flags.extend([value is not None] * count)
    mask = torch.tensor(flags, device=first.device).expand(*batch, NUM_JOINTS)
    return torch.cat(pieces, -2), mask.clone()


def _joints(name: str, value: Tensor, count: int) -> Tensor:
    """(*, count * 3) or (*, count, 3) to (*, count, 3)."""
    if value.shape[-2:] == (count, 3):
        return value
    if value.dim() and value.shape[-1] == count * 3:
        return value.unflatten(-1, (count, 3))
    raise ValueError(f"{name}: expected (*, {count * 3}) or (*, {count}, 3), got {tuple(value.shape)}.")


def _one_joint(name: str, value: Tensor, rank: int | None) -> Tensor:
    """(*, 3) or (*, 1, 3) to (*, 1, 3). (1, 3) can be either: the `rank` of the other parts decides, else a batch."""
    if not value.dim() or value.shape[-1] != 3:
        raise ValueError(f"{name}: expected (*, 3) or (*, 1, 3), got {tuple(value.shape)}.")
    joint_axis = value.shape[-2:] == (1, 3) and (value.dim() == rank if rank is not None else value.dim() > 2)
    return value if joint_axis else value.unsqueeze(-2)


def _check_pose(pose: Tensor) -> None:
    check_floating("pose", pose, f"(*, {NUM_JOINTS}, 3)")
    if pose.shape[-2:] != (NUM_JOINTS, 3):
        raise ValueError(
            f"pose: expected (*, {NUM_JOINTS}, 3), got {tuple(pose.shape)}; see the pose_from_* functions."
        )


def _check_length(length: int) -> None:
    if length not in VECTOR_LAYOUTS:
        raise ValueError(
            f"vector: expected length 165 (SMPL-X), 159 (53 joints), 156 (SMPL-H) or 72 (SMPL), got {length}; "
            "pass parts by name with pose_from_smplx."
        )
