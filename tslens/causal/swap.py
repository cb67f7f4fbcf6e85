"""Swapping attention patterns: what a model loses when heads look where something else says.

While a model runs, the pattern of chosen heads, in any layers at once, is replaced by given ones. All else follows:
heads that are not swapped read the changed residual stream and attend anew. What a swapped head mixes is the given
pattern times its values, put in at ``hook_z``: a change at ``hook_pattern`` would be lost in bridged models whose
attention is transformers' own (GPT-Neo), and no other pattern need be made.

Axes: row, pos (query_pos, key_pos), head, d_head; position: the places whose loss is read, in row-major order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.ablation import check_component
from tslens.causal.rerun import losses_at, parts_of_layers
from tslens.errors import ModelError, ProbeInputError
from tslens.model.batches import IGNORED
from tslens.model.prefix import Prefix, refuse_hooks
from tslens.model.story_model import StoryModel
from tslens.types import HeadId


@dataclass(frozen=True, eq=False)
class Swap:
    """One head and the pattern that it is given. Rows of zeros are allowed: then the head mixes nothing."""

    head: HeadId
    pattern: Float[Tensor, "row query_pos key_pos"]


@torch.no_grad()
def swapped_losses(
    model: StoryModel,
    tokens: Int[Tensor, "row pos"],
    swaps: Sequence[Swap],
    targets: Int[Tensor, "row pos"],
    at: Bool[Tensor, "row pos"],
) -> Float[np.ndarray, " position"]:
    """Loss in nats of the next token at the positions ``at``, with the patterns of all swaps in place; none: clean.

    ``targets``: next token, ``IGNORED`` where there is none. Works on our models and on bridged ones.
    Raises ModelError if the model has hooks, or no hook points of values and of what is mixed; UsageError for a head
    that it lacks; ProbeInputError for a head that is swapped twice, a pattern of another shape, one that looks ahead of
    its query, or a place of ``at`` without target.
    """
    refuse_hooks(model)
    _check(model, tokens, swaps)
    device = model.device
    targets, at = targets.to(device), at.to(device)
    _check_targets(targets, at)
    of_layer: dict[int, list[Swap]] = defaultdict(list)
    for swap in swaps:
        of_layer[swap.head.layer].append(swap)
    hooked: Any = getattr(model, "bridge", model)
    hooks = [
        (f"blocks.{layer}.attn.hook_{point}", hook_fn)
        for layer, some in of_layer.items()
        for point, hook_fn in zip("vz", _Mixing(some, model.cfg.n_heads).hooks(), strict=True)
    ]
    missing = [name for name, _ in hooks if name not in hooked.hook_dict]
    if missing:
        raise ModelError(
            f"Patterns cannot be swapped: this model has no hook point {missing[0]}.",
            "Use a model that has it.",
        )
    with hooked.hooks(fwd_hooks=hooks):
        final = model.final_residual(tokens.to(device))
    return losses_at(model, final[at], targets[at])


@torch.no_grad()
def losses_of_each(
    model: StoryModel,
    prefix: Prefix,
    swaps: Sequence[Swap],
    targets: Int[Tensor, "row pos"],
    at: Bool[Tensor, "row pos"],
    *,
    max_variants: int,
) -> Float[np.ndarray, "swap position"]:
    """The same with each swap alone, one after the other: only what lies behind it is computed again.

    ``prefix``: a run of the model on the rows. ``max_variants``: copies of the batch that run at once.
    Raises what :func:`swapped_losses` raises; a head may be there several times, with different patterns.
    """
    for swap in swaps:
        _check(model, prefix.tokens, [swap])
    targets, at = targets.to(prefix.tokens.device), at.to(prefix.tokens.device)
    _check_targets(targets, at)
    losses = np.empty((len(swaps), int(at.sum())))
    for part in parts_of_layers(model, [swap.head for swap in swaps], max_variants):
        which = [swaps[i].head.index for i in part.index]
        old, values = prefix.pattern(part.layer)[:, which], prefix.values(part.layer)[:, which]
        new = torch.stack([swaps[i].pattern for i in part.index], 1).to(old)
        mixed = einsum(new - old, values, "r h q k, r h k e -> r h q e")
        change = einsum(mixed, prefix.output(part.layer)[which], "r h q e, h e d -> h r q d")
        final = prefix.rerun(part.layer, change, at)
        flat = losses_at(model, final.flatten(0, 1), targets[at].repeat(len(which)))
        losses[part.index] = flat.reshape(len(which), -1)
    return losses


def _check_targets(targets: Int[Tensor, "row pos"], at: Bool[Tensor, "row pos"]) -> None:
    if (targets[at] == IGNORED).any():
        raise ProbeInputError(
            "A loss is asked for where there is no next token.", "Leave such positions out."
        )


def _check(model: StoryModel, tokens: Tensor, swaps: Sequence[Swap]) -> None:
    hookable: Any = model
    n_rows, n_pos = tokens.shape
    seen: set[HeadId] = set()
    for swap in swaps:
        check_component(hookable, swap.head)
        if swap.head in seen:
            raise ProbeInputError(f"{swap.head} is swapped twice.", "Give each head one pattern.")
        seen.add(swap.head)
        if tuple(swap.pattern.shape) != (n_rows, n_pos, n_pos):
            raise ProbeInputError(
                f"The pattern for {swap.head} has shape {tuple(swap.pattern.shape)}, the tokens ask for "
                f"{(n_rows, n_pos, n_pos)}.",
                "Give a pattern [row query_pos key_pos] of the same rows.",
            )
        if swap.pattern.triu(1).any():
            raise ProbeInputError(
                f"The pattern for {swap.head} looks ahead of its query.", "Give a causal pattern."
            )


class _Mixing:
    """The hooks of one layer: values are looked at when they pass, what swapped heads mix is put in behind."""

    def __init__(self, swaps: Sequence[Swap], n_heads: int) -> None:
        self._swaps, self._n_heads = swaps, n_heads
        self._values: Tensor | None = None

    def hooks(self) -> tuple[Callable[..., None], Callable[..., Tensor]]:
        """Of the values, and of what is mixed."""
        return self._keep, self._mix

    def _keep(self, values: Float[Tensor, "row key_pos value_head d_head"], hook: Any) -> None:
        self._values = values

    def _mix(self, z: Tensor, hook: Any) -> Tensor:
        assert self._values is not None  # a layer makes values before it mixes them
        by_head = z.clone().reshape(
            *z.shape[:2], self._n_heads, -1
        )  # some models hold the heads of z side by side
        n_sharing = self._n_heads // self._values.shape[2]  # heads that share their values
        for swap in self._swaps:
            values = self._values[:, :, swap.head.index // n_sharing]
            by_head[:, :, swap.head.index] = swap.pattern.to(values) @ values
        return by_head.reshape(z.shape)
