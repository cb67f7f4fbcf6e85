"""Linear maps; without gradients, in float32 on a CPU, by oneDNN.

PyTorch gives float32 products to MKL, which takes more than twice as long for them on AMD's processors as oneDNN, the
library that PyTorch itself uses for bfloat16 (``training/LOG.md``). Both are exact to float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_ROWS = 32  # for fewer, oneDNN's start costs more than it saves


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, gelu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, [... d_in] to [... d_out]; ``gelu``: then GELU in its tanh form."""
    if _by_onednn(x, weight):
        after: tuple[str, str] = ("gelu", "tanh") if gelu else ("none", "")
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, after[0], [], after[1])
        return found
    found = F.linear(x, weight, bias)
    return F.gelu(found, approximate="tanh") if gelu else found


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    has_gradient = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not has_gradient
        and x.numel() >= MIN_ROWS * x.shape[-1]
        and torch.backends.mkldnn.is_available()
        and not torch.is_autocast_enabled("cpu")
    )
