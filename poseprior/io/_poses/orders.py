"""Orders in which files keep joints, by name: where the joints of an array are among the 55 of SMPL-X.

An order is a tuple of SMPL-X indices, one for each joint stored; -1 stands for what is no SMPL-X joint (the whole hands of
SMPL). A `layout` names an order of the body, an order of the fingers, or both joined by "+", or it is the list of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..._checks import quoted
from ...params import JOINTS_53, JOINTS_SMPL, JOINTS_SMPLH
from ...skeleton import NUM_JOINTS, resolve_joints

Order = tuple[int, ...]

_BODY, _FACE = tuple(range(22)), (22, 23, 24)
_LEFT, _RIGHT = tuple(range(25, 40)), tuple(range(40, 55))

#: Orders of a whole array, by name.
ORDERS: dict[str, Order] = {
    "smplx": tuple(range(NUM_JOINTS)),
    "smplx_hands_first": (*_BODY, *_LEFT, *_RIGHT, *_FACE),
    "smplx_53": JOINTS_53,
    "smplx_53_jaw_last": (*_BODY, *_LEFT, *_RIGHT, 22),
    "smplx_52_without_root": JOINTS_53[1:],
    "smplh": JOINTS_SMPLH,
    "smpl": (*JOINTS_SMPL, -1, -1),
    "smplx_22": JOINTS_SMPL,
}
#: What `layout` says of each, for messages.
MEANINGS = {
    "smplx": "55 joints: root, body, jaw, eyes, left hand, right hand",
    "smplx_hands_first": "55 joints: root, body, left hand, right hand, jaw, eyes",
    "smplx_53": "53 joints: root, body, jaw, left hand, right hand",
    "smplx_53_jaw_last": "53 joints: root, body, left hand, right hand, jaw",
    "smplh": "52 joints: root, body, left hand, right hand",
    "smplx_22": "22 joints: root and body",
}
#: Orders of the fifteen joints of a hand, as places in the order of SMPL-X.
FINGERS: dict[str, Order] = {
    "mano": tuple(range(15)),  # index, middle, pinky, ring, thumb, as in SMPL-X
    "thumb_first": (12, 13, 14, 0, 1, 2, 3, 4, 5, 9, 10, 11, 6, 7, 8),  # thumb, index, middle, ring, pinky
}
#: 322 columns of Motion-X: root, body, hands, jaw; then expression, face shape, translation and betas.
MOTION_X_COLUMNS, MOTION_X_ROTATIONS = 322, 159


@dataclass(frozen=True)
class Layout:
    """What the caller says of the order: of the whole array, of the fingers, or neither.

    Attributes:
        order: name in `ORDERS`, or None.
        fingers: name in `FINGERS`, or None.
        joints: the order itself where it was given as names.
    """

    order: str | None = None
    fingers: str | None = None
    joints: Order | None = None

    @classmethod
    def of(cls, layout: str | Sequence[str] | None) -> Layout:
        """From the argument `layout` of `read_poses`."""
        if layout is None:
            return cls()
        if not isinstance(layout, str):
            if not isinstance(layout, list | tuple) or not layout:
                raise ValueError(f"layout: expected a name or a list of joint names, got {quoted(layout)}.")
            return cls(joints=named(layout, "layout"))
        order, fingers = None, None
        for name in layout.split("+"):
            if name in ORDERS and order is None:
                order = name
            elif name in FINGERS and fingers is None:
                fingers = name
            else:
                raise ValueError(
                    f"layout: expected one of {', '.join(ORDERS)}, or {' or '.join(FINGERS)} for the order of the fingers, or "
                    f"two of these joined by '+', or the list of joint names in the file's order, got {layout!r}."
                )
        return cls(order, fingers)

    def hand(self) -> Order:
        """Place of each stored joint of a hand."""
        return FINGERS[self.fingers or "mano"]

    def whole(self, order: Order) -> Order:
        """An order of a whole array, with its fingers in the order asked for."""
        places = self.hand()
        firsts = {25: _LEFT, 40: _RIGHT}
        result = list(order)
        for first, joints in firsts.items():
            if first in order and order[order.index(first) : order.index(first) + 15] == joints:
                at = order.index(first)
                result[at : at + 15] = [first + place for place in places]
        return tuple(result)


def named(names: Sequence[str], argument: str) -> Order:
    """The order of joints called by their SMPL-X names; "-" or "" for one that is not to be read."""
    order = []
    for name in names:
        text = str(name)
        if text in ("-", ""):
            order.append(-1)
            continue
        try:
            index = resolve_joints(text)
        except ValueError as error:
            raise ValueError(
                f"{argument}: expected names of poseprior.skeleton.JOINT_NAMES or '-', got {text!r} ({error})"
            ) from None
        if len(index) != 1 or index[0] in order:
            raise ValueError(f"{argument}: expected each joint once, and joints alone, got {text!r}.")
        order.append(index[0])
    return tuple(order)
