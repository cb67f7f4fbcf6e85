"""Attention of one layer: fused where nobody watches, explicit where somebody does; its cache and its scratch memory.

Axes: story, pos (query_pos, key_pos), head, d_model, d_head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.hook_points import HookPoint

from tslens.errors import ModelError
from tslens.model.linear import linear
from tslens.model.spec import WINDOW, ModelSpec

Residual = Float[Tensor, "story pos d_model"]
Pattern = Float[Tensor, "story head query_pos key_pos"]


def watched(*hooks: HookPoint) -> bool:
    """Whether any of these hook points has a hook, forward or backward."""
    return any(hook._forward_hooks or hook._backward_hooks for hook in hooks)


def allowed_pairs(query_pos: Tensor, key_pos: Tensor, window: int | None) -> Tensor:
    """Whether a query at one position may look at a key at another: [... query_pos key_pos]."""
    distance = query_pos[..., :, None] - key_pos[..., None, :]
    causal = distance >= 0
    return causal if window is None else causal & (distance < window)


class Place:
    """Where the next tokens of each row stand, the same for all layers.

    ``start``: [row] position of the first of them. ``n_new``: how many. ``n_keys``: slots of the cache that are read;
    slot is position, and what stands behind a row's newest token is masked.
    """

    def __init__(self, start: Int[Tensor, " row"], n_new: int, n_keys: int) -> None:
        self.start, self.n_new, self.n_keys = start, n_new, n_keys
        self._masks: dict[int | None, Tensor] = {}

    def mask(self, window: int | None) -> Bool[Tensor, "row 1 new key"] | None:
        """What the new tokens may look at; None where that is what plain causal attention allows."""
        if self.n_new > 1 and (window is None or self.n_new <= window):
            return None
        if window not in self._masks:
            query = self.start[:, None] + torch.arange(self.n_new, device=self.start.device)
            key = torch.arange(self.n_keys, device=self.start.device)
            self._masks[window] = allowed_pairs(query, key, window)[:, None]
        return self._masks[window]


class KeyValues:
    """Keys and values of one layer while text is written, [row head slot d_head], and where the next ones stand."""

    def __init__(self, keys: Tensor, values: Tensor, place: Place) -> None:
        self.keys, self.values, self.place = keys, values, place

    @property
    def start(self) -> Int[Tensor, " row"]:
        """Position of the first of each row's next tokens."""
        return self.place.start

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write [row head new d_head] at its place; give the keys and values that are read."""
        for cache, new in ((self.keys, keys), (self.values, values)):
            if self.place.n_new > 1:  # a prompt, from position 0
                cache[:, :, : self.place.n_new] = new
            else:
                cache[torch.arange(len(new), device=new.device), :, self.place.start] = new[:, :, 0]
        n_keys = self.place.n_keys
        return self.keys[:, :, :n_keys], self.values[:, :, :n_keys]

    def keep(self, rows: Int[Tensor, " kept"], n_rows: int) -> None:
        """Bring these rows to the front and hold ``n_rows``; only rows that change their place are copied."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero().flatten()
        for cache in (self.keys, self.values):
            used = cache[:, :, : self.place.n_keys]
            used[moved] = used[rows[moved]]
        self.keys, self.values = self.keys[:n_rows], self.values[:n_rows]


class Scratch:
    """One piece of memory for the patterns of a scan, one after the other: fresh ones of odd sizes would scatter."""

    def __init__(self) -> None:
        self._flat = torch.empty(0)

    def take(self, like: Tensor, *shape: int) -> Tensor:
        """Uninitialised memory of a shape; what was taken before is no longer valid."""
        size = math.prod(shape)
        if len(self._flat) < size or self._flat.dtype != like.dtype or self._flat.device != like.device:
            self._flat = like.new_empty(size)
        return self._flat[:size].view(shape)


