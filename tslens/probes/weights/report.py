"""What the weights of all heads of a model say of relations, and how far attention and intervention agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tslens.types import HeadId, Position, Status

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CircuitScore:
    """How far the pairs of a relation stand out in one circuit of a head (``docs/methods.md``).

    ``value``, ``low``, ``high``: spreads above like tokens, mean over stories, with its 95% interval. ``top``: share of
    pairs that are among the ten best. ``nulls``: "twins", the largest of random twins; "shuffled", no gate: pairs dealt
    anew. ``excess``: value minus the larger of twins and 0; ``excess_low``: its lower end, corrected over heads,
    relations and circuits. ``halves``: value on either half of the stories, None where a half has no pair. ``stream``:
    value with the mean residual stream of each token in place of its embedding. Of QK also, None of OV: ``nats``,
    ``stream_nats``, the two not divided by the spread; ``spread``, of the relation's queries, in nats.
    ``n_pairs``: different pairs; ``n_stories``: that have one.
    """

    value: float
    low: float
    high: float
    top: float
    nulls: Mapping[str, float]
    excess: float
    excess_low: float
    halves: tuple[float | None, float | None]
    status: Status
    stream: float
    nats: float | None
    stream_nats: float | None
    spread: float | None
    n_pairs: int
    n_stories: int

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> CircuitScore:
        """Inverse of ``dataclasses.asdict``."""
        return cls(**{**row, "halves": tuple(row["halves"])})


@dataclass(frozen=True)
class Measured:
    """What was measured of the same head and relation, and where the weights rank it.

    ``value``, ``excess``, ``status``: of the attention score. ``beyond_distance``: attention minus the head's own
    distance profile. ``without_sink``: attention with position 0 left out, None where it was not read. ``edge``,
    ``mean``, ``mean_beyond``: nats of loss by knock-out of the edges, by mean ablation at the served queries, and the
    latter beyond like tokens (None where no story has enough of them); all None where causes were not asked.
    ``rank``, ``rank_by_weights``: among the heads of the model by attention and by qk, 1 is first, ties share the mean.
    ``gap``: rank by weights minus rank. ``explained_by``: the change of measure that brings the ranks nearest, None
    where none halves the gap.
    """

    value: float
    excess: float
    status: Status
    beyond_distance: float
    without_sink: float | None
    edge: float | None
    mean: float | None
    mean_beyond: float | None
    rank: float
    rank_by_weights: float
    gap: float
    explained_by: str | None


@dataclass(frozen=True)
class WeightScore:
    """One head and one relation. ``copy``, ``next``: None where too few pairs have like tokens. ``measured``: None
    where no attention score was at hand."""

    head: HeadId
    probe: str
    position: Position
    qk: CircuitScore
    copy: CircuitScore | None
    next: CircuitScore | None
    measured: Measured | None

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "head": str(self.head)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> WeightScore:
        """Inverse of :meth:`to_json`."""
        circuits = {
            name: None if row[name] is None else CircuitScore.from_json(row[name])
            for name in ("qk", "copy", "next")
        }
        measured = None if row["measured"] is None else Measured(**row["measured"])
        return cls(**{**row, "head": HeadId.parse(row["head"]), **circuits, "measured": measured})


@dataclass(frozen=True)
class Agreement:
    """Rank correlation over heads between a score from weights and what was measured.

    ``probe``, ``position``: the relation, None for the mean over relations. ``layer``: whose heads, None for all.
    ``score``: qk, nats, top, stream, stream_nats, copy or next. ``measure``: value, beyond_distance, excess,
    without_sink, edge, mean or mean_beyond. ``spearman``, ``low``, ``high``: with its 95% interval over heads.
    ``kendall``: tau b. ``p``: of no agreement, two-sided, of a relation corrected for all relations.
    """

    probe: str | None
    position: Position | None
    layer: int | None
    score: str
    measure: str
    n_heads: int
    n_relations: int
    spearman: float
    low: float
    high: float
    kendall: float
    p: float

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Agreement:
        """Inverse of :meth:`to_json`."""
        return cls(**row)


@dataclass(frozen=True)
class WeightsReport:
    """All heads of a model by weights; shows as a table in a notebook.

    ``n_stories``: that the relations were counted on; ``n_explained``: that causes were measured on; ``n_attended``:
    that the attention scores are of. ``n_tokens``: different tokens that were looked at. ``floor``: least excess of a
    candidate; ``counts_at_floors``: rows that would be candidates at half, at the floor, at double. ``left_out``:
    probes that need labels, where none could be had; ``unmatched``: relations whose pairs have too few like tokens.
    """

    scores: tuple[WeightScore, ...]
    agreements: tuple[Agreement, ...]
    n_stories: int
    n_excluded: int
    n_explained: int
    n_attended: int
    n_tokens: int
    seed: int
    floor: float
    counts_at_floors: Mapping[str, int]
    left_out: tuple[str, ...]
    unmatched: tuple[str, ...]

    def disagreements(self) -> list[WeightScore]:
        """Rows with a measured score, the largest difference of ranks first."""
        rows = [score for score in self.scores if score.measured is not None]
        return sorted(rows, key=_by_gap)

    def to_pandas(self) -> pd.DataFrame:
        """One row per head and relation; fields of records become ``qk.value`` and so on."""
        import pandas as pd

        return pd.json_normalize([score.to_json() for score in self.scores])

    def _repr_html_(self) -> str:
        columns = ["head", "probe", "position", "qk.value", "qk.low", "qk.high", "qk.excess_low", "qk.status"]
        html: str = self.to_pandas()[columns].to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


def _by_gap(score: WeightScore) -> tuple[float, HeadId, str, Position]:
    assert score.measured is not None
    return -abs(score.measured.gap), score.head, score.probe, score.position
