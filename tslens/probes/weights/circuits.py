"""The two circuits of a head as tables over tokens (Elhage et al. 2021), from its weights and a vector for each token.

Axes: token (seen tokens); of a table the first is the query of QK and the key of OV.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from tslens.model.transformer import TinyTransformer
from tslens.probes.weights.relations import SeenTokens
from tslens.probes.weights.vectors import Vectors
from tslens.types import HeadId

Scores = Float[np.ndarray, "token token"]


@torch.no_grad()
def qk_scores(model: TinyTransformer, head: HeadId, vectors: Vectors) -> Scores:
    """Score before the softmax, in nats, of each token as query with each token as key: x_q W_Q W_K^T x_k."""
    attention = model.blocks[head.layer].attn
    q, k = vectors @ attention.W_Q[head.index], vectors @ attention.W_K[head.index]
    return (q @ k.T).float().cpu().numpy()


@torch.no_grad()
def ov_effects(model: TinyTransformer, head: HeadId, vectors: Vectors, seen: SeenTokens) -> Scores:
    """How much full attention to each token raises the logit of each, by the direct path: x_k W_V W_O W_U.

    What is written is centred and weighted as by the last LayerNorm. The scale by which that divides is left out, so
    only effects of one key may be compared, and those of one head up to a factor.
    """
    attention, last = model.blocks[head.layer].attn, model.ln_final
    written = vectors @ attention.W_V[head.index] @ attention.W_O[head.index]
    written = (written - written.mean(-1, keepdim=True)) * last.w
    ids = torch.from_numpy(seen.ids).to(model.device)
    return (written @ model.W_U[:, ids]).float().cpu().numpy()
