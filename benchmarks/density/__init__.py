"""Held-out densities, completion, samples, and the pages that report them."""
