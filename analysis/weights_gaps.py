"""For ``weights_report.py``: how far ranks by weights are from those by attention, and by what ablation costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tslens.probes.weights.agreement import ranks_first_is_1
from tslens.probes.weights.report import CircuitScore, Measured, WeightScore

Circuit = Literal["copy", "next"]
POSITIVE = ("role", "candidate")


@dataclass(frozen=True)
class Written:
    """A head and a relation. Ranks are among the heads of the model, 1 is first; ``cost``: nats by mean ablation."""

    row: WeightScore
    circuit: CircuitScore
    measured: Measured
    cost: float
    rank: float
    rank_of_cost: float

    @property
    def gap(self) -> float:
        """Rank by weights minus rank by mean ablation: below 0, weights promise more."""
        return self.rank - self.rank_of_cost

    def cells(self) -> list[str]:
        """A row of the table."""
        one = self.circuit
        return [
            str(self.row.head), self.row.probe.replace("_", " "), self.row.position,
            f"{one.value:+.2f} [{one.low:+.2f}, {one.high:+.2f}]", f"{self.rank:g}", f"{self.cost:+.3f}",
            f"{self.rank_of_cost:g}", one.status, self.measured.status,
        ]  # fmt: skip


COLUMNS = (
    "head",
    "relation",
    "at",
    "weights (spreads)",
    "rank",
    "mean ablation (nats)",
    "rank",
    "by weights",
    "by attention",
)


def written(scores: Sequence[WeightScore], circuit: Circuit) -> list[Written]:
    """Rows of the relations in which every head has both numbers, the largest difference of ranks first."""
    return sorted(_ranked(scores, circuit), key=lambda one: -abs(one.gap))


def _ranked(scores: Sequence[WeightScore], circuit: Circuit) -> Iterator[Written]:
    relations: dict[tuple[str, str], list[WeightScore]] = {}
    for row in scores:
        relations.setdefault((row.probe, row.position), []).append(row)
    for rows in relations.values():
        known = [
            (row, one, row.measured, row.measured.mean)
            for row in rows
            if (one := getattr(row, circuit)) is not None
            and row.measured is not None
            and row.measured.mean is not None
        ]
        if len(known) < len(rows):
            continue
        ranks = ranks_first_is_1(np.array([one.value for _, one, _, _ in known]))
        of_cost = ranks_first_is_1(np.array([cost for *_, cost in known]))
        for (row, one, measured, cost), rank, rank_of_cost in zip(known, ranks, of_cost, strict=True):
            yield Written(row, one, measured, cost, float(rank), float(rank_of_cost))


def told(rows: Sequence[Written], n_heads: int) -> str:
    """How many rows disagree, and what attention says of those that are candidates by weights."""
    candidates = [one for one in rows if one.circuit.status == "candidate"]
    attended = sum(one.measured.status in POSITIVE for one in candidates)
    far = [one for one in rows if abs(one.gap) >= n_heads / 4]
    more = sum(one.gap < 0 for one in far)
    helpful = sum(one.cost > 0 for one in candidates)
    return (
        f"Candidates by weights: {len(candidates)} of {len(rows)} rows; the mean ablation of {helpful} of them costs "
        f"loss, and attention calls {attended} a candidate or role. Ranks differ by a quarter of the heads or more in "
        f"{len(far)} rows; in {more} of them weights promise more than the ablation costs.\n\n"
    )


def mean_gaps(measured_rows: Sequence[WeightScore]) -> str:
    """Mean difference of ranks, as it is and with each change of measure."""
    by_relation: dict[tuple[str, str], list[WeightScore]] = {}
    for row in measured_rows:
        by_relation.setdefault((row.probe, row.position), []).append(row)
    gaps: dict[str, list[float]] = {}
    for rows in by_relation.values():
        qk = [row.qk.value for row in rows]
        nats = [row.qk.nats for row in rows]
        stream, stream_nats = [row.qk.stream for row in rows], [row.qk.stream_nats for row in rows]
        measured = [row.measured for row in rows if row.measured]
        value = [m.value for m in measured]
        changes: dict[str, tuple[Sequence[float | None], Sequence[float | None]]] = {
            "as they are": (qk, value),
            "position": (qk, [m.beyond_distance for m in measured]),
            "rest": (qk, [m.without_sink for m in measured]),
            "sharpness": (nats, value),
            "earlier layers": (stream, value),
            "both": (stream_nats, value),
            "position and both": (stream_nats, [m.beyond_distance for m in measured]),
        }
        for name, (a, b) in changes.items():
            if None not in a and None not in b:
                ranks = [ranks_first_is_1(np.array(values, dtype=float)) for values in (a, b)]
                gaps.setdefault(name, []).append(float(np.abs(ranks[0] - ranks[1]).mean()))
    n = len({row.head for row in measured_rows})
    told = ", ".join(f"{name} {np.mean(found):.1f}" for name, found in gaps.items())
    return f"Mean difference of the two ranks of a head: {told}; by chance {(n * n - 1) / (3 * n):.1f}.\n\n"
