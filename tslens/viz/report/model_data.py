"""One model of a report as data for the scripts: cards of heads and neurons, the map, texts token by token."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tslens.grading.rubric import CRITERIA
from tslens.link.joined.model_part import ModelPart
from tslens.link.joined.samples import Sample
from tslens.link.map_report import MapReport
from tslens.probes.base import choose_probes
from tslens.probes.neurons.token_labels import TOKEN_LABELS
from tslens.types import Grade, NeuronRole
from tslens.viz.heads_cards import card_data
from tslens.viz.heads_words import ScanFacts, by_strength, place, words
from tslens.viz.map_details import details
from tslens.viz.map_words import Amounts, in_order, kind_of, spoken
from tslens.viz.neurons_words import sentences
from tslens.viz.neurons_words import words as label_words
from tslens.viz.page import visible
from tslens.viz.patterns import pack_pattern

PATTERN_TOKENS = 72  # of a text that is drawn as a pattern
_LARGEST = 127  # of a packed change of loss
_MOST_PROMOTED = 6
_MOST_CARDS = 200  # neurons with a card in full; of others the line of the table


def model_data(part: ModelPart, *, has_patterns: bool = True) -> dict[str, Any]:
    """Everything that the page shows of a model once it is asked for."""
    return {
        "label": visible(part.label),
        "name": visible(part.name),
        "layers": part.n_layers,
        "heads_of_layer": part.n_heads,
        "heads": _heads(part),
        "floor": None if part.heads is None else part.heads[0]["floor"],
        "neurons": _neurons(part),
        "map": None if part.map is None else _map(part.map),
        "texts": [_text(one, has_patterns=has_patterns or i == 0) for i, one in enumerate(part.samples)],
        "n_graded": 0
        if part.grades is None
        else len({id(one) for one in part.grades.grades if not one.graded.repeat}),
        "judge": None if part.grades is None else str(part.grades.header.get("judge", "")),
        "origins": {name: asdict(origin) for name, origin in part.origins.items()},
    }


def _heads(part: ModelPart) -> dict[str, Any] | None:
    """Cards by head; ``best``: its strongest row, in short."""
    if part.heads is None:
        return None
    header, rows = part.heads
    ranked = sorted(rows, key=by_strength)
    probes = {probe.name: probe for probe in choose_probes(None, ())}
    facts = ScanFacts(
        floor=header["floor"],
        served={name: probe.served for name, probe in probes.items()},
        n_explained=header["n_explained"],
        n_counted=header["n_counted"],
    )
    found: dict[str, Any] = {}
    for row in ranked:
        key = str(row.head)
        if key not in found:
            best = {
                "status": row.status,
                "place": place(row),
                "probe": words(row.probe),
                "excess": round(row.excess, 3),
            }
            found[key] = {"best": best, **card_data(row.head, ranked, facts, None)}
    return found


def _neurons(part: ModelPart) -> Sequence[Mapping[str, Any]] | None:
    """Neurons with a role, a candidate or an unclear one, best first."""
    if part.neurons is None:
        return None
    rank = {"role": 0, "candidate": 1, "unclear": 2}
    shown = [one for one in part.neurons[1] if one.status in rank]
    shown.sort(key=lambda one: (rank[one.status], -one.excess, one.neuron))
    return [_neuron(one, in_full=i < _MOST_CARDS) for i, one in enumerate(shown)]


def _neuron(role: NeuronRole, *, in_full: bool) -> dict[str, Any]:
    writes = role.writes or {}
    found: dict[str, Any] = {
        "id": str(role.neuron),
        "role": label_words(role.role) if role.role else "",
        "status": role.status,
        "area": [round(one, 3) for one in (role.auroc, role.low, role.high, role.auroc_low)],
        "basis": role.basis or "",
        "raises": [visible(token) for token in writes.get("promotes", ())[:_MOST_PROMOTED]],
    }
    if not in_full:
        return found
    found["nulls"] = {name: round(value, 3) for name, value in role.nulls.items()}
    found["lowers"] = [visible(token) for token in writes.get("suppresses", ())[:_MOST_PROMOTED]]
    found["says"] = list(sentences(role, TOKEN_LABELS))
    if role.cause is not None:
        found["cause"] = [
            [round(role.cause[way], 4), round(role.cause[f"{way}_beyond"], 4)]
            for way in ("mean", "zero", "resample")
        ]
    return found


def _map(report: MapReport) -> dict[str, Any]:
    """Rows of the matrix; of each capability the strongest readout and the grade, as in the page of the map."""
    amounts = Amounts.of(report)
    cells: dict[str, list[Any]] = {}
    for cell in report.matrix():
        row = cells.setdefault(visible(cell.component), [])
        row.append([_figure(one, amounts) for one in (cell.readout, cell.grade)])
    costs = {
        visible(row.component): row.delta_loss_nats
        for row in report.rows
        if row.evidence == "readout" and row.status is not None  # by the mean, as the shares are
    }
    has_grades = any(row.evidence == "grade" for row in report.rows)
    order = [visible(name) for name in in_order(report.components)]
    return {
        "capabilities": [spoken(name) for name in report.capabilities],
        "graded": has_grades,
        "rows": [[name, kind_of(name), _rounded(costs.get(name)), cells[name]] for name in order],
        "components": details(report),
        "passed": [
            [spoken(str(one["readout"])), bool(one["passes"]), one["accuracy"]] for one in report.readouts
        ],
        "members": {visible(name): list(members) for name, members in report.members.items()},
    }


def _figure(row: Any, amounts: Amounts) -> list[Any] | None:
    """Amount as it is told, its share, status; None where nothing is said."""
    if row is None:
        return None
    share = row.share
    ends = f"{amounts.amount(row, share.low_corrected)} to {amounts.amount(row, share.high_corrected)}"
    return [
        amounts.amount(row, share.value),
        round(share.value, 3),
        row.status,
        f"{spoken(row.measure)}: {ends}",
    ]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


# Texts ------------------------------------------------------------------------------------------------------


def _text(sample: Sample, *, has_patterns: bool) -> dict[str, Any]:
    outcome, n_shown = sample.outcome, min(len(sample.tokens), PATTERN_TOKENS)
    largest = np.abs(sample.changes).max(1, initial=1e-4)  # of each component
    packed = np.rint(_LARGEST * sample.changes / largest[:, None]).astype(np.int8)
    found: dict[str, Any] = {
        "key": visible(outcome.graded.key),
        "tokens": [visible(token) for token in sample.tokens],
        "first": sample.first,
        "of": sample.n_tokens,
        "losses": [None if np.isnan(loss) else round(float(loss), 2) for loss in sample.losses],
        "components": list(sample.components),
        "largest": [float(f"{one:.4g}") for one in largest],
        "changes": base64.b64encode(packed.tobytes()).decode(),
        "patterns": {str(h): pack_pattern(p, n_shown) for h, p in sample.patterns.items()}
        if has_patterns
        else {},
        "activations": {str(neuron): _levels(values) for neuron, values in sample.activations.items()},
    }
    if isinstance(outcome, Grade):
        found["grades"] = {name: round(getattr(outcome, name), 1) for name in CRITERIA}
        if outcome.intervals:
            found["intervals"] = {
                name: [round(end, 1) for end in ends] for name, ends in outcome.intervals.items()
            }
        if outcome.assessment:
            found["assessment"] = visible(outcome.assessment)
    else:
        found["ungraded"] = visible(f"{outcome.reason}: {outcome.detail}")
    return found


def _levels(values: np.ndarray) -> list[Any]:
    """The largest activation, and all as bytes of it, below zero as zero."""
    largest = float(values.max(initial=0.0))
    levels = np.rint(255 * values.clip(0) / (largest or 1.0)).astype(np.uint8)
    return [round(largest, 3), base64.b64encode(levels.tobytes()).decode()]
