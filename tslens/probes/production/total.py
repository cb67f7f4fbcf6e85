"""What a head does to the logits by all ways: later layers and the MLPs included.

The head is replaced, at all positions, by the mean of what it mixes at the position; the model goes on from there as it
would. What that takes from a logit is the head's *total* contribution, the scale of the last normalisation free. It
stands beside the direct one, which is all of it only where nothing comes after the head.

Axes: row, pos, place, head (layer by layer), d_head, d_model, class; move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor

from tslens.causal.replacement import MeanZ
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.production.classes import Classes
from tslens.probes.production.copying import copied
from tslens.probes.production.direct import DirectReader
from tslens.probes.production.places import Places

MAX_VARIANTS = 8  # copies of a batch that run at once


class TotalReader(DirectReader):
    """Reads what logits lose without each head, in the form of :class:`DirectReader`.

    ``batches``: on which the mean of what each head mixes is taken.
    """

    def __init__(self, model: StoryModel, classes: Classes, batches: Sequence[TokenBatch]) -> None:
        super().__init__(model, classes)
        means = MeanZ()
        for batch in batches:
            tokens = torch.from_numpy(batch.tokens).to(model.device)
            means.add(model.prefix(tokens), torch.from_numpy(batch.length))
        self._mean = means.mean(model.cfg.n_ctx)

    @torch.no_grad()
    def read(
        self, tokens: Int[np.ndarray, "row pos"], places: Places, moved: Int[np.ndarray, "move row pos"]
    ) -> tuple[Float[Tensor, "place head column"], Float[Tensor, "place head"]]:
        """Total contributions in nats at the places of a batch, to each class and to what is attended to."""
        ids = torch.from_numpy(tokens).to(self.model.device)
        prefix = self.model.prefix(ids)
        row, pos = (torch.from_numpy(index).to(ids.device) for index in (places.row, places.pos))
        at = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        at[row, pos] = True
        clean, directions = prefix.final[at], self._beyond_mean[ids]
        to_classes: list[Tensor] = []
        own: list[Tensor] = []
        other: list[Tensor] = []
        for layer in range(prefix.n_layers):
            missing = self._mean[layer, : ids.shape[1]].to(clean) - prefix.z(layer)
            lost = []
            for first in range(0, missing.shape[2], MAX_VARIANTS):
                some = slice(first, first + MAX_VARIANTS)
                change = einsum(missing[:, :, some], prefix.output(layer)[some], "r p h e, h e d -> h r p d")
                lost.append(clean - prefix.rerun(layer, change, at))
            written = rearrange(torch.cat(lost), "h p d -> p h d")
            to_classes.append((written @ self._of_class).cpu())
            everywhere = clean.new_zeros(*ids.shape, *written.shape[1:])
            everywhere[at] = written
            both = copied(prefix.pattern(layer), everywhere, directions, torch.from_numpy(moved))
            for found, raised in zip((own, other), both, strict=True):
                found.append(raised[row, pos].cpu())
        attended = torch.cat(own, 1)
        return torch.cat([torch.cat(to_classes, 1), attended[:, :, None]], 2), torch.cat(other, 1)
