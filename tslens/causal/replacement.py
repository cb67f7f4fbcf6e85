"""Ablation of whole heads: what a model loses when one mixes something else than it would.

What a head has mixed (z) is replaced at all positions: by zero, by its mean at the position, or by what it mixed at the
position in another story. The three disagree, so all are given.

Axes: row, pos, head, d_head, d_model; position: the places whose loss is read, in row-major order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.causal.means import PositionMean
from tslens.causal.rerun import losses_at, parts_of_layers
from tslens.errors import ProbeInputError, UsageError
from tslens.model.batches import IGNORED
from tslens.model.prefix import Prefix
from tslens.model.story_model import StoryModel
from tslens.types import HeadId

Replacement = Literal["zero", "mean", "resample"]


class MeanZ:
    """Mean of what each head has mixed at each position, over the stories that reach it."""

    def __init__(self) -> None:
        self._mean = PositionMean()

    def add(self, prefix: Prefix, length: Int[Tensor, " row"]) -> None:
        """Add the rows of a batch; ``length``: positions of each that are real."""
        self._mean.add([prefix.z(layer) for layer in range(prefix.n_layers)], length)

    def mean(self, n_pos: int) -> Float[Tensor, "layer pos head d_head"]:
        """The mean at the first ``n_pos`` positions; where no story reached, over all positions.

        Raises ValueError if nothing was added.
        """
        return self._mean.mean(n_pos)


def other_rows(n_rows: int, generator: np.random.Generator) -> Int[Tensor, " row"]:
    """Another row for each, every one taken once: a random cycle. One row alone gets itself."""
    order = generator.permutation(n_rows)
    other = np.empty(n_rows, dtype=np.int64)
    other[order] = np.roll(order, 1)
    return torch.from_numpy(other)


@torch.no_grad()
def head_losses(
    model: StoryModel,
    prefix: Prefix,
    heads: Sequence[HeadId],
    method: Replacement,
    targets: Int[Tensor, "row pos"],
    at: Bool[Tensor, "row pos"],
    *,
    mean: Float[Tensor, "layer pos head d_head"] | None = None,
    other: Int[Tensor, " row"] | None = None,
    max_variants: int,
) -> Float[np.ndarray, "head position"]:
    """Loss in nats of the next token at the positions ``at``, with each head in turn replaced at all positions.

    ``method``: "zero"; "mean", what the head mixes at the position on average (``mean``, of :class:`MeanZ`);
    "resample", what it mixed there in another row (``other``, of :func:`other_rows`), the mean where that row has no
    target.
    ``targets``: next token, ``IGNORED`` where there is none. ``max_variants``: copies of the batch that run at once.
    Raises UsageError for a head that the model lacks or a missing argument, ProbeInputError for a place of ``at``
    without target.
    """
    device = prefix.tokens.device
    targets, at = targets.to(device), at.to(device)
    if (targets[at] == IGNORED).any():
        raise ProbeInputError(
            "A loss is asked for where there is no next token.", "Leave such positions out."
        )
    losses = np.empty((len(heads), int(at.sum())))
    for part in parts_of_layers(model, heads, max_variants):
        layer, which = part.layer, [heads[i].index for i in part.index]
        z = prefix.z(layer)
        of_layer = None if mean is None else mean[layer]
        missing = replaced(z, method, targets != IGNORED, mean=of_layer, other=other) - z
        change = einsum(missing[:, :, which], prefix.output(layer)[which], "r p h e, h e d -> h r p d")
        final = prefix.rerun(layer, change, at)
        flat = losses_at(model, final.flatten(0, 1), targets[at].repeat(len(which)))
        losses[part.index] = rearrange(flat, "(h p) -> h p", h=len(which))
    return losses


def replaced(
    given: Float[Tensor, "row pos *unit"],
    method: Replacement,
    is_real: Bool[Tensor, "row pos"],
    *,
    mean: Float[Tensor, "reached *unit"] | None,
    other: Int[Tensor, " row"] | None,
) -> Float[Tensor, "row pos *unit"]:
    """What stands in place of what heads have mixed or neurons give, at every position.

    ``is_real``: positions that may stand in for those of another row; at the others the mean does. ``mean``: at each
    position, for as many as the rows have at least. Raises UsageError for a missing argument.
    """
    if method == "zero":
        return torch.zeros_like(given)
    n_pos = given.shape[1]
    if mean is None or len(mean) < n_pos:
        raise UsageError(
            f'Replacing by "{method}" needs the mean of each of {n_pos} positions.',
            "Give the means of the model on stories that are as long (MeanZ, read_means).",
        )
    at_pos = mean[:n_pos].to(given).expand(given.shape)
    if method == "mean":
        return at_pos
    if other is None:
        raise UsageError('Replacing by "resample" needs another row for each.', "Give other_rows.")
    other = other.to(given.device)
    is_other = (other != torch.arange(len(other), device=given.device))[:, None] & is_real[other]
    return torch.where(is_other.reshape(*is_other.shape, *[1] * (given.ndim - 2)), given[other], at_pos)
