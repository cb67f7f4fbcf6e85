"""What heads produce, on disk: rows of ``tslens.production/1``, their provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.production.report import Produced, ProductionReport
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

SCHEMA = "tslens.production/1"


def save_production(
    report: ProductionReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header: dict[str, Any] = {
        "model": model,
        "way": report.way,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "n_stories": report.n_stories,
        "n_explained": report.n_explained,
        "n_counted": report.n_counted,
        "seed": report.seed,
        "critical": report.critical,
        "floor": report.floor,
        "counts_at_floors": dict(report.counts_at_floors),
        "classes": [dict(one) for one in report.classes],
        "left_out": list(report.left_out),
    }
    write_results(path, SCHEMA, header, (row.to_json() for row in report.rows), record)


def load_production(path: Path) -> tuple[Mapping[str, Any], list[Produced]]:
    """Header and rows of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        return header, [checked(Produced.from_json(row)) for row in rows]
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of production: {error}.",
            "Write the file again with: tslens produces",
        ) from error
