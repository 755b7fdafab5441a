"""`RigNoise`: random conventions of capture rigs, so that a prior learns people and not the rig that recorded them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from .. import skeleton
from .._checks import check_choice, check_mapping, check_number, check_whole, quoted
from ..rotations import quat_conjugate, quat_multiply, rotvec_to_unitquat, unitquat_to_rotvec

#: A 3 x 3 covariance, degrees^2, row by row.
Covariance = Sequence[Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class RigNoise:
    """Noise like the differences between rigs: rest frames, unmeasured axes, and how rotation is shared along a chain.

    Two rigs that record one person differ by rotations of each joint's rest frame on either side of the joint. A pose
    is moved to a random rig by

        R'_j = Exp(s a_j) R_j Exp(s b_j) Exp(w_j),      a_j ~ N(0, A_j),  b_j ~ N(0, B_j),  s^2 ~ (nu - 2) / chi^2_nu,

    with one heavy-tailed scale s for a pose (s a_j is Student-t with the covariance that is given). w_j turns about the
    axes that a rig could not measure (a solver that made a knee an exact hinge): w_jk ~ N(0, (u c_jk)^2), u uniform
    between `least_unmeasured` and 1. Where a chain's rotation was shared between two joints by a rule, the share is
    drawn anew: R_i <- R_i E, R_k <- E^-1 R_k with E = Exp(s e), e ~ N(0, c_ik^2 I), which leaves the chain's total as
    it is. Both happen to a share `unmeasured_probability` of the poses; the others stay as a skeleton solver leaves
    them, so that a prior knows skeleton solvers as well as fits of a body's surface.

    The uniform measure does not change under such rotations. Covariances of left joints hold for right joints through
    the mirror.

    Attributes:
        parent_frame: A_j by joint name, degrees^2; the side that the parent's rest frame is on. Left and middle joints.
        child_frame: B_j, as `parent_frame`.
        degrees_of_freedom: nu of the scale s, above 2; None for s = 1.
        unmeasured: (c_jx, c_jy, c_jz) by joint name, degrees; left and middle joints.
        least_unmeasured: lower end of the factor u.
        unmeasured_probability: chance that a pose gets w_j and new shares.
        shares: (joint, next joint, c_ik in degrees) along chains, upwards; left and middle joints. Applied where the
            data says that the first joint's value is imputed.

    Raises:
        ValueError: a name that is no joint, a right joint, or a matrix that is no covariance.

    >>> noise = RigNoise(child_frame={"left_knee": [[9.0, 0, 0], [0, 25.0, 0], [0, 0, 25.0]]})
    >>> noise.apply(torch.zeros(2, 55, 3), torch.ones(2, 55, dtype=torch.bool)).shape
    torch.Size([2, 55, 3])
    """

    parent_frame: Mapping[str, Covariance] = field(default_factory=dict)
    child_frame: Mapping[str, Covariance] = field(default_factory=dict)
    degrees_of_freedom: int | None = None
    unmeasured: Mapping[str, Sequence[float]] = field(default_factory=dict)
    least_unmeasured: float = 1.0
    unmeasured_probability: float = 1.0
    shares: Sequence[tuple[str, str, float]] = ()

    def __repr__(self) -> str:
        frames = len({*self.parent_frame, *self.child_frame})
        return (
            f"RigNoise(rest frames of {frames} joints, {len(self.unmeasured)} with unmeasured axes, "
            f"{len(self.shares)} shares along chains)"
        )

    def __post_init__(self) -> None:
        if self.degrees_of_freedom is not None:
            check_whole("RigNoise.degrees_of_freedom", self.degrees_of_freedom, least=3)
        for name in ("least_unmeasured", "unmeasured_probability"):
            check_number(f"RigNoise.{name}", getattr(self, name), least=0.0, most=1.0)
        for name in ("parent_frame", "child_frame", "unmeasured"):
            for joint, value in check_mapping(f"RigNoise.{name}", getattr(self, name)).items():
                _check_joint(f"RigNoise.{name}", joint)
                if name == "unmeasured":
                    _check_numbers(f"RigNoise.unmeasured[{joint!r}]", value)
                else:
                    _check_covariance(f"RigNoise.{name}[{joint!r}]", value)
        for first, second, size in _checked_shares(self.shares):
            _check_joint("RigNoise.shares", first)
            _check_joint("RigNoise.shares", second)
            check_number(f"RigNoise.shares, {first} and {second}", size, least=0.0)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RigNoise:
        """From the JSON-able form, `dataclasses.asdict` of a `RigNoise`."""
        unknown = set(check_mapping("RigNoise", values)) - set(cls.__dataclass_fields__)
        if unknown:
            raise ValueError(
                f"RigNoise: unknown fields {sorted(unknown)}; it has {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**{**values, "shares": tuple(map(tuple, _checked_shares(values.get("shares", ()))))})

    @classmethod
    def estimated(cls, part: str = "body") -> RigNoise:
        """The sizes that the shipped priors were trained with, estimated from differences between rigs and people.

        Args:
            part: "body", "hands" or "whole_body". docs/rig_noise.md says how each size was estimated.

        Raises:
            ValueError: another part.
        """
        files = {"body": ("body",), "hands": ("hands",), "whole_body": ("body", "hands")}
        check_choice("part", part, tuple(files))
        merged: dict[str, Any] = {}
        for name in files[part]:
            for key, value in json.loads(
                resources.files(__package__).joinpath(f"rig_noise_{name}.json").read_text()
            ).items():
                if isinstance(value, dict):
                    merged.setdefault(key, {}).update(value)
                elif isinstance(value, list):
                    merged.setdefault(key, []).extend(value)
                else:
                    merged[key] = value
        return cls.from_dict(merged)

    def apply(
        self,
        pose: Tensor,
        observed: Tensor,
        imputed: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Each pose as another rig would have recorded it.

        Args:
            pose: (B, 55, 3) rotvecs, radians.
            observed: (B, 55) bool; what is not observed stays as it is.
            imputed: (B, 55) bool, where the share of a chain comes from a rule; None for nowhere.
            generator: source of the noise, on the device of `pose`.

        Returns:
            (B, 55, 3) rotvecs, norm at most pi on the joints that moved.
        """
        tables = self._tables
        quat = rotvec_to_unitquat(pose[:, tables.moved])

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=pose.dtype, device=pose.device)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=pose.dtype, device=pose.device)

        scale = pose.new_ones(len(pose), 1, 1)
        if self.degrees_of_freedom is not None:
            chi_squared = noise(len(pose), self.degrees_of_freedom).square().sum(1)
            scale = ((self.degrees_of_freedom - 2) / chi_squared.clamp_min(1e-6)).sqrt()[:, None, None]
        anew = uniform(len(pose)) < self.unmeasured_probability
        if count := len(tables.moved):
            left, right = (
                rotvec_to_unitquat(scale * (factor.to(pose) @ noise(len(pose), count, 3)[..., None])[..., 0])
                for factor in (tables.parent_factor, tables.child_factor)
            )
            low = self.least_unmeasured
            size = (low + (1.0 - low) * uniform(len(pose), count, 1)) * anew[:, None, None]
            turned = rotvec_to_unitquat(size * tables.unmeasured.to(pose) * noise(len(pose), count, 3))
            quat = quat_multiply(quat_multiply(quat_multiply(left, quat), right), turned)
        if imputed is not None:
            for first, second, stddev in tables.pairs:
                one, two = tables.moved[first], tables.moved[second]
                rows = (anew & imputed[:, one] & observed[:, one] & observed[:, two])[:, None]
                drawn = stddev * scale[:, 0] * noise(len(pose), 3)
                step = rotvec_to_unitquat(torch.where(rows, drawn, torch.zeros_like(drawn)))
                quat[:, first] = quat_multiply(quat[:, first].contiguous(), step)
                quat[:, second] = quat_multiply(quat_conjugate(step), quat[:, second].contiguous())
        keep = observed[:, tables.moved, None]
        result = pose.clone()
        result[:, tables.moved] = torch.where(keep, unitquat_to_rotvec(quat), pose[:, tables.moved])
        return result

    def frame_factors(self, joints: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Symmetric square roots (J, 3, 3) of the covariances A_j and B_j, radians; zero for joints without noise.

        Args:
            joints: SMPL-X indices; right joints have the mirrored factors of left ones.
        """
        tables, result = self._tables, []
        for factor in (tables.parent_factor, tables.child_factor):
            variance, axes = torch.linalg.eigh(factor @ factor.mT)
            root = axes @ (variance.clamp_min(0.0).sqrt()[:, :, None] * axes.mT)
            chosen = torch.zeros(len(joints), 3, 3, dtype=torch.float64)
            for k, joint in enumerate(joints):
                if joint in tables.moved:
                    chosen[k] = root[tables.moved.index(joint)]
            result.append(chosen)
        return result[0], result[1]

    @property
    def joints(self) -> tuple[int, ...]:
        """SMPL-X indices of the joints that it moves, both sides."""
        return tuple(self._tables.moved)

    @cached_property
    def _tables(self) -> _Tables:
        return _Tables.of(self)


@dataclass(frozen=True)
class _Tables:
    """The sizes of a `RigNoise` as tensors over the J joints that move, radians.

    Attributes:
        moved: the joints, both sides.
        parent_factor, child_factor: (J, 3, 3) square roots of the covariances.
        unmeasured: (J, 3).
        pairs: places in `moved` of two joints of a chain, and the size of the share's noise.
    """

    moved: list[int]
    parent_factor: Tensor
    child_factor: Tensor
    unmeasured: Tensor
    pairs: list[tuple[int, int, float]]

    @classmethod
    def of(cls, noise: RigNoise) -> _Tables:
        radians = math.pi / 180.0
        names = {*noise.parent_frame, *noise.child_frame, *noise.unmeasured, *(n for s in noise.shares for n in s[:2])}
        moved = sorted({k for name in names for k in (_index(name), skeleton.MIRROR[_index(name)])})
        sign = torch.tensor(skeleton.REFLECTION, dtype=torch.float64)

        def by_joint(values: Mapping[str, Any], size: tuple[int, ...]) -> Tensor:
            table = torch.zeros(len(moved), *size, dtype=torch.float64)
            for name, value in values.items():
                own = torch.tensor(value, dtype=torch.float64)
                table[moved.index(skeleton.MIRROR[_index(name)])] = (
                    own * (sign[:, None] * sign) if own.dim() == 2 else own
                )
                table[moved.index(_index(name))] = own
            return table

        def factor(values: Mapping[str, Any]) -> Tensor:
            variance, axes = torch.linalg.eigh(by_joint(values, (3, 3)))
            return radians * axes * variance.clamp_min(0.0).sqrt()[:, None, :]

        pairs = []
        for first, second, size in noise.shares:
            one, two = _index(first), _index(second)
            for a, b in dict.fromkeys([(one, two), (skeleton.MIRROR[one], skeleton.MIRROR[two])]):
                pairs.append((moved.index(a), moved.index(b), size * radians))
        return cls(
            moved=moved, parent_factor=factor(noise.parent_frame), child_factor=factor(noise.child_frame),
            unmeasured=radians * by_joint(noise.unmeasured, (3,)), pairs=pairs,
        )  # fmt: skip


def _index(name: str) -> int:
    return skeleton.JOINT_NAMES.index(name)


def _check_joint(argument: str, name: object) -> None:
    if name not in skeleton.JOINT_NAMES or str(name).startswith("right_"):
        raise ValueError(
            f"{argument}: expected names of left or middle joints (right joints follow through the mirror), got {name!r}."
        )


def _checked_shares(shares: Any) -> Sequence[tuple[Any, Any, Any]]:
    if not isinstance(shares, list | tuple) or not all(isinstance(s, list | tuple) and len(s) == 3 for s in shares):
        raise ValueError(f"RigNoise.shares: expected a list of (joint, next joint, degrees), got {quoted(shares)}.")
    return shares


def _check_numbers(argument: str, values: Any) -> None:
    if not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError(f"{argument}: expected three numbers (x, y, z), got {quoted(values)}.")
    for value in values:
        check_number(argument, value, least=0.0)


def _check_covariance(argument: str, rows: Any) -> None:
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        matrix = torch.empty(0)
    ok = matrix.shape == (3, 3) and bool(torch.isfinite(matrix).all()) and bool((matrix - matrix.T).abs().max() < 1e-6)
    if not ok or float(torch.linalg.eigvalsh(matrix)[0]) < -1e-6:
        raise ValueError(f"{argument}: expected a symmetric 3 x 3 covariance in degrees^2, got {quoted(rows)}.")
