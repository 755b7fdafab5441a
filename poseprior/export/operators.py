"""Operators of this library's graphs as functions of ONNX operators. Needs onnxscript; imported where graphs are made."""

# The functions are graphs in the syntax of Python, which onnxscript reads.
# mypy: ignore-errors

from __future__ import annotations

from typing import Any

import torch
from onnxscript import DOUBLE, script
from onnxscript import opset18 as op
from onnxscript.values import Opset

from ..models.joint_flow import mixture_inverse  # noqa: F401  registers poseprior::mixture_root

_DOMAIN = Opset("poseprior", 1)


@script(_DOMAIN, default_opset=op)
def mixture_root(target: DOUBLE, offset: DOUBLE, slope: DOUBLE, log_weight: DOUBLE) -> DOUBLE:
    """`mixture_inverse.mixture_root`: each of 11 rounds cuts the bracket into 16 parts.

    log Phi is a fit with errors below 1.2e-7. Source: Press et al., "Numerical Recipes", section 6.2.
    """
    far = op.Unsqueeze(op.Abs(target), [-1])
    low = op.ReduceMin((op.Neg(far) - 1.0 - offset) / slope, [-1], keepdims=1)
    width = op.ReduceMax((far + 1.0 - offset) / slope, [-1], keepdims=1) - low
    cut = op.CastLike(op.Range(1, 16, 1), target) / 16.0
    side = op.Unsqueeze(op.Where(target > 0.0, op.CastLike(-1.0, target), op.CastLike(1.0, target)), [-1])
    for _ in range(11):
        x = op.Unsqueeze(low + width * cut, [-1])
        f = op.Unsqueeze(offset, [-2]) + op.Unsqueeze(slope, [-2]) * x
        # The last of these is the target's, the same in all rounds: a function cannot call another one.
        every = op.Concat(op.Unsqueeze(side, [-1]) * f, x * 0.0 - op.Unsqueeze(far, [-1]), axis=-1)
        a = op.Abs(every) * 0.7071067811865476
        t = 1.0 / (1.0 + 0.5 * a)
        p = t * 0.17087277 - 0.82215223
        p = t * p + 1.48851587
        p = t * p - 1.13520398
        p = t * p + 0.27886807
        p = t * p - 0.18628806
        p = t * p + 0.09678418
        p = t * p + 0.37409196
        p = t * p + 1.00002368
        p = t * p - 1.26551223
        tail = op.Log(0.5 * t) + p - a * a
        log_ndtr = op.Where(every > 0.0, op.Log(1.0 - op.Exp(tail)), tail)
        mixed = op.Unsqueeze(log_weight, [-2]) + op.Slice(log_ndtr, [0], [-1], [-1])
        gap = op.ReduceLogSumExp(mixed, [-1], keepdims=1) - op.Slice(log_ndtr, [-1], [2147483647], [-1])
        below = op.CastLike(side * op.Squeeze(gap, [-1]) < 0.0, target)
        width = width / 16.0
        low = low + width * op.ReduceSum(below, [-1], keepdims=1)
    return op.Squeeze(low + width * 0.5, [-1])


def translations() -> dict[Any, Any]:
    """For `custom_translation_table` of `torch.onnx.export`."""
    return {torch.ops.poseprior.mixture_root.default: mixture_root}
