"""Patterns that token identities and distance predict: the tables of heads, and what they give.

The score of a pair is ``u[token of query] . v[token of key] + b[token of key] + g(distance)``, and ``c`` more
where the key is position 0; the predicted row is the softmax over the keys that the layer may look at. ``basis`` fits
the tables.

Axes: row (a story), pos (query_pos, key_pos), head, token_row (row of the tables), rank, bin (of distances).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.model.attention import Pattern, allowed_pairs
from tslens.model.transformer import TinyTransformer
from tslens.types import HeadId

EXACT_DISTANCES = 64  # each has a number of its own; above, eight bins for every doubling
OUT_OF_REACH = -1e9  # a score that the softmax turns into zero, and that times zero is zero


@dataclass(frozen=True)
class Rows:
    """Stories as a model reads them. ``length``: positions that are real; behind them is padding."""

    tokens: Int[Tensor, "row pos"]
    length: Int[Tensor, " row"]

    def copied(self) -> Rows:
        """On the CPU, and fit for gradients where the caller made them in inference mode."""
        return Rows(self.tokens.long().cpu().clone(), self.length.long().cpu().clone())

    def real(self, values: Tensor) -> Tensor:
        """Values [row pos ...] at real positions, stories one after the other."""
        return values[torch.arange(self.tokens.shape[1]) < self.length[:, None]]


def distance_bin(distance: Int[Tensor, "*pair"]) -> Int[Tensor, "*pair"]:
    """Bin of a distance: itself up to 64, then eight bins for every doubling; 0 for what is behind the query."""
    far = (distance.clamp(min=EXACT_DISTANCES).double() / EXACT_DISTANCES).log2().mul(8).ceil().long()
    return distance.clamp(0, EXACT_DISTANCES) + far


@dataclass(frozen=True)
class Tables:
    """The numbers of all heads; the second axis of each is the head. Rank 0: no terms of tokens, b neither."""

    u: Float[Tensor, "token_row head rank"]
    v: Float[Tensor, "token_row head rank"]
    b: Float[Tensor, "token_row head"]
    g: Float[Tensor, "bin head"]
    c: Float[Tensor, "one head"]

    def all(self) -> list[Tensor]:
        """All of them, in the order of the fields."""
        return [self.u, self.v, self.b, self.g, self.c]

    def map(self, change: Callable[[Tensor], Tensor]) -> Tables:
        """The same with each changed."""
        return Tables(*map(change, self.all()))

    def with_heads(self, chosen: Bool[Tensor, " head"], other: Tables) -> Tables:
        """A copy with the numbers of some heads taken from other tables."""
        copy = self.map(lambda x: x.detach().clone())
        for mine, theirs in zip(copy.all(), other.all(), strict=True):
            mine[:, chosen] = theirs.detach()[:, chosen]
        return copy

    def scores(
        self,
        token_row: Int[Tensor, "row pos"],
        query_pos: Int[Tensor, " query"],
        windows: Sequence[int | None],
    ) -> Float[Tensor, "row head query key_pos"]:
        """Scores before the softmax; ``windows``: of each head."""
        n_heads, key_pos = self.u.shape[1], torch.arange(token_row.shape[1])
        of_distance = F.embedding(distance_bin(query_pos[:, None] - key_pos), self.g)
        of_place = rearrange(of_distance, "q k h -> h q k") + (key_pos == 0) * self.c.T[:, :, None]
        kinds = {window: allowed_pairs(query_pos, key_pos, window) for window in windows}
        allowed = torch.stack([kinds[window] for window in windows])
        placed = of_place.masked_fill(~allowed, OUT_OF_REACH)
        if not self.u.shape[-1]:  # no terms of tokens: the same for all stories
            return placed.expand(len(token_row), -1, -1, -1)
        u = F.embedding(token_row[:, query_pos], rearrange(self.u, "t h r -> t (h r)"))
        v = F.embedding(token_row, rearrange(self.v, "t h r -> t (h r)"))
        product = torch.bmm(
            rearrange(u, "s q (h r) -> (s h) q r", h=n_heads),
            rearrange(v, "s k (h r) -> (s h) r k", h=n_heads),
        )
        b = rearrange(F.embedding(token_row, self.b), "s k h -> s h 1 k")
        of_tokens = rearrange(product, "(s h) q k -> s h q k", h=n_heads) + b
        return of_tokens + placed


@dataclass(frozen=True, eq=False)
class TokenPredictor:
    """Patterns that token identities and distance predict.

    ``heads``: in the order in which they were asked for; ``windows``: of their layers. ``row_of``: row of the
    tables of each token.
    """

    heads: tuple[HeadId, ...]
    windows: tuple[int | None, ...]
    row_of: Int[Tensor, " d_vocab"]
    tables: Tables

    @torch.no_grad()
    def pattern(
        self, tokens: Int[Tensor, "row pos"]
    ) -> dict[int, Float[Tensor, "row head query_pos key_pos"]]:
        """Predicted pattern by layer, its heads in the order of ``heads``; on the CPU. Each query row sums to 1."""
        return {layer: scores.softmax(-1) for layer, scores in self._scores(tokens)}

    @torch.no_grad()
    def log_pattern(
        self, tokens: Int[Tensor, "row pos"]
    ) -> dict[int, Float[Tensor, "row head query_pos key_pos"]]:
        """Its logarithm, finite also where the pattern is too small for a float, or zero."""
        return {layer: scores.log_softmax(-1) for layer, scores in self._scores(tokens)}

    def _scores(
        self, tokens: Int[Tensor, "row pos"]
    ) -> Iterator[tuple[int, Float[Tensor, "row head query_pos key_pos"]]]:
        token_row, query_pos = self.row_of[tokens.long().cpu()], torch.arange(tokens.shape[1])
        for layer in dict.fromkeys(head.layer for head in self.heads):
            chosen = [i for i, head in enumerate(self.heads) if head.layer == layer]
            tables = Tables(*(x[:, chosen] for x in self.tables.all()))
            yield layer, tables.scores(token_row, query_pos, [self.windows[i] for i in chosen])


@torch.no_grad()
def exact_layer0(model: TinyTransformer, tokens: Int[Tensor, "story pos"]) -> Pattern:
    """The pattern of layer 0 from nothing but each token and its position.

    The embedding of one token at one position is normalised and projected, and no other token enters: a score is an
    exact function of two tokens and two positions. So the predictor of layer 0 is the pattern itself.
    """
    block, n_pos = model.blocks[0], tokens.shape[1]
    x = model.W_E[tokens] + model.W_pos[:n_pos]
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + block.ln1.eps).sqrt() * block.ln1.w + block.ln1.b
    q = einsum(x, block.attn.W_Q, "s q d, h d e -> s h q e")
    k = einsum(x, block.attn.W_K, "s k d, h d e -> s h k e")
    pos = torch.arange(n_pos, device=tokens.device)
    allowed = allowed_pairs(pos, pos, model.window(0))
    return einsum(q, k, "s h q e, s h k e -> s h q k").masked_fill(~allowed, float("-inf")).softmax(-1)
