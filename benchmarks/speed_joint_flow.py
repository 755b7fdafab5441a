"""Speed of `JointFlow(preset="published")` against the same flows in a Python loop over joints.

Run: `python benchmarks/speed_joint_flow.py`. One thread, medians of wall time, log_prob with gradient to the pose.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poseprior.models.joint_flow import JointFlow
from poseprior.models.joint_flow.realnvp import JointRealNVP
from poseprior.rotations import haar_log_density, wrap_rotvec

BATCHES = (1, 64, 1024)
#: What issue 3 asks for.
TARGETS = {1: 20.0, 64: 8.0, 1024: 1.8}


class LoopCoupling(nn.Module):
    """One affine coupling of one joint, as the reference writes it."""

    def __init__(self, kept: list[int], moved: list[int], weights: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.kept, self.moved = kept, moved
        layers: list[nn.Module] = []
        for weight, bias in weights:
            linear = nn.Linear(weight.shape[0], weight.shape[1])
            linear.weight.data, linear.bias.data = weight.T.contiguous(), bias[0].clone()
            layers += [linear, nn.ReLU()]
        self.network = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, parent: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.network(torch.cat([x[:, self.kept], parent], -1)).chunk(2, -1)
        log_scale = torch.tanh(raw)
        result = x.clone()
        result[:, self.moved] = x[:, self.moved] * torch.exp(log_scale) + shift
        return result, log_scale.sum(-1)


class LoopJointFlow(nn.Module):
    """The published joint flow as a loop over joints, with the weights of a `JointFlow`."""

    def __init__(self, prior: JointFlow) -> None:
        super().__init__()
        grouped = prior.conditionals
        assert isinstance(grouped, JointRealNVP)
        self.joints, self.parents = list(prior.joints), grouped.parents.tolist()
        self.flows = nn.ModuleList(
            nn.ModuleList(
                LoopCoupling(kept, moved, [(layer.weight[j], layer.bias[j]) for layer in part.layers])  # type: ignore[union-attr,index]
                for part, kept, moved in ((grouped.first, [0, 2], [1]), (grouped.second, [1], [0, 2]))
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


def median_ms(step: Callable[[], object], *, seconds: float = 2.0, least: int = 15) -> float:
    """Median wall time of `step` in ms, after warm-up."""
    for _ in range(3):
        step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def gradient_step(log_prob: Callable[[Tensor], Tensor], pose: Tensor) -> Callable[[], object]:
    """log_prob and its gradient to the pose."""

    def step() -> object:
        leaf = pose.detach().requires_grad_()
        return torch.autograd.grad(log_prob(leaf).sum(), leaf)

    return step


def measure(*, seconds: float = 2.0) -> list[dict[str, float]]:
    """Rows of batch size, ms of the loop, ms of `JointFlow`, their ratio and the target; one thread, restored after."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            prior = JointFlow("all", preset="published").eval().requires_grad_(False)
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


def main() -> None:
    print("JointFlow published preset, 55 joints, log_prob + gradient to the pose, 1 thread, median ms")
    print(f"{'batch':>6} {'loop':>9} {'JointFlow':>10} {'ratio':>7} {'target':>7}")
    for row in measure():
        times = f"{row['loop_ms']:9.2f} {row['joint_flow_ms']:10.2f}"
        print(f"{row['batch']:6.0f} {times} {row['ratio']:7.1f} {row['target']:7.1f}")


if __name__ == "__main__":
    main()
