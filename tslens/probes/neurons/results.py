"""Roles of neurons on disk: rows of ``tslens.neuron_role/1``, their provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.neurons.report import NeuronsReport
from tslens.reading import BROKEN, checked
from tslens.types import NeuronRole, Provenance

SCHEMA = "tslens.neuron_role/1"


def save_neuron_roles(
    report: NeuronsReport, path: Path, *, model: str, checkpoint: str, record: Provenance
) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows."""
    header: dict[str, Any] = {
        "model": model,
        "checkpoint": checkpoint,
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "n_stories": report.n_stories,
        "n_tokens": report.n_tokens,
        "n_sampled": report.n_sampled,
        "n_explained": report.n_explained,
        "seed": report.seed,
        "floor": report.floor,
        "counts_at_floors": dict(report.counts_at_floors),
        "doses": [dose.to_json() for dose in report.doses],
        "labels": [label.to_json() for label in report.labels],
    }
    write_results(path, SCHEMA, header, (role.to_json() for role in report.roles), record)


def load_neuron_roles(path: Path) -> tuple[Mapping[str, Any], list[NeuronRole]]:
    """Header and rows of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        return header, [checked(NeuronRole.from_json(row)) for row in rows]
    except BROKEN as error:
        raise DataError(
            f"A row of {path} is no row of neurons: {error}.", "Write the file again with: tslens neurons"
        ) from error
