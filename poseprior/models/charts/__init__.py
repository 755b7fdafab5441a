"""Charts: coordinates of rotations in R^3, each with its exact change of variables."""

from .axis_angle import AxisAngleChart
from .compact import CompactChart
from .tangent import Chart, TangentChart

__all__ = ["AxisAngleChart", "Chart", "CompactChart", "TangentChart"]
