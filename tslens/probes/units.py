"""Words and marks of a batch as arrays, their parts of speech, and the pairs of them that a relation names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.labelled import read_labels, relation_pairs, user_label
from tslens.corpus.words import Span, align, find_units
from tslens.errors import DataError
from tslens.labels import PARTS_OF_SPEECH
from tslens.probes.profile import octave
from tslens.types import Position, Story

KINDS = (*PARTS_OF_SPEECH, "closing", "word")
"""Kinds of units: parts of speech; closing marks of sentences, whatever their part of speech; words of unknown part."""
KIND = {name: index for index, name in enumerate(KINDS)}


@dataclass(frozen=True)
class LabelNeeds:
    """What labels the probes of a scan read: those of the scheme or none, and which of a user's."""

    scheme: bool = False
    users: tuple[str, ...] = ()


NO_LABELS = LabelNeeds()


@dataclass(frozen=True)
class UnitPairs:
    """Pairs of a relation: the row, and the query's and the key's number in ``Units``. The key is the earlier."""

    row: Int[np.ndarray, " pair"]
    query: Int[np.ndarray, " pair"]
    key: Int[np.ndarray, " pair"]

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Asked:
    """Pairs of units at a position: the query token, the unit that asks there, and the unit that is its key.

    ``distance``: positions from the key's last piece to the query.
    """

    row: Int[np.ndarray, " pair"]
    query: Int[np.ndarray, " pair"]
    asker: Int[np.ndarray, " pair"]
    unit: Int[np.ndarray, " pair"]
    distance: Int[np.ndarray, " pair"]

    @cached_property
    def octave(self) -> Int[np.ndarray, " pair"]:
        """Bin of the distance."""
        return octave(self.distance)

    def select(self, chosen: Bool[np.ndarray, " pair"] | Int[np.ndarray, " chosen"]) -> Asked:
        """Some of the pairs, by flag or by number."""
        chosen = (
            np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        )  # of five columns, six times as fast
        return Asked(*(array[chosen] for array in self._columns()))

    def __add__(self, other: Asked) -> Asked:
        return Asked(*(np.concatenate(both) for both in zip(self._columns(), other._columns(), strict=True)))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.row, self.query, self.asker, self.unit, self.distance


@dataclass(frozen=True)
class Units:
    """Words and marks of a batch in the order of the text, padded with -1; a unit that is cut off is not there.

    ``first``, ``last``: positions of the first and last token that hold a piece of it. ``kind``: see ``KINDS``.
    ``entity``: which character or thing it mentions, -1 none, also without labels.
    """

    first: Int[np.ndarray, "row unit"]
    last: Int[np.ndarray, "row unit"]
    kind: Int[np.ndarray, "row unit"]
    entity: Int[np.ndarray, "row unit"]

    @property
    def is_word(self) -> Bool[np.ndarray, "row unit"]:
        """Units that are words, not marks."""
        return (self.kind >= 0) & (self.kind != KIND["PUNCT"]) & (self.kind != KIND["closing"])

    def asks_at(self, position: Position) -> Int[np.ndarray, "row unit"]:
        """The token at which each unit asks: its last piece, or the one before its first; below 1: none."""
        return self.last if position == "word" else self.first - 1

    def lag(self, position: Position) -> Int[np.ndarray, "row asker unit"]:
        """Positions from the last piece of a unit to the token at which another asks; 0 where it is not before it."""
        return self._lags[position]

    def octave(self, position: Position) -> Int[np.ndarray, "row asker unit"]:
        """Bin of that distance."""
        return self._octaves[position]

    @cached_property
    def _lags(self) -> Mapping[Position, Int[np.ndarray, "row asker unit"]]:
        there, lags = self.kind >= 0, {}
        for position in get_args(Position):
            query, last = self.asks_at(position).astype(np.int16), self.last.astype(np.int16)
            lag = np.maximum(query[:, :, None] - last[:, None, :], 0)
            lag[~there] = 0
            lag.transpose(0, 2, 1)[~there] = 0
            lags[position] = lag
        return lags

    @cached_property
    def _octaves(self) -> Mapping[Position, Int[np.ndarray, "row asker unit"]]:
        """Looked up, as they are few."""
        return {
            position: octave(np.arange(int(lag.max(initial=0)) + 1)).astype(np.int16)[lag]
            for position, lag in self._lags.items()
        }

    def asked(self, chosen: Bool[np.ndarray, "row asker unit"], position: Position) -> Asked:
        """The chosen pairs of units, each key whole before the token at which the other asks."""
        return self.asked_at(*numbers(chosen), position)

    def asked_at(
        self, asker: Int[np.ndarray, " pair"], pair: Int[np.ndarray, " pair"], position: Position
    ) -> Asked:
        """The same of pairs by their numbers, see :func:`numbers`."""
        n_units = self.kind.shape[1]
        row = asker // n_units
        lag = self.lag(position).reshape(-1)[pair].astype(np.int64)
        query = self.asks_at(position).reshape(-1)[asker]
        return Asked(row, query, asker - row * n_units, pair - asker * n_units, lag)

    def flags(self, pairs: Asked) -> Bool[np.ndarray, "row asker unit"]:
        """Which pairs of units are among those."""
        flag = np.zeros((*self.kind.shape, self.kind.shape[1]), dtype=bool)
        flag[pairs.row, pairs.asker, pairs.unit] = True
        return flag


