"""The promises of `PosePrior`, held by every prior of `prior_cases.CASES`; see `contract` for the checks."""

from __future__ import annotations

import pytest
import torch
from contract import density
from contract.by_case import INTEGRALS, WHOLE
from prior_cases import CASES, fitted, shown_poses, training_poses

import poseprior

NAMES = sorted(CASES)
#: Names whose densities are integrated; the large ones take long.
PAIRS = [pytest.param(name, marks=[pytest.mark.slow] if CASES[name].heavy else []) for name in NAMES]
#: A root that turns all the way round, and a shoulder.
ONE_JOINT = ((0,), (16,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", WHOLE)
def test_over_many_joints(check: str, name: str) -> None:
    WHOLE[check](CASES[name], fitted(name))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("check", INTEGRALS)
def test_over_two_joints(check: str, name: str) -> None:
    INTEGRALS[check](CASES[name], fitted(name, CASES[name].pair))


@pytest.mark.parametrize("joint", ONE_JOINT)
@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].mirrored is None and not CASES[name].heavy])
def test_mass_of_one_joint(name: str, joint: tuple[int, ...]) -> None:
    case = CASES[name]
    if joint == (0,) and case.slack:
        pytest.skip("a loose bound of a root that turns all the way round")
    density.check_mass(fitted(name, joint), shown_poses(), whole=case.whole_mass, slack=case.slack)


def test_joints_never_observed_are_not_modelled() -> None:
    for name in NAMES:
        assert fitted(name).joints == tuple(sorted(CASES[name].joints))
    shown = torch.as_tensor(training_poses().observed).clone()
    shown[:, [16, 17]] = False  # both: reflections show the one as the other
    data = poseprior.PoseDataset(training_poses().poses, shown)
    for name in NAMES:
        case = CASES[name]
        if case.mirrored is None and not case.heavy and not fitted(name).context_dim:
            prior = case.build((10, 16, 20))
            prior.fit(data, config=case.few_steps())
            assert prior.joints == (10, 20), name
