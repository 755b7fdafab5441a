"""Priors of fingers have several modes: fits to pictures try the fingers of their samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import poseprior
from poseprior.fitting import BodyPoints, Camera, EnergyTerm, FitBodyConfig, Keypoints2D, PosePriorTerm, fit_body
from poseprior.fitting.body.hand_convention import HandConvention
from poseprior.fitting.energy import PoseParams
from poseprior.fitting.solver import hands as hands_module
from poseprior.fitting.solver.hands import other_hands, samples_of_fingers
from poseprior.fitting.solver.initial import start_state
from poseprior.fitting.solver.problem import FitProblem
from poseprior.fitting.solver.stages import Stage
from poseprior.fitting.solver.state import BodyState, Variables, decode_hands

LEFT, RIGHT = tuple(range(25, 40)), tuple(range(40, 55))
CAMERA = Camera(1200.0, (960.0, 540.0))
TRANSL = torch.tensor([0.1, 0.2, 3.5])


class Zero(EnergyTerm):
    """A term of a user's own, which has no samples."""

    joints = LEFT + RIGHT

    def __call__(
        self, params: PoseParams | None = None, *, latent: Tensor | None = None, progress: float = 1.0
    ) -> Tensor:
        assert isinstance(params, Tensor)
        return 0.0 * params.square().sum((-1, -2))

    def select(self, bodies: Tensor) -> EnergyTerm:
        return self


@pytest.fixture(scope="module")
def hand_term() -> PosePriorTerm:
    return PosePriorTerm(poseprior.load("hand-mixture"), reduction="sum")


def _seen(model: nn.Module, people: Tensor, joints: tuple[int, ...]) -> Keypoints2D:
    """Joints of people in a picture, without noise."""
    transl = TRANSL.expand(len(people), 3)
    pixels = CAMERA.project(BodyPoints(model, joints=joints)(people, transl=transl))
    target = Keypoints2D(pixels, camera=CAMERA, layout={str(j): j for j in joints}, sigma=2.0)
    target.to(model.v_template)  # type: ignore[arg-type]
    return target


def _with_hands(people: Tensor, term: PosePriorTerm, seed: int) -> Tensor:
    drawn = term.prior.sample(len(people), generator=torch.Generator().manual_seed(seed))
    pose = people.clone()
    pose[:, 25:] = drawn[:, 25:]
    return pose


def _problem(
    model: nn.Module, people: Tensor, joints: tuple[int, ...], term: EnergyTerm, free: tuple[int, ...]
) -> tuple[FitProblem, BodyState, Stage]:
    target = _seen(model, people, joints)
    problem = FitProblem(model, [target], [term], free, FitBodyConfig(fit_shape=False))
    state = start_state(model.v_template, len(people), 10, 10, None, None)  # type: ignore[arg-type]
    state.pose[0], state.transl[0] = people, TRANSL
    state.pose[0, :, 25:] = 0.0
    return problem, state, Stage(Variables(joints=free), 50, [target.confidence > 0])


def test_samples_are_of_the_priors_that_judge_fingers(hand_term: PosePriorTerm) -> None:
    first = samples_of_fingers([hand_term, Zero()], torch.Generator().manual_seed(0))
    again = samples_of_fingers([Zero(), hand_term], torch.Generator().manual_seed(0))
    assert torch.equal(first[0], again[0]) and first[1] == set(LEFT + RIGHT)
    assert not first[0][:, :25].any() and (first[0][:, 25:].norm(dim=-1).amax(-1) > 0).all()
    left = PosePriorTerm(hand_term.prior, joints="left_hand")
    poses, known = samples_of_fingers([left], torch.Generator().manual_seed(0))
    assert known == set(LEFT) and not poses[:, 40:].any()
    body = PosePriorTerm(poseprior.load("body-mixture"))
    for terms in ([], [Zero()], [body]):
        poses, known = samples_of_fingers(terms, torch.Generator())
        assert not known and not poses.any()


