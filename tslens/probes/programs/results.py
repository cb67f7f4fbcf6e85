"""Programs of heads on disk: rows of ``tslens.head_programs/1``, one a head, their provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.programs.report import Explained, GroupSwap, HeadPrograms, ProgramsReport
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

SCHEMA = "tslens.head_programs/1"
_NUMBERS = (
    "clean", "twins", "n_stories", "n_excluded", "n_fitted", "n_read", "n_tokens", "n_swapped", "seed",
    "floor", "counts_at_floors",
)  # fmt: skip


def save_programs(
    report: ProgramsReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        **{name: getattr(report, name) for name in _NUMBERS},
        "left_out": list(report.left_out),
        "groups": [asdict(row) for row in report.groups],
        "explained": [asdict(row) for row in report.explained],
    }
    write_results(path, SCHEMA, header, (head.to_json() for head in report.heads), record)


def load_programs(path: Path) -> tuple[Mapping[str, Any], ProgramsReport]:
    """Header and report of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        report = checked(
            ProgramsReport(
                heads=tuple(map(HeadPrograms.from_json, rows)),
                groups=tuple(map(GroupSwap.from_json, header["groups"])),
                explained=tuple(map(Explained.from_json, header["explained"])),
                left_out=tuple(header["left_out"]),
                **{name: header[name] for name in _NUMBERS},
            )
        )
    except BROKEN as error:
        raise DataError(
            f"{path} holds no programs of heads: {error}.", "Write the file again with: tslens programs"
        ) from error
    return header, report
