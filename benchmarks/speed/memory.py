"""Memory of the log-density of many poses at once, beside the poses themselves, for every shipped prior.

    python -m benchmarks.speed.memory --poses 1000000

Each prior is measured in a process of its own; the poses are drawn beforehand, so what the peak gains is what
`log_prob` takes.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time

import torch

import poseprior


def extra_bytes(name: str, poses: int) -> tuple[int, float]:
    """What the peak memory of this process gains by `log_prob` of so many poses, and its seconds."""
    prior = poseprior.load(name)
    generator = torch.Generator().manual_seed(0)
    pose = torch.empty(poses, 55, 3)
    for part in pose.split(65536):
        part.normal_(0.0, 0.3, generator=generator)
    prior.log_prob(pose[:16])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    value = prior.log_prob(pose)
    seconds = time.perf_counter() - started
    assert value.shape == (poses,) and bool(torch.isfinite(value).all())
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--poses", type=int, default=1_000_000)
    parser.add_argument("--prior", nargs="*", default=list(poseprior.list_pretrained()))
    parser.add_argument("--here", action="store_true", help="measure one prior in this process")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.prior:
        if args.here:
            extra, seconds = extra_bytes(name, args.poses)
            print(f"{name:<20} {args.poses:>9,} poses: {extra / 1e9:5.2f} GB beside them, {seconds:6.1f} s", flush=True)
        else:
            command = [sys.executable, "-m", __spec__.name, "--poses", str(args.poses), "--here", "--prior", name]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
