"""Issue 4's table: hand priors against PCA, on a sitting nobody trained on.

    python benchmarks/hands.py --data ../shared/data/hands --out runs/hands --minutes 5

trains what `OUT` does not hold yet (one file a model: run again to go on, delete a file to train anew), measures on
the test sitting, prints the table and writes it to OUT/hands.md. The validation sitting only selects weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hand_metrics import HandPCA, interpolation, measure, reconstruction, right_mask
from kept_prior import kept_prior

import poseprior
from poseprior import FitConfig, GaussianMixturePrior, GaussianPrior, PoseDataset, PosePrior
from poseprior.io import read_poses
from poseprior.io.atomic import replacing
from poseprior.models.joint_flow import JointFlow
from poseprior.models.order_agnostic import OrderAgnosticPrior
from poseprior.models.vae import HandVAE
from poseprior.models.vae.options import VAEOptions
from poseprior.recipes import RECIPES
from poseprior.rotations import add_tangent_noise

Results = dict[str, dict[str, Any]]
Splits = dict[str, PoseDataset]

JITTER = 0.02
LATENT_SIZES = (6, 12, 24)
#: Times `--minutes`: six numbers for a hand have to be learned, and go on improving.
_LONGER = {"vae6": 3.0}


def autoencoder(latent_dim: int) -> HandVAE:
    """For reconstruction at small sizes: the rotations' angles join the objective, at the smallest before all else."""
    options = VAEOptions(latent_dim=latent_dim, train_samples=1, dropout=0.15, flow_hidden=64)
    if latent_dim <= 6:
        options = replace(
            options,
            reconstruction_weight=400.0,
            refine_steps=2,
            encode_starts=5,
            mask_fraction=0.0,
            hidden=512,
            kl_weight=0.3,
            flow_layers=2,
        )
    else:
        options = replace(options, reconstruction_weight=20.0, mask_fraction=0.1, flow_layers=4)
    return HandVAE("hands", options=options)


NOTES = """Test sitting ({test} hands, left ones mirrored; completion, reconstruction and paths on {few}), jitter
{jitter} rad, Haar nats over 15 joints. `<=`: the negative of a lower bound on log p, K = 64. Completion: two of five
fingers hidden, ten draws. Paths: 11 poses between random pairs; evenness is longest over mean step, length is relative
to the geodesic, the middle pose is judged by the mixture of 8. Fréchet in cm^2. Reconstruction and completion use
recorded poses without jitter."""

#: Row title, file name, builder.
MODELS: tuple[tuple[str, str, Callable[[], PosePrior]], ...] = (
    ("Gaussian", "gaussian", lambda: GaussianPrior("right_hand", covariance="full")),
    ("mixture of 8 Gaussians", "mixture8", lambda: GaussianMixturePrior("right_hand", num_components=8)),
    ("JointFlow", "joint_flow", lambda: JointFlow("right_hand")),
    (
        "order-agnostic",
        "order_agnostic",
        lambda: OrderAgnosticPrior("right_hand", **RECIPES["hand-order-agnostic"].options),
    ),
    ("HandVAE, z = 24", "vae24", lambda: HandVAE("hands")),
    ("HandVAE, z = 12", "vae12", lambda: autoencoder(12)),
    ("HandVAE, z = 6", "vae6", lambda: autoencoder(6)),
    ("HandVAE, published preset, z = 24", "vae24_published", lambda: HandVAE("hands", preset="published")),
)


def read_right(path: Path) -> PoseDataset:
    """A file of single hands as right hands: left ones are mirrored."""
    data = read_poses(path)
    pose, observed = data.all_poses()
    left = observed[:, 25]
    pose = torch.where(left[:, None, None], poseprior.skeleton.mirror(pose), pose)
    return PoseDataset(pose + 0.0, right_mask().expand(len(pose), 55).clone())


def fitted(name: str, build: Callable[[], PosePrior], splits: Splits, args: argparse.Namespace) -> PosePrior:
    """The prior of OUT/name.safetensors, trained first if there is none."""

    def change(own: FitConfig) -> FitConfig:
        config = replace(own, jitter=JITTER, seed=0)
        if config.max_steps == 0:  # a closed form
            return config
        minutes = _LONGER.get(name, 1.0) * args.minutes
        return replace(config, minutes=minutes, max_steps=100_000, max_val_poses=1500)

    return kept_prior(args.out / f"{name}.safetensors", build, lambda: splits, change)


