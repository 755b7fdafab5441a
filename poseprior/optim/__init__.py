"""Minimising and sampling energies in a batch, where every row is a problem of its own, independent of the others."""

from .adam import adam
from .energy import Energy, Minimum, Select, value_and_gradient
from .hmc import hmc
from .lbfgs import lbfgs

__all__ = ["Energy", "Minimum", "Select", "adam", "hmc", "lbfgs", "value_and_gradient"]
