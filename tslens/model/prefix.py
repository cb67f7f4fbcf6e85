"""Rows of tokens run once, and run again from the middle of the model with something changed.

What lies before a change need not be computed again. The first run keeps of every layer what its heads read and
mix, and the residual stream after its attention and after its MLP. A rerun adds a change to what one of the two writes
and goes on from there. Where the result is wanted at some positions only, the last layer computes queries, output
projection, MLP and norm for these alone; the layers between run in full, as later positions look back at all of them.

Several changes run at once, as variants: rows of one batch. The caller limits how many.

Axes: variant, row, pos (query_pos, key_pos), head, d_head, d_model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.errors import ModelError

if TYPE_CHECKING:
    from tslens.model.attention import Attention, Pattern
    from tslens.model.story_model import StoryModel
    from tslens.model.transformer import Block, TinyTransformer

Mixed = Float[Tensor, "row pos head d_head"]
Part = Literal["attn", "mlp"]
"""Half of a block."""


@dataclass(frozen=True, eq=False)
class Edit:
    """Some units of a half give something else. ``new``: what, None for as before; ``share``: how far they go to it.

    ``scale``: of what the half writes, its bias included: 0 where it is silent.
    """

    units: Sequence[int]
    new: Float[Tensor, "row pos *unit"] | None
    share: float = 1.0
    scale: float = 1.0

    def given(
        self, given: Float[Tensor, "row pos *unit"], at: Bool[Tensor, "row pos"] | None
    ) -> Float[Tensor, "row pos *unit"]:
        """What the half gives, at all positions or at those of ``at`` in one row."""
        if self.new is None:
            return given
        new = self.new if at is None else self.new[at][None]
        edited = given.clone()
        edited[:, :, self.units] = torch.lerp(edited[:, :, self.units], new, self.share)
        return edited


class Prefix(Protocol):
    """A run of a model on rows of tokens, and its reruns. Nothing of it is differentiated; its tensors are for reading.

    ``tokens``: the rows, padded on the right with any token. ``n_layers``: of the model. ``final``: residual stream
    after the last normalisation, which the unembedding reads.
    """

    tokens: Int[Tensor, "row pos"]
    n_layers: int
    final: Float[Tensor, "row pos d_model"]

    def pattern(self, layer: int) -> Pattern:
        """What each query of a layer attends to: [row head query_pos key_pos]."""

    def values(self, layer: int) -> Float[Tensor, "row head key_pos d_head"]:
        """What the heads of a layer mix; heads that share values each have a copy."""

    def z(self, layer: int) -> Mixed:
        """What the heads of a layer have mixed: pattern times values."""

    def output(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O: what a head writes to the residual stream for what it has mixed."""

    def rerun(
        self,
        layer: int,
        change: Float[Tensor, "variant row pos d_model"],
        at: Bool[Tensor, "..."] | None = None,
        *,
        part: Part = "attn",
    ) -> Float[Tensor, "... d_model"]:
        """``final`` of each variant, where ``change`` is added to what the attention, or the MLP, of a layer writes.

        ``at``: positions whose result is wanted. None: all, [variant row pos d_model]. [row pos], the same for every
        variant: [variant position d_model]. [variant row pos], its own for each: [position d_model]. Positions are in
        row-major order of ``at``.
        """


