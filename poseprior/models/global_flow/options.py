"""Options of the couplings of `GlobalFlow`, checked."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..._checks import check_effect, check_mapping, check_number, check_share, check_whole

_OF_NETWORKS = ("hidden", "layers", "dropout", "input_noise", "max_log_scale")
_OLDER_NAMES = ("noise", "most_log_scale")


def checked_options(
    make: Callable[..., object], couplings: int, context_dim: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options of the couplings and of their networks.

    Args:
        make: the constructor, which has the defaults.
        couplings: how many there are.
        context_dim: length of the conditioning vector, which only the networks see.
        options: of the networks.

    Raises:
        ValueError: a value of another type or out of range; options of networks, or a conditioning vector, without
            couplings.
    """
    checked = {
        "couplings": check_whole("couplings", couplings, most=32),
        "hidden": check_whole("hidden", options["hidden"], least=1, most=4096),
        "layers": check_whole("layers", options["layers"], least=1, most=16),
        "dropout": check_share("dropout", options["dropout"]),
        "input_noise": check_number("input_noise", options["input_noise"], least=0.0, most=100.0),
        "max_log_scale": check_number("max_log_scale", options["max_log_scale"], least=0.0, most=20.0),
    }
    if not checked["couplings"]:
        usual = inspect.signature(make).parameters
        for name in (*_OF_NETWORKS, "context_dim"):
            value = checked.get(name, context_dim)
            check_effect(name, value, usual[name].default, "couplings=0", "couplings above 0", zero_is_off=True)
    return checked


def without_idle_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A saved configuration without what has no effect: older versions took options of networks beside couplings=0."""
    if check_mapping("config", config).get("couplings") != 0:
        return config
    idle = {*_OF_NETWORKS, *_OLDER_NAMES, "context_dim"}
    kept = {name: value for name, value in config.items() if not (name in idle and value)}  # 0 is taken, and comes back
    kept.pop("context_dropout", None)
    return kept
