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
from functools import cache
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


def heads_last(
    pattern: Float[Tensor, "row head query_pos key_pos"],
) -> Float[Tensor, "row head query_pos key_pos"]:
    """The same pattern with heads last in memory: what all heads give to one pair lies side by side."""
    return pattern.contiguous(memory_format=torch.channels_last)


def read_profile(
    pattern: Float[Tensor, "row head query_pos key_pos"], length: Int[Tensor, " row"]
) -> Float[Tensor, "row head slot"]:
    """Profiles of each row: mean over the real queries of a band that have a key at that distance; 0 where none has.

    ``pattern`` is causal (zero ahead of the query) and is not modified; with heads last in memory it is not copied.
    """
    n_rows, n_heads, n_pos, _ = pattern.shape
    layout = _Layout.of(n_pos)
    if not layout.bands:
        return pattern.new_zeros(n_rows, n_heads, 0)
    by_place = pattern.permute(0, 2, 3, 1).contiguous()
    flat = by_place.view(n_rows, n_pos * n_pos * n_heads)
    is_real = (torch.arange(n_pos, device=pattern.device) < length[:, None]).to(pattern)
    totals = []
    for first, last in layout.bands:
        n_there = min(2 * first, last + 1)
        # Row q, column j is pattern[q, q + 1 - n_there + j]: a shift of the memory. Columns before key 0 meet the end
        # of the row above, which lies ahead of that query and is zero.
        diagonals = flat.as_strided(
            (n_rows, last - first + 1, n_there * n_heads),
            (n_pos * n_pos * n_heads, (n_pos + 1) * n_heads, 1),
            flat.storage_offset() + (first * (n_pos + 1) + 1 - n_there) * n_heads,
        )
        totals.append(torch.bmm(is_real[:, None, first : last + 1], diagonals).view(n_rows, n_there, n_heads))
    total = torch.cat(totals, 1).index_select(1, layout.column)
    at_first_key = by_place[:, 1:, 0] * is_real[:, 1:, None]
    total.index_add_(1, layout.first_key, at_first_key, alpha=-1)
    n_asking = torch.from_numpy(slot_queries(length.numpy(), n_pos)).to(pattern)
    return (total * torch.where(n_asking > 0, 1 / n_asking, 0.0)[:, :, None]).transpose(1, 2)


@dataclass(frozen=True)
class _Layout:
    """Where the sums over diagonals go, for rows of so many positions.

    ``column``: of each slot, its place among the sums of all bands, which run from far to near; of a slot beyond the
    row any. ``first_key``: slot in which each query but the first meets position 0.
    """

    bands: list[tuple[int, int]]
    column: Int[Tensor, " slot"]
    first_key: Int[Tensor, " query"]

    @classmethod
    @cache
    def of(cls, n_pos: int) -> _Layout:
        """Made once for each number of positions."""
        columns, begin = [], 0
        for first, last in bands(n_pos):
            n_there = min(2 * first, last + 1)
            columns.append(begin + np.maximum(n_there - 1 - np.arange(2 * first), 0))
            begin += n_there
        column = np.concatenate(columns) if columns else np.zeros(0, dtype=np.int64)
        query = np.arange(1, n_pos)
        return cls(bands(n_pos), torch.from_numpy(column), torch.from_numpy(slot_of(query, query)))


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
