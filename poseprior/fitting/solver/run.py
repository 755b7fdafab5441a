"""`FitRun`: one call of `fit_body`, from starts through stages to a `BodyFit`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ... import skeleton
from ...optim import Minimum
from ...prior import LatentPosePrior
from ..body.hand_convention import HandConvention
from ..energy import PoseParams, pose_and_mask
from ..result import BodyFit
from ..targets import Keypoints2D, Target
from ..term import PosePriorTerm
from .gauss_newton import preconditioner
from .hypotheses import mode_weights, repeats
from .problem import FitProblem, torso_points
from .stages import Stage
from .starts import between_seen, candidates_2d, is_2d, place_in_3d, place_in_view, prior_poses, start_state
from .state import BodyState, Variables, decode_hands

_SAMPLES = 64
_ROUND = 25
_JUDGE = 4.0
#: Steps of the tolerant stages. They find the basin; carried on to their own minima, they settle among the outliers.
_FIRST, _SECOND = 10, 13
#: Of fits to points in 3D: decoders have valleys that no step leaves, and starts that end where others do cost little.
_LATENT_STARTS = 4
_FIRST_LANDMARK = 76


class FitRun:
    """One call of `fit_body`."""

    def __init__(
        self, model: nn.Module, problem: FitProblem, prior_term: PosePriorTerm | None, bodies: int,
        start: PoseParams | None, betas: Tensor | None, num_hypotheses: int,
    ) -> None:  # fmt: skip
        self.problem, self.config, self.hypotheses = problem, problem.config, num_hypotheses
        self.convention = HandConvention.of(model)
        self.prior = prior_term.prior if prior_term else None
        reference = model.v_template
        assert isinstance(reference, Tensor)
        generator = torch.Generator().manual_seed(self.config.seed)
        self.latent = self.config.space == "latent"
        self.samples = None
        if self.prior is not None:
            self.samples = prior_poses(self.prior, _SAMPLES, generator, self.latent)
        size = self.convention.num_coefficients
        sizes: tuple[int, int] = (int(model.num_betas), int(model.num_expression_coeffs))  # type: ignore[arg-type]
        state = start_state(reference, bodies, *sizes, size, self._first_latent(start))
        state = self._set_start(state, start)
        self.fixed_shape = betas is not None
        if betas is not None:
            state = replace(state, betas=_shape(betas, state.betas))
        self.given_root = start is not None and bool(state.pose[..., 0, :].any())
        self.start = state
        self.torso = [torso_points(target, model) for target in problem.targets]
        self.visible = [target.confidence > 0 for target in problem.targets]
        parts = [torch.tensor([p in ("body", "feet", "marker") for p in t.parts]) for t in problem.targets]
        self.body_points = [v & p.to(v.device) for v, p in zip(self.visible, parts, strict=True)]
        self.any_detail = any(bool((v & ~b).any()) for v, b in zip(self.visible, self.body_points, strict=True))
        self.face = any(bool((v & _landmarks(t)).any()) for v, t in zip(self.visible, problem.targets, strict=True))

    def fit(self, progress: bool) -> BodyFit:
        """Run the stages."""
        problem, steps = self.problem, 0
        state, energy, last, idle = self.start, None, None, None
        stages = self._stages()
        with tqdm(total=len(stages), desc="fit_body", disable=not progress) as bar:
            with torch.no_grad():
                state = self._place(state, stages[0])
            for number, stage in enumerate(stages):
                with torch.no_grad():
                    stage = problem.with_outlier_scales(state, stage)
                    if stage.smooth is not None:
                        state = between_seen(state, torch.stack([v.any(-1) for v in self.visible]).any(0))
                    if number == len(stages) - 1:
                        self._require_finite(state, stage)
                before = state
                state, last, count = self._minimise(state, stage, idle)
                steps += count
                with torch.no_grad():
                    if number == 0:  # judged by all points: a wild one in the torso must not misplace a body
                        stage = replace(stage, chosen=self.visible, outlier_scale=_JUDGE, outlier_scales=None)
                        better = problem.total(state, stage) <= problem.total(before, stage)
                        state = state.where(better, before)
                    energy = problem.total(state, stage)
                    if len(energy) > 1:
                        best, idle = self._go_on(state, energy, self._keep(len(energy), number, len(stages)))
                        state, energy = state.pick(best), energy.gather(0, best)
                        last = replace(last, converged=last.converged.view(-1, best.shape[1]).gather(0, best).flatten())
                bar.update()
        assert energy is not None and last is not None
        return self._result(state, energy, last.converged, steps, stages[-1])

    def _minimise(self, state: BodyState, stage: Stage, idle: Tensor | None) -> tuple[BodyState, Minimum, int]:
        """A stage, in rounds: each begins with the curvature where the bodies stand. Idle starts follow the first."""
        state, last, steps = self._rounds(state, stage, idle)
        if idle is not None:
            state = state.where(~idle, state.pick(torch.zeros_like(idle, dtype=torch.long)))
        return state, last, steps

    def _rounds(self, state: BodyState, stage: Stage, idle: Tensor | None) -> tuple[BodyState, Minimum, int]:
        if self.config.optimizer == "adam":
            state, last = self.problem.minimise(state, stage)
            return state, last, last.steps
        left, done = stage.iterations, 0
        while True:
            start = preconditioner(self.problem, state, stage)
            state, last = self.problem.minimise(state, replace(stage, iterations=min(left, _ROUND)), start, idle)
            left, done = left - last.steps, done + last.steps
            if left <= 0 or last.steps == 0 or bool(last.converged.all()):
                return state, last, done

    def _require_finite(self, state: BodyState, stage: Stage) -> None:
        """Refuse energies that are not finite wherever a body stands: no minimiser could move it."""
        for name, energy in self.problem.energies(state, stage).items():
            lost = ~torch.isfinite(energy).any(0)
            if bool(lost.any()):
                raise ValueError(
                    f"{name}: expected finite energies, got {float(energy[0, lost][0])} for body {int(lost.nonzero()[0])}; check "
                    "what this term or target was made from."
                )

    def _result(self, state: BodyState, energy: Tensor, converged: Tensor, steps: int, stage: Stage) -> BodyFit:
        starts, bodies = energy.shape
        if starts > 1:
            weights = mode_weights(self.problem, state, stage, energy)
            order = (-weights).argsort(0)[: self.hypotheses]
            weights = weights.gather(0, order)
            weights = weights / weights.sum(0)
            state = state.pick(order)
            converged = converged.view(starts, bodies).gather(0, order)[0]
        else:
            weights = torch.ones_like(energy)
            converged = converged.view(1, -1).repeat_interleave(stage.variables.frames, 1)[0]
        with torch.no_grad():
            table = {name: value[0] for name, value in self.problem.energies(state, stage).items()}
        count = torch.stack([v.sum(-1) for v in self.visible]).sum(0)
        return BodyFit(table, converged, steps, weights, count, state, self.convention)

    # ------------------------------------------------------------------ stages

    def _stages(self) -> list[Stage]:
        """Root; body, twice; hands and face; everything; and once more as a sequence if it is one."""
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
        stages = [
            Stage(
                root,
                min(count, _FIRST),
                self.torso,
                progress=0.0,
                outlier_scale=8.0,
                median_factor=3.0,
                regularised=False,
            ),
            Stage(
                body, min(count, _FIRST), body_points, progress=0.0, outlier_scale=4.0, median_factor=3.0, coarse=True
            ),
            Stage(
                body, min(count, _SECOND), body_points, progress=0.5, outlier_scale=2.0, median_factor=2.0, coarse=True
            ),
            Stage(everything, count, self.visible),
        ]
        if self.any_detail:
            details = Stage(
                everything, min(count, _SECOND), self.visible, progress=0.75, outlier_scale=2.0, median_factor=2.0, coarse=True
            )  # fmt: skip
            stages.insert(3, details)
        if config.smooth_sigma is not None:
            frames = self.start.transl.shape[1]
            sequence = replace(everything, frames=frames)
            stages.append(Stage(sequence, 2 * count, self.visible, smooth=config.smooth_sigma))
        return stages

    def _go_on(self, state: BodyState, energy: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Starts (keep, B) that go on after a stage, the best first, and which of them only repeat a better one.

        Different modes come before repeats, which stay idle: they would end where the better one does.
        """
        energy = torch.nan_to_num(energy, nan=torch.inf)
        repeated = repeats(self.problem.body(state), energy)
        order = energy.argsort(dim=0, stable=True)
        order = order.gather(0, repeated.gather(0, order).to(torch.int8).argsort(dim=0, stable=True))[:keep]
        return order, repeated.gather(0, order)

    def _keep(self, starts: int, number: int, count: int) -> int:
        """Starts that go on after a stage: half of them, then the hypotheses that were asked for."""
        if self.config.smooth_sigma is not None and number >= count - 2:
            return 1
        if number == count - 1:
            return starts if self.hypotheses > 1 else 1
        room = 2 * self.hypotheses if self.hypotheses > 1 else 1
        return max(min(starts, room), starts // 2)

    def _place(self, state: BodyState, stage: Stage) -> BodyState:
        """Starts (S, B): placed where the torso is."""
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
        wanted = config.num_starts or (16 if self.samples is not None else 4)
        chosen = replace(stage, chosen=self.visible)
        joints = () if self.prior is None else self.prior.joints
        samples = self.samples
        if samples is not None:
            samples = samples[0][1:], None if samples[1] is None else samples[1][1:]
        return candidates_2d(problem, state, target, number, chosen, wanted, samples, joints)

    def _several(self, state: BodyState, count: int) -> BodyState:
        """The start, and samples of the prior in place of the pose."""
        bodies = state.transl.shape[1]
        which = torch.zeros(count, bodies, dtype=torch.long, device=state.pose.device)
        state = state.pick(which)
        if count > 1 and self.samples is not None and self.prior is not None:
            poses, latents = self.samples
            index, some = list(self.prior.joints), min(count, len(poses))
            state.pose[1:some, :, index] = poses[1:some, None, index].to(state.pose).expand(-1, bodies, -1, -1)
            if latents is not None and state.latent is not None:
                state.latent[1:some] = latents[1:some, None].to(state.pose)
        return state

    # ------------------------------------------------------------------ starts

    def _first_latent(self, start: PoseParams | None) -> Tensor | None:
        if not self.latent:
            return None
        assert isinstance(self.prior, LatentPosePrior) and self.samples is not None and self.samples[1] is not None
        if start is None:
            return self.samples[1][:1]
        return self.prior.encode(pose_and_mask(start, self.convention)[0])

    def _set_start(self, state: BodyState, start: PoseParams | None) -> BodyState:
        """The given pose, or the prior's mean pose on its joints."""
        pose = state.pose.clone()
        if start is not None:
            given, _ = pose_and_mask(start, self.convention)
            if given.dim() > 3 or not bool(torch.isfinite(given).all()):
                raise ValueError(
                    f"start: expected finite rotations of {pose.shape[1]} bodies, got {tuple(given.shape)}."
                )
            try:
                pose = given.to(pose).expand_as(pose[0])[None].clone()
            except RuntimeError:
                raise ValueError(f"start: expected 1 or {pose.shape[1]} bodies, got {len(given)}.") from None
        elif self.samples is not None and self.prior is not None:
            index = list(self.prior.joints)
            pose[..., index, :] = self.samples[0][0, index].to(pose)
        state = replace(state, pose=pose)
        judged = () if self.prior is None else self.prior.joints
        if state.hands is not None and start is None and not any(j >= 25 for j in judged):
            pose = pose.clone()  # the model's own hand at rest: coefficients of zero
            pose[..., 25:55, :] = decode_hands(state.hands, self.convention)
            state = replace(state, pose=pose)
        elif state.hands is not None:
            hands = torch.stack([_coefficients(pose[..., part, :], self.convention, side) for side, part in enumerate(
                (skeleton.PART_SLICES["left_hand_pose"], skeleton.PART_SLICES["right_hand_pose"])
            )], -2)  # fmt: skip
            state = replace(state, hands=hands)
        return state

    def _moved(self, free: tuple[int, ...]) -> tuple[int, ...]:
        """Joints that move as rotvecs: not those of a latent, nor hands that are coefficients."""
        other: set[int] = set()
        if self.latent and self.prior is not None:
            other |= set(self.prior.joints)
        if self.convention.num_coefficients is not None:
            other |= set(range(25, 55))
        return tuple(j for j in free if j not in other)


def _shape(betas: Tensor, like: Tensor) -> Tensor:
    betas = torch.as_tensor(betas).to(like)
    if not bool(torch.isfinite(betas).all()):
        raise ValueError("betas: expected finite numbers, got NaN or infinity.")
    if (
        betas.shape[-1] != like.shape[-1]
        or betas.dim() > 2
        or (betas.dim() == 2 and len(betas) not in (1, like.shape[1]))
    ):
        raise ValueError(
            f"betas: expected ({like.shape[-1]},) or ({like.shape[1]}, {like.shape[-1]}), got {tuple(betas.shape)}."
        )
    return betas.expand_as(like).clone()


def _landmarks(target: Target) -> Tensor:
    """(K,) bool: points that the expression moves."""
    marks = [j >= _FIRST_LANDMARK for j in target.joints] + [False] * len(target.vertices)
    return torch.tensor(marks, device=target.points.device)


def _coefficients(hand: Tensor, convention: HandConvention, side: int) -> Tensor:
    """(*, n) least-squares PCA coefficients of hands (*, 15, 3)."""
    assert convention.components is not None
    vector = hand.flatten(-2)
    if convention.mean is not None:
        vector = vector - convention.mean[side].to(vector)
    return vector @ torch.linalg.pinv(convention.components[side].to(vector))
