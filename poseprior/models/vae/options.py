"""`VAEOptions`: the options of a variational autoencoder, checked; and those of the published architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from ... import skeleton
from ..._checks import check_choice, check_effect, check_mapping, check_number, check_share, check_switch, check_whole

#: Importance samples of a bound at most.
MOST_BOUND_SAMPLES = 65536
#: Default of `flow_hidden`.
_FLOW_HIDDEN = 128
#: Options, their defaults, and the options that must be above 0 for them to have an effect.
_NEEDS = (
    ("flow_hidden", None, "flow_layers"), ("encode_starts", 1, "encode_steps"), ("dropout", 0.1, "depth"),
    ("refine_steps", 0, "reconstruction_weight"), ("kl_warmup", 0, "kl_weight"), ("free_bits", 0.0, "kl_weight"),
)  # fmt: skip


class ClassDefaults(NamedTuple):
    """What the VAE classes differ in: default joints, default latent size, and the joint set they are limited to."""

    joints: str
    latent_dim: int
    within: str


@dataclass(frozen=True, kw_only=True)
class VAEOptions:
    """What a VAE is made of and what it is trained for: the options of its constructor beside joints and groups.

    Attributes:
        latent_dim: latent numbers for each independent group of joints (a hand, the body).
        hidden: width of the encoder's and the decoder's networks.
        depth: residual blocks of each.
        dropout: probability in training that a number in those blocks is dropped.
        linear_path: start encoder and decoder as probabilistic PCA, with networks that learn what a linear map cannot.
        posterior: "full" or "diagonal" covariance of q(z | pose).
        flow_layers: coupling layers of the learned prior on z; 0 for N(0, I). The latents of `encode` and `decode` are
            those of the flow's base, N(0, I), in either case.
        flow_hidden: width of the coupling networks; None means 128. Only with `flow_layers`.
        adaptive_noise: the decoder gives every joint's noise covariance too; otherwise it is one for all poses.
        train_samples: K of the importance-weighted objective; 1 is the evidence lower bound.
        bound_samples: K of `log_prob`; may be changed at any time.
        kl_weight: weight of log p(z) - log q(z | pose) in the objective; below 1 favours reconstruction.
        kl_warmup: steps over which that weight rises from 0.
        free_bits: nats of every latent coordinate that cost nothing (Kingma et al. 2016), against collapse.
        reconstruction_weight: weight of the decoded rotations' angles (radians, summed over joints) in the objective.
        refine_steps: Gauss-Newton steps from the posterior mean to a nearer latent, whose angles join those of the mean in
            the objective: the decoder is trained where `encode` will end (semi-amortised; Kim et al. 2018). Only with
            `reconstruction_weight`.
        mask_fraction: share of training poses with joints hidden from the encoder, so that it learns marginals.
        encode_steps: Gauss-Newton steps of `encode`; 0 gives the mean of q(z | pose).
        encode_starts: latents that these steps start from, the mean first, then fixed points around it; the nearest end is
            taken. Small latents fold: more than 1 finds nearer poses, and makes `encode` jump where two are as near. Only
            with `encode_steps`.

    Raises:
        ValueError: a value of another type or out of range, or an option that has no effect beside the others.
    """

    latent_dim: int
    hidden: int
    depth: int
    dropout: float
    linear_path: bool
    posterior: Literal["diagonal", "full"]
    flow_layers: int
    flow_hidden: int | None
    adaptive_noise: bool
    train_samples: int
    bound_samples: int
    kl_weight: float
    kl_warmup: int
    free_bits: float
    reconstruction_weight: float
    refine_steps: int
    mask_fraction: float
    encode_steps: int
    encode_starts: int

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {}
        for name, least, most in (
            ("latent_dim", 1, 1024), ("hidden", 1, 4096), ("depth", 0, 32), ("flow_layers", 0, 32),
            ("train_samples", 1, 1024), ("bound_samples", 1, MOST_BOUND_SAMPLES), ("kl_warmup", 0, None),
            ("refine_steps", 0, 1000), ("encode_steps", 0, 1000), ("encode_starts", 1, 256),
        ):  # fmt: skip
            checked[name] = check_whole(name, getattr(self, name), least=least, most=most)
        for name in ("kl_weight", "free_bits", "reconstruction_weight"):
            checked[name] = check_number(name, getattr(self, name), least=0.0, most=1e6)
        checked["dropout"] = check_share("dropout", self.dropout)
        checked["mask_fraction"] = check_number("mask_fraction", self.mask_fraction, least=0.0, most=1.0)
        for name in ("linear_path", "adaptive_noise"):
            check_switch(name, getattr(self, name))
        check_choice("posterior", self.posterior, ("full", "diagonal"))
        if self.flow_hidden is not None:
            checked["flow_hidden"] = check_whole("flow_hidden", self.flow_hidden, least=1, most=4096)
        elif checked["flow_layers"]:
            checked["flow_hidden"] = _FLOW_HIDDEN
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.flow_layers and self.latent_dim < 2:
            raise ValueError("flow_layers: coupling layers need latent_dim of 2 or more, got 1; use flow_layers=0.")
        for name, usual, other in _NEEDS:
            if not getattr(self, other):
                check_effect(name, getattr(self, name), usual, f"{other}=0", f"{other} above 0", zero_is_off=True)


#: The architecture of the literature: 2 million parameters for 30 joints and z = 24 (1.94 M; 1.82 M for one hand, 1.88 M
#: for the body with z = 32), a plain diagonal posterior, an N(0, I) prior and one noise scale for all poses.
PUBLISHED: Mapping[str, Any] = MappingProxyType({
    "hidden": 640, "depth": 2, "dropout": 0.1, "linear_path": False, "posterior": "diagonal", "flow_layers": 0,
    "adaptive_noise": False, "train_samples": 1, "kl_warmup": 500, "free_bits": 0.05, "encode_steps": 0,
})  # fmt: skip


def upgrade_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Options of this version that mean what a configuration of any version says.

    Older versions held all options but joints and groups in a mapping `options`, and took some that have no effect; a
    later one still took `dropout` with `depth` 0.
    """
    inner = check_mapping("options", config.get("options", {}))
    options = {**{name: value for name, value in config.items() if name != "options"}, **inner}
    taken = _NEEDS if "options" in config else [need for need in _NEEDS if need[0] == "dropout"]
    idle = {name for name, _, other in taken if options.get(other) == 0}
    # 0 is taken, and comes back.
    return {name: value for name, value in options.items() if not (name in idle and value)}


def refuse_joints_outside(within: str, joints: Sequence[int], owner: str) -> None:
    """Refuse joints that are not of a joint set.

    Raises:
        ValueError: naming them.
    """
    odd = [skeleton.JOINT_NAMES[j] for j in joints if j not in skeleton.JOINT_SETS[within]]
    if odd:
        raise ValueError(
            f"joints: {owner} takes joints of {within!r}, got {', '.join(odd[:4])}; use VAEPrior for other joint sets."
        )
