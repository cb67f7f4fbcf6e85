"""Attention scores and causes put beside scores from weights: what is ranked, and each row's place in both rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tslens.probes.cause import Cause
from tslens.probes.weights.agreement import Quantities, Quantity, explanations, ranks_first_is_1
from tslens.probes.weights.report import CircuitScore, Measured, WeightScore
from tslens.types import HeadId, HeadScore, Position

Key = tuple[HeadId, str, Position]
WITHOUT_SINK = "without_sink"
CAUSES = ("edge", "mean", "mean_beyond")


def quantities_of(
    scores: Sequence[WeightScore],
    rows: Mapping[Key, HeadScore],
    causes: Mapping[Key, Cause],
    heads: Sequence[HeadId],
    relations: Sequence[tuple[str, Position]],
) -> Quantities:
    """Tables of relations and heads; NaN where a number is missing."""
    place = {relation: i for i, relation in enumerate(relations)}
    number = {head: i for i, head in enumerate(heads)}
    shape = (len(relations), len(heads))
    names = ("qk", "nats", "top", "stream", "stream_nats", "copy", "next")
    by_weights: dict[str, Quantity] = {name: np.full(shape, np.nan) for name in names}
    names = ("value", "beyond_distance", "excess", *CAUSES, WITHOUT_SINK)
    measures: dict[str, Quantity] = {name: np.full(shape, np.nan) for name in names}
    for score in scores:
        at = place[score.probe, score.position], number[score.head]
        for name, value in _by_weights(score).items():
            by_weights[name][at] = np.nan if value is None else value
        key = score.head, score.probe, score.position
        if key in rows:
            for name, value in _measures(rows[key], causes.get(key)).items():
                measures[name][at] = np.nan if value is None else value
    layers = np.array([head.layer for head in heads])
    return Quantities(relations, layers, by_weights, measures)


def _by_weights(score: WeightScore) -> dict[str, float | None]:
    qk = score.qk
    circuits: dict[str, CircuitScore | None] = {"copy": score.copy, "next": score.next}
    return {
        "qk": qk.value,
        "nats": qk.nats,
        "top": qk.top,
        "stream": qk.stream,
        "stream_nats": qk.stream_nats,
        **{name: None if one is None else one.value for name, one in circuits.items()},
    }


def _measures(row: HeadScore, cause: Cause | None) -> dict[str, float | None]:
    distance = row.nulls.get("distance")
    effects = {} if cause is None else cause.effects
    return {
        "value": row.value,
        "beyond_distance": None if distance is None else row.value - distance,
        "excess": row.excess,
        WITHOUT_SINK: (row.beside or {}).get(WITHOUT_SINK),
        **{name: effects.get(name) for name in CAUSES},
    }


def measured_rows(
    scores: Sequence[WeightScore],
    rows: Mapping[Key, HeadScore],
    causes: Mapping[Key, Cause],
    quantities: Quantities,
) -> tuple[WeightScore, ...]:
    """The scores with what was measured of the same, and the ranks by both."""
    by_weights, attention = quantities.scores["qk"], quantities.measures["value"]
    whole = np.isfinite(attention).all(1)
    rank, rank_by_weights = ranks_first_is_1(attention), ranks_first_is_1(by_weights)
    named = explanations(by_weights, attention, _changes(quantities))
    place = {relation: i for i, relation in enumerate(quantities.relations)}
    number = {head: i for i, head in enumerate(dict.fromkeys(score.head for score in scores))}
    found = []
    for score in scores:
        r, h = place[score.probe, score.position], number[score.head]
        key = score.head, score.probe, score.position
        if not whole[r]:
            found.append(score)
            continue
        numbers = _measures(rows[key], causes.get(key))
        beyond = numbers["beyond_distance"]
        measured = Measured(
            value=rows[key].value,
            excess=rows[key].excess,
            status=rows[key].status,
            beyond_distance=rows[key].value if beyond is None else beyond,
            without_sink=numbers[WITHOUT_SINK],
            edge=numbers["edge"],
            mean=numbers["mean"],
            mean_beyond=numbers["mean_beyond"],
            rank=float(rank[r, h]),
            rank_by_weights=float(rank_by_weights[r, h]),
            gap=float(rank_by_weights[r, h] - rank[r, h]),
            explained_by=named[r][h],
        )
        found.append(replace(score, measured=measured))
    return tuple(found)


def _changes(quantities: Quantities) -> dict[str, tuple[Quantity, Quantity]]:
    """Changes of measure that may bring the two rankings together."""
    scores, measures = quantities.scores, quantities.measures
    changes = {
        "position": (scores["qk"], measures["beyond_distance"]),
        "rest": (scores["qk"], measures[WITHOUT_SINK]),
        "sharpness": (scores["nats"], measures["value"]),
    }
    if quantities.layers.max() > 0:
        changes["earlier layers"] = scores["stream"], measures["value"]
        changes["both"] = scores["stream_nats"], measures["value"]
    return changes
