"""`FitProblem`: the energy that a fit minimises, by term, for S starts of B bodies at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ... import skeleton
from ...optim import Energy, Minimum, adam, lbfgs
from ...rotations import rotvec_to_tangent
from ..body.body_points import BodyPoints
from ..config import FitBodyConfig
from ..energy import EnergyTerm
from ..targets import Target
from ..term import PosePriorTerm
from .stages import Stage
from .state import BodyState, Variables
from .surrogate import GaussianSurrogate

_BODY = 22
#: Joints whose points place the torso in space.
_TORSO = (0, 1, 2, 3, 6, 9, 12, 13, 14, 16, 17)


class FitProblem:
    """Energies of bodies against targets and terms.

    Args:
        model: SMPL-X model of the smplx package.
        targets: what was measured.
        terms: priors and anchors, in nats summed over joints.
        free: joints that fits may move, the root left out.
        config: options.
    """

    def __init__(
        self,
        model: nn.Module,
        targets: Sequence[Target],
        terms: Sequence[EnergyTerm],
        free: tuple[int, ...],
        config: FitBodyConfig,
    ) -> None:
        self.targets, self.terms, self.free, self.config = tuple(targets), tuple(terms), free, config
        joints = sorted(set(range(_BODY)).union(*(t.joints for t in targets)))
        vertices = sorted(set().union(*(t.vertices for t in targets)))
        self.points = BodyPoints(model, joints=joints, vertices=vertices)
        place = {("j", j): k for k, j in enumerate(joints)}
        place |= {("v", v): len(joints) + k for k, v in enumerate(vertices)}
        device = targets[0].points.device
        self._place = [
            torch.tensor([place["j", j] for j in t.joints] + [place["v", v] for v in t.vertices], device=device)
            for t in self.targets
        ]
        self._surrogates: dict[int, GaussianSurrogate] = {}
        judged = {joint for term in terms for joint in term.joints}
        self.resting = tuple(j for j in free if j not in judged)
        self._names = _different([target.name for target in targets], [term.name for term in terms])

    def body(self, state: BodyState) -> Tensor:
        """The body's own points (S, B, K, 3): 22 joints first, in SMPL-X order."""
        starts, bodies = state.transl.shape[:2]
        posed = (state.pose, state.betas, state.expression)
        if bodies > 1 and all(value.stride(1) == 0 for value in posed):  # one body, in many places
            pose, betas, expression = (value[:, 0] for value in posed)
            points = self.points(pose, betas=betas, expression=expression)[:, None]
        else:
            pose, betas, expression = (value.flatten(0, 1) for value in posed)
            points = self.points(pose, betas=betas, expression=expression).unflatten(0, (starts, bodies))
        return points + state.transl[:, :, None].to(points)

    def turns(self, state: BodyState) -> tuple[Tensor, Tensor, Tensor]:
        """`BodyPoints.turns` of the S B bodies, and what they carry (K, C)."""
        axes, position = self.points.turns(
            state.pose.flatten(0, 1), betas=state.betas.flatten(0, 1), expression=state.expression.flatten(0, 1),
            transl=state.transl.flatten(0, 1),
        )  # fmt: skip
        return axes, position, self.points.carried

    def of_target(self, body: Tensor, number: int) -> Tensor:
        """The points (S, B, K', 3) that a target measures."""
        return body.index_select(-2, self._place[number])

    def data(self, state: BodyState, stage: Stage) -> dict[str, Tensor]:
        """Energies (S, B) of each target."""
        body = self.body(state)
        return {
            target.name: target.energy(
                self.of_target(body, k),
                chosen=stage.chosen[k],
                outlier_scale=stage.scale_of(k),
            )
            for k, target in enumerate(self.targets)
        }

    def with_outlier_scales(self, state: BodyState, stage: Stage) -> Stage:
        """The stage with the outlier thresholds that suit where the bodies stand."""
        if not stage.median_factor:
            return stage
        body = self.body(state)
        scales = tuple(
            (stage.median_factor * target.spread(self.of_target(body, k), stage.chosen[k])).clamp_min(
                stage.outlier_scale
            )
            for k, target in enumerate(self.targets)
        )
        return replace(stage, outlier_scales=scales)

    def energies(self, state: BodyState, stage: Stage) -> dict[str, Tensor]:
        """Energies (S, B) by term, nats."""
        found = self.data(state, stage)
        if not stage.regularised:
            return found
        for name, term in zip(self._names, self.terms, strict=True):
            latent = state.latent if _judges(term, stage.variables) else None
            used = self._coarse(term) if stage.coarse and latent is None else term
            found[name] = used(state.pose, latent=latent, progress=stage.progress)
        if self.resting and self.config.rest_sigma is not None:
            rest = state.pose[..., list(self.resting), :].square().sum((-1, -2))
            found["rest"] = 0.5 * rest / self.config.rest_sigma**2
        frames = stage.variables.frames
        if stage.variables.shape:
            found["shape"] = 0.5 * state.betas.square().sum(-1) / frames
        if stage.variables.expression:
            found["expression"] = 0.5 * state.expression.square().sum(-1)
        if stage.smooth is not None and frames > 2:
            found["smoothness"] = self._roughness(state, frames) * (0.5 / stage.smooth**2)
        return found

    def surrogate(self, term: PosePriorTerm) -> GaussianSurrogate:
        """The Gaussian of a term's prior, kept between stages."""
        if id(term) not in self._surrogates:
            self._surrogates[id(term)] = GaussianSurrogate(term)
        return self._surrogates[id(term)]

    def _coarse(self, term: EnergyTerm) -> EnergyTerm:
        return self.surrogate(term) if isinstance(term, PosePriorTerm) and term.plain else term

    def total(self, state: BodyState, stage: Stage) -> Tensor:
        """(S, B) nats."""
        return torch.stack(list(self.energies(state, stage).values())).sum(0)

    def minimise(
        self,
        state: BodyState,
        stage: Stage,
        precondition: Callable[[Tensor], Tensor] | None = None,
        idle: Tensor | None = None,
    ) -> tuple[BodyState, Minimum]:
        """The state at a minimum of each problem, and how it was reached (rows: S times B / F problems).

        `idle` (S, B) names bodies that need not move.
        """
        variables = stage.variables
        energy, start = self._energy(state, stage), variables.zero(state)
        if self.config.optimizer == "adam":
            steps = 3 * stage.iterations
            found = adam(energy, start, iterations=steps, learning_rate=self.config.learning_rate)
        else:
            bodies = torch.arange(state.transl.shape[1], device=state.transl.device)
            split = variables.frames == 1 and all(term.select(bodies) is not None for term in self.terms)
            found = lbfgs(
                energy, start, iterations=stage.iterations, least_gain=self.config.tolerance, precondition=precondition,
                select=(lambda rows: self._energy_of_rows(state, stage, rows)) if split else None,
                idle=idle.flatten() if idle is not None and variables.frames == 1 else None,
            )  # fmt: skip
        with torch.no_grad():
            return variables.apply(state, found.point), found

    def _energy(self, state: BodyState, stage: Stage) -> Energy:
        """Energies (S P,) of vectors (S P, D): each problem's steps away from the state."""
        variables = stage.variables
        problems = state.transl.shape[1] // variables.frames

        def energy(vector: Tensor) -> Tensor:
            total = self.total(variables.apply(state, vector), stage)
            return total.reshape(-1, problems, variables.frames).sum(-1).flatten()

        return energy

    def _energy_of_rows(self, state: BodyState, stage: Stage, rows: Tensor) -> Energy:
        """Energies (R,) of vectors (R, D) of some of the S B bodies."""
        bodies = rows % state.transl.shape[1]
        part = copy(self)
        part.targets = tuple(target.select(bodies) for target in self.targets)
        part.terms = tuple(term for term in (term.select(bodies) for term in self.terms) if term is not None)
        stage = stage.rows(rows, state.transl.shape[1])
        return part._energy(state.rows(rows), stage)

    def _roughness(self, state: BodyState, frames: int) -> Tensor:
        """(S, B) squared second differences of rotations and position; the ends of a sequence have none."""
        moving = [0, *self.free]
        pose = state.pose[..., moving, :].unflatten(1, (-1, frames))
        turn = rotvec_to_tangent(pose[:, :, 1:], pose[:, :, :-1])
        bend = (turn[:, :, 1:] - turn[:, :, :-1]).square().sum((-1, -2))
        way = state.transl.unflatten(1, (-1, frames)).diff(dim=2).diff(dim=2).square().sum(-1)
        return torch.nn.functional.pad(bend + way, (1, 1)).flatten(1)


