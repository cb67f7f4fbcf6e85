"""What all interventions on heads share: which of them run together, and the losses that are read after a rerun."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from tslens.causal.ablation import check_component
from tslens.model.batches import IGNORED
from tslens.model.loss import CHUNK
from tslens.model.story_model import StoryModel
from tslens.types import HeadId


@dataclass(frozen=True)
class Part:
    """Interventions on heads of one layer that run together. ``index``: their places in the caller's list."""

    layer: int
    index: list[int]


def parts_of_layers(model: StoryModel, heads: Sequence[HeadId], most: int) -> list[Part]:
    """Interventions on these heads by layer, in parts of at most ``most`` (and of one at least).

    Raises UsageError for a head that the model lacks.
    """
    hookable: Any = model
    of_layer: dict[int, list[int]] = defaultdict(list)
    for i, head in enumerate(heads):
        check_component(hookable, head)
        of_layer[head.layer].append(i)
    step = max(1, most)
    return [
        Part(layer, index[first : first + step])
        for layer, index in sorted(of_layer.items())
        for first in range(0, len(index), step)
    ]


def losses_at(
    model: StoryModel, final: Float[Tensor, "position d_model"], targets: Int[Tensor, "position *option"]
) -> Float[np.ndarray, " loss"]:
    """Loss in nats of each target, the logits of a chunk of positions in memory at a time.

    ``targets``: one at each position, or several, ``IGNORED`` where there are fewer; losses are in row-major order.
    """
    if targets.ndim == 2:
        is_there = targets != IGNORED
        final, targets = final.repeat_interleave(is_there.sum(1), dim=0), targets[is_there]
    parts = [
        F.cross_entropy(model.unembed(final[i : i + CHUNK]), targets[i : i + CHUNK], reduction="none")
        for i in range(0, len(final), CHUNK)
    ]
    return torch.cat(parts).double().cpu().numpy() if parts else np.zeros(0)
