"""What `prior.compile()` gains over plain calls, and what it costs, in one run on one thread.

    python -m benchmarks.speed.compiled --priors body-mixture body-global-flow

For each prior: log_prob with its gradient to the pose, plain (with the hand-written gradients) and compiled. The two take
turns, and the fastest tenth of the processor times counts, so that other processes on the machine disturb little. Compile
times are processor times too, of all that the first calls at two batch sizes take but for the C++ compiler's own.
"""

from __future__ import annotations

import time

import torch

import poseprior
from benchmarks.common import gradient_step, in_turns_ms, machine_line, markdown_head, markdown_row, parser_for

BATCHES = (1, 64, 1024)


def main() -> None:
    """Measure and print one row for each prior."""
    parser = parser_for(__doc__, data=False)
    names = sorted(poseprior.list_pretrained())
    parser.add_argument("--priors", nargs="+", choices=names, default=names, help="default: all that ship")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell; default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(machine_line() + "\n")
    heads = [f"batch {batch}: {what}" for batch in BATCHES for what in ("plain, ms", "compiled, ms", "gain")]
    print(markdown_head(["prior", "compiling, s", *heads]), flush=True)
    for name in args.priors:
        print(markdown_row(_row(name, args.seconds)), flush=True)


def _row(name: str, seconds: float) -> list[str]:
    plain, compiled = poseprior.load(name), poseprior.load(name)
    poses = plain.sample(max(BATCHES), generator=torch.Generator().manual_seed(0))
    compiled.compile()
    start = time.process_time()
    for rows in (1, 64):  # a batch of one pose is a graph of its own
        gradient_step(compiled.log_prob, poses[:rows])()
    cells = [name, f"{time.process_time() - start:.0f}"]
    for batch in BATCHES:
        steps = [gradient_step(prior.log_prob, poses[:batch]) for prior in (plain, compiled)]
        first, second = in_turns_ms(steps, seconds=seconds)
        cells += [f"{first:.2f}", f"{second:.2f}", f"{first / second:.2f}"]
    return cells


if __name__ == "__main__":
    main()
