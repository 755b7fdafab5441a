"""`BodyState`: bodies during a fit. `Variables`: the vector of numbers that a minimiser moves."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from ... import skeleton
from ...params import pose_to_smplx
from ...prior import LatentPosePrior
from ...rotations import tangent_to_rotvec
from ..body.hand_convention import HandConvention

#: Natural steps: one unit of the minimiser's vector, in radians and metres.
ROTATION_STEP = 0.2
METRES_STEP = 0.05


@dataclass(frozen=True)
class BodyState:
    """S starts of B bodies.

    Attributes:
        pose: (S, B, 55, 3) rotvecs, hands on the flat hand.
        transl: (S, B, 3) metres.
        betas: (S, B, nb).
        expression: (S, B, ne).
        hands: (S, B, 2, n) PCA coefficients, for a model that has them; then they decide the hands in `pose`.
        latent: (S, B, D), when a latent decides the joints of its prior.
    """

    pose: Tensor
    transl: Tensor
    betas: Tensor
    expression: Tensor
    hands: Tensor | None = None
    latent: Tensor | None = None

    def pick(self, which: Tensor) -> BodyState:
        """The starts `which` (S', B) of each body."""
        column = torch.arange(which.shape[1], device=which.device)
        return replace(self, **{name: value[which, column] for name, value in self._values().items()})

    def rows(self, rows: Tensor) -> BodyState:
        """Some of the S B bodies, as one start of R bodies; row s B + b is start s of body b."""
        return replace(self, **{name: value.flatten(0, 1)[rows][None] for name, value in self._values().items()})

    def bodies(self, which: Tensor) -> BodyState:
        """Some of the bodies, (B',), of every start."""
        return replace(self, **{name: value[:, which] for name, value in self._values().items()})

    def replaced(self, bodies: Tensor, by: BodyState) -> BodyState:
        """The state in which the bodies (B',) are those of another state of B' bodies."""
        theirs = by._values()
        return replace(self, **{n: v.index_copy(1, bodies, theirs[n].to(v)) for n, v in self._values().items()})

    def shared(self) -> BodyState:
        """The same state; where all bodies have one pose and shape, these are stored, and their points computed, once."""
        values = (self.pose, self.betas, self.expression)
        if not all(bool((value == value[:, :1]).all()) for value in values):
            return self
        pose, betas, expression = (value[:, :1].expand_as(value) for value in values)
        return replace(self, pose=pose, betas=betas, expression=expression)

    def expand(self, count: int) -> BodyState:
        """The first start, `count` times."""
        return replace(self, **{n: v[:1].expand(count, *v.shape[1:]) for n, v in self._values().items()})

    def join(self, other: BodyState) -> BodyState:
        """The starts of both."""
        more = other._values()
        return replace(self, **{name: torch.cat((value, more[name])) for name, value in self._values().items()})

    def beside(self, other: BodyState) -> BodyState:
        """The bodies of both, start by start."""
        more = other._values()
        return replace(self, **{name: torch.cat((value, more[name]), 1) for name, value in self._values().items()})

    def where(self, own: Tensor, other: BodyState) -> BodyState:
        """Bodies of this state where `own` (S, B) is true, of the other where it is not."""
        theirs = other._values()
        return replace(
            self, **{n: torch.where(own.view(*own.shape, *[1] * (v.dim() - 2)), v, theirs[n])
                     for n, v in self._values().items()},
        )  # fmt: skip

    def _values(self) -> dict[str, Tensor]:
        every = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in every.items() if value is not None}


