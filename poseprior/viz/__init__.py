"""Pictures of poses, of checks and of fits. They need matplotlib, and scenes trimesh: `pip install "poseprior[viz]"`."""

from ..drawing.canvas import new_figure
from ..drawing.poses import COLOURS, face_the_viewer, plot_poses
from .checks import plot_check
from .compare import plot_fits
from .fits import bodies_scene, fit_scene, plot_fit
from .mesh import skeleton_mesh, write_mesh

__all__ = [
    "COLOURS",
    "bodies_scene",
    "face_the_viewer",
    "fit_scene",
    "new_figure",
    "plot_check",
    "plot_fit",
    "plot_fits",
    "plot_poses",
    "skeleton_mesh",
    "write_mesh",
]
