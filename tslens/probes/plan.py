"""From the rows of all probes on one batch to the few array operations that read them off a pattern.

Each measure is a signed sum of pair sets, minus a number that no pattern decides. The pairs of all measures are
summed at once per story and pair set, from the pattern or from its distance profile, and combined:

    measure[story, m, head] = sum_c combine[m, c] * sum_{pairs of c} weight * source[row, head, place] - number
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.probes.base import Calibration, Null, Probe
from tslens.probes.batch import TokenBatch
from tslens.probes.pairs import Pairs
from tslens.probes.profile import heads_last, n_slots, read_profile, slot_of
from tslens.types import Position

Kind = Literal["value", "all", "mul", "null"]


@dataclass(frozen=True)
class Measure:
    """Name of one column: of which probe and position, and which ``null`` if it is value minus null."""

    probe: str
    position: Position
    kind: Kind
    null: str = ""


class Places(NamedTuple):
    """Places of a source that are summed: the cluster each counts in, row x places + place, and its weight."""

    cluster: Int[np.ndarray, " pair"]
    column: Int[np.ndarray, " pair"]
    weight: Float[np.ndarray, " pair"]

    def merged(self, n_columns: int) -> Places:
        """Each place of a cluster once."""
        code = self.cluster * n_columns + self.column
        weight = np.bincount(code, weights=self.weight)
        there = np.flatnonzero(np.bincount(code))
        return Places(there // n_columns, there % n_columns, weight[there])


@dataclass(frozen=True)
class Gather:
    """Weighted sums of places of a source ``[row, head, place]``: pairs of a pattern, or slots of its profile.

    ``column``: row x places + place of each pair; pairs are sorted by segment = pair set x cluster, and ``sizes`` says
    how many each has. ``n_columns``: rows x places of the source.
    """

    column: Int[Tensor, " pair"]
    weight: Float[Tensor, " pair"]
    sizes: Int[Tensor, "pair_set cluster"]
    n_columns: int

    @classmethod
    def of(cls, sets: Sequence[Places], n_clusters: int, n_columns: int) -> Gather:
        """Of sets of places."""
        columns, weights = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.float32)]
        sizes = np.zeros((len(sets), n_clusters), dtype=np.int64)
        for index, (cluster, at, much) in enumerate(sets):
            column, weight = at.astype(np.int32), much.astype(np.float32)
            if np.any(cluster[1:] < cluster[:-1]):
                order = np.argsort(cluster.astype(np.uint16), kind="stable")  # by radix: they are few
                column, weight = column[order], weight[order]
            columns.append(column)
            weights.append(weight)
            sizes[index] = np.bincount(cluster, minlength=n_clusters)
        column, weight = np.concatenate(columns), np.concatenate(weights)
        return cls(torch.from_numpy(column), torch.from_numpy(weight), torch.from_numpy(sizes), n_columns)

    def sums(self, source: Float[Tensor, "row head place"]) -> Float[Tensor, "pair_set cluster head"]:
        """The weighted sum of each segment.

        One sparse product, heads last in memory (``source`` is not copied if they are): what a pair reads of all heads
        then lies side by side, which makes it eight times as fast as to gather the pairs and sum them.
        """
        by_place = source.permute(0, 2, 1).reshape(self.n_columns, source.shape[1])
        return (self._summing @ by_place).view(*self.sizes.shape, source.shape[1])

    def select(self, sets: Bool[np.ndarray, " pair_set"]) -> Gather:
        """Some of the pair sets."""
        chosen = torch.from_numpy(sets)
        pairs = torch.repeat_interleave(chosen, self.sizes.sum(1))
        return Gather(self.column[pairs], self.weight[pairs], self.sizes[chosen], self.n_columns)

    @cached_property
    def _summing(self) -> Tensor:
        """Sparse [segment, row x place]."""
        starts = torch.cat([self.sizes.new_zeros(1), self.sizes.flatten().cumsum(0)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # PyTorch calls the sparse layout beta
            size = (self.sizes.numel(), self.n_columns)
            return torch.sparse_csr_tensor(starts.int(), self.column, self.weight, size)


@dataclass(frozen=True)
class Plan:
    """What to read off the patterns of one batch.

    ``tokens``: model input. ``length``: real positions of each row. ``cluster``: 64-bit keys. ``pairs``, ``slots``:
    what is gathered from a pattern and from its distance profile. ``combine``: pair sets of both, in this order, to
    measures. ``number``: subtracted, for full layers and layers with a window. ``factor``: of each measure, 1 but for
    "mul": queries of the story over its positions. ``present``: whether the story has a query. ``measures``: names of
    the columns.
    """

    tokens: Int[Tensor, "row pos"]
    length: Int[Tensor, " row"]
    cluster: tuple[int, ...]
    pairs: Gather
    slots: Gather
    combine: Float[Tensor, "measure pair_set"]
    number: tuple[Float[Tensor, "cluster measure"], Float[Tensor, "cluster measure"]]
    factor: Float[Tensor, "cluster measure"]
    present: Bool[Tensor, "cluster measure"]
    measures: tuple[Measure, ...]

    @property
    def needs_profile(self) -> bool:
        """Whether any measure reads the distance profile."""
        return len(self.slots.sizes) > 0

    def read(
        self, pattern: Float[Tensor, "row head query_pos key_pos"], *, local: bool
    ) -> Float[Tensor, "cluster measure head"]:
        """All measures of one layer's pattern, which is not modified."""
        pattern = heads_last(pattern)
        profile = read_profile(pattern, self.length) if self.needs_profile else None
        return self.read_with(pattern, profile, local=local)

    def read_with(
        self,
        pattern: Float[Tensor, "row head query_pos key_pos"],
        profile: Float[Tensor, "row head slot"] | None,
        *,
        local: bool,
    ) -> Float[Tensor, "cluster measure head"]:
        """The same where the profile is at hand; it is not looked at where no measure needs it."""
        sums = [self.pairs.sums(pattern.flatten(2))]
        if profile is not None and self.needs_profile:
            sums.append(self.slots.sums(profile))
        combined = torch.tensordot(self.combine, torch.cat(sums), 1)
        measured = combined.transpose(0, 1) * self.factor[:, :, None]
        return measured - self.number[int(local)][:, :, None]

    def values_only(self) -> Plan:
        """The plan of the values alone, for random twins."""
        return self.select([measure.kind == "value" for measure in self.measures])

    def select(self, chosen: Sequence[bool]) -> Plan:
        """The plan of some of the measures."""
        kept = [i for i, yes in enumerate(chosen) if yes]
        n_pattern_sets = len(self.pairs.sizes)
        used = self.combine[kept].any(0).numpy()
        return Plan(
            self.tokens,
            self.length,
            self.cluster,
            self.pairs.select(used[:n_pattern_sets]),
            self.slots.select(used[n_pattern_sets:]),
            self.combine[kept][:, torch.from_numpy(used)],
            (self.number[0][:, kept], self.number[1][:, kept]),
            self.factor[:, kept],
            self.present[:, kept],
            tuple(self.measures[i] for i in kept),
        )


