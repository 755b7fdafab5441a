"""Other rigs: priors of people, seen through the conventions of one rig."""

from .adapted import AdaptedLatentPrior, AdaptedPrior, adapted

__all__ = ["AdaptedLatentPrior", "AdaptedPrior", "adapted"]
