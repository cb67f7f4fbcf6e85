"""The longest run of words that a text shares with a corpus, exactly.

1. The longest k-gram up to five that stands somewhere gives a first run.
2. From left to right, each place of the text asks for a run that is one word longer than the best so far. All its
   5-grams must occur; the one that occurs least often is looked up, and the whole run is compared at each of its
   places. What stands the comparison is extended as far as any of them goes.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, UInt32

from tslens.corpus.diversity.grams import DEPTH

Ranges = list[tuple[np.ndarray, np.ndarray]]


def longest_run(
    ids: Int64[np.ndarray, " word"],
    ranges: Ranges,
    words: UInt32[np.ndarray, " position"],
    order: UInt32[np.ndarray, " rank"],
    hidden: tuple[int, int],
) -> tuple[int, int, int]:
    """Number of words, index of the first in the text, first position where the run stands; 0, 0, 0 where none does.

    ``ranges``: per k from 1 to 5 and word, the ranks of the positions of its k-gram. ``order``: positions by rank.
    ``hidden``: positions, from and to, that do not count. Of equally long runs the first in the text is taken.
    """
    best, first, place = _start(ids, ranges, order, hidden)
    if best < DEPTH:
        return best, first, place
    low, high = ranges[DEPTH - 1]
    reach = _reach(high > low)
    for start in range(len(ids) - best):
        longer = best + 1
        if reach[start] + DEPTH - 1 < longer:
            continue
        window = slice(start, start + longer - DEPTH + 1)
        offset = int(np.argmin(high[window] - low[window]))
        at = order[low[start + offset] : high[start + offset]].astype(np.int64) - offset
        at = at[(at >= 0) & ((at < hidden[0]) | (at >= hidden[1]))]
        for step in range(longer):
            if not len(at):
                break
            at = at[words[at + step] == ids[start + step]]
        length = longer
        while len(at):
            best, first, place = length, start, int(at.min())
            if start + length >= len(ids):
                break
            at = at[words[at + length] == ids[start + length]]
            length += 1
    return best, first, place


def _start(
    ids: np.ndarray, ranges: Ranges, order: np.ndarray, hidden: tuple[int, int]
) -> tuple[int, int, int]:
    """The longest k-gram, k up to 5, that stands outside the hidden positions."""
    for k in range(min(DEPTH, len(ids)), 0, -1):
        low, high = ranges[k - 1]
        for start in np.flatnonzero(high > low).tolist():
            at = order[low[start] : high[start]].astype(np.int64)
            at = at[(at < hidden[0]) | (at >= hidden[1])]
            if len(at):
                return k, start, int(at.min())
    return 0, 0, 0


def _reach(there: np.ndarray) -> np.ndarray:
    """For each place, how many places from it on hold."""
    ends = np.append(np.flatnonzero(~there), len(there))
    return ends[np.searchsorted(ends, np.arange(len(there)))] - np.arange(len(there))
