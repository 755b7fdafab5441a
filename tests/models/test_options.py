"""Every option of every prior: values of other types and out of range are one error that names the option."""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import poseprior
from poseprior import checkpoint
from poseprior.models import (
    BodyVAE,
    GaussianMixturePrior,
    GaussianPrior,
    GlobalFlow,
    HandVAE,
    JointFlow,
    OrderAgnosticPrior,
    ProductPrior,
    VAEPrior,
)
from poseprior.models.shared.grouped_mlp import GroupedMLP

_HUGE = 10**400
_NO_NUMBER: tuple[object, ...] = (
    True,
    "a",
    "1",
    {},
    {"a": 1},
    [1],
    object(),
    math.nan,
    math.inf,
    b"1",
    1j,
    _HUGE,
    -_HUGE,
)
_NO_LISTS: tuple[object, ...] = (
    3, 0.5, True, "a", {}, {0: [16]}, [3], [["a"]], [[1.5]], [[True]], [[math.inf]], [[_HUGE]], [[-1]], [{}], [[[16]]],
    object(), [None], [[16], [16, 18, 20]], [[16]],
)  # fmt: skip
#: Wrong values by annotation. An option of a new kind of annotation has to be added here.
WRONG: dict[str, tuple[object, ...]] = {
    "int": (*_NO_NUMBER, None, 2.5, -1, 2**63),
    "int | None": (*_NO_NUMBER, 2.5, -1, 2**63),
    "float": (*_NO_NUMBER, None, -1.0),
    "float | None": (*_NO_NUMBER, -1.0),
    "bool": (None, 0, 1, 1.0, "yes", {}, [True], object(), _HUGE),
    "Literal['diagonal', 'full']": (None, 0, True, "other", {}, ["full"], object(), _HUGE),
    "Literal['full', 'diagonal']": (None, 0, True, "other", {}, ["full"], object(), _HUGE),
    "Sequence[Sequence[int]] | None": _NO_LISTS,
    "Sequence[tuple[Sequence[int], Sequence[int]]] | None": (
        *_NO_LISTS, [([16, 18, 20],)], [([16, 18, 20], 3)], [([16, 18, 20], [0])], [([16, 18, 20], [-1])],
    ),
    "str | int | Iterable[str | int]": (
        None, True, 0.5, -1e308, {}, {"a": 1}, object(), _HUGE, -1, 55, "nobody", "", [], [[16]], [None], [True], b"body",
    ),
    "str | int | Iterable[str | int] | None": (
        True, 0.5, -1e308, {}, {"a": 1}, object(), _HUGE, -1, 55, "nobody", "", [], [[16]], [None], [True], b"body",
    ),
    "Sequence[int]": (None, 3, "a", {}, ["a"], [0.5], [True], [7], [-1], [_HUGE], [0, 0], [[0]], object()),
    "Sequence[PosePrior | Mapping[str, Any]]": (
        None, 3, "a", {}, [], [3], ["body"], [{}], [{"class": {}, "config": {}}], [{"class": "GaussianPrior"}],
        [{"class": "GaussianPrior", "config": 3}], [{"class": "Nobody", "config": {}}], [[]], object(),
    ),
}  # fmt: skip

#: Constructors, with options under which all of them matter.
MAKERS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "gaussian": (GaussianPrior, {"joints": (16, 18, 20), "covariance": "full"}),
    "mixture": (GaussianMixturePrior, {"joints": (16, 18, 20)}),
    "joint-flow": (JointFlow, {"joints": (16, 18, 20)}),
    "joint-flow-published": (JointFlow.published, {"joints": (16, 18, 20)}),
    "global-flow": (GlobalFlow, {"joints": (16, 18, 20), "context_dim": 2}),
    "global-flow-published": (GlobalFlow.published, {"joints": (16, 18, 20), "context_dim": 2}),
    "order-agnostic": (OrderAgnosticPrior, {"joints": (16, 18, 20)}),
    "vae": (VAEPrior, {"joints": (16, 18, 20), "reconstruction_weight": 1.0}),
    "vae-published": (VAEPrior.published, {"joints": (16, 18, 20)}),
    "body-vae": (BodyVAE, {"joints": (16, 18, 20), "reconstruction_weight": 1.0}),
    "body-vae-published": (BodyVAE.published, {"joints": (16, 18, 20)}),
    "hand-vae": (HandVAE, {"joints": (25, 26), "reconstruction_weight": 1.0}),
    "hand-vae-published": (HandVAE.published, {"joints": (25, 26)}),
    "product": (ProductPrior, {"parts": [GaussianPrior((16, 18, 20))]}),
}
#: Whole numbers without an upper bound: nothing grows with them.
_UNBOUNDED = ("em_poses", "kl_warmup")


def _options() -> Iterator[Any]:
    for maker, (make, _) in MAKERS.items():
        for name, parameter in inspect.signature(make).parameters.items():
            yield pytest.param(maker, name, str(parameter.annotation).replace('"', "'"), id=f"{maker}-{name}")