class Attention(nn.Module):
    """Causal attention, global or over a window. Its biases of query, key, value are zero and do not train."""

    def __init__(self, spec: ModelSpec, layer: int) -> None:
        super().__init__()
        heads, d_model, d_head = spec.n_heads, spec.d_model, spec.d_head
        self.window = WINDOW if spec.is_local(layer) else None
        self.W_Q = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_K = nn.Parameter(torch.empty(heads, d_model, d_head))
        self.W_V = nn.Parameter(torch.empty(heads, d_model, d_head))
        for name in ("b_Q", "b_K", "b_V"):
            self.register_buffer(name, torch.zeros(heads, d_head))
        self.W_O = nn.Parameter(torch.empty(heads, d_head, d_model))
        self.b_O = nn.Parameter(torch.zeros(d_model))
        self.hook_q, self.hook_k, self.hook_v = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_scores, self.hook_pattern = HookPoint(), HookPoint()
        self.hook_z, self.hook_result = HookPoint(), HookPoint()
        self._mask = torch.empty(0, 0)

    def allowed(self, query_pos: Tensor, key_pos: Tensor) -> Tensor:
        """Whether a query at one position may look at a key at another."""
        return allowed_pairs(query_pos, key_pos, self.window)

    def project(self, x: Residual, parts: str = "QKV") -> list[Float[Tensor, "story pos head d_head"]]:
        """Queries, keys, values (``parts``) of the normalised residual stream in one product."""
        weight = torch.cat([rearrange(getattr(self, f"W_{part}"), "h d e -> (h e) d") for part in parts])
        heads = self.W_Q.shape[0]
        return list(rearrange(linear(x, weight), "s p (n h e) -> n s p h e", n=len(parts), h=heads).unbind())

    def scores(self, q: Tensor, k: Tensor, scratch: Scratch | None = None) -> Pattern:
        """Scores before the softmax, minus infinity where a query may not look; in ``scratch`` if given."""
        n_pos, heads = q.shape[1:3]
        if self._mask.shape[0] < n_pos or self._mask.dtype != q.dtype or self._mask.device != q.device:
            pos = torch.arange(n_pos, device=q.device)
            self._mask = q.new_zeros(n_pos, n_pos).masked_fill(~self.allowed(pos, pos), float("-inf"))
        out = None if scratch is None else scratch.take(q, len(q) * heads, n_pos, n_pos)
        keys = rearrange(k, "s k h e -> (s h) k e").transpose(
            1, 2
        )  # not copied into this order: that is slow
        scores = torch.bmm(rearrange(q, "s q h e -> (s h) q e"), keys, out=out)
        return rearrange(scores.add_(self._mask[:n_pos, :n_pos]), "(s h) q k -> s h q k", h=heads)

    def fused(self, q: Tensor, k: Tensor, v: Tensor, past: KeyValues | None) -> Tensor:
        """Values mixed by attention, the pattern never in memory: [story pos head d_head]."""
        q, k, v = (rearrange(x, "s p h e -> s h p e") for x in (q, k, v))
        n_pos = q.shape[2]
        mask = None
        if past is not None:
            k, v = past.append(k, v)
            mask = past.place.mask(self.window)
        elif self.window is not None and n_pos > self.window:
            pos = torch.arange(n_pos, device=q.device)
            mask = self.allowed(pos, pos)
        if (
            q.dtype == torch.bfloat16 and not q.is_cuda
        ):  # on a CPU its backward pass takes twice as long as float32
            q, k, v = q.float(), k.float(), v.float()
        with torch.autocast(q.device.type, enabled=False):
            z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=1.0)
        return rearrange(z, "s h p e -> s p h e")

    def write(self, z: Float[Tensor, "story pos head d_head"]) -> Residual:
        """What the heads write to the residual stream, together."""
        z = self.hook_z(z)
        if watched(self.hook_result):
            result = self.hook_result(einsum(z, self.W_O, "s p h e, h e d -> s p h d"))
            return result.sum(2) + self.b_O
        return linear(rearrange(z, "s p h e -> s p (h e)"), rearrange(self.W_O, "h e d -> d (h e)"), self.b_O)

    def forward(self, x: Residual, past: KeyValues | None = None) -> Residual:
        """Attention output for the normalised residual stream."""
        q, k, v = self.project(x)
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        if not watched(self.hook_attn_scores, self.hook_pattern):
            return self.write(self.fused(q, k, v, past))
        if past is not None:
            raise ModelError(
                "Patterns cannot be hooked while generating from a cache.", "Run without a cache."
            )
        pattern = self.hook_pattern(self.hook_attn_scores(self.scores(q, k)).softmax(-1))
        return self.write(einsum(pattern, v, "s h q k, s k h e -> s q h e"))
