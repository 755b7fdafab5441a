"""A conditional flow for each joint, given its parent and a few related joints."""

from .joint_flow import JointFlow

__all__ = ["JointFlow"]
