"""Densities of frozen weights, for speed alone: each is defined by its eager twin in the model and tested against it.

At batch 1 the price of `log_prob` is the number of tensor operations. Where weights are frozen, whatever depends on them
alone (regressions, whitenings, masks, permutations) is folded into tables, computed once (`shared.cache`), and a density is
a handful of products. Large batches go through in chunks (`chunks`). Gradients are autograd's.
"""
