"""All heads read against all relations: values by story, means, and what random twins give.

Axes: story, column (a relation and a circuit), head (of all layers, in order).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.model.transformer import TinyTransformer
from tslens.probes.twins import random_twins
from tslens.probes.weights.circuits import ov_effects, qk_scores
from tslens.probes.weights.contrast import ScoreTable, among_top, contrast, dealt_anew
from tslens.probes.weights.relations import CIRCUITS, Circuit, Relations, SeenTokens, TokenPairs
from tslens.probes.weights.vectors import Vectors, embedding_vectors
from tslens.types import HeadId, Position


@dataclass(frozen=True)
class Column:
    """One relation in one circuit."""

    probe: str
    position: Position
    circuit: Circuit
    pairs: TokenPairs


@dataclass(frozen=True)
class Reading:
    """What all heads give. ``by_story``: in spreads, 0 where a story has no pair. ``nats``, ``top``, ``spread``,
    ``shuffled``: means over the stories that have one."""

    by_story: Float[np.ndarray, "story column head"]
    nats: Float[np.ndarray, "column head"]
    top: Float[np.ndarray, "column head"]
    spread: Float[np.ndarray, "column head"]
    shuffled: Float[np.ndarray, "column head"]


def columns_of(relations: Relations) -> list[Column]:
    """Relation by relation, circuit by circuit."""
    return [
        Column(probe, position, circuit, of_relation[circuit])
        for (probe, position), of_relation in relations.items()
        for circuit in CIRCUITS
        if circuit in of_relation
    ]


def head_ids(model: TinyTransformer) -> list[HeadId]:
    """All heads, layer by layer."""
    return [HeadId(layer, i) for layer in range(model.cfg.n_layers) for i in range(model.cfg.n_heads)]


def read_heads(
    model: TinyTransformer,
    columns: Sequence[Column],
    seen: SeenTokens,
    *,
    progress: Callable[[int], None] = lambda n_heads: None,
) -> Reading:
    """Every head against every column, tokens standing for themselves by their embeddings."""
    heads, vectors = head_ids(model), embedding_vectors(model, seen)
    n_stories = columns[0].pairs.weight.shape[0]
    by_story = np.zeros((n_stories, len(columns), len(heads)))
    nats, top, spread, shuffled = np.zeros((4, len(columns), len(heads)))
    for h, head in enumerate(heads):
        tables = _tables(model, head, vectors[head.layer], seen)
        for c, column in enumerate(columns):
            table, pairs = tables[column.circuit], column.pairs
            found = contrast(table, pairs, seen)
            by_story[:, c, h] = pairs.weight @ found.spreads
            nats[c, h] = pairs.mean_weight @ found.nats
            top[c, h] = pairs.mean_weight @ among_top(table, pairs)
            spread[c, h] = pairs.mean_weight @ table.spread[pairs.first]
            shuffled[c, h] = dealt_anew(table, pairs, seen)
        progress(h + 1)
    return Reading(by_story, nats, top, spread, shuffled)


def mean_contrasts(
    model: TinyTransformer, columns: Sequence[Column], seen: SeenTokens, vectors: Sequence[Vectors]
) -> Float[np.ndarray, "unit column head"]:
    """Means over stories alone, in spreads and in nats, for the vectors of each layer."""
    heads = head_ids(model)
    found = np.zeros((2, len(columns), len(heads)))
    for h, head in enumerate(heads):
        tables = _tables(model, head, vectors[head.layer], seen)
        for c, column in enumerate(columns):
            one = contrast(tables[column.circuit], column.pairs, seen)
            found[:, c, h] = column.pairs.mean_weight @ np.stack([one.spreads, one.nats], 1)
    return found


def largest_of_twins(
    model: TinyTransformer,
    columns: Sequence[Column],
    seen: SeenTokens,
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_twins: None,
) -> Float[np.ndarray, " column"]:
    """The largest value, in spreads, over the heads of all random twins."""
    largest = np.full(len(columns), -np.inf)
    for n, twin in enumerate(random_twins(model, seed=seed), 1):
        assert isinstance(twin, TinyTransformer)  # as the model is
        found = mean_contrasts(twin, columns, seen, embedding_vectors(twin, seen))[0]
        largest = np.maximum(largest, found.max(1))
        progress(n)
    return largest


def _tables(
    model: TinyTransformer, head: HeadId, vectors: Vectors, seen: SeenTokens
) -> dict[Circuit, ScoreTable]:
    effects = ScoreTable.of(ov_effects(model, head, vectors, seen), seen)
    return {"qk": ScoreTable.of(qk_scores(model, head, vectors), seen), "copy": effects, "next": effects}
