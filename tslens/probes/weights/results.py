"""Scores from weights on disk: rows of ``tslens.weights/1``, agreements and provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_jsonl, write_results
from tslens.probes.weights.report import Agreement, WeightScore, WeightsReport
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

SCHEMA = "tslens.weights/1"
AGREEMENT_SCHEMA = "tslens.weights_agreement/1"


def agreement_path(path: Path) -> Path:
    """File of the rank correlations beside a file of scores."""
    return path.with_suffix(".agreement.jsonl")


def save_weights(
    report: WeightsReport, path: Path, *, model: str, checkpoint: str, heads: str, record: Provenance
) -> None:
    """Write both files and the provenance. ``heads``: where the attention scores are from."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "heads": heads,
        "n_stories": report.n_stories,
        "n_explained": report.n_explained,
        "n_attended": report.n_attended,
        "n_tokens": report.n_tokens,
        "seed": report.seed,
        "floor": report.floor,
        "counts_at_floors": dict(report.counts_at_floors),
        "left_out": list(report.left_out),
        "unmatched": list(report.unmatched),
    }
    about = {"model": model, "seed": report.seed}
    write_jsonl(agreement_path(path), AGREEMENT_SCHEMA, about, (row.to_json() for row in report.agreements))
    write_results(path, SCHEMA, header, (score.to_json() for score in report.scores), record)


def load_weights(path: Path) -> tuple[Mapping[str, Any], list[WeightScore], list[Agreement]]:
    """Header, rows and agreements of such files. Raises DataError if one is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    _, agreements = read_jsonl(agreement_path(path), AGREEMENT_SCHEMA)
    try:
        return (
            header,
            [checked(WeightScore.from_json(row)) for row in rows],
            [checked(Agreement.from_json(row)) for row in agreements],
        )
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of weights: {error}.", "Write the file again with: tslens weights"
        ) from error
