"""From the rows of all probes on one batch to the few array operations that read them off a pattern.

Each measure is a signed sum of pair sets, minus a number that no pattern decides. The pairs of all measures are
gathered at once from the pattern, summed per story and pair set, and combined:

    measure[story, m, head] = sum_c combine[m, c] * sum_{pairs of c} weight * pattern[row, head, query, key] - number
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.probes.base import Calibration, Null, Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs
from tslens.types import Position

Kind = Literal["value", "all", "mul", "null"]


@dataclass(frozen=True)
class Measure:
    """Name of one column: of which probe and position, and which ``null`` if it is value minus null."""

    probe: str
    position: Position
    kind: Kind
    null: str = ""


@dataclass(frozen=True)
class Plan:
    """What to read off the patterns of one batch.

    ``tokens``: model input. ``cluster``: 64-bit keys. ``row``, ``query``, ``key``, ``weight``: all pairs, sorted by
    ``segment`` = cluster x pair set. ``combine``: pair sets to measures. ``number``: subtracted, for full layers and
    layers with a window. ``factor``: of each measure, 1 but for "mul": queries of the story over its positions.
    ``present``: whether the story has a query. ``measures``: names of the columns.
    """

    tokens: Int[Tensor, "row pos"]
    cluster: tuple[int, ...]
    row: Int[Tensor, " pair"]
    query: Int[Tensor, " pair"]
    key: Int[Tensor, " pair"]
    weight: Float[Tensor, " pair"]
    segment_sizes: Int[Tensor, " segment"]
    combine: Float[Tensor, "measure pair_set"]
    number: tuple[Float[Tensor, "cluster measure"], Float[Tensor, "cluster measure"]]
    factor: Float[Tensor, "cluster measure"]
    present: Bool[Tensor, "cluster measure"]
    measures: tuple[Measure, ...]

    def read(
        self, pattern: Float[Tensor, "row head query_pos key_pos"], *, local: bool
    ) -> Float[Tensor, "cluster measure head"]:
        """All measures of one layer's pattern, which is not modified."""
        sums = self._summing @ pattern[self.row, :, self.query, self.key]
        by_set = sums.view(len(self.cluster), self.combine.shape[1], -1)
        measured = self.combine @ by_set * self.factor[:, :, None]
        return measured - self.number[int(local)][:, :, None]

    @cached_property
    def _summing(self) -> Tensor:
        """Sparse [segment pair]: the weighted sum over each segment's pairs as one product."""
        starts = torch.cat([self.segment_sizes.new_zeros(1), self.segment_sizes.cumsum(0)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch calls the sparse layout beta
            size = (len(self.segment_sizes), len(self.weight))
            return torch.sparse_csr_tensor(starts, torch.arange(len(self.weight)), self.weight, size)

    def values_only(self) -> Plan:
        """The plan of the values alone, for random twins."""
        kept = [i for i, measure in enumerate(self.measures) if measure.kind == "value"]
        sets = self.combine[kept].any(0)
        n_sets = len(sets)
        in_set = sets.repeat(len(self.cluster))
        pairs = torch.repeat_interleave(in_set, self.segment_sizes)
        return Plan(
            self.tokens,
            self.cluster,
            self.row[pairs],
            self.query[pairs],
            self.key[pairs],
            self.weight[pairs],
            self.segment_sizes.view(-1, n_sets)[:, sets].flatten(),
            self.combine[kept][:, sets],
            (self.number[0][:, kept], self.number[1][:, kept]),
            self.factor[:, kept],
            self.present[:, kept],
            tuple(self.measures[i] for i in kept),
        )


class _Builder:
    """Collects pair sets and measures."""

    def __init__(self, n_clusters: int) -> None:
        self.n_clusters = n_clusters
        self.sets: list[Pairs] = []
        self.measures: list[tuple[Measure, dict[int, float], tuple[np.ndarray, np.ndarray] | None]] = []

    def add_set(self, pairs: Pairs) -> int:
        """Number of a new pair set."""
        self.sets.append(pairs)
        return len(self.sets) - 1

    def add_null(self, name: Measure, value: int, null: Null) -> None:
        """The measure value minus null."""
        if null.difference is not None:
            self.measures.append((name, {self.add_set(null.difference): 1.0}, None))
        elif null.pairs is not None:
            self.measures.append((name, {value: 1.0, self.add_set(null.pairs): -1.0}, None))
        else:
            self.measures.append((name, {value: 1.0}, null.number))

    def present(self) -> np.ndarray:
        """[cluster measure]: every pair set of the measure has a pair in the story; "mul" counts none as 0."""
        has = np.stack([np.bincount(s.cluster, minlength=self.n_clusters) > 0 for s in self.sets], axis=1)
        return np.stack([has[:, list(p)].all(1) | (m.kind == "mul") for m, p, _ in self.measures], axis=1)


def make_plan(batch: TokenBatch, probes: Sequence[Probe], calibration: Calibration) -> Plan:
    """Rows of the probes on a batch, compiled. Fewer clusters than rows where a probe compares rows."""
    clusters = tuple(dict.fromkeys(batch.cluster))
    build = _Builder(len(clusters))
    for probe in probes:
        for row in probe.rows(batch, calibration):
            value = build.add_set(row.value)
            build.measures.append((Measure(probe.name, row.position, "value"), {value: 1.0}, None))
            if row.value_all is not None:
                name = Measure(probe.name, row.position, "all")
                build.measures.append((name, {build.add_set(row.value_all): 1.0}, None))
            if row.has_mul:
                build.measures.append((Measure(probe.name, row.position, "mul"), {value: 1.0}, None))
            for null_name, null in row.nulls.items():
                build.add_null(Measure(probe.name, row.position, "null", null_name), value, null)
    return _compile(batch, clusters, build)


def _compile(batch: TokenBatch, clusters: tuple[int, ...], build: _Builder) -> Plan:
    n_sets, n_measures = len(build.sets), len(build.measures)
    segment = np.concatenate([s.cluster * n_sets + i for i, s in enumerate(build.sets)])
    order = np.argsort(segment, kind="stable")
    joined = [
        np.concatenate([getattr(s, name) for s in build.sets])[order]
        for name in ("row", "query", "key", "weight")
    ]
    combine = np.zeros((n_measures, n_sets), dtype=np.float32)
    number = np.zeros((2, len(clusters), n_measures), dtype=np.float32)
    for column, (_, parts, numbers) in enumerate(build.measures):
        for pair_set, sign in parts.items():
            combine[column, pair_set] = sign
        if numbers is not None:
            number[0, :, column], number[1, :, column] = numbers
    factor = np.ones((len(clusters), n_measures), dtype=np.float32)
    for column, (measure, parts, _) in enumerate(build.measures):
        if measure.kind == "mul":
            factor[:, column] = _queries_over_positions(build.sets[next(iter(parts))], batch, len(clusters))
    row, query, key = (torch.from_numpy(array) for array in joined[:3])
    return Plan(
        tokens=torch.from_numpy(batch.tokens),
        cluster=clusters,
        row=row,
        query=query,
        key=key,
        weight=torch.from_numpy(joined[3]).float(),
        segment_sizes=torch.from_numpy(np.bincount(segment, minlength=len(clusters) * n_sets)),
        combine=torch.from_numpy(combine),
        number=(torch.from_numpy(number[0]), torch.from_numpy(number[1])),
        factor=torch.from_numpy(factor),
        present=torch.from_numpy(build.present()),
        measures=tuple(measure for measure, _, _ in build.measures),
    )


def _queries_over_positions(pairs: Pairs, batch: TokenBatch, n_clusters: int) -> np.ndarray:
    """Turns the mean over a story's queries into the share of all its attention, one unit a position."""
    asked = np.unique(np.stack([pairs.cluster, pairs.row, pairs.query]), axis=1)
    return np.bincount(asked[0], weights=1.0 / batch.length[asked[1]], minlength=n_clusters)
