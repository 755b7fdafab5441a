"""An autoregressive density over joints that works in every order."""

from .order_agnostic import OrderAgnosticPrior

__all__ = ["OrderAgnosticPrior"]
