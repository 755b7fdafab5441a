"""One normalising flow over all joints at once."""

from .global_flow import GlobalFlow

__all__ = ["GlobalFlow"]
