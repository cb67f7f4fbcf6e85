"""Matches on disk: rows of ``tslens.match/1``, their provenance beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, write_results
from tslens.probes.matching.report import MatchReport, PairMatch
from tslens.probes.matching.roles import RoleAgreement, RoleHolders
from tslens.reading import BROKEN, checked
from tslens.types import Provenance

SCHEMA = "tslens.match/1"
_OF_PAIR = ("model_a", "model_b", "component")


def save_match(report: MatchReport, path: Path, *, checkpoints: Sequence[str], record: Provenance) -> None:
    """Write the rows; times stand in the provenance file only, so that equal runs give equal rows.

    ``checkpoints``: of each model, what was read.
    """
    header: dict[str, Any] = {
        "models": list(report.models),
        "checkpoints": list(checkpoints),
        "stories": record.data,
        "data_sha256": record.data_sha256,
        "n_stories": report.n_stories,
        "n_read": report.n_read,
        "n_excluded": report.n_excluded,
        "seed": report.seed,
        "pairs": [pair.header() for pair in report.pairs],
        "roles": [one.to_json() for one in report.roles],
        "agreements": [one.to_json() for one in report.agreements],
    }
    write_results(path, SCHEMA, header, report.rows(), record)


def load_match(path: Path) -> tuple[Mapping[str, Any], MatchReport]:
    """Header and report of such a file. Raises DataError if it is of another schema or broken."""
    header, rows = read_jsonl(path, SCHEMA)
    try:
        of_pair: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows:
            key = tuple(row.pop(name) for name in _OF_PAIR)
            of_pair.setdefault(key, []).append(row)
        pairs = [
            PairMatch.from_json(one, of_pair[tuple(one[name] for name in _OF_PAIR)])
            for one in header["pairs"]
        ]
        report = MatchReport(
            models=tuple(header["models"]),
            pairs=tuple(pairs),
            n_stories=header["n_stories"],
            n_read=header["n_read"],
            n_excluded=header["n_excluded"],
            seed=header["seed"],
            roles=tuple(RoleHolders.from_json(row) for row in header["roles"]),
            agreements=tuple(RoleAgreement.from_json(row) for row in header["agreements"]),
        )
        return header, checked(report)
    except BROKEN as error:
        raise DataError(f"A row of {path} is no match: {error}.", "Write it again: tslens match") from error
