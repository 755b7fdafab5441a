"""Variational autoencoders of bodies and hands."""

from .options import VAEOptions
from .vae import BodyVAE, HandVAE, VAEPrior

__all__ = ["BodyVAE", "HandVAE", "VAEOptions", "VAEPrior"]
