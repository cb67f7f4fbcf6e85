"""Text from a model of transformers, one token a step, with the library's own cache.

Rows of different lengths are padded on the left, where a mask hides the padding and positions begin behind it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache


class ForeignDecoder:
    """The decoder of a causal language model of transformers; satisfies ``decoding.Decoder``. Hooks stay in force."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._cache = DynamicCache(config=module.config)
        self._mask = torch.zeros(0, 0, dtype=torch.long)

    def start(self, prompts: list[list[int]], n_ctx: int) -> Float[Tensor, "row d_vocab"]:
        """Read prompts of one token or more; logits of the token after each. The cache grows as far as it must."""
        longest = max(map(len, prompts))
        pad = [longest - len(prompt) for prompt in prompts]
        tokens = torch.tensor([[0] * n + prompt for n, prompt in zip(pad, prompts, strict=True)])
        device = next(self._module.parameters()).device
        self._mask = (torch.arange(longest) >= torch.tensor(pad)[:, None]).long().to(device)
        self._cache = DynamicCache(config=self._module.config)
        return self._read(tokens.to(device))

    def step(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_vocab"]:
        """Read one more token of each row; logits of the next."""
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], 1)
        return self._read(tokens[:, None])

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only, in this order."""
        self._mask = self._mask[rows]
        self._cache.batch_select_indices(rows)

    @torch.inference_mode()
    def _read(self, tokens: Int[Tensor, "row pos"]) -> Float[Tensor, "row d_vocab"]:
        positions = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        final = self._module.base_model(
            tokens,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state
        logits: Tensor = self._module.lm_head(final[:, -1])
        return logits