@dataclass(frozen=True)
class _Part:
    """One pair set of a measure and its sign."""

    pair_set: int
    sign: float


class _Builder:
    """Collects pair sets, of the pattern and of its profile, and measures made of them."""

    def __init__(self) -> None:
        self.sets: list[Pairs] = []
        self.from_profile: list[bool] = []
        self.measures: list[tuple[Measure, list[_Part], tuple[np.ndarray, np.ndarray] | None]] = []

    def add_set(self, pairs: Pairs, *, from_profile: bool = False) -> int:
        """Number of a new pair set."""
        self.sets.append(pairs)
        self.from_profile.append(from_profile)
        return len(self.sets) - 1

    def add_null(self, name: Measure, value: int, null: Null) -> None:
        """The measure value minus null."""
        mine = _Part(value, 1.0)
        if null.difference is not None:
            self.measures.append((name, [_Part(self.add_set(null.difference), 1.0)], None))
        elif null.profile is not None:
            theirs = _Part(self.add_set(null.profile, from_profile=True), -1.0)
            self.measures.append((name, [mine, theirs], None))
        elif null.pairs is not None:
            self.measures.append((name, [mine, _Part(self.add_set(null.pairs), -1.0)], None))
        else:
            self.measures.append((name, [mine], null.number))


def make_plan(batch: TokenBatch, probes: Sequence[Probe], calibration: Calibration) -> Plan:
    """Rows of the probes on a batch, compiled. Fewer clusters than rows where a probe compares rows."""
    build = _Builder()
    for probe in probes:
        for row in probe.rows(batch, calibration):
            value = build.add_set(row.value)
            build.measures.append((Measure(probe.name, row.position, "value"), [_Part(value, 1.0)], None))
            if row.value_all is not None:
                name = Measure(probe.name, row.position, "all")
                build.measures.append((name, [_Part(build.add_set(row.value_all), 1.0)], None))
            if row.has_mul:
                build.measures.append((Measure(probe.name, row.position, "mul"), [_Part(value, 1.0)], None))
            for null_name, null in row.nulls.items():
                build.add_null(Measure(probe.name, row.position, "null", null_name), value, null)
    return _compile(batch, batch.cluster, build)


