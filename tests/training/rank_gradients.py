"""Two steps of a fit as a process or a rank of its own, whose gradients are written down.

Usage: rank_gradients.py OUT.pt
"""

import os
import sys

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from poseprior import FitConfig, JointFlow
from poseprior.io import synthetic_poses


def main() -> None:
    torch.set_num_threads(1)
    rank = 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
    seen: list[list[torch.Tensor]] = []

    def note(optimiser: torch.optim.Optimizer, *_: object) -> None:
        grads = [p.grad for group in optimiser.param_groups for p in group["params"]]
        seen.append([torch.zeros(()) if grad is None else grad.clone() for grad in grads])

    register_optimizer_step_pre_hook(note)
    prior = JointFlow("body", hidden=8, dropout=0.0, input_noise=0.0, input_dropout=0.0).double()
    # 33 poses: the ranks' shares differ. Noise and reflections are drawn by each rank for itself, so there are none.
    config = FitConfig(
        max_steps=2, batch_size=33, jitter=0.0, mirror=False, clip_grad_norm=0.0, progress=False, device="cpu"
    )
    prior.fit(synthetic_poses(200, seed=0), config=config)
    if rank == 0:
        torch.save(seen, sys.argv[1])
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
