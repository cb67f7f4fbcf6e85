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
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
        self._sum: Float[Tensor, "layer pos head d_head"] | None = None
        self._n: Int[Tensor, " pos"] = torch.zeros(0, dtype=torch.long)

    @torch.no_grad()
    def add(self, prefix: Prefix, length: Int[Tensor, " row"]) -> None:
        """Add the rows of a batch; ``length``: positions of each that are real."""
        n_pos = prefix.tokens.shape[1]
        is_real = torch.arange(n_pos) < length.cpu()[:, None]
        of_batch = torch.stack(
            [
                einsum(prefix.z(layer).double().cpu(), is_real.double(), "r p h e, r p -> p h e")
                for layer in range(prefix.n_layers)
            ]
        )
        if self._sum is None:
            self._sum = of_batch[:, :0]
        longest = max(n_pos, len(self._n))
        self._sum, of_batch = (
            F.pad(total, (0, 0, 0, 0, 0, longest - total.shape[1])) for total in (self._sum, of_batch)
        )
        self._sum = self._sum + of_batch
        self._n = F.pad(self._n, (0, longest - len(self._n))) + F.pad(is_real.sum(0), (0, longest - n_pos))

    def mean(self, n_pos: int) -> Float[Tensor, "layer pos head d_head"]:
        """The mean at the first ``n_pos`` positions; where no story reached, over all positions.

        Raises ValueError if nothing was added.
        """
        if self._sum is None or not self._n.sum():
            raise ValueError("no story was added")
        overall = self._sum.sum(1, keepdim=True) / self._n.sum()
        at_pos = self._sum / self._n.clamp(min=1)[:, None, None]
        reached = torch.where(self._n[:, None, None] > 0, at_pos, overall)[:, :n_pos]
        beyond = overall.expand(-1, n_pos - reached.shape[1], -1, -1)
        return torch.cat([reached, beyond], 1)


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
        missing = _replacement(prefix, layer, method, targets != IGNORED, mean, other) - prefix.z(layer)
        change = einsum(missing[:, :, which], prefix.output(layer)[which], "r p h e, h e d -> h r p d")
        final = prefix.rerun(layer, change, at)
        flat = losses_at(model, final.flatten(0, 1), targets[at].repeat(len(which)))
        losses[part.index] = rearrange(flat, "(h p) -> h p", h=len(which))
    return losses


def _replacement(
    prefix: Prefix,
    layer: int,
    method: Replacement,
    is_real: Bool[Tensor, "row pos"],
    mean: Float[Tensor, "layer pos head d_head"] | None,
    other: Int[Tensor, " row"] | None,
) -> Float[Tensor, "row pos head d_head"]:
    """What the heads of a layer are made to have mixed."""
    z = prefix.z(layer)
    if method == "zero":
        return torch.zeros_like(z)
    if mean is None or mean.shape[1] < z.shape[1]:
        raise UsageError(
            f'Replacing heads by "{method}" needs the mean of each of {z.shape[1]} positions.',
            "Give MeanZ.mean.",
        )
    at_pos = mean[layer, : z.shape[1]].to(z).expand(z.shape)
    if method == "mean":
        return at_pos
    if other is None:
        raise UsageError('Replacing heads by "resample" needs another row for each.', "Give other_rows.")
    other = other.to(z.device)
    is_other = (other != torch.arange(len(other), device=z.device))[:, None] & is_real[other]
    return torch.where(is_other[:, :, None, None], z[other], at_pos)
