"""Hand-written value-and-gradient kernels, for speed alone: each is defined by its eager twin and tested against it."""
