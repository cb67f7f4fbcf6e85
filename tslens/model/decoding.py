"""One token after the other: what a model must offer so that text can be written with it, and our model's way.

A decoder holds rows of text that grow by one token a step. What a row gives must not depend on the rows beside it, to
the last bit, or a sample would now and then depend on its batch. Floating-point sums keep their order as long as
(measured with the MKL of torch 2.13 on AVX-512, 1 and 2 threads; up to 496 positions):

1. a token's key stands in the slot of its position, whatever the other rows' lengths;
2. of one query, fused attention takes scratch memory of (slots + 2 + d_head) numbers a thread: where that is no
   multiple of 16, the second thread's begins between two cache lines and MKL adds up there in another order. So slots
   are read up to such a number, masked ones that nobody needs behind a full line of 16;
3. prompts have a multiple of 32 positions and are read in pieces of 160 queries: from 192 on, the kernel would take
   them in other blocks;
4. products have 16 rows or more: fewer are filled up with rows that nobody reads.

Axes: row, pos (new, key), head, slot, d_head, d_model, d_vocab.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.attention import KeyValues, Place, allowed_pairs
from tslens.model.silence import folded, silences_on

if TYPE_CHECKING:
    from transformer_lens.hook_points import HookPoint

    from tslens.model.transformer import Block, TinyTransformer

MIN_ROWS = 16
LINE = 16  # numbers of a cache line
PROMPT_STEP = 32
QUERY_PIECE = 160


class Decoder(Protocol):
    """Rows of text that grow by one token a step. Nothing of it is differentiated."""

    def start(self, prompts: list[list[int]], n_ctx: int) -> Float[Tensor, "row d_vocab"]:
        """Read prompts of any lengths, one token or more each; logits of the token after each.

        ``n_ctx``: tokens that a row may come to.
        """

    def step(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_vocab"]:
        """Read one more token of each row; logits of the next."""

    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows only, in this order; each at most once."""


@dataclass(frozen=True)
class _Layer:
    """A block, and those of its weights that its products take in another form, [out in], or without what is silent."""

    block: Block
    qkv: Float[Tensor, "3*head*d_head d_model"]
    out: Float[Tensor, "d_model head*d_head"]
    out_bias: Float[Tensor, " d_model"]
    mlp_out: Float[Tensor, "d_mlp d_model"]
    mlp_out_bias: Float[Tensor, " d_model"]


