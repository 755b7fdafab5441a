"""What more orders of the shipped order-agnostic priors gain, and cost.

    python -m benchmarks.density.number_of_orders --data DIR

For each number of orders: NLL of held-out people under the jitter of the training, in Haar nats, and processor time of
log_prob with its gradient for a batch of poses, on one thread.
"""

from __future__ import annotations

from pathlib import Path

import torch

import poseprior
from benchmarks.common import gradient_step, machine_line, markdown_head, markdown_row, parser_for, processor_ms
from poseprior import OrderAgnosticPrior, PoseDataset
from poseprior.rotations import add_tangent_noise

_JITTER = 0.1  # rad
_BATCH = 1024
#: Files of each prior, by the head of their column.
FILES = {
    "body-order-agnostic": {
        "val": "smplx_body/val_poses.npz", "hdm05": "smplx_body/hdm05_poses.npz", "uiprmd": "smplx_body/uiprmd_poses.npz",
    },
    "hand-order-agnostic": {"val": "hands/hands_val.npz", "test": "hands/hands_test.npz"},
}  # fmt: skip


def main() -> None:
    """Print one table for each prior."""
    parser = parser_for(__doc__)
    parser.add_argument("--orders", type=int, nargs="+", default=[1, 2, 3, 4, 8, 24])
    parser.add_argument("--poses", type=int, default=600, help="of each file; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line())
    for name, files in FILES.items():
        prior = poseprior.load(name)
        assert isinstance(prior, OrderAgnosticPrior)
        poses = prior.sample(_BATCH, generator=torch.Generator().manual_seed(0))
        data = {label: poseprior.read_poses(Path(args.data) / file) for label, file in files.items()}
        print(f"\n{name}\n\n" + markdown_head(["orders", *files, f"ms, {_BATCH:,} poses"]))
        for orders in args.orders:
            prior.num_orders = orders
            numbers = [f"{_nll(prior, own, args.poses):.2f}" for own in data.values()]
            milliseconds = processor_ms(gradient_step(prior.log_prob, poses))
            print(markdown_row([str(orders), *numbers, f"{milliseconds:.0f}"]), flush=True)


def _nll(prior: OrderAgnosticPrior, data: PoseDataset, count: int) -> float:
    generator = torch.Generator().manual_seed(1)
    pose, observed = data.all_poses()
    rows = torch.randperm(len(pose), generator=generator)[:count]
    noisy = add_tangent_noise(pose[rows], _JITTER, generator=generator)
    return -float(prior.log_prob(noisy, observed=observed[rows]).mean())


if __name__ == "__main__":
    main()