@dataclass(frozen=True)
class Variables:
    """What a stage moves, and how a vector of steps changes a state.

    The vector of one problem is [frame 1, ..., frame F, shape], and a frame is [root, transl, joints, hands, expression,
    latent]. The root moves in the tangent space at its present rotation, since the rotvec of a person who faces the camera
    has a norm near pi, where rotvecs are singular. Joints move as rotvecs.

    Attributes:
        joints: that are moved as rotvecs, without the root.
        frames: F, bodies that are one problem (a sequence of one person); 1 when bodies are independent.
        shape, expression, hands, latent: whether they move. A sequence has one shape.
        convention: of the model's hands.
        prior: whose latent decides its joints; None in pose space.
    """

    joints: tuple[int, ...]
    frames: int = 1
    shape: bool = False
    expression: bool = False
    hands: bool = False
    latent: bool = False
    convention: HandConvention = field(default_factory=HandConvention)
    prior: LatentPosePrior | None = None

    def zero(self, state: BodyState) -> Tensor:
        """(S P, D) for P = B / F problems: the vector that changes nothing."""
        starts, bodies = state.transl.shape[:2]
        size = self.frames * sum(n for _, n in self.blocks(state)) + (state.betas.shape[-1] if self.shape else 0)
        return state.transl.new_zeros(starts * (bodies // self.frames), size)

    def apply(self, state: BodyState, vector: Tensor) -> BodyState:
        """The state after the steps (S P, D)."""
        starts, bodies = state.transl.shape[:2]
        blocks = self.blocks(state)
        sizes = [n for _, n in blocks]
        shape_size = vector.shape[-1] - self.frames * sum(sizes)
        steps, shape = vector.split([self.frames * sum(sizes), shape_size], -1)
        by_name = dict(
            zip((n for n, _ in blocks), steps.reshape(starts, bodies, sum(sizes)).split(sizes, -1), strict=True)
        )
        changed: dict[str, Tensor] = {"transl": state.transl + METRES_STEP * by_name["transl"]}
        if self.shape:
            mean = state.betas.unflatten(1, (-1, self.frames)).mean(2)
            moved = mean + shape.reshape(starts, -1, shape_size)
            changed["betas"] = moved[:, :, None].expand(-1, -1, self.frames, -1).flatten(1, 2)
        if self.expression:
            changed["expression"] = state.expression + by_name["expression"]
        if self.hands and state.hands is not None:
            changed["hands"] = state.hands + by_name["hands"].unflatten(-1, (2, -1))
        if self.latent and state.latent is not None:
            changed["latent"] = state.latent + by_name["latent"]
        changed["pose"] = self._pose(state, by_name, changed)
        return replace(state, **changed)

    def _pose(self, state: BodyState, steps: dict[str, Tensor], changed: dict[str, Tensor]) -> Tensor:
        root = tangent_to_rotvec(ROTATION_STEP * steps["root"], state.pose[..., 0, :])
        index = [0, *self.joints]
        values = [root[..., None, :]]
        if self.joints:
            moved = ROTATION_STEP * steps["joints"].unflatten(-1, (-1, 3))
            values.append(state.pose[..., list(self.joints), :] + moved)
        if "latent" in changed:
            assert self.prior is not None
            index += list(self.prior.joints)
            values.append(self.prior.decode(changed["latent"])[..., list(self.prior.joints), :])
        if "hands" in changed:
            index += list(range(25, 55))
            values.append(decode_hands(changed["hands"], self.convention))
        place = torch.tensor(index, device=root.device)
        return state.pose.index_copy(-2, place, torch.cat(values, -2))

    def blocks(self, state: BodyState) -> list[tuple[str, int]]:
        """Names and lengths of the parts of a frame."""
        blocks = [("root", 3), ("transl", 3), ("joints", 3 * len(self.joints))]
        if self.hands and state.hands is not None:
            blocks.append(("hands", 2 * state.hands.shape[-1]))
        if self.expression:
            blocks.append(("expression", state.expression.shape[-1]))
        if self.latent and state.latent is not None:
            blocks.append(("latent", state.latent.shape[-1]))
        return blocks


def decode_hands(coefficients: Tensor, convention: HandConvention) -> Tensor:
    """(*, 30, 3) rotvecs on the flat hand from (*, 2, n) PCA coefficients."""
    assert convention.components is not None
    parts = []
    for side in range(2):
        hand = coefficients[..., side, :] @ convention.components[side].to(coefficients)
        if convention.mean is not None:
            hand = hand + convention.mean[side].to(hand)
        parts.append(hand.unflatten(-1, (15, 3)))
    return torch.cat(parts, -2)


def smplx_params(state: BodyState, start: int, convention: HandConvention) -> dict[str, Tensor]:
    """Keyword arguments for the model: the bodies of one start."""
    pose = state.pose[start]
    if state.hands is None:
        params = pose_to_smplx(pose, **convention.options())
    else:
        params = {
            name: pose[:, part].flatten(1)
            for name, part in skeleton.PART_SLICES.items()
            if name not in ("left_hand_pose", "right_hand_pose")
        }
        params["left_hand_pose"], params["right_hand_pose"] = state.hands[start].unbind(1)
    return {
        **params, "transl": state.transl[start], "betas": state.betas[start], "expression": state.expression[start]
    }  # fmt: skip
