"""Priors over many files and many machines: a result file for each input, and batch transforms for Ray Data.

`run_files` spreads a folder over the processes of one machine, with `ScoreFile`, `CompleteFile` or `CheckFile` as the task.
`score`, `complete` and `fit` are transforms of a Ray data set (the extra `ray`), on one machine or on a cluster, to which
`require_ray` connects.
"""

from .file_tasks import CheckFile, CompleteFile, ScoreFile
from .many_files import FilesReport, run_files
from .ray_data import complete, fit, require_ray, score

__all__ = [
    "CheckFile",
    "CompleteFile",
    "FilesReport",
    "ScoreFile",
    "complete",
    "fit",
    "require_ray",
    "run_files",
    "score",
]
