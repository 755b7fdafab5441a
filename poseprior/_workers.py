"""Work spread over processes of this machine: results come as they are ready, and a worker that dies is an error.

Every worker holds one end of a pipe of its own. So the death of a worker is seen at once, and a worker whose parent was
killed ends, too.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

import torch

from ._checks import check_whole

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    make: Callable[[], Callable[[Job], Result]], jobs: Sequence[Job], workers: int
) -> Iterator[tuple[Job, Result]]:
    """Each job and its result, in the order in which they are ready.

    Args:
        make: called once in each worker; gives the function that does a job. With more than one worker it is pickled, as
            jobs and results are: a function of a module, or `functools.partial` of one.
        jobs: what to do.
        workers: processes. One means this process; more are new ones, each with one thread for torch, so a script that
            asks for them needs `if __name__ == "__main__":` around the call.

    Raises:
        ValueError: that a job raised (no other job is begun then), or a worker that died.
    """
    check_whole("workers", workers, least=1)
    if workers == 1 or len(jobs) < 2:
        work = make() if jobs else None
        for job in jobs:
            assert work is not None
            yield job, work(job)
        return
    context = multiprocessing.get_context("spawn")
    left = list(enumerate(jobs))[::-1]
    pipes: dict[Connection, tuple[Any, int]] = {}
    try:
        for _ in range(min(workers, len(jobs))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(there, make), daemon=True)
            process.start()
            there.close()
            number, job = left.pop()
            here.send(job)
            pipes[here] = (process, number)
        while pipes:
            for pipe in wait(list(pipes)):
                assert isinstance(pipe, Connection)
                process, number = pipes[pipe]
                try:
                    result, error = pipe.recv()
                except (EOFError, ConnectionResetError):
                    process.join()
                    raise ValueError(
                        f"workers: a worker process ended with exit code {process.exitcode} during {_shown(jobs[number])} "
                        "(out of memory, or killed); what was finished is kept: run the same again, with fewer workers."
                    ) from None
                if error is not None:
                    raise error
                if left:
                    following, job = left.pop()
                    pipe.send(job)
                    pipes[pipe] = (process, following)
                else:
                    del pipes[pipe]
                    pipe.close()
                yield jobs[number], result
    finally:
        for pipe, (process, _) in pipes.items():
            pipe.close()
            process.terminate()


def _work(pipe: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    """What a worker process does."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    work = None
    while True:
        try:
            job = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            work = work or make()
            answer: tuple[Any, Exception | None] = (work(job), None)
        except KeyboardInterrupt:
            return
        except ValueError as error:
            answer = (None, ValueError(str(error)))
        except Exception as error:  # one that cannot be pickled would look like a dead worker
            answer = (None, RuntimeError(f"{_shown(job)}: {type(error).__name__}: {error}"))
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _shown(job: object) -> str:
    text = str(job)
    return text if len(text) <= 160 else text[:160] + "..."
