"""Recipes of the priors that ship: what to train, on what, and what to write down about it."""

from .data import read_parts, together
from .record import check_log_prob, held_out_nll, record
from .table import RECIPES, Recipe, find_recipe

__all__ = ["RECIPES", "Recipe", "check_log_prob", "find_recipe", "held_out_nll", "read_parts", "record", "together"]
