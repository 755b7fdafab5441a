"""Whether code is being traced: by torch.compile, torch.export, a torch.func transform or forward-mode differentiation.

Traced code computes with tensors that may have no values yet. So it leaves out checks that read values, takes no path that
depends on values, and calls operations that PyTorch can transform in place of hand-written gradients. Sizes are read as
`x.shape[0]`: `len(x)` is a fixed number to torch.export.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_traced() -> bool:
    """Whether torch.compile, torch.export, a torch.func transform or forward-mode differentiation is at work."""
    return (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    )


def is_transformed(tensor: Tensor) -> bool:
    """Whether a torch.func transform runs over this very tensor: it stands for many, or has a derivative beside it."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def untransformed() -> torch._C._DisableFuncTorch:
    """A context for computing with plain tensors, as if no torch.func transform were at work."""
    return torch._C._DisableFuncTorch()
