"""Speed of the published `JointFlow` against the same flows in a Python loop over joints.

    python -m benchmarks.speed.joint_flow_loop

One thread, medians of wall time, log_prob with gradient to the pose, 55 joints, frozen weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common import gradient_step, machine_line, median_ms, parser_for
from benchmarks.priors import published_joint_flow
from poseprior import JointFlow
from poseprior.rotations import haar_log_density, wrap_rotvec

BATCHES = (1, 64, 1024)
#: How many times faster than the loop `JointFlow` is meant to be, by batch size.
TARGETS = {1: 20.0, 64: 8.0, 1024: 1.8}


class LoopCoupling(nn.Module):
    """One affine coupling of one joint, as the reference writes it."""

    def __init__(self, unchanged: list[int], transformed: list[int], weights: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.unchanged, self.transformed = unchanged, transformed
        layers: list[nn.Module] = []
        for weight, bias in weights:
            linear = nn.Linear(weight.shape[0], weight.shape[1])
            linear.weight.data, linear.bias.data = weight.T.contiguous(), bias[0].clone()
            layers += [linear, nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, parent: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.network(torch.cat([x[:, self.unchanged], parent], -1)).chunk(2, -1)
        log_scale = torch.tanh(raw)
        result = x.clone()
        result[:, self.transformed] = x[:, self.transformed] * torch.exp(log_scale) + shift
        return result, log_scale.sum(-1)


class LoopJointFlow(nn.Module):
    """The published joint flow as a loop over joints, with the weights of a `JointFlow`."""

    def __init__(self, prior: JointFlow) -> None:
        super().__init__()
        grouped: Any = prior.conditionals
        self.joints, self.parents = list(prior.joints), grouped.parents.tolist()
        self.flows = nn.ModuleList(
            nn.ModuleList(
                LoopCoupling(unchanged, transformed, [(layer.weight[j], layer.bias[j]) for layer in part.layers])
                for part, unchanged, transformed in ((grouped.first, [0, 2], [1]), (grouped.second, [1], [0, 2]))
            )
            for j in range(len(self.joints))
        )

    def log_prob(self, pose: Tensor) -> Tensor:
        """(B,) Haar nats of (B, 55, 3) poses."""
        rotvec = wrap_rotvec(pose[:, self.joints])
        total = torch.zeros(len(pose), dtype=pose.dtype)
        for j, flow in enumerate(self.flows):
            parent = (
                rotvec[:, self.parents[j]] if self.parents[j] < len(self.joints) else torch.zeros_like(rotvec[:, 0])
            )
            z = rotvec[:, j]
            for coupling in flow:  # type: ignore[attr-defined]
                z, log_det = coupling(z, parent)
                total = total + log_det
            total = total - 0.5 * z.square().sum(-1) - 1.5 * math.log(2.0 * math.pi)
        return total - haar_log_density(rotvec).sum(-1)


def measure(*, seconds: float = 2.0) -> list[dict[str, float]]:
    """Rows of batch size, ms of the loop, ms of `JointFlow`, their ratio and the target; one thread, restored after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            prior = published_joint_flow("all").eval().requires_grad_(False)
        loop = LoopJointFlow(prior).eval().requires_grad_(False)
        rows = []
        for batch in BATCHES:
            pose = 0.3 * torch.randn(batch, 55, 3, generator=generator)
            if not torch.allclose(prior.log_prob(pose), loop.log_prob(pose), rtol=1e-4, atol=1e-2):
                raise RuntimeError("the loop and JointFlow disagree")
            slow = median_ms(gradient_step(loop.log_prob, pose), seconds=seconds)
            fast = median_ms(gradient_step(prior.log_prob, pose), seconds=seconds)
            rows.append({
                "batch": batch, "loop_ms": slow, "joint_flow_ms": fast, "ratio": slow / fast, "target": TARGETS[batch],
            })  # fmt: skip
        return rows
    finally:
        torch.set_num_threads(threads)


def print_rows(rows: list[dict[str, float]]) -> None:
    """The rows of `measure` as a table."""
    print("published JointFlow (55 joints) against the same flows in a Python loop, log_prob + gradient, ms")
    print(f"{'batch':>6}{'loop':>10}{'JointFlow':>11}{'ratio':>8}{'at least':>10}")
    for row in rows:
        times = f"{row['loop_ms']:10.2f}{row['joint_flow_ms']:11.2f}"
        print(f"{row['batch']:6.0f}{times}{row['ratio']:8.1f}{row['target']:10.1f}")


def main() -> None:
    """Measure and print."""
    parser = parser_for(__doc__, data=False)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each median; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    print_rows(measure(seconds=args.seconds))


if __name__ == "__main__":
    main()
