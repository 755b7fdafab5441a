"""Families with a default and a published architecture: which constructor a saved configuration belongs to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ..._checks import check_choice, check_mapping, check_option_names

_Prior = TypeVar("_Prior")


def from_architecture(
    default: Callable[..., _Prior],
    published: Callable[..., _Prior],
    config: Mapping[str, Any],
    *,
    renamed: Mapping[str, str],
) -> _Prior:
    """The prior of a configuration, whose entry `architecture` says which constructor takes the other options.

    Older versions called that entry `preset`, wrote options of the default architecture beside a published one, and
    `context_dropout` without a conditioning vector; neither had an effect.

    Args:
        default: constructor of the default architecture.
        published: constructor of the published one.
        config: what `get_config` gave, in this version or an older one.
        renamed: present names of options by their older ones.

    Raises:
        ValueError: an unknown architecture, or options that its constructor does not take.
    """
    options = dict(check_mapping("config", config))
    older = "preset" in options
    architecture = options.pop("preset" if older else "architecture", "default")
    check_choice("architecture", architecture, ("default", "published"))
    make = published if architecture == "published" else default
    if older:
        options = {renamed.get(name, name): value for name, value in options.items()}
        if architecture == "published":
            taken = inspect.signature(published).parameters
            options = {name: value for name, value in options.items() if name in taken}
        if not options.get("context_dim"):
            options.pop("context_dropout", None)
    check_option_names(make, options, f"the {architecture} architecture")
    return make(**options)
