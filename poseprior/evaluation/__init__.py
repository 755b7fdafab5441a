"""How good a prior is: held-out likelihood, sample metrics, completion."""

from .report import evaluate, format_table

__all__ = ["evaluate", "format_table"]
