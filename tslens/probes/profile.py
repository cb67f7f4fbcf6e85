"""Distance profiles: mean attention at each distance, for queries of like position.

A head that knows distances only would attend to the same distances wherever it stands. Its profile in a story is the
mean over all queries of a *band* (positions 1, 2-3, 4-7, 8-15, ...) of the attention at each distance, from the
diagonals of the pattern. Every null that asks "what would the head's distances alone give?" reads this one table, so
that it costs the same for one probe as for twenty. A *slot* is a band and a distance, from 0 to the band's last
position. Position 0 is no key here: attention rests there, and what rests is no distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tslens.model.story_model import StoryModel
from tslens.types import HeadId

if TYPE_CHECKING:
    from tslens.probes.batch import TokenBatch

PROFILE_STORIES = 100
PROFILE_DISTANCES = 64


def octave(distance: np.ndarray) -> np.ndarray:
    """Bin of like distance or position: 1, 2-3, 4-7, 8-15, ..."""
    return np.frexp(np.maximum(distance, 1))[1] - 1


def slot_of(query: Int[np.ndarray, " pair"], distance: Int[np.ndarray, " pair"]) -> Int[np.ndarray, " pair"]:
    """Place of a pair in the profile: bands one after the other, each with distances from 0 up."""
    return (2 << octave(query)) - 2 + np.asarray(distance)


def bands(n_pos: int) -> list[tuple[int, int]]:
    """First and last position of each band that begins within ``n_pos`` positions; the last one may be cut."""
    return [(1 << b, min((2 << b) - 1, n_pos - 1)) for b in range(max(n_pos - 1, 0).bit_length())]


def n_slots(n_pos: int) -> int:
    """Slots of the profile of rows of ``n_pos`` positions."""
    return sum(2 * first for first, _ in bands(n_pos))


def read_profile(
    pattern: Float[Tensor, "row head query_pos key_pos"], length: Int[Tensor, " row"]
) -> Float[Tensor, "row head slot"]:
    """Profiles of each row: mean over the real queries of a band that have a key at that distance; 0 where none has.

    ``pattern`` is causal (zero ahead of the query) and is not modified.
    """
    n_rows, n_heads, n_pos, _ = pattern.shape
    flat = pattern.contiguous().view(n_rows * n_heads, n_pos * n_pos)
    parts = []
    for first, last in bands(n_pos):
        n_queries, reach = last - first + 1, 2 * first
        n_there = min(reach, last + 1)
        # Row q, column j is pattern[q, q + 1 - n_there + j]: a shift of the memory. Columns before key 0 meet the end
        # of the row above, which lies ahead of that query and is zero.
        diagonals = flat.as_strided(
            (n_rows * n_heads, n_queries, n_there),
            (n_pos * n_pos, n_pos + 1, 1),
            flat.storage_offset() + first * (n_pos + 1) + 1 - n_there,
        )
        query = torch.arange(first, last + 1, device=pattern.device)
        is_real = (query < length[:, None]).to(pattern)
        weight = is_real.repeat_interleave(n_heads, 0)[:, None]
        total = torch.bmm(weight, diagonals).view(n_rows, n_heads, n_there).flip(-1)
        distance = torch.arange(n_there, device=pattern.device)
        total[:, :, first : last + 1] -= (
            pattern[:, :, first : last + 1, 0] * is_real[:, None]
        )  # distance = query
        n_asking = is_real @ (query[:, None] > distance).to(pattern)
        band = pattern.new_zeros(n_rows, n_heads, reach)
        band[:, :, :n_there] = total / n_asking.clamp(min=1)[:, None]
        parts.append(band)
    return torch.cat(parts, -1) if parts else pattern.new_zeros(n_rows, n_heads, 0)


def slot_queries(length: Int[np.ndarray, " row"], n_pos: int) -> Int[np.ndarray, "row slot"]:
    """How many real queries of each row have a key in each slot."""
    columns = []
    for first, _ in bands(n_pos):
        distance = np.arange(2 * first)
        begin = np.maximum(first, distance + 1)  # position 0 is no key
        columns.append(np.maximum(np.minimum(2 * first, length[:, None]) - begin, 0))
    return np.concatenate(columns, 1) if columns else np.zeros((len(length), 0), dtype=np.int64)


def distances_of_slots(n_pos: int) -> Int[np.ndarray, " slot"]:
    """The distance of each slot."""
    return np.concatenate([np.arange(2 * first) for first, _ in bands(n_pos)] or [np.zeros(0, dtype=int)])


@dataclass
class DistanceProfile:
    """Mean attention at each distance, over all queries that have a key there, on the first stories."""

    model: StoryModel
    sum: np.ndarray = field(init=False)
    n_queries: np.ndarray = field(init=False)
    n_stories: int = 0

    def __post_init__(self) -> None:
        cfg = self.model.cfg
        self.sum = np.zeros((cfg.n_layers, cfg.n_heads, PROFILE_DISTANCES))
        self.n_queries = np.zeros(PROFILE_DISTANCES)

    def watch(self, batch: TokenBatch) -> Callable[[int, Tensor], None] | None:
        """A function that adds one layer's profile of this batch; None once enough stories were seen."""
        if self.n_stories >= PROFILE_STORIES:
            return None
        self.n_stories += len(batch.length)
        n_pos = batch.tokens.shape[1]
        distance = distances_of_slots(n_pos)
        near = distance < PROFILE_DISTANCES
        asking = slot_queries(batch.length, n_pos)[:, near]
        np.add.at(self.n_queries, distance[near], asking.sum(0))

        def add(layer: int, profile: Tensor) -> None:
            mass = torch.einsum("rhs,rs->hs", profile[:, :, near].double(), torch.from_numpy(asking).double())
            for head, per_slot in enumerate(mass.numpy()):
                self.sum[layer, head] += np.bincount(
                    distance[near], weights=per_slot, minlength=PROFILE_DISTANCES
                )

        return add

    def mean(self) -> dict[HeadId, np.ndarray]:
        """Per head, [distance] mean attention, its own place first."""
        mean = self.sum / np.maximum(self.n_queries, 1)
        n_layers, n_heads, _ = mean.shape
        return {
            HeadId(layer, head): mean[layer, head] for layer in range(n_layers) for head in range(n_heads)
        }
