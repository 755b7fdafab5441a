"""Densities of frozen weights with hand-written gradients, for speed alone.

Each is defined by its eager twin in the model, and tested against it in value, gradient and second derivative. At batch 1
the cost of `log_prob` is the number of tensor operations. Where weights are frozen, whatever depends on them alone
(regressions, whitenings, masks, permutations) is folded into tables, which are computed once (`shared.cache`); value and
gradient are one operation for autograd (`density`), and large batches go through in chunks that fit the processor's cache.
`networks` has the parts that the densities share. docs/performance.md says what each of them gains.
"""