def table(
    results: dict[str, dict[str, Any]], titles: dict[str, str], pca: dict[int, dict[str, float]], notes: str
) -> str:
    """The markdown table."""
    head = (
        "model", "parameters", "NLL", "rec. deg", "rec. tips mm", "completion tips mm", "best of 10 mm", "cond. NLL",
        "path evenness", "path length", "middle NLL", "Fréchet", "precision", "recall",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for size, value in pca.items():
        cells = [f"PCA, {size} components", str(45 * (size + 1)), "-", *_cells(value, ("degrees", "tip_mm"))]
        lines.append("| " + " | ".join(cells + ["-"] * (len(head) - len(cells))) + " |")
    for name, r in results.items():
        nll = f"{r['nll']:.2f}" if r.get("kind") == "exact" else f"<= {r['nll']:.2f}" if "nll" in r else "-"
        cells = [titles[name], str(r.get("parameters", "-")), nll]
        cells += _cells(r.get("reconstruction"), ("degrees", "tip_mm"))
        cells += _cells(r.get("completion"), ("tip_mm", "best_tip_mm", "conditional_nll"))
        cells += _cells(r.get("interpolation"), ("unevenness", "length", "middle_nll"))
        cells += _cells(r.get("samples"), ("frechet", "precision", "recall"))
        lines.append("| " + " | ".join(cells) + " |")
    for name, r in results.items():
        if "bounds" in r:
            bounds = ", ".join(f"K = {k}: {v:.2f}" for k, v in r["bounds"].items())
            lines.append(f"\n{titles[name]}: {r['active_units']} active units; NLL bound by samples: {bounds}.")
    return "\n".join(lines) + "\n\n" + notes + "\n"


def _cells(values: dict[str, float] | None, keys: tuple[str, ...]) -> list[str]:
    return ["-" if values is None else f"{values[k]:.3g}" if abs(values[k]) < 10 else f"{values[k]:.1f}" for k in keys]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hands"), help="folder of hands_*.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/hands"), help="weights, results and hands.md go here")
    parser.add_argument("--minutes", type=float, default=5.0, help="training of each neural model")
    parser.add_argument("--max-poses", type=int, default=600, help="test poses for completion and reconstruction")
    parser.add_argument("--models", nargs="*", help="file names of the rows to make; default all")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    splits = {s: read_right(args.data / f"hands_{s}.npz") for s in ("train", "val", "test")}
    # A fixed shuffle: the test sitting in its own order would pair consecutive frames.
    order = torch.randperm(len(splits["test"]), generator=torch.Generator().manual_seed(0))
    clean = splits["test"].poses[order]
    jittered = add_tangent_noise(clean, JITTER, generator=torch.Generator().manual_seed(1))
    jittered[:, :40] = 0.0
    judge = fitted("mixture8", MODELS[1][2], splits, args)
    results: Results = {"geodesic": {"interpolation": interpolation(None, judge, clean[: args.max_poses])}}
    titles = {"geodesic": "rotations along geodesics", **{name: title for title, name, _ in MODELS}}
    for _, name, build in MODELS:
        if args.models and name not in args.models:
            continue
        cache = args.out / f"{name}.json"
        prior = fitted(name, build, splits, args)
        if not cache.exists():
            with replacing(cache) as temporary:
                temporary.write_text(json.dumps(measure(prior, judge, clean, jittered, max_poses=args.max_poses)))
        results[name] = json.loads(cache.read_text())
    few = clean[: args.max_poses]
    pca_model = HandPCA(splits["train"].poses[:, 40:])
    pca = {n: reconstruction(pca_model.reconstruct(few, n), few) for n in LATENT_SIZES}
    notes = NOTES.format(test=len(clean), few=len(few), jitter=JITTER)
    text = table(results, titles, pca, notes)
    with replacing(args.out / "hands.md") as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
