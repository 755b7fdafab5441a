"""A training run as a process of its own, for the tests that kill it or run it on two ranks.

Usage: fit_script.py OUT.safetensors CHECKPOINT_DIR MAX_STEPS [gaussian | joint-flow | vae]
"""

import os
import sys
from pathlib import Path

import torch

from poseprior import BodyVAE, FitConfig, GaussianPrior, JointFlow
from poseprior.io import synthetic_poses

_LEGS = (1, 2, 4, 5)
_FAMILIES = {
    "gaussian": lambda: GaussianPrior("body", covariance="full"),
    "joint-flow": lambda: JointFlow(_LEGS, hidden=8, num_components=2, dropout=0.1),
    "vae": lambda: BodyVAE(_LEGS, latent_dim=4, hidden=8, flow_layers=2, flow_hidden=8),
}


def main() -> None:
    out, folder, steps = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    rank = 0
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
    data = synthetic_poses(1200, seed=0, num_subjects=6)
    train, val = data.split_by_subject([0.7, 0.3], seed=0)
    config = FitConfig(
        max_steps=steps, batch_size=64, warmup_steps=10, eval_every=50, checkpoint_every=20, checkpoint_dir=folder,
        progress=False, seed=7, device="cpu",
    )  # fmt: skip
    prior = _FAMILIES[sys.argv[4] if len(sys.argv) > 4 else "gaussian"]()
    prior.fit(train, val=val, config=config)
    prior.save(out.with_stem(f"{out.stem}{rank}"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
