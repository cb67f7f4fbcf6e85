"""Minimal pairs: two texts that differ in what decides, and the tokens at which they do.

The readout of a pair is what a model gives to the right tokens minus what it gives to the wrong ones, in nats of
log-probability. Two forms:

- the same beginning, then right or wrong tokens (a story and its twin with one fault);
- the same tokens after two beginnings (a word that was asked for, or was not).

A pair keeps no more of its texts than is read: what follows the deciding tokens is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

Capability = Literal["grammar", "consistency", "instructions", "knowledge"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
Encode = Callable[[str], Int[np.ndarray, " token"]]
"""From a text to ``[<|endoftext|>, t1, ...]``, uncut."""


@dataclass(frozen=True, eq=False)
class Side:
    """One text of a pair. ``tokens``: ``[<|endoftext|>, t1, ...]``; those from ``first`` on are read."""

    tokens: Int[np.ndarray, " token"]
    first: int

    @property
    def n_read(self) -> int:
        """Tokens whose log-probability counts."""
        return len(self.tokens) - self.first


@dataclass(frozen=True, eq=False)
class Pair:
    """Right and wrong. ``cluster``: pairs of one story or prompt have one number, and are resampled together."""

    cluster: int
    right: Side
    wrong: Side


Item = tuple[Pair, ...]
"""What counts as one: a pair that is its own mirror, or a pair and its mirror (``balance``)."""


@dataclass(frozen=True, eq=False)
class Readout:
    """Minimal pairs of one kind. ``asks``: what the pairs ask of a model, in words.

    ``items``: each of one or two pairs, all of one cluster.
    """

    name: str
    capability: Capability
    asks: str
    items: tuple[Item, ...]

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs of all items, in their order."""
        return tuple(chain.from_iterable(self.items))

    @property
    def n_clusters(self) -> int:
        """Stories or prompts that the pairs are of."""
        return len({item[0].cluster for item in self.items})

    def by_item(self, of_pairs: Float[np.ndarray, "*variant pair"]) -> Float[np.ndarray, "*variant item"]:
        """Means over the pairs of each item of a number of each pair."""
        sizes = np.array([len(item) for item in self.items], dtype=np.int64)
        if not len(sizes):
            return of_pairs
        means: np.ndarray = np.add.reduceat(of_pairs, np.cumsum(sizes) - sizes, axis=-1) / sizes
        return means


def after_one_beginning(
    cluster: int, right: Int[np.ndarray, " token"], wrong: Int[np.ndarray, " token"], n_ctx: int
) -> Pair | None:
    """Two texts that begin alike: read from the first token that differs to the last.

    None where they are alike, where the two stretches have different lengths (the longer one would lose by its length
    alone), or where they end behind the context.
    """
    shorter = min(len(right), len(wrong))
    differs = np.flatnonzero(right[:shorter] != wrong[:shorter])
    first = int(differs[0]) if len(differs) else shorter
    from_end = np.flatnonzero(right[::-1][:shorter] != wrong[::-1][:shorter])
    n_same = min(int(from_end[0]) if len(from_end) else shorter, shorter - first)
    ends = len(right) - n_same, len(wrong) - n_same
    if ends[0] != ends[1] or first == ends[0] or first == 0 or ends[0] > n_ctx:
        return None
    return Pair(cluster, Side(right[: ends[0]], first), Side(wrong[: ends[1]], first))


def after_two_beginnings(
    cluster: int,
    right: Int[np.ndarray, " token"],
    wrong: Int[np.ndarray, " token"],
    n_read: int,
    n_ctx: int,
) -> Pair | None:
    """Two texts that end in the same ``n_read`` tokens, which are read in both.

    None where they do not end alike, or do not fit into the context.
    """
    alike = n_read > 0 and np.array_equal(right[-n_read:], wrong[-n_read:])
    if not alike or max(len(right), len(wrong)) > n_ctx or n_read >= min(len(right), len(wrong)):
        return None
    return Pair(cluster, Side(right, len(right) - n_read), Side(wrong, len(wrong) - n_read))
