"""Fitting SMPL-X bodies: priors as energy terms in nats, and a fitting loop."""

from ..keypoint_layouts import LAYOUTS, KeypointLayout, layout
from .anchor import PoseAnchor
from .body.body_points import BodyPoints
from .body.stand_in import stand_in_body
from .camera import Camera
from .config import FitBodyConfig
from .energy import EnergySum, EnergyTerm
from .fit_body import fit_body
from .result import BodyFit
from .targets import Joints3D, Keypoints2D, Markers, Target
from .term import PosePriorTerm

__all__ = [
    "LAYOUTS",
    "BodyFit",
    "BodyPoints",
    "Camera",
    "EnergySum",
    "EnergyTerm",
    "FitBodyConfig",
    "Joints3D",
    "KeypointLayout",
    "Keypoints2D",
    "Markers",
    "PoseAnchor",
    "PosePriorTerm",
    "Target",
    "fit_body",
    "layout",
    "stand_in_body",
]
