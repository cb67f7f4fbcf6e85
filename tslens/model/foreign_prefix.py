"""Another library's model run once on rows of tokens, and run again from the middle with something changed.

The first run goes through TransformerLens' bridge, whose hook points show patterns, values and the residual stream
after each attention. A rerun starts from that residual stream and runs transformers' own parts of the later layers
with fused attention, so that no pattern is made. Of the architecture it asks that a block adds what attention makes of
its normalised input, then what the MLP makes of the normalised sum, as GPT-2, GPT-Neo and Llama do.

Axes: variant, row, pos (query_pos, key_pos), head, d_head, d_model.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.model.prefix import Mixed, Part, refuse_hooks

if TYPE_CHECKING:
    from tslens.model.attention import Pattern, Residual
    from tslens.model.foreign import ForeignModel


class ForeignPrefix:
    """A run of a :class:`ForeignModel`. Satisfies ``Prefix``; the patterns of all layers are kept.

    The model may not change in between.
    Raises ModelError if the model has hooks, which a rerun does not call.
    """

    @torch.no_grad()
    def __init__(self, model: ForeignModel, tokens: Int[Tensor, "row pos"]) -> None:
        refuse_hooks(model)
        self.tokens, self.n_layers = tokens, int(model.cfg.n_layers)
        self._model = model
        self._layers = [_Layer(block) for block in model.bridge.blocks]
        self._seen: dict[str, Tensor] = {}
        names = [
            f"blocks.{layer}.{name}"
            for layer in range(self.n_layers)
            for name in ("attn.hook_pattern", "attn.hook_v", "attn.hook_z", "hook_resid_mid")
        ]
        with model.bridge.hooks(fwd_hooks=[(name, self._keep(name)) for name in names]):
            watched = [
                block.attn.register_forward_pre_hook(layer.keep_arguments, with_kwargs=True)
                for block, layer in zip(model.bridge.blocks, self._layers, strict=True)
            ]
            try:
                self.final = model.final_residual(tokens)
            finally:
                for handle in watched:
                    handle.remove()

    def _keep(self, name: str) -> Any:
        def hook_fn(activation: Tensor, hook: Any) -> None:
            self._seen[name] = activation

        return hook_fn

    def pattern(self, layer: int) -> Pattern:
        """What each query of a layer attends to."""
        return self._seen[f"blocks.{layer}.attn.hook_pattern"]

    def values(self, layer: int) -> Float[Tensor, "row head key_pos d_head"]:
        """What the heads of a layer mix; heads that share values each have a copy."""
        values = self._seen[f"blocks.{layer}.attn.hook_v"]
        n_sharing = self._model.cfg.n_heads // values.shape[2]
        return repeat(values, "r k h e -> r (h n) k e", n=n_sharing)

    def z(self, layer: int) -> Mixed:
        """What the heads of a layer have mixed."""
        return self._seen[f"blocks.{layer}.attn.hook_z"]

    def output(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of a layer."""
        output: Tensor = self._model.bridge.blocks[layer].attn.W_O.detach()
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
        """``final`` of each variant, where ``change`` is added to what the attention, or the MLP, of a layer writes.

        Rows of which nothing is wanted are not run.
        """
        refuse_hooks(self._model)
        n_variants, n_rows, n_pos, d_model = change.shape
        added = rearrange(change, "v r p d -> (v r) p d")
        place = torch.ones_like(added[..., 0], dtype=torch.bool)
        if at is not None:
            place = rearrange(at.expand(change.shape[:3]), "v r p -> (v r) p")
        running = place.any(1).nonzero()[:, 0]
        final = change.new_zeros(0, d_model)
        if len(running):
            clean = self._seen[f"blocks.{layer}.hook_resid_mid"][running % n_rows]
            final = self._finish(layer, clean, added[running], place[running], part)
        if at is None:
            return rearrange(final, "(v r p) d -> v r p d", v=n_variants, p=n_pos)
        return final if at.ndim == 3 else rearrange(final, "(v n) d -> v n d", v=n_variants)

    def _finish(
        self, layer: int, clean: Residual, added: Residual, place: Bool[Tensor, "row pos"], part: Part
    ) -> Float[Tensor, "position d_model"]:
        """``final`` at some positions, from the clean residual stream after the attention of a layer and a change."""
        changed, *behind = self._layers[layer:]
        if not behind:
            clean, added = clean[place], added[place]
        resid = changed.after_mlp(clean + added) if part == "attn" else changed.after_mlp(clean) + added
        for i, after in enumerate(behind, 1):
            mid = resid + after.attention(resid)
            resid = after.after_mlp(mid[place] if i == len(behind) else mid)
        final: Tensor = self._model.bridge.ln_final.original_component(resid)
        return final


class _Layer:
    """Transformers' own parts of a block, with fused attention.

    The attention is a shallow copy: the weights are the model's, the configuration is not.
    """

    def __init__(self, block: Any) -> None:
        self._ln1, self._ln2 = block.ln1.original_component, block.ln2.original_component
        self._mlp = block.mlp.original_component
        self._attn = copy.copy(block.attn.original_component)
        self._attn.config = copy.copy(self._attn.config)
        self._attn.config._attn_implementation = "sdpa"
        if hasattr(self._attn, "attention_type"):  # GPT-Neo's, where transformers has no fused one for a CPU
            self._attn._attn = self._fused
        self._arguments: dict[str, Any] = {}

    def keep_arguments(self, attn: Any, args: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        """Hook before the bridge's attention: what the model gives it besides the residual stream.

        The mask is not kept: without one, attention is causal.
        """
        self._arguments = {name: given for name, given in arguments.items() if name != "hidden_states"}
        self._arguments["attention_mask"] = None

    def attention(self, resid: Residual) -> Residual:
        """What the attention writes."""
        written: Tensor = self._attn(self._ln1(resid), **self._arguments)[0]
        return written

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: None = None
    ) -> tuple[Float[Tensor, "row head query_pos d_head"], None]:
        """GPT-Neo's attention without its pattern: scores are not scaled, a local layer sees a window."""
        is_global, n_pos = self._attn.attention_type == "global", query.shape[2]
        seen = None if is_global else self._attn.bias[:, :, :n_pos, :n_pos]
        z = F.scaled_dot_product_attention(query, key, value, attn_mask=seen, is_causal=is_global, scale=1.0)
        return z, None

    def after_mlp(self, mid: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The residual stream after the block, from that after its attention."""
        after: Tensor = mid + self._mlp(self._ln2(mid))
        return after