def _compile(batch: TokenBatch, clusters: tuple[int, ...], build: _Builder) -> Plan:
    (n_rows, n_pos), n_clusters = batch.tokens.shape, len(clusters)
    n_sets, n_measures = len(build.sets), len(build.measures)
    order = np.argsort(build.from_profile, kind="stable")  # sets of the pattern first
    new_number = np.argsort(order)
    sets = list(zip(build.sets, build.from_profile, strict=True))
    in_pattern = [
        Places(s.cluster, (s.row * n_pos + s.query) * n_pos + s.key, s.weight)
        for s, from_profile in sets
        if not from_profile
    ]
    per_row = n_slots(n_pos)
    in_profile = [  # merged, as many pairs have one slot
        Places(s.cluster, s.row * per_row + slot_of(s.query, s.distance), s.weight).merged(n_rows * per_row)
        for s, from_profile in sets
        if from_profile
    ]
    pairs = Gather.of(in_pattern, n_clusters, n_rows * n_pos * n_pos)
    slots = Gather.of(in_profile, n_clusters, n_rows * per_row)
    has = torch.cat([pairs.sizes, slots.sizes]).numpy() > 0
    combine = np.zeros((n_measures, n_sets), dtype=np.float32)
    present = np.ones((n_clusters, n_measures), dtype=bool)  # "mul" counts no query as 0
    number = np.zeros((2, n_clusters, n_measures), dtype=np.float32)
    factor = np.ones((n_clusters, n_measures), dtype=np.float32)
    for column, (measure, parts, numbers) in enumerate(build.measures):
        for part in parts:
            combine[column, new_number[part.pair_set]] = part.sign
        if numbers is not None:
            number[0, :, column], number[1, :, column] = numbers
        if measure.kind == "mul":
            factor[:, column] = _queries_over_positions(build.sets[parts[0].pair_set], batch, n_clusters)
        else:
            present[:, column] = has[new_number[[part.pair_set for part in parts]]].all(0)
    return Plan(
        tokens=torch.from_numpy(batch.tokens),
        length=torch.from_numpy(batch.length),
        cluster=clusters,
        pairs=pairs,
        slots=slots,
        combine=torch.from_numpy(combine),
        number=(torch.from_numpy(number[0]), torch.from_numpy(number[1])),
        factor=torch.from_numpy(factor),
        present=torch.from_numpy(present),
        measures=tuple(measure for measure, _, _ in build.measures),
    )


def _queries_over_positions(pairs: Pairs, batch: TokenBatch, n_clusters: int) -> np.ndarray:
    """Turns the mean over a story's queries into the share of all its attention, one unit a position."""
    size = batch.tokens.shape[1]
    asked = np.unique((pairs.cluster * len(batch.length) + pairs.row) * size + pairs.query)
    row = asked // size % len(batch.length)
    return np.bincount(
        asked // size // len(batch.length), weights=1.0 / batch.length[row], minlength=n_clusters
    )
