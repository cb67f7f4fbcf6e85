"""What a step computes: the loss of a batch, in the precision of the run, compiled where asked.

Weights, residual stream, softmax, sums and the optimizer stay in float32; ``bfloat16`` is the precision of matrix
products alone (autocast). On a CPU without instructions for it such a product can be a hundred times slower, on one
with them (AVX512-BF16, AMX) twice as fast, so ``auto`` asks the processor.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tslens.config import Precision
from tslens.model.loss import summed_loss
from tslens.model.transformer import TinyTransformer


class Objective(nn.Module):
    """The loss of a share of a batch. ``precision``: float32, bfloat16 or float64."""

    def __init__(self, model: TinyTransformer, *, precision: Precision, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self.is_autocast = precision == "bfloat16"
        self._final_residual: Any = model.final_residual
        if compiled:  # lengths and numbers of rows differ from batch to batch
            self._final_residual = torch.compile(model.final_residual, dynamic=True)

    def forward(
        self, tokens: Int[Tensor, "story pos"], targets: Int[Tensor, "story pos"], weight: float
    ) -> Float[Tensor, ""]:
        """Loss in nats summed over the targets, times ``weight``."""
        with torch.autocast(tokens.device.type, dtype=torch.bfloat16, enabled=self.is_autocast):
            return summed_loss(self._final_residual(tokens), self.model.embed.W_E, targets) * weight


def resolve_precision(precision: Precision, device: str) -> Precision:
    """``auto`` as the precision that is the faster one on a device; others as they are."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device == "cpu" and _has_bfloat16_products():
        return "bfloat16"
    return "float32"


def _has_bfloat16_products() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
