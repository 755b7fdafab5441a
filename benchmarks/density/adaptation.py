"""What `poseprior.tasks.adapt` gains with 200 poses of two people of a rig, measured on the rig's other people.

For rigs that the prior was not trained on (`uiprmd` left out; `hdm05`, which is never trained on) and for one that it
was (`asf`, people of the validation split). Everything is on 17 joints, the body without toes and collars, at jitter
0.1 rad; the priors are those of `left_out_rigs`, trained first where there are none.

  before, after   NLL of the other people, Haar nats, with the prior as it is and adapted
  gain            before - after
  two people      gain on all poses of the very people that were adapted to
  <1              per cent of the other people's poses below the 1st percentile of the adapted prior's samples

  python -m benchmarks.density.adaptation --out runs/left_out_rigs [--only mixture] [--rigs uiprmd]
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import parser_for, write_json
from benchmarks.density.left_out_rigs import FAMILIES, JOINTS, nll, poses_of_rig, rows_of, trained
from poseprior import PoseDataset, PosePrior, read_poses
from poseprior.tasks import adapt

NUM_POSES = 200
RIGS = ("uiprmd", "hdm05", "asf")
#: Pairs of people, places in the sorted list of the rig's people.
PAIRS = ((0, 1), (2, 3), (4, 0))


def poses_of(folder: Path, rig: str) -> PoseDataset:
    """Poses of people of a rig that no prior was trained on."""
    if rig != "asf":
        return poses_of_rig(folder, rig)
    return rows_of(read_poses(folder / "val_poses.npz"), "asf").random_subset(4000, seed=0)


def measure(prior: PosePrior, data: PoseDataset, pair: tuple[int, int], seed: int) -> dict[str, float]:
    """Adapt to poses of two people, and judge on all of theirs and on the other people."""
    names = np.unique(np.asarray(data.subject))
    mine = np.isin(np.asarray(data.subject), names[list(pair)])
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(mine))
    start = time.perf_counter()
    found = adapt(prior, data.select(np.sort(rows[:NUM_POSES])), seed=seed)
    row = {"seconds": time.perf_counter() - start}
    for name, chosen in (("others", np.flatnonzero(~mine)), ("same", np.sort(rows))):
        pose, observed = data.select(chosen).all_poses()
        usable = prior.can_score(observed)
        pose, observed = pose[usable], observed[usable]
        for when, judged in (("before", prior), ("after", found)):
            row[f"{name} {when}"] = float(nll(judged, pose, observed).mean())
        if name == "others":
            seen = torch.zeros(55, dtype=torch.bool)
            seen[list(JOINTS)] = True
            low = found.log_prob(found.sample(2000), observed=seen).quantile(0.01)
            whole = observed[:, list(JOINTS)].all(1)
            value = found.log_prob(pose[whole], observed=seen)
            row["below 1"] = 100.0 * float((value < low).float().mean())
    return row


def main() -> None:
    parser = parser_for(__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/left_out_rigs"))
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), default=["mixture"])
    parser.add_argument("--rigs", nargs="+", choices=RIGS, default=list(RIGS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'family':<16}{'rig':<9}{'people':<8}{'before':>8}{'after':>8}{'gain':>7}{'two people':>12}{'<1':>7}{'s':>6}"
    )
    rows = {}
    for family in args.only:
        for rig in args.rigs:
            prior = trained(family, rig if rig == "uiprmd" else None, args.data, args.out)
            data = poses_of(args.data / "smplx_body", rig)
            for pair in PAIRS:
                row = rows[f"{family}/{rig}/{pair}"] = measure(prior, data, pair, 0)
                print(
                    f"{family:<16}{rig:<9}{f'{pair[0]}, {pair[1]}':<8}{row['others before']:8.1f}{row['others after']:8.1f}"
                    f"{row['others before'] - row['others after']:7.1f}{row['same before'] - row['same after']:12.1f}"
                    f"{row['below 1']:7.1f}{row['seconds']:6.0f}",
                    flush=True,
                )
    write_json(args.out / "adaptation.json", rows)


if __name__ == "__main__":
    main()
