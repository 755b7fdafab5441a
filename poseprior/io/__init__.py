"""Poses in and out of files."""

from poseprior.io.dataset import PoseDataset
from poseprior.io.npz import read_poses, read_split, write_poses

__all__ = ["PoseDataset", "read_poses", "read_split", "write_poses"]
