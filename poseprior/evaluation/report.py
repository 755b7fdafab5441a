"""All numbers of a prior on held-out poses, as one JSON-able dict and as a table to read."""

from __future__ import annotations

import math
from typing import Any

import torch
from tqdm import tqdm

from .. import skeleton
from .._checks import check_number, check_switch, check_whole
from ..io.dataset import PoseDataset
from ..prior import PosePrior
from ..training.validation import mean_active_dims, mean_haar_log_density, mean_nll, scorable_rows
from .completion import completion_metrics
from .samples import sample_metrics

_PER_JOINT_POSES = 4096


def evaluate(
    prior: PosePrior,
    data: PoseDataset,
    *,
    jitter: float = 0.02,
    seed: int = 0,
    num_samples: int = 3000,
    num_completed: int = 1000,
    max_poses: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Score held-out poses and compare the prior's samples with them.

    Args:
        prior: a fitted prior.
        data: poses of subjects that training did not see.
        jitter: tangent noise added to the poses, radians, with a fixed seed; every NLL depends on it.
        seed: of jitter, samples and subsets.
        num_samples: poses sampled and compared with as many real ones; 0 leaves `samples` out.
        num_completed: poses whose hidden parts are completed, for each pattern; 0 leaves `completion` out.
        max_poses: score a random subset of at most this many; None scores all.
        progress: show a tqdm bar.

    Returns:
        `nll`: mean -log_prob, nats a pose against Haar; `nll_rotvec`: the same against Lebesgue measure of rotvecs;
        `bpd`: nll_rotvec / (ln 2 x active_dims); `jitter`; `num_poses`; `active_dims`: mean of 3 x observed modelled
        joints; `log_prob_kind`; `per_joint_nll`: by joint name, the mean -log_prob of that joint alone (its marginal),
        null for priors that cannot marginalise; `num_left_out`: poses not scored because such a prior cannot take their
        masks (`PosePrior.can_score`); `given_context`, of conditional priors alone: whether `nll` is of poses given the
        contexts of the data, or, where the data have none, without any (all other numbers are without); `class`,
        `num_parameters`, `seed` and `data_digest`: what was scored, and on what; `samples`: see
        `poseprior.evaluation.sample_metrics`, or `reason` where too few poses are there to compare with; `completion`:
        for each hidden part, see `poseprior.evaluation.completion`.

    Raises:
        ValueError: no pose observes any (or, for priors that cannot marginalise, all) of the prior's joints; or numbers
            out of range.
    """
    check_number("jitter", jitter, least=0.0)
    for name, number in (("seed", seed), ("num_samples", num_samples), ("num_completed", num_completed)):
        check_whole(name, number)
    if max_poses is not None:
        check_whole("max_poses", max_poses, least=1)
    check_switch("progress", progress)
    pose, observed, context, left_out = scorable_rows(
        prior, data, "data", jitter=jitter, seed=seed, max_poses=max_poses
    )
    nll = mean_nll(prior, pose, observed, context, progress=progress)
    nll_rotvec = nll - mean_haar_log_density(prior, pose, observed)
    dims = mean_active_dims(prior, observed)
    result: dict[str, Any] = {
        "class": type(prior).__name__,
        "log_prob_kind": prior.log_prob_kind,
        "nll": nll,
        "nll_rotvec": nll_rotvec,
        "bpd": nll_rotvec / (math.log(2.0) * dims),
        "jitter": jitter,
        "seed": seed,
        "num_poses": len(pose),
        "num_left_out": left_out,
        **({"given_context": context is not None} if prior.context_dim else {}),
        "active_dims": dims,
        "num_parameters": prior.num_parameters,
        "data_digest": data.digest(),
        "per_joint_nll": _per_joint_nll(prior, pose, observed, progress),
    }
    real, shown = data.all_poses()
    keep = shown[:, list(prior.joints)].any(1)
    real, shown = real[keep], shown[keep]
    if num_samples:
        generator = torch.Generator(device=prior.device).manual_seed(seed)
        samples = prior.sample(num_samples, generator=generator).cpu()
        try:
            result["samples"] = sample_metrics(
                samples, real, joints=prior.joints, observed=shown, max_poses=num_samples, seed=seed
            )
        except ValueError as error:  # too few poses to compare with: the other numbers stand
            result["samples"] = {"reason": str(error)}
    if num_completed:
        result["completion"] = completion_metrics(
            prior, real, shown, num_poses=num_completed, jitter=jitter, seed=seed, progress=progress
        )
    return result


def _per_joint_nll(
    prior: PosePrior, pose: torch.Tensor, observed: torch.Tensor, progress: bool
) -> dict[str, float | None]:
    joints = tqdm(prior.joints, desc="evaluation: joints", disable=not progress)
    return {skeleton.JOINT_NAMES[joint]: _joint_nll(prior, pose, observed, joint) for joint in joints}


def _joint_nll(prior: PosePrior, pose: torch.Tensor, observed: torch.Tensor, joint: int) -> float | None:
    """The mean -log_prob of a joint's marginal; None for a prior that has none, or a joint that is never observed."""
    rows = observed[:, joint].nonzero()[:_PER_JOINT_POSES, 0]
    if not prior.can_marginalise or len(rows) == 0:
        return None
    alone = torch.zeros(skeleton.NUM_JOINTS, dtype=torch.bool)
    alone[joint] = True
    return mean_nll(prior, pose[rows], alone.expand(len(rows), -1))


def format_table(result: dict[str, Any]) -> str:
    """The numbers of `evaluate` as lines of text, at most 80 columns wide."""
    bound = " (bound)" if result["log_prob_kind"] == "lower_bound" else ""
    lines = [
        f"{result['class']}, {result['num_parameters']:,} parameters, {result['num_poses']:,} held-out poses, "
        f"jitter {result['jitter']} rad"
    ]
    if result["num_left_out"]:
        lines.append(f"{result['num_left_out']:,} poses left out: this prior cannot leave out what they miss")
    rows = [
        (f"NLL, Haar{bound}", f"{result['nll']:.2f}", "nats a pose"),
        (f"NLL, rotvec{bound}", f"{result['nll_rotvec']:.2f}", "nats a pose"),
        ("BPD", f"{result['bpd']:.3f}", "bits a dimension, rotvec"),
        ("active dimensions", f"{result['active_dims']:.1f}", "mean"),
    ]
    units = {"frechet": "cm^2", "apd_cm": "cm", "reference_apd_cm": "cm, of the real poses", "nn_cm": "cm"}
    for name, value in result.get("samples", {}).items():
        if isinstance(value, str):
            rows.append(("samples", "", "not available: too few poses observe all joints"))
        else:
            rows.append(
                (f"samples: {name}", f"{value:,}" if isinstance(value, int) else f"{value:.3f}", units.get(name, ""))
            )
    for pattern, numbers in result.get("completion", {}).items():
        rows += [(f"{pattern} hidden: {name}", *_completion_cell(name, value, bound)) for name, value in numbers.items()
                 if name not in ("reason", "num_poses")]  # fmt: skip
    width = max(len(name) for name, _, _ in rows)
    lines += [f"  {name:<{width}}  {f'{value:>10}  ' if value else ''}{unit}".rstrip() for name, value, unit in rows]
    cells = [f"{name:<14} {value:7.2f}" for name, value in result["per_joint_nll"].items() if value is not None]
    if cells:
        lines.append("  NLL of each joint alone, Haar nats:")
        lines += ["    " + "  ".join(cells[i : i + 3]) for i in range(0, len(cells), 3)]
    else:
        lines.append("  NLL of each joint alone: not available: cannot marginalise")
    return "\n".join(lines)


def _completion_cell(name: str, value: float | None, bound: str) -> tuple[str, str]:
    """Value and unit of a row."""
    if value is not None:
        return f"{value:.2f}", "mm" if name.endswith("mm") else "nats"
    if name.endswith("mm"):
        return "", "not available: no conditional of this part"
    return "", f"not available: {'log_prob is a bound' if bound else 'cannot marginalise'}"
