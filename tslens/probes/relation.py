"""Relational probes: attention from a word to the words that a relation names, against words that are like them.

A relation (``tslens.labels.RELATIONS``) is a set of pairs of words, the key earlier. Value and nulls are read on the
pairs that are not at the relation's most frequent distance: adjacency alone must not make a role.
Source: Clark et al. 2019, What Does BERT Look At?; the nulls are those of ``docs/methods.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Int

from tslens.probes.base import Calibration, Null, Probe, Row
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import (
    StandIns,
    asked_at,
    both_on_tokens,
    fixed_offset,
    match,
    matched_difference,
    shifted,
)
from tslens.probes.units import KIND, KINDS, LabelNeeds, UnitPairs
from tslens.types import Position


class RelationProbe(Probe):
    """Mean over query words of the attention to the words that the relation names, all their pieces together.

    ``relation``: name in ``tslens.labels.RELATIONS``. ``parts``: relations whose pairs are some of these; at queries
    that have such pairs and others, the share of the attention on the targets that is on those is told beside the
    value, by the name given. ``stand_ins``: kinds of units that may stand for targets in the null of like words; None:
    the target's own part of speech. Nulls: the distance profile at like positions (``distance``); what looking always
    to the next most frequent distance would catch (``offset``, see ``pairs.fixed_offset``); units of those kinds in
    the same octave of distance that are no target, see ``pairs.match`` (``words``); labels shifted within the story
    (``shifted``).
    """

    family = "relational"
    labels = LabelNeeds(scheme=True)
    relation: str
    positions: ClassVar[tuple[Position, ...]] = ("word", "before")
    stand_ins: ClassVar[frozenset[str] | None] = None
    parts: ClassVar[Mapping[str, str]] = {}

    def pairs(self, batch: TokenBatch) -> UnitPairs:
        """Query and key words of a batch."""
        return batch.relations[self.relation]

    def calibrate(self, batch: TokenBatch) -> Mapping[Position, Int[np.ndarray, " pair"]]:
        """Distances of all pairs, at the word and before it."""
        pairs = self.pairs(batch)
        return {position: asked_at(pairs, batch, position).distance for position in self.positions}

    def rows(self, batch: TokenBatch, calibration: Calibration) -> list[Row]:
        """A row at the word, a row before it."""
        return [self._row(batch, calibration, position) for position in self.positions]

    def _row(self, batch: TokenBatch, calibration: Calibration, position: Position) -> Row:
        related = asked_at(self.pairs(batch), batch, position)
        offsets = calibration.offsets.get((self.name, position), [])
        chosen = related.distance != (offsets[0] if offsets else 0)
        asked = related.select(chosen)
        value, value_all = both_on_tokens(related, chosen, batch)
        words = match(asked, related, batch, position, self.kinds())
        nulls = {
            "distance": Null(profile=value),
            "offset": Null(pairs=fixed_offset(value, batch, offsets[1] if len(offsets) > 1 else 1)),
            "words": Null(difference=matched_difference(words, batch)),
            "shifted": Null(pairs=shifted(value, batch)),
        }
        return Row(position, value, nulls, value_all=value_all)

    def kinds(self) -> StandIns:
        """Which kinds of units may stand for which."""
        own = np.arange(len(KINDS))
        asker = own if self.labels.scheme else np.zeros_like(own)  # so that labels of others change nothing
        if self.stand_ins is None:
            return StandIns(own, own, asker)
        allowed = np.full(len(KINDS), -1)
        allowed[[KIND[name] for name in self.stand_ins]] = 0
        return StandIns(allowed, np.zeros_like(own), asker)


def next_token(flag: Bool[np.ndarray, "row pos"]) -> Bool[np.ndarray, "row pos"]:
    """Positions whose next token has a flag: where it is predicted."""
    ahead = np.zeros_like(flag)
    ahead[:, :-1] = flag[:, 1:]
    return ahead


def pieces_of(units: Bool[np.ndarray, "row unit"], batch: TokenBatch) -> Bool[np.ndarray, "row pos"]:
    """First tokens of chosen units."""
    flag = np.zeros(batch.tokens.shape, dtype=bool)
    row, unit = units.nonzero()
    flag[row, batch.units.first[row, unit]] = True
    return flag
