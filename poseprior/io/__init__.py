"""Poses in and out of files."""

from .dataset import PoseDataset
from .npz import read_poses, read_split, write_poses
from .synthetic import synthetic_poses

__all__ = ["PoseDataset", "read_poses", "read_split", "synthetic_poses", "write_poses"]
