"""What was found of all heads of a model: how much of their attention distance and tokens explain, and their kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.reading import BROKEN, checked
from tslens.types import HeadId, Provenance

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tslens.head_kind/1"
Kind = Literal["positional", "syntactic", "semantic", "mixed", "even", "unclear"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Share = Literal["unique_distance", "unique_tokens", "shared", "unexplained", "parts_of_speech", "words"]
SHARES: tuple[Share, ...] = get_args(Share)


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95% interval over stories."""

    value: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Standard error that a normal interval of this length has."""
        return (self.high - self.low) / 3.92


@dataclass(frozen=True)
class HeadKind:
    """What one head's attention follows (``docs/methods.md``, *Kinds of head*).

    ``kind``: see ``rule``; ``nearest``: what it is without regard to errors, ``certain``: share of the bootstrap
    replicates that give it, ``halves``: what either half of the stories gives. ``total``: distance from even attention
    in nats per query. ``shares``: of the total (of an even head, of next to nothing); the first four sum to 1, the last
    two to ``unique_tokens``. ``balance``: from -1 (tokens) to 1 (distance), None where both unique parts are too small.
    ``first``: mean attention at position 0, a probability. ``beyond_twins``: the lower end of ``total`` is above the
    largest total over the heads of random twins; if not, a head that learned nothing may be as far from even.
    """

    head: HeadId
    kind: Kind
    nearest: Kind
    certain: float
    halves: tuple[Kind, Kind]
    total: Interval
    shares: Mapping[Share, Interval]
    balance: Interval | None
    first: float
    beyond_twins: bool

    @property
    def difference(self) -> Interval:
        """Unique distance minus unique tokens, its error as if these were independent."""
        distance, tokens = self.shares["unique_distance"], self.shares["unique_tokens"]
        value, half = distance.value - tokens.value, 1.96 * (distance.error**2 + tokens.error**2) ** 0.5
        return Interval(value, value - half, value + half)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {**asdict(self), "head": str(self.head), "halves": list(self.halves)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> HeadKind:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        balance = row["balance"]
        fields = {
            **row,
            "head": HeadId.parse(row["head"]),
            "halves": tuple(row["halves"]),
            "total": Interval(**row["total"]),
            "shares": {name: Interval(**row["shares"][name]) for name in SHARES},
            "balance": None if balance is None else Interval(**balance),
        }
        return cls(**fields)


@dataclass(frozen=True)
class KindsReport:
    """Kinds of all heads of a model; shows as a table in a notebook.

    ``n_fitted``: stories of either half, on which the predictors were fitted that read the other.
    ``n_excluded``: training stories that were left out; ``n_cut``: stories longer than the context. ``twins``: the
    largest total over the heads of random twins, nats per query.
    """

    heads: tuple[HeadKind, ...]
    n_stories: int
    n_fitted: tuple[int, int]
    n_excluded: int
    n_cut: int
    seed: int
    twins: float

    def to_pandas(self) -> pd.DataFrame:
        """One row per head."""
        import pandas as pd

        rows = [
            {
                "head": str(one.head),
                "kind": one.kind,
                "beyond_twins": one.beyond_twins,
                "total": one.total.value,
                **{name: one.shares[name].value for name in SHARES},
                "balance": None if one.balance is None else one.balance.value,
                "certain": one.certain,
                "first": one.first,
            }
            for one in self.heads
        ]
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        html: str = self.to_pandas().to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


def save_head_kinds(
    report: KindsReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "n_stories": report.n_stories,
        "n_fitted": list(report.n_fitted),
        "seed": report.seed,
        "twins": report.twins,
    }
    write_results(path, SCHEMA, header, (one.to_json() for one in report.heads), record)


def load_head_kinds(path: Path) -> tuple[Mapping[str, Any], list[HeadKind]]:
    """Header and rows of such a file. Raises DataError if it is of another schema or broken.

    Older rows do not say whether they are beyond the twins; it follows from their total and the header.
    """
    header, rows = read_jsonl(path, SCHEMA)
    try:
        return header, [
            checked(HeadKind.from_json({"beyond_twins": row["total"]["low"] > header["twins"], **row}))
            for row in rows
        ]
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of kinds: {error}.", "Write the file again with: tslens kinds"
        ) from error
