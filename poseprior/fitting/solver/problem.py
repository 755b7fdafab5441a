"""`FitProblem`: the energy that a fit minimises, by term, for S starts of B bodies at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...optim import Energy, Minimum, adam, lbfgs
from ...rotations import rotvec_to_tangent
from ..body.body_points import BodyPoints
from ..config import FitBodyConfig
from ..energy import EnergyTerm
from ..targets import Keypoints2D, Target
from ..term import PosePriorTerm
from .stages import Stage
from .state import BodyState, Variables
from .surrogate import GaussianSurrogate

_BODY = 22


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
        self.joints = joints = sorted(set(range(_BODY)).union(*(t.joints for t in targets)))
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
        #: Joints that terms judge.
        self.judged = frozenset(joint for term in terms for joint in term.joints)
        self.resting = tuple(j for j in free if j not in self.judged)
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

    def frames(self, state: BodyState) -> tuple[Tensor, Tensor]:
        """`BodyPoints.frames` of one start of B bodies: rotations (B, K, 3, 3), and positions (B, K, 3) without `transl`."""
        return self.points.frames(state.pose[0], betas=state.betas[0], expression=state.expression[0])

    def turns(self, state: BodyState) -> tuple[Tensor, Tensor, Tensor]:
        """`BodyPoints.turns` of the S B bodies, and what they carry (K, C)."""
        axes, position = self.points.turns(
            state.pose.flatten(0, 1), betas=state.betas.flatten(0, 1), expression=state.expression.flatten(0, 1),
            transl=state.transl.flatten(0, 1),
        )  # fmt: skip
        return axes, position, self.points.carried

    def place_of(self, number: int) -> Tensor:
        """(K',) where the points that a target measures stand among the body's own."""
        return self._place[number]

    def of_target(self, body: Tensor, number: int) -> Tensor:
        """The points (S, B, K', 3) that a target measures."""
        return body.index_select(-2, self._place[number])

    def data(self, state: BodyState, stage: Stage) -> dict[str, Tensor]:
        """Energies (S, B) of each target by its name, nats, times the stage's `data_weight`."""
        body = self.body(state)
        return {
            target.name: stage.data_weight
            * target.energy(self.of_target(body, k), chosen=stage.chosen[k], outlier_scale=stage.scale_of(k))
            for k, target in enumerate(self.targets)
        }

    def with_outlier_scales(self, state: BodyState, stage: Stage) -> Stage:
        """The stage with outlier thresholds raised to the residuals of the bodies, as its `median_factor` asks."""
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

    def inlier_scales(self, state: BodyState, tolerance: float) -> tuple[Tensor, ...]:
        """Factors (S, B, 1) on each target's outlier threshold that set it to `tolerance` times the farthest point's distance."""
        body = self.body(state)
        far = (t.distances(self.of_target(body, k)).amax(-1, keepdim=True) for k, t in enumerate(self.targets))
        return tuple((tolerance * each).clamp_min(1.0) for each in far)

    def gaps(self, state: BodyState) -> list[Tensor]:
        """(S, B, K) metres from each measured point in 3D to the body's own, of each target; 0 for the others."""
        body, found = self.body(state), []
        for k, target in enumerate(self.targets):
            far = target.residuals(self.of_target(body, k)).norm(dim=-1) * (target.confidence > 0)
            found.append(torch.zeros_like(far) if isinstance(target, Keypoints2D) else far)
        return found

    def num_points(self) -> Tensor:
        """(B,) points that were measured."""
        return torch.stack([(target.confidence > 0).sum(-1) for target in self.targets]).sum(0)

    def noise_in_3d(self) -> float:
        """Median standard deviation of the measured points in 3D, metres."""
        flat = [t.sigma[t.confidence > 0] for t in self.targets if not isinstance(t, Keypoints2D)]
        sigma = torch.cat([*flat, torch.full((1,), math.inf).to(self.targets[0].sigma)])
        return float(sigma.median())

    def num_outliers(self, state: BodyState) -> Tensor:
        """(S, B) measured points beyond the outlier threshold."""
        body = self.body(state)
        far = [target.distances(self.of_target(body, k)) > 1.0 for k, target in enumerate(self.targets)]
        return torch.stack([each.sum(-1) for each in far]).sum(0)

    def evidence(self, state: BodyState, stage: Stage) -> Tensor:
        """(S, B) nats by which attempts are compared: the energy, plus a cost for each point in 3D that is left out.

        The robust loss lets an outlier go for 10 nats, wherever it is. But a point that an attempt reaches is hardly an
        outlier: one that is spread evenly over a cubic metre comes within the noise of a body only with a probability of
        about (2 pi sigma^2)^(3/2) / (1 m^3). Minus the logarithm of that, 3 log(1 m / (sigma sqrt(2 pi))) nats, is the cost.
        So an attempt that reaches every point wins over one that leaves some out and saves the regulariser a few nats.
        """
        body, total = self.body(state), self.total(state, stage)
        for k, target in enumerate(self.targets):
            if target.robust is None or isinstance(target, Keypoints2D):
                continue
            cost = -3.0 * (target.sigma * math.sqrt(2.0 * math.pi)).log()
            out = target.distances(self.of_target(body, k)) > 1.0
            total = total + (out * target.confidence * cost.clamp_min(0.0)).sum(-1)
        return total

    def energies(self, state: BodyState, stage: Stage) -> dict[str, Tensor]:
        """Energies (S, B) by term, nats."""
        found = self.data(state, stage)
        if not stage.regularised:
            return found
        for name, term in zip(self._names, self.terms, strict=True):
            latent = state.latent if _judges(term, stage.variables) else None
            used = self._coarse(term) if stage.coarse and latent is None else term
            pose = None if latent is not None and isinstance(term, PosePriorTerm) else state.pose
            found[name] = used(pose, latent=latent, progress=stage.progress)
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
        """The Gaussian surrogate of a term's prior, computed once."""
        if id(term) not in self._surrogates:
            self._surrogates[id(term)] = GaussianSurrogate(term)
        return self._surrogates[id(term)]

    def _coarse(self, term: EnergyTerm) -> EnergyTerm:
        return self.surrogate(term) if isinstance(term, PosePriorTerm) and term.is_log_density else term

    def total(self, state: BodyState, stage: Stage) -> Tensor:
        """(S, B) nats."""
        return torch.stack(list(self.energies(state, stage).values())).sum(0)

    def lbfgs(
        self,
        state: BodyState,
        stage: Stage,
        precondition: Callable[[Tensor], Tensor] | None = None,
        idle: Tensor | None = None,
    ) -> tuple[BodyState, Minimum]:
        """L-BFGS on the energy of a stage.

        Args:
            state, stage: from where, and what is minimised.
            precondition: as of `optim.lbfgs`.
            idle: (S, B) bool, bodies that need not move.

        Returns:
            The state at the minimum, and the `Minimum`, a row for each of the S P problems.
        """
        variables = stage.variables
        split = variables.frames == 1 and self.can_split(state.transl.shape[1])
        found = lbfgs(
            self._energy(state, stage), variables.zero(state), iterations=stage.iterations,
            least_gain=self.config.tolerance, precondition=precondition,
            select=(lambda rows: self._energy_of_rows(state, stage, rows)) if split else None,
            idle=idle.flatten() if idle is not None and variables.frames == 1 else None,
        )  # fmt: skip
        with torch.no_grad():
            return variables.apply(state, found.point), found

    def adam(self, state: BodyState, stage: Stage, steps: int) -> tuple[BodyState, Minimum]:
        """The lowest state that Adam meets, and the `Minimum`."""
        start = stage.variables.zero(state)
        found = adam(self._energy(state, stage), start, iterations=steps, learning_rate=self.config.learning_rate)
        with torch.no_grad():
            return stage.variables.apply(state, found.point), found

    def _energy(self, state: BodyState, stage: Stage) -> Energy:
        """The energies (S P,) of steps (S P, D) away from the state; a sequence of F bodies is one of the P = B / F problems."""
        variables = stage.variables
        problems = state.transl.shape[1] // variables.frames

        def energy(vector: Tensor) -> Tensor:
            total = self.total(variables.apply(state, vector), stage)
            return total.reshape(-1, problems, variables.frames).sum(-1).flatten()

        return energy

    def _energy_of_rows(self, state: BodyState, stage: Stage, rows: Tensor) -> Energy:
        """Energies (R,) of vectors (R, D) of some of the S B bodies."""
        bodies = state.transl.shape[1]
        return self.of_bodies(rows % bodies)._energy(state.rows(rows), stage.rows(rows, bodies))

    def can_split(self, bodies: int) -> bool:
        """Whether every term can be had for some of the bodies alone."""
        every = torch.arange(bodies, device=self.targets[0].points.device)
        return all(term.select(every) is not None for term in self.terms)

    def of_bodies(self, bodies: Tensor) -> FitProblem:
        """The problem of some bodies (B',)."""
        part = copy(self)
        part.targets = tuple(target.select(bodies) for target in self.targets)
        part.terms = tuple(term for term in (term.select(bodies) for term in self.terms) if term is not None)
        return part

    def _roughness(self, state: BodyState, frames: int) -> Tensor:
        """(S, B) squared second differences of rotations (rad) and position (m), summed; 0 at both ends of a sequence."""
        moving = [0, *self.free]
        pose = state.pose[..., moving, :].unflatten(1, (-1, frames))
        turn = rotvec_to_tangent(pose[:, :, 1:], pose[:, :, :-1])
        bend = (turn[:, :, 1:] - turn[:, :, :-1]).square().sum((-1, -2))
        way = state.transl.unflatten(1, (-1, frames)).diff(dim=2).diff(dim=2).square().sum(-1)
        return torch.nn.functional.pad(bend + way, (1, 1)).flatten(1)


def _judges(term: EnergyTerm, variables: Variables) -> bool:
    """Whether a term is called with the latent that moves: a prior's term if it is its own, a user's own term always."""
    if isinstance(term, PosePriorTerm):
        return variables.latent and term.prior is variables.prior
    return variables.latent


def _different(targets: list[str], terms: list[str]) -> list[str]:
    """The names of the terms, with a number appended where another energy already has the name."""
    taken = {*targets, "rest", "shape", "expression", "smoothness"}
    found = []
    for name in terms:
        own, count = name, 2
        while own in taken:
            own, count = f"{name}_{count}", count + 1
        taken.add(own)
        found.append(own)
    return found