@pytest.mark.parametrize(("maker", "name", "annotation"), list(_options()))
def test_wrong_values_are_one_error_that_names_the_option(maker: str, name: str, annotation: str) -> None:
    make, good = MAKERS[maker]
    wrong = list(WRONG[annotation])
    if annotation.startswith("int") and name not in _UNBOUNDED:
        wrong.append(10**9)
    for value in wrong:
        started = time.monotonic()
        with pytest.raises(ValueError, match=rf"\b{name}\b.*") as caught:
            make(**{**good, name: value})
        assert len(str(caught.value)) < 1500
        assert time.monotonic() - started < 5.0


@pytest.mark.parametrize("maker", MAKERS)
def test_files_with_wrong_options_are_one_error_that_names_them(maker: str) -> None:
    make, good = MAKERS[maker]
    prior = make(**good)
    config = json.loads(json.dumps(prior.get_config()))
    taken = inspect.signature(make if "architecture" in config else type(prior)).parameters
    annotations = {name: str(parameter.annotation).replace('"', "'") for name, parameter in taken.items()}
    for name in config:
        if name == "architecture":
            continue
        for value in WRONG[annotations[name]]:
            if annotations[name].startswith("float") and value is None:
                continue
            with pytest.raises(
                ValueError, match=rf"path: it has options that {type(prior).__name__} does not .*{name}"
            ):
                checkpoint.build(type(prior).__name__, {**config, name: value}, "it")
    with pytest.raises(
        ValueError, match=r"options .* does not take \('wings': .* takes no such option; its options are"
    ):
        checkpoint.build(type(prior).__name__, {**config, "wings": 2}, "it")
    for odd in (None, [], "body", 3, math.nan):
        with pytest.raises(ValueError, match=r"path: it has the options .* expected a mapping"):
            checkpoint.build(type(prior).__name__, odd, "it")


@pytest.mark.parametrize("maker", MAKERS)
def test_options_come_back(maker: str) -> None:
    make, good = MAKERS[maker]
    prior = make(**good)
    config = json.loads(json.dumps(prior.get_config()))
    again = type(prior).from_config(config)
    assert again.get_config() == prior.get_config()
    assert {n: t.shape for n, t in again.state_dict().items()} == {n: t.shape for n, t in prior.state_dict().items()}
    assert again.log_prob_kind == prior.log_prob_kind


def test_published_constructors_take_no_option_that_does_not_apply() -> None:
    for make in (JointFlow.published, GlobalFlow.published, HandVAE.published):
        with pytest.raises(TypeError, match="hidden"):
            make(hidden=10)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "idle", "cause", "remedy"),
    [
        (GaussianMixturePrior, {"num_components": 1, "prior_count": 3.0}, "num_components=1", {"num_components": 2}),
        (GaussianMixturePrior, {"em_iterations": 0, "prior_count": 3.0}, "em_iterations=0", {"em_iterations": 1}),
        (GaussianPrior, {"groups": [[16, 18]]}, "covariance='diagonal'", {"covariance": "full"}),
        (GlobalFlow, {"couplings": 0, "hidden": 8}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"couplings": 0, "layers": 2}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"couplings": 0, "dropout": 0.5}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"couplings": 0, "input_noise": 0.5}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"couplings": 0, "max_log_scale": 1.0}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"couplings": 0, "context_dim": 2}, "couplings=0", {"couplings": 1}),
        (GlobalFlow, {"context_dropout": 0.5}, "context_dim=0", {"context_dim": 2}),
        (VAEPrior, {"flow_layers": 0, "flow_hidden": 8}, "flow_layers=0", {"flow_layers": 1}),
        (VAEPrior, {"encode_steps": 0, "encode_starts": 2}, "encode_steps=0", {"encode_steps": 1}),
        (VAEPrior, {"depth": 0, "dropout": 0.5}, "depth=0", {"depth": 1}),
        (VAEPrior, {"refine_steps": 2}, "reconstruction_weight=0", {"reconstruction_weight": 1.0}),
        (VAEPrior, {"kl_weight": 0.0, "kl_warmup": 2}, "kl_weight=0", {"kl_weight": 1.0}),
        (VAEPrior, {"kl_weight": 0.0, "free_bits": 2.0}, "kl_weight=0", {"kl_weight": 1.0}),
    ],
)
def test_options_that_nothing_reads_are_refused(
    make: Callable[..., poseprior.PosePrior], idle: dict[str, Any], cause: str, remedy: dict[str, Any]
) -> None:
    joints = {"joints": (16, 18)}
    name = list(idle)[-1]
    with pytest.raises(
        ValueError, match=rf"{name}: has no effect with {cause}, got .*; leave it out, or give {next(iter(remedy))}"
    ):
        make(**joints, **idle)
    make(**joints, **{**idle, **remedy})
    without = {key: value for key, value in idle.items() if key != name}
    usual = inspect.signature(make).parameters[name].default
    make(**joints, **without)
    make(**joints, **without, **{name: usual})
    if name in ("prior_count", "dropout", "input_noise", "max_log_scale"):
        prior = make(**joints, **without, **{name: 0.0})
        assert type(prior).from_config(prior.get_config()).get_config() == prior.get_config()


