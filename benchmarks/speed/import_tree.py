"""An import of a large SYNTHETIC tree: poses a second, peak memory, and a kill in the middle.

    python -m benchmarks.speed.import_tree WORK --sequences 20000 --workers 2

Makes WORK/tree where it is not there, begins the import, kills all its processes when half of the shards are made, runs the
same command again, and compares what there is with what the tree holds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from poseprior.io import read_split

from .synthetic_tree import make_tree


def _family(pid: int) -> list[int]:
    """A process and all below it."""
    found, tasks = [pid], Path(f"/proc/{pid}/task")
    try:
        for task in tasks.iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    except OSError:
        pass
    return found


def _resident(pids: list[int]) -> int:
    """Bytes of memory of processes; pages that they share count once for each."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def run(command: list[str], *, kill_at: int | None = None, shards: Path) -> tuple[int, bool]:
    """Peak memory of a command's processes, and whether they were killed when there were `kill_at` shards."""
    process, peak = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL), 0
    while process.poll() is None:
        pids = _family(process.pid)
        peak = max(peak, _resident(pids))
        if kill_at is not None and len(list(shards.glob("[0-9]*"))) >= kill_at:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            return peak, True
        time.sleep(0.05)
    assert process.returncode == 0, process.returncode
    return peak, False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--sequences", type=int, default=20000)
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-kill", action="store_true")
    args = parser.parse_args()
    tree, out, counts = args.work / "tree", args.work / "shards", args.work / "counts.json"
    if not counts.exists():
        counts.write_text(json.dumps(make_tree(tree, args.sequences, frames=args.frames)))
    made = json.loads(counts.read_text())
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "poseprior",
        "data",
        "import",
        str(tree),
        "--out",
        str(out),
        "--workers",
        str(args.workers),
    ]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, kept = 0, {}
    if not args.no_kill:
        peak, killed = run(command, kill_at=8, shards=out / "shards")
        assert killed, "the import ended before it was killed"
        kept = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("[0-9]*")}
    peak = max(peak, run(command, shards=out / "shards")[0])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, processor = (
        time.perf_counter() - started,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )
    shards = {path.name: path.stat().st_mtime_ns for path in (out / "shards").glob("[0-9]*")}
    assert all(shards[name] == stamp for name, stamp in kept.items()), "a finished shard was made again"
    report = json.loads((out / "report.json").read_text())
    files = sum(source["files"] for source in report["sources"].values())
    frames = sum(source["frames"] for source in report["sources"].values())
    recordings: set[tuple[str, str]] = set()
    for part in read_split(out).values():
        assert part.subject is not None and part.sequence is not None
        recordings |= set(zip(part.subject.tolist(), part.sequence.tolist(), strict=True))
    refused = sum("is no .npz" not in why and "no motion" not in why for _, why in report["skipped"])
    assert files == len(recordings), "a recording came twice"
    assert files + refused == made["recordings"], "a recording was lost"
    print(
        f"{files:,} recordings of {frames:,} frames into {sum(report['rows'].values()):,} poses, {len(shards)} shards"
    )
    print(f"{len(kept)} shards were there when it was killed; none was made again, no recording is missing or doubled")
    print(f"peak memory {peak / 1e9:.2f} GB of all processes, {seconds:.0f} s, {processor:.0f} s of processors")
    print(f"{frames / seconds:,.0f} frames a second; {frames / processor:,.0f} a second of a processor")


if __name__ == "__main__":
    main()
