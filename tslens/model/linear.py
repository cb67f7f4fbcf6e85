"""Linear maps; without gradients, in float32 on a CPU, by oneDNN.

PyTorch gives float32 products to MKL, which takes more than twice as long for them on AMD's processors as oneDNN, the
library that PyTorch itself uses for bfloat16 (``training/LOG.md``). Both are exact to float32.

oneDNN compiles a product for every number of rows that it meets, which takes it twice as long as the product, and keeps
the last 1,024 of them, 0.5 to 1.5 MB each. Batches of stories have a new number of rows nearly every time, so rows of
zeros are added up to one of a few numbers; what they give is cut off again.
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
        rows = x.reshape(-1, x.shape[-1])
        n_more = round_rows(len(rows)) - len(rows)
        whole = F.pad(rows, (0, 0, 0, n_more)) if n_more else rows
        product: Tensor = torch.ops.mkldnn._linear_pointwise(whole, weight, bias, after[0], [], after[1])
        return product[: len(rows)].view(*x.shape[:-1], len(weight))
    found = F.linear(x, weight, bias)
    return F.gelu(found, approximate="tanh") if gelu else found


def round_rows(n_rows: int) -> int:
    """The next of eight numbers between a power of two and the next, or multiple of 32: at most an eighth more."""
    step = max(MIN_ROWS, 1 << max(n_rows.bit_length() - 4, 0))
    return -(-n_rows // step) * step


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