@pytest.mark.parametrize(
    ("kind", "idle", "usual"),
    [
        (GaussianMixturePrior, {"num_components": 1, "prior_count": 3.0}, {"prior_count": 50.0}),
        (GlobalFlow, {"couplings": 0, "hidden": 8, "dropout": 0.5}, {"hidden": 96, "dropout": 0.2}),
        (GlobalFlow, {"preset": "default", "couplings": 0, "noise": 0.3, "most_log_scale": 1.0}, {"input_noise": 0.1}),
        (VAEPrior, {"latent_dim": 2, "depth": 0, "dropout": 0.5}, {"dropout": 0.1}),
    ],
)
def test_files_with_options_that_nothing_reads_load(
    kind: type[poseprior.PosePrior], idle: dict[str, Any], usual: dict[str, Any]
) -> None:
    config = {"joints": [16, 18], **idle}
    assert {name: kind.from_config(config).get_config()[name] for name in usual} == usual


def test_numbers_of_numpy_are_plain_in_the_configuration() -> None:
    import numpy as np

    prior = JointFlow((1, 2), hidden=np.int64(8), dropout=np.float32(0.5))  # type: ignore[arg-type]
    config = prior.get_config()
    assert type(config["hidden"]) is int and type(config["dropout"]) is float
    json.dumps(config)


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (
            JointFlow,
            {"preset": "default", "partners": False, "context_noise": 0.3, "context_dropout": 0.1, "hidden": 8},
            {"extra_parents": False, "input_noise": 0.3, "input_dropout": 0.1, "hidden": 8},
        ),
        (JointFlow, {"preset": "published", "hidden": 8, "partners": True, "context_noise": 0.3}, {}),
        (
            GlobalFlow,
            {"preset": "default", "noise": 0.3, "most_log_scale": 1.0, "context_dim": 0, "context_dropout": 0.2},
            {"input_noise": 0.3, "max_log_scale": 1.0, "context_dropout": None},
        ),
        (GlobalFlow, {"preset": "published", "hidden": 8, "blocks": [[[16, 18], []]], "context_dropout": 0.2}, {}),
        (
            GlobalFlow,
            {"preset": "published", "hidden": 8, "context_dim": 3, "context_dropout": 0.4},
            {"context_dim": 3, "context_dropout": 0.4},
        ),
        (
            VAEPrior,
            {"options": {"latent_dim": 4, "hidden": 8, "flow_layers": 0, "flow_hidden": 64, "encode_steps": 0}},
            {"latent_dim": 4, "hidden": 8, "flow_layers": 0, "flow_hidden": None, "encode_steps": 0},
        ),
        (OrderAgnosticPrior, {"context_noise": 0.0, "hidden": 8}, {"near_weight": 0.0, "hidden": 8}),
    ],
)
def test_configurations_of_older_versions_mean_what_they_said(
    kind: type[poseprior.PosePrior], old: dict[str, Any], new: dict[str, Any]
) -> None:
    prior = kind.from_config({"joints": [16, 18], **old})
    config = prior.get_config()
    assert {name: config[name] for name in new} == new
    published = old.get("preset") == "published"
    assert config.get("architecture", "default") == ("published" if published else "default")
    assert kind.from_config(config).get_config() == config


def test_noise_in_radians_of_older_files_is_named() -> None:
    with pytest.warns(UserWarning, match=r"trained with context_noise \(radians\)"):
        OrderAgnosticPrior.from_config({"joints": [16, 18], "hidden": 8, "context_noise": 0.2})


def test_settings_that_may_change_later_are_checked_then_too() -> None:
    joint, vae, orders = JointFlow((1, 2), hidden=4), VAEPrior((1, 2), hidden=4), OrderAgnosticPrior((1, 2), hidden=4)
    for prior, name in ((joint, "num_particles"), (vae, "bound_samples"), (orders, "num_orders")):
        for wrong in (0, True, 2.5, "a", None, 10**9):
            with pytest.raises(ValueError, match=f"{name}: expected a whole number of 1 or more and at most"):
                setattr(prior, name, wrong)
        setattr(prior, name, 2)
        assert prior.get_config()[name] == 2


def test_input_noise_is_in_standard_deviations_of_what_the_networks_see() -> None:
    """A fresh order-agnostic prior has a unit of 1: inputs of poses at rest are the noise alone."""
    prior = OrderAgnosticPrior((1, 2), hidden=4, near_weight=0.0, input_noise=0.1)
    (network,) = (module for module in prior.modules() if isinstance(module, GroupedMLP))
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    poses, everything = torch.zeros(4000, 2, 3), torch.ones(4000, 2, dtype=torch.bool)
    prior.train().training_loss(poses, everything, None, 0)
    noise = seen[0][..., :6]
    assert float(noise[noise != 0].std()) == pytest.approx(0.1, rel=0.03)
    prior.eval().training_loss(poses, everything, None, 0)
    assert not seen[1][..., :6].any()
