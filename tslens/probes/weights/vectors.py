"""What stands for a token where a head reads it: its embedding, or the mean of what the layer reads at its uses.

Axes: token (seen tokens, in the order of their ids), d_model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tslens.model.transformer import TinyTransformer
from tslens.probes.batch import TokenBatch
from tslens.probes.weights.relations import SeenTokens

Vectors = Float[Tensor, "token d_model"]


@torch.no_grad()
def embedding_vectors(model: TinyTransformer, seen: SeenTokens) -> list[Vectors]:
    """By layer: the embedding of each token plus the mean position embedding, normalised as the layer does.

    Exact in layer 0 but for the position; above it, what earlier layers write is left out.
    """
    ids = torch.from_numpy(seen.ids).to(model.device)
    lone = model.W_E[ids] + model.W_pos.mean(0)
    return [block.ln1(lone).float() for block in model.blocks]


@torch.no_grad()
def stream_vectors(model: TinyTransformer, batches: Sequence[TokenBatch], seen: SeenTokens) -> list[Vectors]:
    """By layer: the mean of the normalised residual stream over all uses of each token in the batches.

    Projections are linear, so that these give the mean query, key and value of a token exactly.
    """
    number = torch.from_numpy(seen.number)
    total = torch.zeros(model.cfg.n_layers, len(seen.ids), model.cfg.d_model, dtype=torch.float64)
    for batch in batches:
        tokens, used = torch.from_numpy(batch.tokens), torch.from_numpy(batch.is_query)
        which = number[tokens[used]]
        resid = model.embed_tokens(tokens.to(model.device))
        for layer, block in enumerate(model.blocks):
            read = block.ln1(resid)[used.to(model.device)]
            total[layer].index_add_(0, which, read.double().cpu())
            if layer < model.cfg.n_layers - 1:
                resid = block(resid)
    count = torch.bincount(number[_used_tokens(batches)], minlength=len(seen.ids)).clamp(min=1)
    return [(of_layer / count[:, None]).float().to(model.device) for of_layer in total]


def _used_tokens(batches: Sequence[TokenBatch]) -> Tensor:
    return torch.cat([torch.from_numpy(batch.tokens[batch.is_query]) for batch in batches])
