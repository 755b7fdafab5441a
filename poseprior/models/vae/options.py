"""Options of the variational autoencoders, and their presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class VAEOptions:
    """What a `VAEPrior` is made of, and what it is trained for.

    Attributes:
        latent_dim: latent numbers for each independent group of joints (a hand, the body).
        hidden: width of the encoder's and the decoder's networks.
        depth: residual blocks of each.
        dropout: in those blocks.
        linear_path: start encoder and decoder as probabilistic PCA, with networks that learn what a linear map cannot.
        posterior: "full" or "diagonal" covariance of q(z | pose).
        flow_layers: coupling layers of the learned prior on z; 0 for N(0, I). Whatever it is, the latent that `encode`
            and `decode` speak is the flow's base, N(0, I).
        flow_hidden: width of the coupling networks.
        adaptive_noise: the decoder gives every joint's noise covariance too; otherwise it is one for all poses.
        train_samples: K of the importance-weighted objective; 1 is the evidence lower bound.
        bound_samples: K of `log_prob`.
        kl_weight: weight of log p(z) - log q(z | pose) in the objective; below 1 favours reconstruction.
        kl_warmup: steps over which that weight rises from 0.
        free_bits: nats of every latent coordinate that cost nothing (Kingma et al. 2016), against collapse.
        reconstruction_weight: weight of the decoded rotations' angles (radians, summed over joints) in the objective.
        refine_steps: Gauss-Newton steps from the posterior mean to a nearer latent, whose angles join those of the mean in
            the objective: the decoder is trained where `encode` will end (semi-amortised; Kim et al. 2018).
        mask_fraction: share of training poses with joints hidden from the encoder, so that it learns marginals.
        encode_steps: Gauss-Newton steps of `encode`; 0 gives the mean of q(z | pose).
        encode_starts: latents that these steps start from, the mean first, then fixed points around it; the nearest end is
            taken. Small latents fold: more than 1 finds nearer poses, and makes `encode` jump where two are as near.
    """

    latent_dim: int = 24
    hidden: int = 256
    depth: int = 2
    dropout: float = 0.1
    linear_path: bool = True
    posterior: Literal["full", "diagonal"] = "full"
    flow_layers: int = 6
    flow_hidden: int = 128
    adaptive_noise: bool = True
    train_samples: int = 2
    bound_samples: int = 16
    kl_weight: float = 1.0
    kl_warmup: int = 0
    free_bits: float = 0.0
    reconstruction_weight: float = 0.0
    refine_steps: int = 0
    mask_fraction: float = 0.25
    encode_steps: int = 10
    encode_starts: int = 1

    def __post_init__(self) -> None:
        for name in ("latent_dim", "hidden", "flow_hidden", "train_samples", "bound_samples", "encode_starts"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"VAEOptions.{name}: expected 1 or more, got {getattr(self, name)!r}.")
        for name in (
            "depth", "flow_layers", "kl_warmup", "free_bits", "kl_weight", "reconstruction_weight", "refine_steps",
            "encode_steps",
        ):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise ValueError(f"VAEOptions.{name}: expected 0 or more, got {getattr(self, name)!r}.")
        for name in ("dropout", "mask_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"VAEOptions.{name}: expected 0 to 1, got {getattr(self, name)!r}.")
        if self.posterior not in ("full", "diagonal"):
            raise ValueError(f"VAEOptions.posterior: expected 'full' or 'diagonal', got {self.posterior!r}.")
        if self.flow_layers and self.latent_dim < 2:
            raise ValueError("VAEOptions.flow_layers: coupling layers need latent_dim of 2 or more, got 1; use 0.")


#: Presets by name. "published" is the architecture of the literature: 2 million parameters for 30 joints and z = 24
#: (1.94 M; 1.82 M for one hand, 1.88 M for the body with z = 32), a plain diagonal posterior, an N(0, I) prior and one
#: noise scale for all poses.
PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "published": {
        "hidden": 640, "depth": 2, "dropout": 0.1, "linear_path": False, "posterior": "diagonal", "flow_layers": 0,
        "adaptive_noise": False, "train_samples": 1, "kl_warmup": 500, "free_bits": 0.05, "encode_steps": 0,
    },
}  # fmt: skip


def make_options(
    options: VAEOptions | Mapping[str, Any] | None, preset: str | None, latent_dim: int | None, default_latent_dim: int
) -> VAEOptions:
    """The options a constructor asks for.

    Args:
        options: all of them, as the dataclass or as the mapping that a checkpoint holds; excludes the other arguments.
        preset: name in `PRESETS`.
        latent_dim: instead of the model's own.
        default_latent_dim: the model's own.
    """
    if options is not None:
        if preset is not None or latent_dim is not None:
            raise ValueError("options: got it beside preset or latent_dim; set those in VAEOptions.")
        if isinstance(options, VAEOptions):
            return options
        unknown = sorted(set(options) - {field.name for field in fields(VAEOptions)})
        if unknown:
            raise ValueError(f"options: unknown {', '.join(unknown)}; this version may be older than the file.")
        return VAEOptions(**options)
    name = "default" if preset is None else preset
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}.")
    return VAEOptions(latent_dim=default_latent_dim if latent_dim is None else latent_dim, **PRESETS[name])


def options_dict(options: VAEOptions) -> dict[str, Any]:
    """The JSON-able form that `make_options` takes back."""
    return asdict(options)
