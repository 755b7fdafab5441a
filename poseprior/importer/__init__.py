"""Trees of pose files (AMASS and larger) into shards: streaming, over processes, and resumable."""

from .options import ImportOptions
from .report import ImportReport
from .run import import_poses

__all__ = ["ImportOptions", "ImportReport", "import_poses"]