class TinyPrefix:
    """A run of a :class:`TinyTransformer`. Satisfies ``Prefix``; six tensors of [row pos d_model] a layer are kept.

    Patterns are made when they are asked for, and the last one is kept. The model may not change in between.
    Raises ModelError if the model has hooks, which are not run here.
    """

    @torch.no_grad()
    def __init__(self, model: TinyTransformer, tokens: Int[Tensor, "row pos"]) -> None:
        refuse_hooks(model)
        self.tokens, self.n_layers = tokens, len(model.blocks)
        self._model = model
        self._projected: list[list[Tensor]] = []  # queries, keys, values of each layer
        self._z: list[Tensor] = []
        self._mid: list[Tensor] = []  # residual stream after the attention of each layer
        self._post: list[Tensor] = []  # and after its MLP
        self._pattern: tuple[int, Tensor] | None = None
        resid = model.embed_tokens(tokens)
        for block in model.blocks:
            projected = block.attn.project(block.ln1(resid))
            z = block.attn.fused(*projected, None)
            self._projected.append(projected)
            self._z.append(z)
            self._mid.append(resid + block.attn.write(z))
            resid = _after_mlp(block, self._mid[-1])
            self._post.append(resid)
        self.final = model.ln_final(resid)

    @torch.no_grad()
    def pattern(self, layer: int) -> Pattern:
        """What each query of a layer attends to."""
        if self._pattern is None or self._pattern[0] != layer:
            q, k, _ = self._projected[layer]
            scores = self._model.blocks[layer].attn.scores(q, k)
            self._pattern = layer, torch.softmax(scores, -1, out=scores)
        return self._pattern[1]

    def values(self, layer: int) -> Float[Tensor, "row head key_pos d_head"]:
        """What the heads of a layer mix."""
        return rearrange(self._projected[layer][2], "r k h e -> r h k e")

    def z(self, layer: int) -> Mixed:
        """What the heads of a layer have mixed."""
        return self._z[layer]

    def output(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of a layer."""
        output: Tensor = self._model.blocks[layer].attn.W_O.detach()
        return output

    @torch.no_grad()
    def rerun(
        self,
        layer: int,
        change: Float[Tensor, "variant row pos d_model"],
        at: Bool[Tensor, "..."] | None = None,
        *,
        part: Part = "attn",
    ) -> Float[Tensor, "... d_model"]:
        """``final`` of each variant, where ``change`` is added to what the attention, or the MLP, of a layer writes."""
        refuse_hooks(self._model)
        n_variants, n_rows = change.shape[:2]
        chosen = None if at is None else at.expand(change.shape[:3])
        place = None if chosen is None else rearrange(chosen, "v r p -> (v r) p")
        blocks, last = self._model.blocks, self._model.blocks[-1]
        clean = (self._mid if part == "attn" else self._post)[layer].expand(change.shape)
        if blocks[layer] is last and chosen is not None:
            resid = (clean[chosen] + change[chosen])[None]
        else:
            resid = rearrange(clean + change, "v r p d -> (v r) p d")
        if part == "attn":
            resid = _after_mlp(blocks[layer], resid)
        for block in blocks[layer + 1 :]:
            x = block.ln1(resid)
            if block is last and place is not None:
                resid, z = resid[place][None], _mixed_at(block.attn, x, place)[None]
            else:
                z = block.attn.fused(*block.attn.project(x), None)
            resid = _after_mlp(block, resid + block.attn.write(z))
        final: Tensor = self._model.ln_final(resid)
        if at is None:
            return rearrange(final, "(v r) p d -> v r p d", r=n_rows)
        return final[0] if at.ndim == 3 else rearrange(final[0], "(v n) d -> v n d", v=n_variants)

    @torch.no_grad()
    def replay(
        self, edits: Mapping[tuple[int, Part], Edit], at: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "position d_model"]:
        """``final`` at the positions of ``at``, where halves of several layers are edited, each whatever came before.

        What lies before the first of them is not computed again, nor what the last layer writes elsewhere.
        """
        refuse_hooks(self._model)
        blocks, first = self._model.blocks, min(layer for layer, _ in edits)
        resid = self._post[first - 1] if first else self._model.embed_tokens(self.tokens)
        for layer in range(first, self.n_layers):
            block, where = blocks[layer], at if layer == self.n_layers - 1 else None
            x, edit = block.ln1(resid), edits.get((layer, "attn"))
            if where is not None:
                resid, z = resid[where][None], _mixed_at(block.attn, x, where)[None]
            else:
                z = block.attn.fused(*block.attn.project(x), None)
            z, scale = (z, 1.0) if edit is None else (edit.given(z, where), edit.scale)
            resid = resid + block.attn.write(z) * scale
            post, edit = block.mlp.activations(block.ln2(resid)), edits.get((layer, "mlp"))
            post, scale = (post, 1.0) if edit is None else (edit.given(post, where), edit.scale)
            resid = resid + block.mlp.write(post) * scale
        final: Tensor = self._model.ln_final(resid)
        return final[0]


def _mixed_at(
    attn: Attention, x: Float[Tensor, "row pos d_model"], place: Bool[Tensor, "row pos"]
) -> Float[Tensor, "position head d_head"]:
    """What the heads mix at some places, queries of other positions not computed but to fill up rows."""
    n_pos, n_wanted = x.shape[1], place.sum(1)
    if (place == (torch.arange(n_pos, device=x.device) < n_wanted[:, None])).all():
        q, k, v = attn.project(x)
        return attn.fused(q, k, v, None)[place]  # rows from their start: causal, in half the time
    query_pos = place.int().argsort(dim=1, descending=True, stable=True)[
        :, : int(n_wanted.max())
    ]  # the wanted first
    (q,) = attn.project(x.gather(1, repeat(query_pos, "r q -> r q d", d=x.shape[2])), "Q")
    k, v = attn.project(x, "KV")
    mask = attn.allowed(query_pos, torch.arange(n_pos, device=x.device))
    q, k, v = (rearrange(part, "r p h e -> r h p e") for part in (q, k, v))
    z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None], scale=1.0)
    is_wanted = torch.arange(query_pos.shape[1], device=x.device) < n_wanted[:, None]
    return rearrange(z, "r h q e -> r q h e")[is_wanted]


def _after_mlp(block: Block, resid_mid: Float[Tensor, "... pos d_model"]) -> Float[Tensor, "... pos d_model"]:
    """Residual stream after a block, from that after its attention."""
    return resid_mid + block.mlp(block.ln2(resid_mid))


def refuse_hooks(model: StoryModel) -> None:
    """Raise ModelError if the model has hooks: they would be in the first run, and not in a rerun."""
    if any(model.list_hooks()):
        raise ModelError(
            "The model has hooks, which a rerun would not obey.", "Remove them with model.reset_hooks()."
        )
