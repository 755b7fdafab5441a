"""trimesh, or an error that says how to install it."""

from __future__ import annotations

from types import ModuleType


def import_trimesh(what: str) -> ModuleType:
    """The package, for `what` needs it.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import trimesh
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{what} need trimesh, which is not installed; run: pip install "poseprior[viz]"', name=error.name
        ) from error
    module: ModuleType = trimesh
    return module
