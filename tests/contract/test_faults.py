"""The contract notices: each fault of `faults.py` makes the check that is named there fail, and only the fault does."""

from __future__ import annotations

import pytest
from prior_cases import CASES, fitted

from contract.by_case import INTEGRALS, WHOLE
from contract.faults import FAULTS


def test_there_are_enough_faults_and_checks_to_notice_them() -> None:
    assert len(FAULTS) >= 18
    assert {fault.check for fault in FAULTS.values()} <= {*WHOLE, *INTEGRALS}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_the_contract_notices(name: str) -> None:
    fault = FAULTS[name]
    case = CASES[fault.case]
    whole = fault.check in WHOLE
    prior = fitted(fault.case, None if whole else case.pair)
    check = WHOLE[fault.check] if whole else INTEGRALS[fault.check]
    with fault.broken(prior), pytest.raises((AssertionError, pytest.fail.Exception)):
        check(case, prior)
