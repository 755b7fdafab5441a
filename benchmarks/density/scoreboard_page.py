"""The page that `benchmarks.density.scoreboard` writes."""

from __future__ import annotations

from typing import Any

from benchmarks.common import markdown_table
from benchmarks.density.scoreboard_metrics import COMPLETED, DENOISED, JITTER, NOISE, SAMPLES

Rows = list[dict[str, Any]]

_HEAD = """# Scoreboard

Every prior that ships, and baselines, on people that no prior was trained on. Written by

<!-- not run: a benchmark of an hour, on recordings -->
```sh
python -m benchmarks.density.scoreboard --data DIR --out docs/scoreboard.md
```

Do not edit by hand. NLL, BPD, Fréchet, nearest, errors, latency: lower is better; precision,
recall, log p: higher. What an NLL is against: [conventions.md](conventions.md). How priors hold on
capture rigs that they were not trained on: [left_out_rigs.md](left_out_rigs.md).
"""


def page(rows: dict[str, Rows], data: dict[str, dict[str, Any]], max_poses: int) -> str:
    """Markdown of all tables."""
    body, hands = rows["body"], rows["hands"]
    hdm05, cmu, test = data["body"]["hdm05"], data["body"]["test"], data["hands"]["test"]
    blocks = [
        _HEAD,
        "## Body: another laboratory\n",
        f"{min(max_poses, len(hdm05)):,} poses of {hdm05.num_subjects} people of HDM05, which no prior was trained on; in the "
        f"column CMU\n{min(max_poses, len(cmu)):,} poses of {cmu.num_subjects} other people of a rig that was trained on.\n",
        _densities(body),
        "### Samples\n",
        _samples(body),
        "### Completion\n",
        f"{COMPLETED} poses for each hidden part: log p(hidden given rest) in nats / best of 10 draws /\n"
        "mean of draws, in mm of joint position.\n",
        _completion(body),
        f"## Hands: {min(max_poses, len(test)):,} single hands of a sitting of its own\n",
        _densities(hands),
        "### Samples\n",
        _samples(hands),
        "### Completion of two hidden fingers\n",
        _fingers(hands),
        _notes(),
    ]
    return "\n".join(blocks)


def _densities(rows: Rows) -> str:
    own_rig = ["NLL, CMU"] if "own_rig_nll" in rows[0] else []
    head = (
        "prior", "parameters", "NLL", *own_rig, "BPD", "denoised", "ms, 1", "ms, 1,024",
    )  # fmt: skip
    table = []
    for row in rows:
        sign = "≤ " if row["log_prob_kind"] == "lower_bound" else ""
        few = " [*]" if row["num_left_out"] else ""
        table.append([
            f"{row['title']}{few}", f"{row['num_parameters']:,}", f"{sign}{row['nll']:.2f}",
            *([f"{sign}{row['own_rig_nll']:.2f}"] if own_rig else []), f"{sign}{row['bpd']:.3f}",
            f"{row['denoise']['denoised_deg']:.2f}", f"{row['latency_ms']['1']:.1f}", f"{row['latency_ms']['1024']:,.0f}",
        ])  # fmt: skip
    noisy = rows[0]["denoise"]["noisy_deg"]
    return (
        markdown_table(head, table) + f"\nDenoised: degrees, {noisy:.2f} before. Milliseconds at batch 1 and 1,024.\n"
    )


def _samples(rows: Rows) -> str:
    real = rows[0]["samples"]["reference_apd_cm"]
    head = ("prior", "Fréchet, cm²", "precision", "recall", f"APD, cm (real: {real:.1f})", "nearest real pose, cm")
    table = []
    for row in rows:
        s = row["samples"]
        table.append([
            row["title"], f"{s['frechet']:,.0f}" if s["frechet"] >= 100 else f"{s['frechet']:.1f}",
            f"{s['precision']:.3f}", f"{s['recall']:.3f}", f"{s['apd_cm']:.1f}", f"{s['nn_cm']:.2f}",
        ])  # fmt: skip
    return markdown_table(head, table)


def _completion(rows: Rows) -> str:
    patterns = ("left_arm", "right_arm", "legs", "trunk")
    keys = ("cond_log_prob", "best_of_10_mm", "mean_mm")
    table = []
    for row in rows:
        got = [row["completion"].get(pattern, {}) for pattern in patterns]
        cells = [" / ".join("-" if g.get(k) is None else f"{g[k]:.{int(k[0] == 'c')}f}" for k in keys) for g in got]
        table.append([row["title"], *("-" if set(cell) <= set("- /") else cell for cell in cells)])
    return markdown_table(("prior", *(p.replace("_", " ") for p in patterns)), table)


def _fingers(rows: Rows) -> str:
    head = ("prior", "log p(hidden given rest), nats", "best of 10, mm at the tip", "mean, mm")
    table = []
    for row in rows:
        f = row["fingers"]
        if "reason" in f:
            table.append([row["title"], "-", "-", "-"])
            continue
        bound = " (difference of bounds)" if row["log_prob_kind"] == "lower_bound" else ""
        table.append([
            row["title"], f"{-f['conditional_nll']:.2f}{bound}", f"{f['best_tip_mm']:.2f}", f"{f['tip_mm']:.2f}",
        ])  # fmt: skip
    return markdown_table(head, table)


def _notes() -> str:
    return f"""## How it was measured

- **NLL, BPD**: mean negative log-density over the test poses in nats against the uniform measure on
  rotations (BPD: bits a dimension of the rotvecs), each pose with its own mask, jitter {JITTER} rad,
  seed 0. `≤` marks a bound, for priors whose `log_prob` is one. Priors that cannot marginalise
  score only the poses that show all that they need (`[*]`); those show more joints, so that their
  NLL is lower and does not compare with the other rows.
- **Denoised**: posterior mode under tangent noise of {NOISE} rad, {DENOISED} poses that observe every
  modelled joint of the part; mean rotation error. It is the mode that is scored, and a mode is not
  what a mean error rewards: a prior with a better density may score worse here.
- **Samples**: {SAMPLES:,} draws against as many test poses, keypoint positions in cm on the neutral
  skeleton (`poseprior.evaluation.sample_metrics`). Hands are compared on the right side, which most
  test poses show. Test people do things that no training person does, and priors are blurred by rig
  noise on purpose, so that recall is high and precision is low.
- **Latency**: processor time of `log_prob` with its gradient to whole poses, one thread, the
  fastest tenth of the calls, on a machine that other jobs shared.
- **Published** flows: the reference architectures, trained for a minute and a half. They take no
  masks.
- Baselines are fitted on the same poses and with the same noise as the priors that ship, weights
  selected on the validation people.
"""