def test_hands_that_are_seen_are_tried(model: nn.Module, people: Tensor, hand_term: PosePriorTerm) -> None:
    """Of each hand alone, and lower in energy than flat hands, where fingers are measured and may move."""
    people = _with_hands(people, hand_term, seed=1)
    samples = samples_of_fingers([hand_term], torch.Generator().manual_seed(0))
    whole = tuple(j for j in range(55) if j not in (22, 23, 24))

    def hands(joints: tuple[int, ...], free: tuple[int, ...]) -> list[tuple[BodyState, Tensor, Tensor]]:
        problem, state, stage = _problem(model, people, joints, hand_term, free)
        energy = problem.total(state, stage)[0]
        found = list(other_hands(problem, state, energy, stage, samples))
        for poses, rows, _ in found:
            part = problem.of_bodies(rows)
            assert (part.total(poses, stage.rows(rows, len(energy)))[0] < energy[rows] + 30.0).all()
        return found

    both = hands(whole, tuple(range(1, 55)))
    assert [tuple(moved[0].nonzero()[:, 0].tolist()) for _, _, moved in both] == [LEFT, RIGHT]
    assert all(set(rows.tolist()) == set(range(len(people))) for _, rows, _ in both)
    (right,) = hands(tuple(j for j in whole if j not in LEFT), tuple(range(1, 55)))
    assert right[2][:, 40:].all() and not right[2][:, :40].any()
    fingers = hands(whole, LEFT)
    assert len(fingers) == 1
    for poses, rows, _ in fingers:
        held = [*range(1, 25), *RIGHT]  # the root moves always
        torch.testing.assert_close(
            poses.pose[0][:, held], people[rows][:, held].index_fill(1, torch.arange(24, 39), 0.0)
        )
    assert not hands(tuple(range(22)), tuple(range(1, 55))) and not hands(whole, tuple(range(1, 22)))


@pytest.mark.parametrize("pca", [False, True])
def test_fits_find_the_fingers_of_pictures(
    make_model: Callable[..., nn.Module], people: Tensor, hand_term: PosePriorTerm, pca: bool
) -> None:
    """As a fit that begins with the true pose does. Without other hands the first ends 1 and 8 nats above it."""
    truth = _with_hands(people, hand_term, seed=3)[2:4]
    target = _seen(make_model(), truth, tuple(j for j in range(55) if j not in (22, 23, 24)))
    model = make_model(use_pca=True, num_pca_comps=45) if pca else make_model()
    prior, config = poseprior.load("body-mixture"), FitBodyConfig(fit_shape=False)
    own, best = (
        fit_body(model, target, prior=prior, terms=[hand_term], config=config, start=start) for start in (None, truth)
    )
    assert bool(own.converged.all()) and (own.energy < best.energy + 0.5).all()


def test_samples_are_judged_as_hand_coefficients_can_take_them(
    make_model: Callable[..., nn.Module], people: Tensor, hand_term: PosePriorTerm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few PCA coefficients take few of the samples' fingers: the energies that choose samples are of those poses."""
    truth = _with_hands(people, hand_term, seed=3)[2:3]
    target = _seen(make_model(), truth, tuple(j for j in range(55) if j not in (22, 23, 24)))
    model, judged, total = make_model(use_pca=True, num_pca_comps=6), [], hands_module.finite_total

    def judges(problem: FitProblem, state: BodyState, stage: Stage) -> Tensor:
        judged.append(state)
        return total(problem, state, stage)

    monkeypatch.setattr(hands_module, "finite_total", judges)
    fit_body(
        model, target, prior=poseprior.load("body-mixture"), terms=[hand_term], config=FitBodyConfig(iterations=10)
    )
    assert judged
    for state in judged:
        assert state.hands is not None
        torch.testing.assert_close(state.pose[..., 25:, :], decode_hands(state.hands, HandConvention.of(model)))
