"""Which edges an intervention takes from a head, for a row of a probe: its targets, and keys that are like them.

The edges of a row are those of all its queries at which the role would serve a prediction (``Probe.serves``), the most
frequent offset included. Control keys are of the same query, are no targets, mention nothing that a target mentions,
and are not position 0. Of a relation, units in the same or the next octave of distance, those that may stand for the
target in the null of like words first, then the nearest in distance; as many as targets, and two at least. Of other
probes, tokens within three places of a target, and as many on either side of all targets of the query as there are
targets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from tslens.probes.base import Calibration, Probe, Row
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs, asked_at, on_tokens, pieces
from tslens.probes.relation import RelationProbe
from tslens.probes.units import Asked
from tslens.types import Position

NEIGHBOURS = (-1, 1, -2, 2, -3, 3)
LEAST_CONTROLS = 2  # of each query


@dataclass(frozen=True)
class Edges:
    """Edges of one row on one batch: (row, query, key) of targets and of controls, best controls first."""

    target: Int[np.ndarray, "3 edge"]
    control: Int[np.ndarray, "3 control_edge"]


def edges_of(probe: Probe, batch: TokenBatch, calibration: Calibration) -> dict[Position, Edges]:
    """The edges of each row of a probe; none where it serves no prediction."""
    serves = probe.serves(batch)
    if serves is None:
        return {}
    if isinstance(probe, RelationProbe):
        return {position: _of_relation(probe, batch, position, serves) for position in probe.positions}
    return {row.position: _of_tokens(row, batch, serves) for row in probe.rows(batch, calibration)}


def _of_relation(
    probe: RelationProbe, batch: TokenBatch, position: Position, serves: Bool[np.ndarray, "row pos"]
) -> Edges:
    related = asked_at(probe.pairs(batch), batch, position)
    related = related.select(serves[related.row, related.query])
    size, kind = batch.tokens.shape[1], batch.units.kind
    n_units, is_pair = kind.shape[1], batch.units.flags(related)
    earlier = batch.units.lag(position) > 0
    other = batch.units.asked(earlier & is_pair.any(2, keepdims=True) & ~is_pair, position)
    kinds = probe.kinds()
    other = other.select(~_mentions_the_same(related, other, batch))
    # The nearest target of each query decides what is like it.
    order = np.lexsort((related.distance, related.asker, related.row))
    code = related.row[order] * n_units + related.asker[order]
    asking, at = np.unique(code, return_index=True)
    nearest = order[at]
    place = np.searchsorted(asking, other.row * n_units + other.asker)
    apart = np.abs(np.log2(other.distance / related.distance[nearest][place]))
    target_class = kinds.wanted[kind[related.row, related.unit]][nearest]  # of the nearest target
    differs = (kinds.of[kind[other.row, other.unit]] - target_class[place]) != 0
    far = np.abs(other.octave - related.octave[nearest][place]) > 1
    rank = np.lexsort((apart, differs, far, place))
    n_targets = np.bincount(
        np.searchsorted(asking, related.row * n_units + related.asker), minlength=len(asking)
    )
    within = np.arange(len(rank)) - np.searchsorted(place[rank], place[rank])
    kept = rank[(within < np.maximum(n_targets[place[rank]], LEAST_CONTROLS)) & ~far[rank]]
    return _apart(_codes(on_tokens(related, batch), size), _codes_of(other.select(kept), batch), size)


def _mentions_the_same(related: Asked, other: Asked, batch: TokenBatch) -> Bool[np.ndarray, " other"]:
    """Whether a unit mentions what a target of the same query mentions."""
    entity = batch.units.entity
    named = np.zeros((*entity.shape, int(entity.max(initial=0)) + 2), dtype=bool)  # the last is for no entity
    named[related.row, related.asker, entity[related.row, related.unit]] = True
    named[:, :, -1] = False
    return np.asarray(named[other.row, other.asker, entity[other.row, other.unit]])


def _of_tokens(row: Row, batch: TokenBatch, serves: Bool[np.ndarray, "row pos"]) -> Edges:
    pairs = row.value_all or row.value
    pairs = pairs.select(serves[pairs.row, pairs.query])
    size = batch.tokens.shape[1]
    key = pairs.key[:, None] + np.array(NEIGHBOURS)
    allowed = (key >= 1) & (key <= pairs.query[:, None])
    which, column = np.nonzero(allowed.T)[::-1]  # nearest neighbours of all targets first
    code = (pairs.row[which] * size + pairs.query[which]) * size + key[which, column]
    return _apart(_codes(pairs, size), np.concatenate([code, _beside(pairs, size)]), size)


def _beside(pairs: Pairs, size: int) -> Int[np.ndarray, " edge"]:
    """As many keys before the first and behind the last target of each query as it has targets, nearest first."""
    asking, at = np.unique(pairs.row * size + pairs.query, return_inverse=True)
    n = np.bincount(at)
    first, last = np.full(len(asking), size), np.zeros(len(asking), dtype=np.int64)
    np.minimum.at(first, at, pairs.key)
    np.maximum.at(last, at, pairs.key)
    of = np.repeat(np.arange(len(n)), n)
    step = 1 + np.arange(len(of)) - np.repeat(np.cumsum(n) - n, n)
    near = np.lexsort((of, step))
    of, step = of[near], step[near]
    keys = np.stack([first[of] - step, last[of] + step], 1)
    allowed = (keys >= 1) & (keys <= (asking % size)[of][:, None])
    return (asking[of][:, None] * size + keys)[allowed]


def _codes(pairs: Pairs, size: int) -> Int[np.ndarray, " edge"]:
    return (pairs.row * size + pairs.query) * size + pairs.key


def _codes_of(asked: Asked, batch: TokenBatch) -> Int[np.ndarray, " edge"]:
    """Every piece of each unit, in the order of the units."""
    size = batch.tokens.shape[1]
    row, query, key, _ = pieces(asked, batch)
    return (row * size + query) * size + key


def _apart(target: Int[np.ndarray, " edge"], control: Int[np.ndarray, " control_edge"], size: int) -> Edges:
    """Each edge once, as target before as control, in the order given; none to position 0."""
    target = np.unique(target)
    found, at = np.unique(control, return_index=True)
    control = control[np.sort(at[~np.isin(found, target)])]

    def table(code: np.ndarray) -> np.ndarray:
        code = code[code % size > 0]
        return np.stack([code // size**2, code // size % size, code % size])

    return Edges(table(target), table(control))
