"""Relations between words as pairs of tokens, counted on text: no model is asked.

A probe counts pairs of a query position and a key position. Read as tokens they are pairs (query token, key token) with
the weight that the probe gives them, and say what a head would have to tell apart if it saw tokens alone. Of each
relation there are three sets of pairs, one for each circuit:

- ``qk``: query token, key token: does the query look for this key?
- ``copy``: key token, key token: does the head raise what it looks at?
- ``next``: key token, token that follows the query: does it raise what comes next?

A pair is compared with *like* tokens: counts within a factor of four of its second token's, and no pair of the relation
with its first. Axes: token (seen tokens), pair, story, bin (of counts).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

from tslens.probes.base import Calibration, Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs
from tslens.types import Position

Circuit = Literal["qk", "copy", "next"]
CIRCUITS: tuple[Circuit, ...] = ("qk", "copy", "next")
MIN_LIKE = 3  # tokens that a pair is compared with
MIN_MATCHED = 0.5  # share of a relation's pairs that have so many


@dataclass(frozen=True)
class SeenTokens:
    """Tokens of the text, position 0 left out. ``ids``: ascending. ``count``: how often. ``bin``: of like counts."""

    ids: Int[np.ndarray, " token"]
    count: Int[np.ndarray, " token"]
    bin: Int[np.ndarray, " token"]
    d_vocab: int

    @classmethod
    def of(cls, calibration: Calibration) -> SeenTokens:
        """From counts of the text."""
        ids = np.flatnonzero(calibration.token_counts)
        bins = np.unique(calibration.frequency_bin[ids], return_inverse=True)[1]
        return cls(ids, calibration.token_counts[ids], bins, len(calibration.token_counts))

    @cached_property
    def number(self) -> Int[np.ndarray, " d_vocab"]:
        """Place of each token among the seen ones, -1 for the others."""
        number = np.full(self.d_vocab, -1)
        number[self.ids] = np.arange(len(self.ids))
        return number

    @cached_property
    def share(self) -> Float[np.ndarray, " token"]:
        """Share of the text."""
        return self.count / self.count.sum()

    @cached_property
    def in_bin(self) -> Float[np.ndarray, "token bin"]:
        """1 where a token is in a bin."""
        return np.eye(int(self.bin.max()) + 1)[self.bin]


@dataclass(frozen=True)
class TokenPairs:
    """Pairs of tokens of one relation and circuit.

    ``first``, ``second``: places among the seen tokens. ``n_like``: tokens that may stand for the second, by first
    token and bin. ``weight``: of each pair in each story; the pairs of a story that have like tokens sum to 1, a story
    without any has none.
    """

    first: Int[np.ndarray, " pair"]
    second: Int[np.ndarray, " pair"]
    n_like: Float[np.ndarray, "token bin"]
    weight: csr_array

    @cached_property
    def is_present(self) -> Bool[np.ndarray, " story"]:
        """Stories that have a pair."""
        return np.asarray(self.weight.sum(1)) > 0

    @cached_property
    def mean_weight(self) -> Float[np.ndarray, " pair"]:
        """Mean over the stories that have a pair."""
        return np.asarray(self.weight.sum(0)) / max(int(self.is_present.sum()), 1)

    @property
    def n_pairs(self) -> int:
        """Different pairs that count."""
        return int((self.mean_weight > 0).sum())


Relations = Mapping[tuple[str, Position], Mapping[Circuit, TokenPairs]]


def count_relations(
    batches: Sequence[TokenBatch], probes: Sequence[Probe], calibration: Calibration, seen: SeenTokens
) -> Relations:
    """The token pairs of every row of the probes; a circuit that has too few like tokens is left out of a relation.

    Stories are numbered in the order of the batches.
    """
    counted: dict[tuple[str, Position], dict[Circuit, _Counted]] = {}
    n_stories = 0
    for batch in batches:
        for probe in probes:
            for row in probe.rows(batch, calibration):
                of_row = counted.setdefault((probe.name, row.position), {c: _Counted() for c in CIRCUITS})
                for circuit, (pairs, first, second) in _tokens_of(row.value, batch).items():
                    of_row[circuit].add(n_stories + pairs.cluster, first, second, pairs.weight, seen)
        n_stories += len(batch.length)
    found = {
        key: {c: kept for c, one in of_row.items() if (kept := one.pairs(seen, n_stories)) is not None}
        for key, of_row in counted.items()
    }
    return {key: of_row for key, of_row in found.items() if "qk" in of_row}


def _tokens_of(pairs: Pairs, batch: TokenBatch) -> dict[Circuit, tuple[Pairs, np.ndarray, np.ndarray]]:
    """Ids of both tokens of each pair by circuit; keys at position 0 are none, nor is what follows the last token."""
    pairs = pairs.select(pairs.key > 0)
    query, key = batch.tokens[pairs.row, pairs.query], batch.tokens[pairs.row, pairs.key]
    goes_on = pairs.query + 1 < batch.length[pairs.row]
    followed = pairs.select(goes_on)
    after = batch.tokens[followed.row, followed.query + 1]
    return {"qk": (pairs, query, key), "copy": (pairs, key, key), "next": (followed, key[goes_on], after)}


class _Counted:
    """Weights of (story, first token, second token), batch by batch, each once in its batch."""

    def __init__(self) -> None:
        self.story: list[np.ndarray] = []
        self.code: list[np.ndarray] = []
        self.weight: list[np.ndarray] = []

    def add(
        self, story: np.ndarray, first: np.ndarray, second: np.ndarray, weight: np.ndarray, seen: SeenTokens
    ) -> None:
        n = len(seen.ids)
        code = (story * n + seen.number[first]) * n + seen.number[second]
        code, at = np.unique(code, return_inverse=True)
        self.story.append(code // n**2)
        self.code.append(code % n**2)
        self.weight.append(np.bincount(at, weights=weight, minlength=len(code)))

    def pairs(self, seen: SeenTokens, n_stories: int) -> TokenPairs | None:
        n = len(seen.ids)
        story, weight = np.concatenate(self.story), np.concatenate(self.weight)
        code, column = np.unique(np.concatenate(self.code), return_inverse=True)
        first, second = code // n, code % n
        n_like = np.tile(seen.in_bin.sum(0), (n, 1))
        np.subtract.at(n_like, (first, seen.bin[second]), 1.0)
        has_like = (n_like[first, seen.bin[second]] >= MIN_LIKE)[column]
        if not len(code) or weight[has_like].sum() < MIN_MATCHED * weight.sum():
            return None
        story, column, weight = story[has_like], column[has_like], weight[has_like]
        weight = weight / np.bincount(story, weights=weight, minlength=n_stories)[story]
        table = csr_array((weight, (story, column)), shape=(n_stories, len(code)))
        return TokenPairs(first, second, n_like, table)
