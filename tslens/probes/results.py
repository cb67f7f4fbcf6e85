"""Scores of heads on disk: rows of ``tslens.head_score/1``, their provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.base import ATTENTION_FLOOR
from tslens.probes.verdict import HeadsReport
from tslens.reading import BROKEN, checked
from tslens.types import HeadScore, Provenance

SCHEMA = "tslens.head_score/1"


@dataclass(frozen=True)
class _Header:
    """What is read of the first line; rows of one's own need to name the model alone."""

    model: str
    checkpoint: str
    floor: float = ATTENTION_FLOOR
    n_explained: int = 0
    n_counted: int = 0


def save_head_scores(
    report: HeadsReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal scans give equal rows."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "n_stories": report.n_stories,
        "seed": report.seed,
        "critical": report.critical,
        "floor": report.floor,
        "counts_at_floors": dict(report.counts_at_floors),
        "left_out": list(report.left_out),
        "n_explained": report.n_explained,
        "n_counted": report.n_counted,
        "agreement": dict(report.agreement),
    }
    write_results(path, SCHEMA, header, (score.to_json() for score in report.scores), record)


def load_head_scores(path: Path) -> tuple[Mapping[str, Any], list[HeadScore]]:
    """Header and rows of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        told = checked(
            _Header(**{one.name: header[one.name] for one in fields(_Header) if one.name in header})
        )
        return {**asdict(told), **header}, [checked(HeadScore.from_json(row)) for row in rows]
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of heads: {error}.", "Write the file again with: tslens heads"
        ) from error
