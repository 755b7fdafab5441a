"""A tree of files as AMASS has them, of SYNTHETIC motion: SMPL-H and SMPL-X, stage i and ii, and files that are none.

python -m benchmarks.speed.synthetic_tree ROOT --sequences 20000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: (sub-dataset, whether it is of the SMPL-X release, recorded frames a second)
SOURCES = (("CMU", False, 120.0), ("KIT", False, 100.0), ("HumanEva", False, 120.0), ("SFU", True, 120.0),
           ("SSM", True, 60.0), ("DanceDB", True, 120.0))  # fmt: skip


def make_tree(root: Path, sequences: int, *, frames: int = 600, seed: int = 0, people: int = 8) -> dict[str, int]:
    """Write `sequences` recordings of 60 to 140 % of `frames` frames; how many files and frames there are.

    Every 50th recording has a stage i file beside it, every 100th a text file, and every 200th is damaged.
    """
    rng = np.random.default_rng(seed)
    counts = {"recordings": 0, "frames": 0, "damaged": 0, "stage_i": 0, "foreign": 0}
    walk = _walk(rng, 2 * frames)
    for k in range(sequences):
        source, smplx, rate = SOURCES[k % len(SOURCES)]
        person = k // len(SOURCES) % people
        folder = root / source / f"{person:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{person:02d}_{k:06d}"
        n = int(frames * rng.uniform(0.6, 1.4))
        start = int(rng.integers(0, len(walk) - n + 1))
        path = folder / f"{name}_{'stageii' if smplx else 'poses'}.npz"
        poses = walk[start : start + n] + rng.normal(0.0, 0.05, walk.shape[1])
        np.savez(path, **_arrays(poses, smplx, rate, rng))
        counts["recordings"] += 1
        counts["frames"] += n
        if k % 50 == 7:
            np.savez(folder / ("shape.npz" if not smplx else f"{name}_stagei.npz"), betas=np.zeros(16))
            counts["stage_i"] += 1
        if k % 100 == 9:
            (folder / f"{name}.txt").write_text("no poses")
            counts["foreign"] += 1
        if k % 200 == 11:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            counts["damaged"] += 1
    return counts


def _walk(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """(frames, 66) smooth motion of root and body, radians."""
    time = np.arange(frames)[:, None] / 120.0
    speed, phase = rng.uniform(0.2, 1.5, 66), rng.uniform(0.0, 2.0 * np.pi, 66)
    return np.asarray(0.35 * np.sin(2.0 * np.pi * speed * time + phase))


def _arrays(poses: NDArray[np.float64], smplx: bool, rate: float, rng: np.random.Generator) -> dict[str, Any]:
    n = len(poses)
    hands = np.broadcast_to(rng.normal(0.1, 0.1, 90), (n, 90))
    common = {"trans": np.zeros((n, 3)), "betas": rng.normal(size=16), "gender": np.array("neutral")}
    if not smplx:
        whole = np.concatenate([poses, hands], 1)
        return {"poses": whole, "dmpls": np.zeros((n, 8)), "mocap_framerate": np.array(rate), **common}
    whole = np.concatenate([poses, np.zeros((n, 9)), hands], 1)
    parts = {"root_orient": whole[:, :3], "pose_body": whole[:, 3:66], "pose_hand": whole[:, 75:]}
    more = {"surface_model_type": np.array("smplx"), "mocap_frame_rate": np.array(rate)}
    return {"poses": whole, **parts, "pose_jaw": whole[:, 66:69], "pose_eye": whole[:, 69:75], **more, **common}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--sequences", type=int, default=20000)
    parser.add_argument("--frames", type=int, default=600, help="mean length of a recording")
    args = parser.parse_args()
    print(json.dumps(make_tree(args.root, args.sequences, frames=args.frames)))


if __name__ == "__main__":
    main()
