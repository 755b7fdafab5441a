"""The promises of `PosePrior` as checks: functions that take a prior and raise AssertionError where it breaks one.

`test_prior_contract.py` runs them on every prior of `prior_cases.py` and on every weight that ships; `test_faults.py`
shows that they fail on priors that are broken on purpose.
"""
