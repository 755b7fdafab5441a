"""Whether code is being traced: by torch.compile, torch.export, a torch.func transform or forward-mode differentiation.

Traced code computes with tensors that may have no values yet. So it leaves out checks that read values, takes no path that
depends on values, and uses operations that PyTorch can transform in place of hand-written gradients. It reads sizes as
`x.shape[0]`, since torch.export takes `len(x)` for a constant.
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
    """Whether a torch.func transform wraps this tensor: it is a batch under vmap, or carries a derivative."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def untransformed() -> torch._C._DisableFuncTorch:
    """A context for computing with plain tensors, as if no torch.func transform were at work."""
    return torch._C._DisableFuncTorch()
