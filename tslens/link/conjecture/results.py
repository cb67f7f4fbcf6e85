"""What was found of the authors' conjecture in one model: records, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_json, write_json
from tslens.link.conjecture.figures import Contrast, Permutation
from tslens.link.conjecture.labels import Labelling
from tslens.link.conjecture.matching import Matched
from tslens.reading import BROKEN
from tslens.types import HeadId, Provenance

SCHEMAS = {"readouts": "tslens.conjecture_readouts/1", "grades": "tslens.conjecture_grades/1"}


@dataclass(frozen=True)
class Found:
    """Two groups of heads, how they were matched, and what they take. ``left_out``: why the rest is None, or empty."""

    labelling: Labelling
    left_out: str
    matched: Matched | None = None
    contrast: Contrast | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "heads": {
                name: [str(head) for head in heads] for name, heads in self.labelling._asdict().items()
            },
            "left_out": self.left_out,
            "matched": None if self.matched is None else asdict(self.matched),
            "contrast": None if self.contrast is None else self.contrast.to_json(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Found:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or UsageError for another record."""
        heads = {name: tuple(HeadId.parse(one) for one in of) for name, of in row["heads"].items()}
        matched, contrast = row["matched"], row["contrast"]
        return cls(
            Labelling(**heads),
            row["left_out"],
            None if matched is None else Matched(**{name: tuple(of) for name, of in matched.items()}),
            None if contrast is None else Contrast.from_json(contrast),
        )


@dataclass(frozen=True)
class ByReadouts:
    """One model by readouts.

    ``scores``: of the untouched model. ``counted``: names of the readouts that count. ``without_ngram``: without those
    that a 4-gram passes. ``strict``: only heads beyond twins. ``permuted``: labels drawn anew within the model and
    within layers, or why not.
    """

    found: Found
    scores: Sequence[Mapping[str, Any]]
    counted: Sequence[str]
    without_ngram: Contrast | None
    strict: Found
    permuted: Permutation | str
    permuted_within_layers: Permutation | str

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        without = self.without_ngram
        permuted = {"permuted": self.permuted, "permuted_within_layers": self.permuted_within_layers}
        return {
            "found": self.found.to_json(),
            "scores": list(self.scores),
            "counted": list(self.counted),
            "without_ngram": None if without is None else without.to_json(),
            "strict": self.strict.to_json(),
            **{
                name: {"left_out": one} if isinstance(one, str) else one.to_json()
                for name, one in permuted.items()
            },
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ByReadouts:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or UsageError for another record."""
        without = row["without_ngram"]
        permuted = [
            one["left_out"] if "left_out" in one else Permutation.from_json(one)
            for one in (row["permuted"], row["permuted_within_layers"])
        ]
        return cls(
            Found.from_json(row["found"]),
            row["scores"],
            row["counted"],
            None if without is None else Contrast.from_json(without),
            Found.from_json(row["strict"]),
            permuted[0],
            permuted[1],
        )


@dataclass(frozen=True)
class ByGrades:
    """One model by grades. ``n_graded``: of ``n_texts`` with all grades. ``doses``: points of one planted fault."""

    found: Found
    n_graded: int
    n_texts: int
    doses: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**asdict(self), "found": self.found.to_json()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ByGrades:
        """Inverse of :meth:`to_json`. Raises KeyError, TypeError or UsageError for another record."""
        return cls(Found.from_json(row["found"]), row["n_graded"], row["n_texts"], row["doses"])


def save_conjecture(
    found: ByReadouts | ByGrades, path: Path, header: Mapping[str, Any], record: Provenance
) -> None:
    """Write one model. ``header``: what it depends on besides the code."""
    schema = SCHEMAS["readouts" if isinstance(found, ByReadouts) else "grades"]
    write_json(
        path,
        {"schema": schema, "header": dict(header), **found.to_json(), "provenance": record.to_json()},
    )


def load_by_readouts(path: Path) -> tuple[Mapping[str, Any], ByReadouts]:
    """Header and what was found. Raises DataError if the file is of another schema or broken."""
    row = _read(path, SCHEMAS["readouts"])
    try:
        return row["header"], ByReadouts.from_json(row)
    except BROKEN as error:
        raise _broken(path, error) from error


def load_by_grades(path: Path) -> tuple[Mapping[str, Any], ByGrades]:
    """Header and what was found. Raises DataError if the file is of another schema or broken."""
    row = _read(path, SCHEMAS["grades"])
    try:
        return row["header"], ByGrades.from_json(row)
    except BROKEN as error:
        raise _broken(path, error) from error


def _read(path: Path, schema: str) -> dict[str, Any]:
    row = read_json(path)
    if not isinstance(row, dict) or row.get("schema") != schema:
        raise _broken(path, f"its schema is not {schema}")
    return row


def _broken(path: Path, why: object) -> DataError:
    return DataError(f"{path} holds no result of this study: {why}.", "Remove it and run the study again.")
