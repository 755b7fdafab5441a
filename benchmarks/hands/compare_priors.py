"""Hand priors and PCA on a sitting that no prior was trained on.

    python -m benchmarks.hands.compare_priors --data DIR --out runs/hands --minutes 5

Trains what `--out` does not hold yet (one file a model: run again to go on, delete a file to train anew), measures on
the test sitting, prints the table and writes it to `hands.md` there. The validation sitting only selects weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import JITTER, file_digest, markdown_table, measure_once, parser_for, train_once, write_text
from benchmarks.hands.metrics import HandPCA, interpolation, measure, reconstruction
from benchmarks.hands.right_hands import RIGHT_HAND, read_right
from benchmarks.priors import published_hand_vae, recipe_order_agnostic, small_hand_vae
from poseprior import GaussianMixturePrior, GaussianPrior, HandVAE, JointFlow, PoseDataset, PosePrior
from poseprior.rotations import add_tangent_noise

LATENT_SIZES = (6, 12, 24)
#: The model under which the middle of a path is judged.
JUDGE = "mixture8"


@dataclass(frozen=True)
class Row:
    """A model of the table.

    Attributes:
        title: of the row.
        build: the untrained prior.
        time_factor: times `--minutes`; None for a closed form, which has no budget.
    """

    title: str
    build: Callable[[], PosePrior]
    time_factor: float | None = 1.0


NOTES = """Test sitting ({test} hands, left ones mirrored; completion, reconstruction and paths on {few}), jitter
{jitter} rad, Haar nats over 15 joints. `<=`: the negative of a lower bound on log p, K = 64. Completion: two of five
fingers hidden, ten draws. Paths: 11 poses between random pairs; evenness is longest over mean step, length is relative
to the geodesic, the middle pose is judged by the mixture of 8. Fréchet in cm^2. Reconstruction and completion use
recorded poses without jitter."""

#: The models by the name of their files.
MODELS: dict[str, Row] = {
    "gaussian": Row("Gaussian", lambda: GaussianPrior("right_hand", covariance="full"), None),
    "mixture8": Row("mixture of 8 Gaussians", lambda: GaussianMixturePrior("right_hand", num_components=8), None),
    "joint_flow": Row("JointFlow", lambda: JointFlow("right_hand")),
    "order_agnostic": Row("order-agnostic", lambda: recipe_order_agnostic("right_hand", "hand-order-agnostic")),
    "vae24": Row("HandVAE, z = 24", lambda: HandVAE("hands")),
    "vae12": Row("HandVAE, z = 12", lambda: small_hand_vae(12)),
    # six numbers for a hand take longer to learn, and go on improving
    "vae6": Row("HandVAE, z = 6", lambda: small_hand_vae(6), 3.0),
    "vae24_published": Row("HandVAE, published, z = 24", lambda: published_hand_vae("hands")),
}


def trained(name: str, splits: dict[str, PoseDataset], out: Path, minutes: float) -> PosePrior:
    """The prior of `out`/name.safetensors, trained first if there is none."""
    row = MODELS[name]
    options: dict[str, Any] = {"jitter": JITTER, "seed": 0}
    if row.time_factor is not None:
        options |= {"minutes": row.time_factor * minutes, "max_steps": 100_000, "max_val_poses": 1500}
    return train_once(out / f"{name}.safetensors", row.build, lambda: splits, options)


def table(results: dict[str, dict[str, Any]], pca: dict[int, dict[str, float]]) -> str:
    """The Markdown table, and the bounds of variational priors by number of samples."""
    head = (
        "model", "parameters", "NLL", "rec. deg", "rec. tips mm", "completion tips mm", "best of 10 mm", "cond. NLL",
        "path evenness", "path length", "middle NLL", "Fréchet", "precision", "recall",
    )  # fmt: skip
    rows = []
    for size, value in pca.items():
        cells = [f"PCA, {size} components", str(45 * (size + 1)), "-", *_cells(value, ("degrees", "tip_mm"))]
        rows.append(cells + ["-"] * (len(head) - len(cells)))
    for title, r in results.items():
        nll = f"{r['nll']:.2f}" if r.get("kind") == "exact" else f"<= {r['nll']:.2f}" if "nll" in r else "-"
        cells = [title, str(r.get("parameters", "-")), nll]
        cells += _cells(r.get("reconstruction"), ("degrees", "tip_mm"))
        cells += _cells(r.get("completion"), ("tip_mm", "best_tip_mm", "conditional_nll"))
        cells += _cells(r.get("interpolation"), ("unevenness", "length", "middle_nll"))
        cells += _cells(r.get("samples"), ("frechet", "precision", "recall"))
        rows.append(cells)
    text = markdown_table(head, rows)
    for title, r in results.items():
        if "bounds" in r:
            bounds = ", ".join(f"K = {k}: {v:.2f}" for k, v in r["bounds"].items())
            text += f"\n{title}: {r['active_units']} active units; NLL bound by samples: {bounds}.\n"
    return text


def _cells(values: dict[str, float] | None, keys: tuple[str, ...]) -> list[str]:
    return ["-" if values is None else f"{values[k]:.3g}" if abs(values[k]) < 10 else f"{values[k]:.1f}" for k in keys]


def main() -> None:
    """Train and measure what is missing, print the table."""
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/hands"), help="weights, results and hands.md go here")
    parser.add_argument("--minutes", type=float, default=5.0, help="training of each neural model")
    parser.add_argument("--max-poses", type=int, default=600, help="test poses for completion and reconstruction")
    parser.add_argument("--models", nargs="*", choices=MODELS, metavar="MODEL", default=[*MODELS],
                        help="rows to make, of: %(choices)s; default all")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = {s: read_right(args.data / "hands" / f"hands_{s}.npz") for s in ("train", "val", "test")}
    # A fixed shuffle: the test sitting in its own order would pair consecutive frames.
    order = torch.randperm(len(splits["test"]), generator=torch.Generator().manual_seed(0))
    clean = splits["test"].poses[order]
    few = clean[: args.max_poses]
    jittered = add_tangent_noise(clean, JITTER, generator=torch.Generator().manual_seed(1))
    jittered[:, : RIGHT_HAND[0]] = 0.0
    judge = trained(JUDGE, splits, args.out, args.minutes)
    results: dict[str, dict[str, Any]] = {
        "rotations along geodesics": {"interpolation": interpolation(None, judge, few)}
    }
    for name in args.models:
        prior = trained(name, splits, args.out, args.minutes)
        weights = {of: file_digest(args.out / f"{of}.safetensors") for of in (name, JUDGE)}
        measured = partial(measure, prior, judge, clean, jittered, max_poses=args.max_poses)
        results[MODELS[name].title] = measure_once(
            args.out / f"{name}.json", {"weights": weights, "max_poses": args.max_poses}, measured
        )
    pca_model = HandPCA(splits["train"].poses[:, list(RIGHT_HAND)])
    pca = {n: reconstruction(pca_model.reconstruct(few, n), few) for n in LATENT_SIZES}
    text = table(results, pca) + "\n" + NOTES.format(test=len(clean), few=len(few), jitter=JITTER) + "\n"
    write_text(args.out / "hands.md", text)
    print(text)


if __name__ == "__main__":
    main()