def _judges(term: EnergyTerm, variables: Variables) -> bool:
    """Whether a term judges the latent that moves: that of its own prior. Terms of the user's own may look at it."""
    if isinstance(term, PosePriorTerm):
        return variables.latent and term.prior is variables.prior
    return variables.latent


def _different(targets: list[str], terms: list[str]) -> list[str]:
    """The names of the terms, numbered where another energy has the same."""
    taken = {*targets, "rest", "shape", "expression", "smoothness"}
    found = []
    for name in terms:
        own, count = name, 2
        while own in taken:
            own, count = f"{name}_{count}", count + 1
        taken.add(own)
        found.append(own)
    return found


def torso_points(target: Target, model: nn.Module) -> Tensor:
    """(B, K) bool: points of the torso where a frame shows three of them, all its points where it does not."""
    driven = [j in _TORSO for j in target.joints] + [_driver(model, v) in _TORSO for v in target.vertices]
    torso = torch.tensor(driven, device=target.points.device)
    seen = target.confidence > 0
    enough = (seen & torso).sum(-1, keepdim=True) >= 3
    return torch.where(enough, seen & torso, seen)


def _driver(model: nn.Module, vertex: int) -> int:
    weights = model.lbs_weights
    assert isinstance(weights, Tensor)
    return int(weights[vertex].argmax())


def movable_joints(model: nn.Module, targets: Sequence[Target]) -> set[int]:
    """Joints whose rotation moves some measured point; the root and the eyes are left out."""
    weights = model.lbs_weights
    assert isinstance(weights, Tensor)
    found: set[int] = set()
    for target in targets:
        seen = (target.confidence > 0).any(0).tolist()
        names = [*(("j", j) for j in target.joints), *(("v", v) for v in target.vertices)]
        for (kind, index), used in zip(names, seen, strict=True):
            if not used:
                continue
            for joint in _moving(model, weights, kind, index):
                while joint > 0:
                    found.add(joint)
                    joint = skeleton.PARENTS[joint]
    return found - {23, 24}


def _moving(model: nn.Module, weights: Tensor, kind: str, index: int) -> list[int]:
    """Joints with a say in a point; a joint itself is moved by its parent."""
    if kind == "j" and index < skeleton.NUM_JOINTS:
        return [skeleton.PARENTS[index]]
    if kind == "j":
        extra = model.vertex_joint_selector.extra_joints_idxs.tolist()  # type: ignore[union-attr,operator]
        index -= skeleton.NUM_JOINTS
        if index >= len(extra):
            return [22]  # face landmarks: the jaw, and the head above it
        index = int(extra[index])
    return (weights[index] > 0.05).nonzero()[:, 0].tolist()