class CachedDecoder:
    """The decoder of a :class:`TinyTransformer`.

    A model that nobody watches runs here, on weights that are put together once, at ``start``. Hooks that silence a
    component (``silence``) are obeyed by other output weights. Where any other hook is on the model, or hooks have
    changed since ``start``, the model itself runs, so that every hook is obeyed: with the prompts first (padding behind
    the shorter ones), then one token of each row. Rows that were not asked for may follow. Hooks on scores and patterns
    raise ModelError.
    """

    def __init__(self, model: TinyTransformer) -> None:
        self.model = model
        self._modules = list(model.modules())
        self._device = model.embed.W_E.device
        self._lengths: list[int] = []  # tokens of each row
        self._past: list[KeyValues] = []
        self._layers: list[_Layer] = []
        self._obeyed: frozenset[int] | None = None  # hooks that the layers obey, None where they cannot

    @torch.inference_mode()
    def start(self, prompts: list[list[int]], n_ctx: int) -> Float[Tensor, "row d_vocab"]:
        """Read the prompts; see :meth:`Decoder.start`."""
        model, cfg = self.model, self.model.cfg
        self._lengths = [len(prompt) for prompt in prompts]
        n_rows = max(len(prompts), MIN_ROWS)
        n_new = min(_round_up(max(self._lengths), PROMPT_STEP), cfg.n_ctx)
        tokens = torch.zeros(n_rows, n_new, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            tokens[row, : len(prompt)] = torch.tensor(prompt)
        place = Place(torch.zeros(n_rows, dtype=torch.long, device=self._device), n_new, n_new)
        n_slots = _round_up(_n_read(max(n_ctx, n_new), cfg.d_head), LINE)
        shape = (n_rows, cfg.n_heads, n_slots, cfg.d_head)
        W_E = model.embed.W_E
        self._past = [KeyValues(W_E.new_zeros(shape), W_E.new_zeros(shape), place) for _ in model.blocks]
        self._layers = [_prepare(block) for block in model.blocks]
        hooks = self._hooks()
        silent = {hook for block in model.blocks for point in _outputs(block) for hook in silences_on(point)}
        self._obeyed = hooks if hooks <= silent else None
        return self._read(tokens.to(self._device), place, self._filled(self._lengths, 1) - 1)

    @torch.inference_mode()
    def step(self, tokens: Int[Tensor, " row"]) -> Float[Tensor, "row d_vocab"]:
        """Read one more token of each row; see :meth:`Decoder.step`."""
        n_keys = _n_read(max(self._lengths) + 1, self.model.cfg.d_head)
        place = Place(self._filled(self._lengths, 0), 1, n_keys)
        self._lengths = [length + 1 for length in self._lengths]
        tokens = F.pad(tokens, (0, len(place.start) - len(tokens)))
        return self._read(tokens[:, None], place, torch.zeros_like(place.start))

    @torch.inference_mode()
    def keep(self, rows: Int[Tensor, " kept"]) -> None:
        """Drop the other rows; see :meth:`Decoder.keep`."""
        self._lengths = [self._lengths[row] for row in rows.tolist()]
        for past in self._past:
            past.keep(rows, max(len(rows), MIN_ROWS))

    def _hooks(self) -> frozenset[int]:
        """Numbers of all hooks that are on the model."""
        return frozenset(
            hook for module in self._modules for hook in (*module._forward_hooks, *module._forward_pre_hooks)
        )

    def _filled(self, numbers: list[int], filling: int) -> Int[Tensor, " row"]:
        """One number for each row of the cache, those that were not asked for included."""
        n_more = max(0, MIN_ROWS - len(numbers))
        return torch.tensor(numbers + [filling] * n_more, device=self._device)

    def _read(
        self, tokens: Int[Tensor, "row new"], place: Place, newest: Int[Tensor, " row"]
    ) -> Float[Tensor, "row d_vocab"]:
        """Logits after the newest of the new tokens of each row."""
        model = self.model
        rows = torch.arange(len(tokens), device=self._device)
        for past in self._past:
            past.place = place
        if self._hooks() != self._obeyed:
            resid = model.final_residual(tokens, self._past)[rows, newest]
            logits: Tensor = model.unembed(resid)
        else:
            resid = model.embed_tokens(tokens, place.start)
            *before, last = zip(self._layers, self._past, strict=True)
            for layer, past in before:
                resid = _read_layer(layer, past, resid)
            resid = _read_layer(*last, resid, newest)[:, 0]
            logits = F.linear(model.ln_final(resid), model.embed.W_E)
        return logits[: len(self._lengths)]


def _outputs(block: Block) -> tuple[HookPoint, HookPoint, HookPoint, HookPoint]:
    """The points of a block at which a component may be silent: heads, neurons, all of its attention, of its MLP."""
    return block.attn.hook_z, block.mlp.hook_post, block.hook_attn_out, block.hook_mlp_out


def _prepare(block: Block) -> _Layer:
    attn, mlp = block.attn, block.mlp
    qkv = torch.cat([rearrange(weight, "h d e -> (h e) d") for weight in (attn.W_Q, attn.W_K, attn.W_V)])
    heads, neurons, attn_out, mlp_out = (list(silences_on(point).values()) for point in _outputs(block))
    W_O, b_O = folded(attn.W_O.detach(), attn.b_O.detach(), heads)
    W_out, b_out = folded(mlp.W_out.detach(), mlp.b_out.detach(), neurons)
    for silence in attn_out:
        W_O, b_O = W_O * (1 - silence.share), b_O * (1 - silence.share)
    for silence in mlp_out:
        W_out, b_out = W_out * (1 - silence.share), b_out * (1 - silence.share)
    return _Layer(block, qkv, rearrange(W_O, "h e d -> d (h e)").contiguous(), b_O, W_out, b_out)


def _read_layer(
    layer: _Layer,
    past: KeyValues,
    resid: Float[Tensor, "row new d_model"],
    newest: Int[Tensor, " row"] | None = None,
) -> Float[Tensor, "row new d_model"]:
    """Residual stream after a block; with ``newest``, that of one token of each row only."""
    block, heads, place = layer.block, past.keys.shape[1], past.place
    q, k, v = rearrange(F.linear(block.ln1(resid), layer.qkv), "r p (n h e) -> n r h p e", n=3, h=heads)
    k, v = past.append(k, v)
    if newest is not None and place.n_new > 1:
        rows = torch.arange(len(resid), device=resid.device)
        resid, q = resid[rows, newest][:, None], q[rows, :, newest][:, :, None]
        place = Place(place.start + newest, 1, _n_read(place.n_keys, q.shape[-1]))
        k, v = (cache[:, :, : place.n_keys] for cache in (past.keys, past.values))
    if place.n_new == 1:
        mask = place.mask(block.attn.window)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
    else:
        z = _attend_in_pieces(q, k, v, block.attn.window)
    resid = resid + F.linear(rearrange(z, "r h p e -> r p (h e)"), layer.out, layer.out_bias)
    hidden = F.linear(block.ln2(resid), block.mlp.W_in.T, block.mlp.b_in)
    return resid + F.linear(F.gelu(hidden, approximate="tanh"), layer.mlp_out.T, layer.mlp_out_bias)


def _attend_in_pieces(
    q: Float[Tensor, "row head new d_head"],
    k: Float[Tensor, "row head new d_head"],
    v: Float[Tensor, "row head new d_head"],
    window: int | None,
) -> Float[Tensor, "row head new d_head"]:
    """What the heads of a layer mix at the positions of prompts, a piece of the queries at a time."""
    pieces, n_new = [], q.shape[2]
    for first in range(0, n_new, QUERY_PIECE):
        end = min(first + QUERY_PIECE, n_new)
        pos = torch.arange(end, device=q.device)
        mask = allowed_pairs(pos[first:], pos, window) if first else None
        keys, values = k[:, :, :end], v[:, :, :end]
        pieces.append(
            F.scaled_dot_product_attention(
                q[:, :, first:end], keys, values, attn_mask=mask, is_causal=mask is None, scale=1.0
            )
        )
    return torch.cat(pieces, 2)


def _n_read(n_slots: int, d_head: int) -> int:
    """So many slots, up to a full line, and as many more as rule 2 asks for."""
    return _round_up(n_slots, LINE) + -(2 + d_head) % LINE


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step
