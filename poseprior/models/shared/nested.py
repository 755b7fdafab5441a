"""Priors that hold other priors: what they hold, as an object or as saved options name it."""

from __future__ import annotations

from collections.abc import Mapping

from ... import checkpoint
from ..._checks import quoted
from ...prior import PosePrior


def nested_prior(argument: str, value: object) -> PosePrior:
    """The value, if it is a prior, or an unfitted prior made from the mapping with `class` and `config` that stands for it.

    Args:
        argument: name of the argument, for messages.
        value: a prior, or `{"class": name, "config": options}` as `get_config` of the prior that holds it writes it.

    Raises:
        ValueError: neither of them, an unknown class, or options that it does not take.
    """
    if isinstance(value, PosePrior):
        return value
    if not isinstance(value, Mapping) or not {"class", "config"} <= set(value):
        raise ValueError(f"{argument}: expected a prior, got {quoted(value)}.")
    try:
        built = checkpoint.build(value["class"], value["config"], "it")
    except ValueError as error:
        reason = str(error).removeprefix("path: ").removesuffix(".")
        raise ValueError(f"{argument}: expected a prior, got {quoted(value)} ({reason}).") from error
    if not isinstance(built, PosePrior):
        raise ValueError(f"{argument}: expected a prior, got a {type(built).__name__}.")
    return built
