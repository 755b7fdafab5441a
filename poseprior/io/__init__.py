"""Poses in and out of files."""

from poseprior.io.dataset import PoseDataset
from poseprior.io.npz import read_poses, read_split, write_poses
from poseprior.io.synthetic import synthetic_poses

__all__ = ["PoseDataset", "read_poses", "read_split", "synthetic_poses", "write_poses"]
