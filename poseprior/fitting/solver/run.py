"""`FitRun`: one call of `fit_body`, from starts through stages to a `BodyFit`."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from functools import partial
from typing import NoReturn

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...prior import LatentPosePrior
from ..body.hand_convention import HandConvention
from ..coordinates import coordinates_of
from ..energy import PoseParams
from ..result import BodyFit
from ..targets import Keypoints2D
from ..term import PosePriorTerm
from .depths import other_depths
from .descent import descend
from .hands import other_hands, samples_of_fingers
from .hypotheses import mode_weights, repeats
from .initial import hand_coefficients, initial_state
from .lowest_mode import lowest_mode
from .measured_joints import landmarks, shown_joints, torso_points
from .outcome import Outcome
from .problem import FitProblem
from .restarts import fit_from_points, lowest, restart, with_fits
from .stages import Stage
from .starts import between_seen, candidates_2d, is_2d, place_in_3d, place_in_view, prior_poses, rest_poses
from .state import BodyState, Variables

#: Samples of the prior, or draws around the rest pose, that starts are chosen from.
_SAMPLES = 64
#: Factor on the outlier threshold under which the first stage is judged.
_JUDGE = 4.0
#: Steps of the two tolerant stages. They find the basin; carried on to their own minima, they settle among the outliers.
_FIRST, _SECOND = 10, 13
#: Starts of fits to points in 3D in latent space: decoders have local minima, and starts that end alike cost little.
_LATENT_STARTS = 4


class FitRun:
    """One call of `fit_body`."""

    def __init__(
        self, model: nn.Module, problem: FitProblem, prior_term: PosePriorTerm | None, bodies: int,
        start: PoseParams | None, betas: Tensor | None, num_hypotheses: int,
    ) -> None:  # fmt: skip
        self.problem, self.config, self.hypotheses = problem, problem.config, num_hypotheses
        self.model, self.convention = model, HandConvention.of(model)
        self.prior = prior_term.prior if prior_term else None
        generator = torch.Generator().manual_seed(self.config.seed)
        self.latent = self.config.space == "latent"
        if self.prior is None:
            self.drawn = tuple(joint for joint in problem.free if joint < 22)
            self.samples = rest_poses(self.drawn, self.config.rest_sigma, _SAMPLES, generator)
        else:
            self.drawn = self.prior.joints
            self.samples = prior_poses(self.prior, _SAMPLES, generator, self.latent)
        self.fixed_shape = betas is not None
        state = initial_state(
            model, bodies, self.convention, self.prior, self.samples, start, betas, self.latent
        )  # fmt: skip
        self.given_pose = start is not None
        self.given_root = start is not None and bool(state.pose[..., 0, :].any())
        self.start, self.bodies = state, torch.arange(bodies, device=state.transl.device)
        self.torso = [torso_points(target, model) for target in problem.targets]
        self.visible = [target.confidence > 0 for target in problem.targets]
        parts = [torch.tensor([p in ("body", "feet", "marker") for p in t.parts]) for t in problem.targets]
        self.body_points = [v & p.to(v.device) for v, p in zip(self.visible, parts, strict=True)]
        self.any_detail = any(bool((v & ~b).any()) for v, b in zip(self.visible, self.body_points, strict=True))
        self.face = any(bool((v & landmarks(t)).any()) for v, t in zip(self.visible, problem.targets, strict=True))

    def fit(self, progress: bool) -> BodyFit:
        """Run the stages."""
        stages = self._stages()
        frames = self.start.transl.shape[1]
        sequence = self.config.smooth_sigma is not None
        with tqdm(total=len(stages) + sequence, desc="fit_body", disable=not progress) as bar:
            found, last = self._frames(stages, bar), stages[-1]
            if sequence:
                last = Stage(
                    replace(last.variables, frames=frames), 2 * self.config.iterations, self.visible,
                    smooth=self.config.smooth_sigma,
                )  # fmt: skip
                with torch.no_grad():
                    state = between_seen(found.state, torch.stack([v.any(-1) for v in self.visible]).any(0))
                    self._require_finite(state, last)
                state, end, steps = descend(self.problem, state, last)
                found = Outcome(state, end.converged.repeat_interleave(frames, 0), found.steps + steps)
                bar.update()
        return self._result(found, last)

    def _frames(self, stages: list[Stage], bar: tqdm[NoReturn]) -> Outcome:
        """Every frame by itself: from its points alone where these are exact, the others through the stages."""
        if self.latent or is_2d(self.problem.targets) is not None:
            return self._through(stages, bar)
        with torch.no_grad():
            starts = self._starts_of_points()
        found, done = fit_from_points(self.problem, starts, self.samples[0], stages[-1], self._consistent)
        rows = (~done).nonzero()[:, 0]
        if len(rows) == len(done):
            return self._through(stages, bar)
        if self.hypotheses > 1 or self.config.num_starts not in (None, 1):
            every = with_fits(self._through(stages, bar), found, done)
            return every if self.hypotheses > 1 else lowest(self.problem, every, stages[-1])
        if not len(rows):
            bar.update(len(stages))
            return found
        part = copy(self)
        part.problem, part.start, part.bodies = self.problem.of_bodies(rows), self.start.rows(rows), rows
        part.torso, part.visible, part.body_points = (
            [points[rows] for points in every] for every in (self.torso, self.visible, self.body_points)
        )
        rest = part._through(part._stages(), bar)
        state, converged = found.state.replaced(rows, rest.state), found.converged.index_copy(0, rows, rest.converged)
        return Outcome(state, converged, found.steps + rest.steps)

    def _through(self, stages: list[Stage], bar: tqdm[NoReturn]) -> Outcome:
        """Through the stages, from one start or several, and then further attempts: at other depths, or at points left out."""
        problem, steps, idle = self.problem, 0, None
        with torch.no_grad():
            state = self._place(self.start, stages[0])
        for number, stage in enumerate(stages):
            with torch.no_grad():
                stage = problem.with_outlier_scales(state, stage)
                if number == len(stages) - 1:
                    self._require_finite(state, stage)
            before = state
            state, last, count = descend(problem, state, stage, idle)
            converged, steps = last.converged, steps + count
            with torch.no_grad():
                if idle is not None:  # idle starts repeat the first: they go where it goes
                    state = state.where(~idle, state.pick(torch.zeros_like(idle, dtype=torch.long)))
                if number == 0:  # kept only if all points agree: an outlier in the torso must not misplace the root
                    stage = replace(stage, chosen=self.visible, outlier_scale=_JUDGE, outlier_scales=None)
                    better = problem.total(state, stage) <= problem.total(before, stage)
                    state = state.where(better, before)
                energy = problem.total(state, stage)
                if len(energy) > 1:
                    best, idle = self._go_on(state, energy, self._keep(len(energy), number, len(stages)))
                    state, converged = state.pick(best), converged.view(-1, best.shape[1]).gather(0, best).flatten()
            bar.update()
        found = Outcome(state, converged, steps)
        flat = is_2d(problem.targets) is not None
        if len(state.transl) > 1 or (flat and (self.latent or not problem.can_split(state.transl.shape[1]))):
            return found
        if flat:
            samples = samples_of_fingers(problem.terms, torch.Generator().manual_seed(self.config.seed))
            return lowest_mode(problem, found, stages[-1], other_depths, partial(other_hands, samples=samples))
        again = restart(problem, state, converged, self.start, stages[-1], self._consistent)
        return replace(again, steps=steps + again.steps)

    def _consistent(self, state: BodyState) -> BodyState:
        """The state with latents and hand coefficients that belong to its pose."""
        if state.hands is not None and any(j >= 25 for j in self.problem.free):
            state = replace(state, hands=hand_coefficients(state.pose, self.convention))
        if state.latent is not None and isinstance(self.prior, LatentPosePrior):
            state = replace(state, latent=self.prior.encode(state.pose))
        return state

    def _require_finite(self, state: BodyState, stage: Stage) -> None:
        """Refuse a body whose energy is finite at none of its starts: no minimiser could move it."""
        for name, energy in self.problem.energies(state, stage).items():
            lost = ~torch.isfinite(energy).any(0)
            if bool(lost.any()):
                value, body = float(energy[0, lost][0]), int(self.bodies[lost][0])
                raise ValueError(
                    f"{name}: expected finite energies, got {value} for body {body}; check what this term or target was "
                    "made from."
                )

    def _result(self, found: Outcome, stage: Stage) -> BodyFit:
        state, converged = found.state, found.converged.view(found.state.transl.shape[:2])
        weights = torch.ones_like(state.transl[..., 0])
        if len(state.transl) > 1:
            with torch.no_grad():
                energy = self.problem.evidence(state, stage)
            weights = mode_weights(self.problem, state, stage, energy)
            order = (-weights).argsort(0)[: self.hypotheses]
            weights = weights.gather(0, order)
            weights, state, converged = weights / weights.sum(0), state.pick(order), converged.gather(0, order)
        with torch.no_grad():
            table = {name: value[0] for name, value in self.problem.energies(state, stage).items()}
            outliers = self.problem.num_outliers(state)[0]
            pelvis = self.problem.body(state)[0, :, 0]
        count = self.problem.num_points()
        bridged = torch.full_like(converged[0], self.config.smooth_sigma is not None)
        converged = converged[0] & (2 * outliers <= count) & ((count > 0) | bridged)
        return BodyFit(
            table, converged, found.steps, weights, count, outliers, pelvis, coordinates_of(self.problem.targets), state,
            self.convention, shown_joints(self.model, self.problem.targets),
        )  # fmt: skip

    # ------------------------------------------------------------------ stages

    def _stages(self) -> list[Stage]:
        """Root; body, twice; hands and face; everything."""
        config = self.config
        everything = Variables(
            joints=self._moved(self.problem.free), shape=config.fit_shape and not self.fixed_shape,
            expression=config.fit_expression and self.face, hands=self.convention.num_coefficients is not None
            and any(j >= 25 for j in self.problem.free), latent=self.latent, convention=self.convention,
            prior=self.prior if isinstance(self.prior, LatentPosePrior) else None,
        )  # fmt: skip
        body = replace(everything, joints=tuple(j for j in everything.joints if j < 22), hands=False, expression=False)
        root = Variables(joints=(), convention=self.convention)
        count = config.iterations
        body_points = self.body_points if any(bool(b.any()) for b in self.body_points) else self.visible
        tolerant = Stage(
            body, min(count, _FIRST), body_points, progress=0.0, outlier_scale=4.0, median_factor=3.0, coarse=True
        )  # fmt: skip
        stages = [
            replace(tolerant, variables=root, chosen=self.torso, outlier_scale=8.0, regularised=False, coarse=False),
            tolerant,
            replace(tolerant, iterations=min(count, _SECOND), progress=0.5, outlier_scale=2.0, median_factor=2.0),
            Stage(everything, count, self.visible),
        ]
        if self.any_detail:
            details = replace(stages[2], variables=everything, chosen=self.visible, progress=0.75)
            stages.insert(3, details)
        return stages

    def _go_on(self, state: BodyState, energy: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Starts that go on after a stage, the best first.

        Different modes come before starts that repeat a better one; these stay idle, since they would end where it does.

        Returns:
            Their numbers (keep, B), and (keep, B) bool, which of them are repeats.
        """
        energy = torch.nan_to_num(energy, nan=torch.inf)
        repeated = repeats(self.problem.body(state), energy)
        order = energy.argsort(dim=0, stable=True)
        order = order.gather(0, repeated.gather(0, order).to(torch.int8).argsort(dim=0, stable=True))[:keep]
        return order, repeated.gather(0, order)

    def _keep(self, starts: int, number: int, count: int) -> int:
        """How many starts go on after a stage: half, but enough for the hypotheses; after the last stage one, or all."""
        if number == count - 1:
            return starts if self.hypotheses > 1 else 1
        room = 2 * self.hypotheses if self.hypotheses > 1 else 1
        return max(min(starts, room), starts // 2)

    def _place(self, state: BodyState, stage: Stage) -> BodyState:
        """Starts (S, B), each placed where the measured torso is."""
        config, problem = self.config, self.problem
        number = is_2d(problem.targets)
        if number is None:
            alone = _LATENT_STARTS if self.latent else 1
            wanted = config.num_starts or (2 * self.hypotheses if self.hypotheses > 1 else alone)
            return place_in_3d(problem, self._several(state, wanted), stage.chosen)
        target = problem.targets[number]
        assert isinstance(target, Keypoints2D)
        if self.given_root:
            return place_in_view(problem, state, target, number, stage.chosen[number])
        wanted = config.num_starts or (4 if self.prior is None else 16)
        chosen = replace(stage, chosen=self.visible)
        poses, latents = self.samples
        samples = poses[1:], None if latents is None else latents[1:]
        return candidates_2d(problem, state, target, number, chosen, wanted, samples, self.drawn)

    def _starts_of_points(self) -> BodyState:
        """Where inverse kinematics begins: the start; and where that is a prior's mean, the rest pose as a second one."""
        if self.prior is None or self.given_pose:
            return self.start
        pose = self.start.pose.clone()
        pose[..., list(self.prior.joints), :] = 0.0
        return self.start.join(self._consistent(replace(self.start, pose=pose)))

    def _several(self, state: BodyState, count: int) -> BodyState:
        """The start, and after it `count` - 1 copies in which drawn poses stand in for it."""
        bodies = state.transl.shape[1]
        which = torch.zeros(count, bodies, dtype=torch.long, device=state.pose.device)
        state = state.pick(which)
        if count > 1:
            poses, latents = self.samples
            index, some = list(self.drawn), min(count, len(poses))
            state.pose[1:some, :, index] = poses[1:some, None, index].to(state.pose).expand(-1, bodies, -1, -1)
            if latents is not None and state.latent is not None:
                state.latent[1:some] = latents[1:some, None].to(state.pose)
        return state

    def _moved(self, free: tuple[int, ...]) -> tuple[int, ...]:
        """The joints that move as rotvecs: neither those that a latent decides, nor fingers that are PCA coefficients."""
        other: set[int] = set()
        if self.latent and self.prior is not None:
            other |= set(self.prior.joints)
        if self.convention.num_coefficients is not None:
            other |= set(range(25, 55))
        return tuple(j for j in free if j not in other)
