"""Other people's models in the table: completions of TinyStories models, graded by GPT-4o or by a person.

Both files are read from ``$TSLENS_DATA/grades``; nothing of their texts is kept.

- ``gpt4o_five_sizes.jsonl``: five models, one completion of each of 40 prompts, graded 1 to 10 by GPT-4o.
- ``human_scores_tinystories_1m_8m_28m.csv``: three of the paper's models, one completion of each of 80 prompts, which
  make 113 pairs with six categories; scored 0, 0.5 or 1 on the criteria of the category by one person; a category's
  score is the mean of its criteria.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tslens.errors import DataError
from tslens.files import data_dir
from tslens.link.sizes.measured import Measured, SizeRow
from tslens.model.spec import N_CTX, ModelSpec
from tslens.reading import BROKEN, check_values, parse_row, read_text, split_rows

GPT4O, PERSON = "GPT-4o", "a person"
GPT4O_FILE, PERSON_FILE = "grades/gpt4o_five_sizes.jsonl", "grades/human_scores_tinystories_1m_8m_28m.csv"
_GRADED = {
    "grammar": "grammar",
    "creativity": "creativity",
    "consistency": "consistency",
    "plot": "plot_sense",
}
_SCORED = {
    "Grammar": "grammar",
    "Creativity": "creativity",
    "Plot": "plot",
    "Factual Knowledge": "factual written",
    "Reasoning": "reasoning written",
    "Context-Tracking": "context written",
}
_PAPERS = {  # name in the file: layers, width, heads; the paper's models, reference: their cards
    "roneneldan/TinyStories-1M": (8, 64, 16),
    "roneneldan/TinyStories-8M": (8, 256, 16),
    "roneneldan/TinyStories-28M": (8, 512, 16),
}
_VOCABULARY, _POSITIONS = 50257, 2048


def foreign_rows(folder: Path | None = None) -> list[SizeRow]:
    """The rows of both files, smaller models first. ``folder``: of the data; ``$TSLENS_DATA`` if None.

    Raises DataError where a file is absent or of another form.
    """
    root = folder or data_dir()
    try:
        return [*_by_gpt4o(root / GPT4O_FILE), *_by_person(root / PERSON_FILE)]
    except (OSError, *BROKEN) as error:
        raise DataError(
            f"Cannot read other people's grades from {root}: {error}.", "Set $TSLENS_DATA."
        ) from error


def _by_gpt4o(path: Path) -> list[SizeRow]:
    rows = [parse_row(line) for line in split_rows(read_text(path)) if line]
    prompts = _numbered(rows, "gpt4o")
    found = []
    for size, mine in _grouped(rows, "model_size"):
        first = mine[0]
        measured = {
            name: Measured.of_means({prompts[row["prompt"]]: float(row[column]) for row in mine})
            for name, column in _GRADED.items()
        }
        shape = first["n_layers"], first["d_model"], first["n_heads"], first["parameter_count"]
        found.append(_row(f"{size} (of five)", GPT4O, shape, measured))
    return sorted(found, key=_size)


def _by_person(path: Path) -> list[SizeRow]:
    text = read_text(path)
    check_values(text, ",\n")
    with io.StringIO(text, newline="") as file:
        rows = list(csv.DictReader(file))
    prompts = _numbered(rows, "person")
    found = []
    for model, mine in _grouped(rows, "model_name"):
        layers, width, heads = _PAPERS[model]
        measured = {
            name: Measured.of_means(
                {prompts[row["prompt"]]: _score(row, kind) for row in mine if row["category"] == kind}
            )
            for kind, name in _SCORED.items()
        }
        spec = ModelSpec(layers, width, heads)
        n_parameters = spec.n_params(_VOCABULARY) + (_POSITIONS - N_CTX) * width
        found.append(_row(model.partition("/")[2], PERSON, (layers, width, heads, n_parameters), measured))
    return sorted(found, key=_size)


def _numbered(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, str]:
    """A name for each prompt that says nothing of its text."""
    return {text: f"{name} {i}" for i, text in enumerate(dict.fromkeys(row["prompt"] for row in rows))}


def _score(row: Mapping[str, str], kind: str) -> float:
    """Mean of the criteria of a category that have a score."""
    return float(np.mean([float(value) for name, value in row.items() if name.startswith(kind) and value]))


def _row(
    label: str, source: str, shape: tuple[int, int, int, int], measured: Mapping[str, Measured]
) -> SizeRow:
    layers, width, heads, n_parameters = shape
    return SizeRow(label, label, source, layers, width, heads, False, n_parameters, None, None, measured)


def _grouped(rows: Sequence[dict[str, Any]], name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for value in dict.fromkeys(row[name] for row in rows):
        yield value, [row for row in rows if row[name] == value]


def _size(row: SizeRow) -> int:
    return row.n_parameters or 0