def numbers(flag: Bool[np.ndarray, "row asker unit"]) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair with the flag, the number of its asker (of all rows' units), and of the pair itself."""
    pair = np.flatnonzero(flag)
    return pair // flag.shape[2], pair


def every_earlier(asks: Bool[np.ndarray, "row unit"], keys: Bool[np.ndarray, "row unit"]) -> UnitPairs:
    """From each unit that asks to every earlier key."""
    n_units = asks.shape[1]
    earlier = np.tri(n_units, k=-1, dtype=bool)
    asker, pair = numbers(asks[:, :, None] & keys[:, None, :] & earlier)
    row = asker // n_units
    return UnitPairs(row, asker - row * n_units, pair - asker * n_units)


def last_earlier(asks: Bool[np.ndarray, "row unit"], keys: Bool[np.ndarray, "row unit"]) -> UnitPairs:
    """From each unit that asks to the last key before it."""
    place = np.maximum.accumulate(np.where(keys, np.arange(keys.shape[1]), -1), axis=1)
    before = np.concatenate([np.full((len(place), 1), -1), place[:, :-1]], axis=1)
    row, query = (asks & (before >= 0)).nonzero()
    return UnitPairs(row, query, before[row, query])


@dataclass(frozen=True)
class StoryUnits:
    """Units of one story that are whole among its first tokens, their pairs and a user's labels."""

    first: Int[np.ndarray, " unit"]
    last: Int[np.ndarray, " unit"]
    kind: Int[np.ndarray, " unit"]
    entity: Int[np.ndarray, " unit"]
    relations: Mapping[str, list[tuple[int, int]]]
    marked: Mapping[str, Bool[np.ndarray, " unit"]]

    @classmethod
    def of(
        cls,
        story: Story,
        offsets: Sequence[Span],
        n_tokens: int,
        sentence_end: Bool[np.ndarray, " pos"],
        needs: LabelNeeds,
    ) -> StoryUnits:
        """``offsets``: characters of each token; position 0 is the start token. Raises DataError without labels."""
        spans = find_units(story.text)
        first, last = align(spans, offsets)
        first, last = first + 1, last + 1
        kept = np.flatnonzero((first <= last) & (last <= n_tokens))  # whole, and not skipped by the tokenizer
        number = np.full(len(spans), -1)
        number[kept] = np.arange(len(kept))
        first, last = first[kept], last[kept]
        relations: dict[str, list[tuple[int, int]]] = {}
        is_mark = np.array([not story.text[spans[i][0]].isalnum() for i in kept], dtype=bool)
        kind = np.where(is_mark, KIND["PUNCT"], KIND["word"])
        entity = np.full(len(kept), -1)
        if needs.scheme:
            labels = read_labels(story)
            if labels is None:
                raise DataError(
                    f"A story has no labels: {story.text[:40]!r}.",
                    "Give them with: tslens data annotate STORIES --out FILE",
                )
            kind = np.array([KIND.get(labels.pos[i], KIND["X"]) for i in kept], dtype=np.int64)
            entity = np.array([labels.mention[i] for i in kept], dtype=np.int64)
            kind[kind == KIND["PUNCT"]] = KIND["X"]
            kind[is_mark] = KIND["PUNCT"]  # by rule, as without labels
            for name, pairs in relation_pairs(story.text, labels).items():
                mapped = ((number[query], number[key]) for query, keys in pairs for key in keys)
                relations[name] = [(int(query), int(key)) for query, key in mapped if min(query, key) >= 0]
        kind[is_mark & sentence_end[last]] = KIND["closing"]
        marked = {}
        for name in needs.users:
            values = user_label(story, name)
            marked[name] = np.array([bool(values[i]) for i in kept], dtype=bool)
        return cls(first, last, kind, entity, relations, marked)


def padded(rows: Sequence[np.ndarray], blank: int | bool) -> np.ndarray:
    """[row, member]: rows of unequal length in one array."""
    found = np.full((len(rows), max((len(row) for row in rows), default=0)), blank)
    for index, row in enumerate(rows):
        found[index, : len(row)] = row
    return found


def joined_units(rows: Sequence[StoryUnits]) -> Units:
    """The units of a batch."""
    names = ("first", "last", "kind", "entity")
    return Units(*(padded([getattr(row, name) for row in rows], -1) for name in names))


def joined_relations(rows: Sequence[StoryUnits]) -> dict[str, UnitPairs]:
    """The pairs of a batch by name of relation."""
    joined = {}
    for name in rows[0].relations:
        pairs = [(row, *pair) for row, one in enumerate(rows) for pair in one.relations[name]]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        joined[name] = UnitPairs(table[:, 0], table[:, 1], table[:, 2])
    return joined
