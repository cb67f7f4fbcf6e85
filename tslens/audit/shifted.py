"""Shifted labels: trained heads read with labels that belong elsewhere in the story. Nothing is to be found.

Query and key of every pair move by the same number of units, drawn for each story: their distance in words stays what
it was, and the words that they meet are arbitrary ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial

import numpy as np

from tslens.audit.report import Case, Check, Findings, case_of, share
from tslens.audit.scanning import scan
from tslens.model.story_model import StoryModel
from tslens.probes.base import Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.relation import RelationProbe
from tslens.probes.units import UnitPairs
from tslens.types import Story

MOST = 0.0  # share of rows that are candidates
LEAST_SHIFT = 5  # units, either way
SHORTEST = 4 * LEAST_SHIFT  # units of a story that can be shifted


def shift_labels(probe: RelationProbe, *, seed: int) -> RelationProbe:
    """The probe with its pairs moved circularly within each story; pairs that wrap are dropped."""
    shifted = copy(probe)
    shifted.pairs = partial(_moved, probe.pairs, seed)  # type: ignore[method-assign]
    return shifted


def _moved(pairs_of: Callable[[TokenBatch], UnitPairs], seed: int, batch: TokenBatch) -> UnitPairs:
    """The pairs of a batch, elsewhere."""
    pairs = pairs_of(batch)
    n_units = (batch.units.kind >= 0).sum(1)
    shift = np.zeros_like(n_units)
    for row, (key, n) in enumerate(zip(batch.cluster, n_units.tolist(), strict=True)):
        if n >= SHORTEST:
            shift[row] = np.random.default_rng([seed, key]).integers(LEAST_SHIFT, n - LEAST_SHIFT + 1)
    by, size = shift[pairs.row], np.maximum(n_units, 1)[pairs.row]
    query, key_unit = (pairs.query + by) % size, (pairs.key + by) % size
    kept = (by > 0) & (key_unit < query)
    return UnitPairs(pairs.row[kept], query[kept], key_unit[kept])


def audit_shifted(
    stories: Sequence[Story],
    models: Mapping[str, StoryModel],
    probes: Sequence[Probe],
    *,
    seed: int,
    n_seeds: int,
    progress: Callable[[], None] = lambda: None,
) -> Findings:
    """Rows of trained models that are candidates though the labels are shifted; ``n_seeds`` shifts for each model."""
    related = [probe for probe in probes if isinstance(probe, RelationProbe)]
    cases: list[Case] = []
    for name, model in models.items():
        for index in range(n_seeds):
            moved = [shift_labels(probe, seed=seed + index) for probe in related]
            report = scan(model, stories, moved, seed=seed + index)
            cases += [
                case_of("shifted", f"{name} {score.head} {score.probe}", score, labels="shifted")
                for score in report.scores
            ]
            progress()
    hits = [case.is_positive for case in cases]
    check = Check("shifted", "rows that are candidates", "at most", MOST, share(hits), len(hits))
    return Findings(tuple(cases), (check,))
