"""The capability map: records, their file, the matrix, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tslens.causal.replacement import Replacement
from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.link.drops import Drop
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "tslens.capability_map/1"
VERSION = 1  # of the rules: a kept map of another version is made anew
Evidence = Literal["readout", "grade"]
MapStatus = Literal["carries", "candidate", "general", "unclear", "no", "hinders"]
STATUSES: tuple[MapStatus, ...] = get_args(MapStatus)
"""From the strongest to none, then what hinders; ``link.map_status`` says when each is given."""


@dataclass(frozen=True)
class MapRow:
    """What one component, ablated in one way, takes from one readout or one criterion of a judge.

    ``capability``: what the measure is read for. ``delta_loss_nats``: what the same ablation costs in nats per token of
    loss, on stories. ``drop``: in nats of log-probability for a readout, in points for a grade. ``share``: what is lost
    of all there is: ``drop`` over ``whole``, which is the untouched model's difference for a readout, and for a grade
    what one planted fault of medium strength costs with the same judge. ``expected``: drop of random components that
    cost as much loss in all; ``beyond``: the drop minus that, over the items that have both; ``reach``: how far beyond
    it one more random set may lie (95%, one-sided); all None where no random sets reach. ``status``: None of rows by
    another way than the mean, and of grades of a criterion whose faults the judge does not see.
    """

    component: str
    n_components: int
    delta_loss_nats: float
    evidence: Evidence
    measure: str
    capability: str
    method: Replacement
    drop: Drop
    whole: float
    expected: float | None
    beyond: Drop | None
    reach: float | None
    status: MapStatus | None

    @property
    def share(self) -> Drop:
        """The drop as a share of what there is; the error of ``whole`` is not counted."""
        return self.drop.scaled(1 / self.whole)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, the share among them."""
        found = asdict(self)
        found["drop"] = self.drop.to_json()
        found["beyond"] = None if self.beyond is None else self.beyond.to_json()
        share = self.share
        return {
            **found,
            "share": {"value": share.value, "low": share.low_corrected, "high": share.high_corrected},
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> MapRow:
        """Inverse of :meth:`to_json`. Raises KeyError or TypeError for another record."""
        fields = {name: row[name] for name in cls.__dataclass_fields__}
        beyond = None if row["beyond"] is None else Drop.from_json(row["beyond"])
        return cls(**{**fields, "drop": Drop.from_json(row["drop"]), "beyond": beyond})


@dataclass(frozen=True)
class Cell:
    """One component and one capability: the row of either evidence that says most, None where there is none."""

    component: str
    capability: str
    readout: MapRow | None
    grade: MapRow | None
    floor: float

    @property
    def disagrees(self) -> bool:
        """Whether one says that the component matters here, and the other that it surely does not reach the floor."""
        if self.readout is None or self.grade is None:
            return False
        return (_matters(self.readout) and _is_below(self.grade, self.floor)) or (
            _matters(self.grade) and _is_below(self.readout, self.floor)
        )


@dataclass(frozen=True)
class MapReport:
    """Every component on every measure that the model passes; shows as a table in a notebook.

    ``readouts``: score of each readout, of the model and of the n-gram (rows of JSON), those not passed too.
    ``members``: components of each role. ``header``: what else is known: judge, numbers of stories and prompts, floors.
    """

    rows: tuple[MapRow, ...]
    readouts: Sequence[Mapping[str, Any]]
    members: Mapping[str, Sequence[str]]
    header: Mapping[str, Any]

    @property
    def capabilities(self) -> list[str]:
        """That something is said about, in their order."""
        return list(dict.fromkeys(row.capability for row in self.rows if row.status is not None))

    @property
    def components(self) -> list[str]:
        """In their order."""
        return list(dict.fromkeys(row.component for row in self.rows if row.status is not None))

    def matrix(self) -> list[Cell]:
        """A cell for each component and capability, component by component."""
        by_place: dict[tuple[str, str, Evidence], list[MapRow]] = {}
        for row in self.rows:
            if row.status is not None:
                by_place.setdefault((row.component, row.capability, row.evidence), []).append(row)
        return [
            Cell(
                component,
                capability,
                _strongest(by_place.get((component, capability, "readout"), [])),
                _strongest(by_place.get((component, capability, "grade"), [])),
                float(self.header["floor"]),
            )
            for component in self.components
            for capability in self.capabilities
        ]

    def to_pandas(self) -> pd.DataFrame:
        """One row per component, measure and way."""
        import pandas as pd

        return pd.DataFrame([row.to_json() for row in self.rows])

    def _repr_html_(self) -> str:
        rows = [
            {
                "component": row.component,
                "measure": row.measure,
                "method": row.method,
                "share lost": row.share.value,
                "low": row.share.low_corrected,
                "high": row.share.high_corrected,
                "status": row.status or "",
            }
            for row in self.rows
        ]
        import pandas as pd

        html: str = pd.DataFrame(rows).to_html(index=False, float_format="{:.3f}".format, escape=True)
        return html


def save_map(report: MapReport, path: Path, record: Provenance) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header = {
        **report.header,
        "readouts": list(report.readouts),
        "members": {name: list(members) for name, members in report.members.items()},
    }
    write_results(path, SCHEMA, header, (row.to_json() for row in report.rows), record)


def load_map(path: Path) -> MapReport:
    """Inverse of :func:`save_map`. Raises DataError for a file of another schema or a broken one."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        found = tuple(checked(MapRow.from_json(row)) for row in rows)
        own = {name: value for name, value in header.items() if name not in ("schema", "readouts", "members")}
        return MapReport(found, header["readouts"], header["members"], own)
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of a capability map: {error}.",
            "Write the file again with: tslens link",
        ) from error


def _matters(row: MapRow) -> bool:
    return row.status in ("carries", "candidate")


def _is_below(row: MapRow, floor: float) -> bool:
    return row.share.high_corrected < floor


def _strongest(rows: Sequence[MapRow]) -> MapRow | None:
    def rank(row: MapRow) -> tuple[int, float]:
        assert row.status is not None
        return STATUSES.index(row.status), -row.share.value

    return min(rows, key=rank) if rows else None
