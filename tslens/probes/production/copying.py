"""Copying: does a head raise the logits of the tokens that it attends to?

On stories: at each place, the sum over keys of attention times what the head adds to the logit of the key's token,
less what it adds to the mean next token. From weights alone: the eigenvalues of the OV circuit, which are positive
where each token raises itself (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits).

Axes: row, head, query_pos, key_pos, move, vocab, d_model, d_head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.hooked import HookedModel
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.production.contrast import moves


def moved_keys(batch: TokenBatch, seed: int) -> Int[np.ndarray, "move row pos"]:
    """Whose token stands at each key where the story's tokens are moved around it; position 0 stays.

    By lot for each story (``contrast.moves``).
    """
    n_rows, n_pos = batch.tokens.shape
    found = np.tile(np.arange(n_pos), (2, n_rows, 1))
    for row, (length, key) in enumerate(zip(batch.length.tolist(), batch.cluster, strict=True)):
        for move, by in enumerate(moves(length - 1, key, seed)):
            found[move, row, 1:length] = np.roll(np.arange(1, length), by)
    return found


def copied(
    pattern: Float[Tensor, "row head query_pos key_pos"],
    written: Float[Tensor, "row query_pos head d_model"],
    directions: Float[Tensor, "row key_pos d_model"],
    moved: Int[Tensor, "move row pos"],
) -> tuple[Float[Tensor, "row query_pos head"], Float[Tensor, "row query_pos head"]]:
    """Attention times what is added to the logit of the key's token, summed over keys but position 0; and the mean of
    the same over moves of the keys' tokens.

    ``written``: what a head adds to what the unembedding reads. ``directions``: unembedding vector of the token at each
    key. As logits are linear in these, their mean by attention is taken first.
    """
    row = torch.arange(len(directions), device=directions.device)[:, None]
    moves_of = [directions, *(directions[row, one] for one in moved.to(directions.device))]
    keys = torch.cat(moves_of, 2)
    keys[:, 0] = 0  # what rests on the start of the story is no copy
    attended = torch.bmm(rearrange(pattern, "r h q k -> r (h q) k"), keys)
    attended = rearrange(attended, "r (h q) (m d) -> m r q h d", h=pattern.shape[1], m=len(moves_of))
    own, *elsewhere = (attended * written).sum(-1)
    return own, torch.stack(elsewhere).mean(0)


@torch.no_grad()
def eigenvalue_shares(
    model: StoryModel,
    written: Sequence[Float[Tensor, "head d_head d_model"]],
    W_U: Float[Tensor, "d_model vocab"],
) -> Float[np.ndarray, " head"] | None:
    """Sum of the real parts of the eigenvalues of each head's OV circuit over the sum of their moduli, -1 to 1.

    The circuit takes a token, as the head would read its embedding alone at the mean position, to logits; both less
    their means over the vocabulary. ``written``: W_O of each layer behind the last normalisation at a scale of one, in
    order. NaN for a head that writes nothing. In layers above the first an approximation: there a head reads more than
    embeddings. None for other people's models.
    """
    if not isinstance(model, HookedModel):
        return None
    embedding = model.W_E + model.W_pos.mean(0)
    to_logits = W_U - W_U.mean(1, keepdim=True)
    found = []
    for layer, out in enumerate(written):
        block = model.blocks[layer]
        read = block.ln1(embedding)
        around = to_logits @ (read - read.mean(0))
        small = (out @ around @ block.attn.W_V).double()
        eigenvalues = torch.linalg.eigvals(small)
        found.append(eigenvalues.real.sum(1) / eigenvalues.abs().sum(1))
    shares: np.ndarray = torch.cat(found).cpu().numpy()
    return shares
