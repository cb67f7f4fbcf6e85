"""From values by story to scores: intervals, nulls, corrected excess, confirmation, status (as ``probes.verdict``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tslens.probes.weights.reading import Column, Reading
from tslens.probes.weights.report import CircuitScore, WeightScore
from tslens.stats import MIN_HALF, BootstrapSums, one_sided, poisson_weights, scaled_deviations, second_half
from tslens.types import HeadId, Status

FLOOR = 0.5  # least excess in spreads, written down before any model was looked at
NATS_FLOOR = 0.5  # and of QK the least mean in nats: odds of 1.6 to 1 against like tokens


@dataclass(frozen=True)
class Verdict:
    """Scores without what was measured, and how many QK rows would be candidates at other floors."""

    scores: tuple[WeightScore, ...]
    counts_at_floors: Mapping[str, int]


def judge(
    heads: Sequence[HeadId],
    columns: Sequence[Column],
    reading: Reading,
    twins: Float[np.ndarray, " column"],
    stream: Float[np.ndarray, "unit column head"],
    clusters: Sequence[int],
    *,
    seed: int,
) -> Verdict:
    """Rows of every head and relation."""
    judged = _Judged(columns, reading, twins, stream, clusters, seed)
    of_relation: dict[tuple[str, str], dict[str, int]] = {}
    for c, column in enumerate(columns):
        of_relation.setdefault((column.probe, column.position), {})[column.circuit] = c
    scores = []
    for circuits in of_relation.values():
        column = columns[circuits["qk"]]
        for h, head in enumerate(heads):
            copy, following = (
                judged.score(circuits[name], h) if name in circuits else None for name in ("copy", "next")
            )
            qk = judged.score(circuits["qk"], h)
            scores.append(WeightScore(head, column.probe, column.position, qk, copy, following, None))
    of_qk = [c for c, column in enumerate(columns) if column.circuit == "qk"]
    strong = reading.nats[of_qk] >= NATS_FLOOR
    counts = {
        name: int(np.count_nonzero(strong & (judged.support[of_qk] >= floor)))
        for name, floor in (("half", FLOOR / 2), ("floor", FLOOR), ("double", 2 * FLOOR))
    }
    return Verdict(tuple(scores), counts)


class _Judged:
    """Means and errors of all columns and heads."""

    def __init__(
        self,
        columns: Sequence[Column],
        reading: Reading,
        twins: Float[np.ndarray, " column"],
        stream: Float[np.ndarray, "unit column head"],
        clusters: Sequence[int],
        seed: int,
    ) -> None:
        self.columns, self.reading, self.twins, self.stream = columns, reading, twins, stream
        present = np.stack([column.pairs.is_present for column in columns], 1)
        half = np.array([second_half(key) for key in clusters])
        sums = BootstrapSums(len(columns), reading.by_story.shape[2])
        sums.add(
            torch.from_numpy(reading.by_story),
            torch.from_numpy(present),
            torch.from_numpy(poisson_weights(seed, clusters)),
            torch.from_numpy(half),
        )
        whole, sides = sums.means(), [sums.means(side) for side in (0, 1)]
        self.value, self.n = whole.mean[0], whole.n
        self.low, self.high = whole.interval()
        deviations = scaled_deviations(whole.mean[1:], whole.mean[0], whole.se[0])
        critical = float(np.quantile(deviations.max((1, 2)), 0.95))
        self.excess = self.value - np.maximum(twins, 0.0)[:, None]
        self.excess_low = self.excess - critical * whole.se[0]
        self.halves = np.stack([side.mean[0] for side in sides])
        lows = np.stack([side.mean[0] - one_sided(side.n)[:, None] * side.se[0] for side in sides])
        on_halves = (lows - np.maximum(twins, 0.0)[:, None]).min(0)
        enough = np.minimum(sides[0].n, sides[1].n) >= MIN_HALF
        support = np.minimum(self.excess_low, on_halves)
        self.support = np.where(enough[:, None], np.nan_to_num(support, nan=-np.inf), -np.inf)
        self.enough = enough

    def score(self, c: int, h: int) -> CircuitScore:
        """One column of one head."""
        column, reading = self.columns[c], self.reading
        is_qk = column.circuit == "qk"
        first, second = (None if np.isnan(side[c, h]) else float(side[c, h]) for side in self.halves)
        return CircuitScore(
            value=float(self.value[c, h]),
            low=float(self.low[c, h]),
            high=float(self.high[c, h]),
            top=float(reading.top[c, h]),
            nulls={"twins": float(self.twins[c]), "shuffled": float(reading.shuffled[c, h])},
            excess=float(self.excess[c, h]),
            excess_low=float(self.excess_low[c, h]),
            halves=(first, second),
            status=self._status(c, h),
            stream=float(self.stream[0, c, h]),
            nats=float(reading.nats[c, h]) if is_qk else None,
            stream_nats=float(self.stream[1, c, h]) if is_qk else None,
            spread=float(reading.spread[c, h]) if is_qk else None,
            n_pairs=column.pairs.n_pairs,
            n_stories=int(self.n[c]),
        )

    def _status(self, c: int, h: int) -> Status:
        if not self.enough[c] or not self.excess_low[c, h] > 0:
            return "no"
        is_strong = self.columns[c].circuit != "qk" or self.reading.nats[c, h] >= NATS_FLOOR
        return "candidate" if is_strong and self.support[c, h] >= FLOOR else "unclear"
