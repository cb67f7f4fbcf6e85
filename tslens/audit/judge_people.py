"""A judge and a person: completions of published models that one person scored, criterion by criterion.

The scores are those of TinyScaleLab (``grades/human_scores_tinystories_1m_8m_28m.csv`` in the data folder): each
prompt was written for one category, and its completions have scores of 0, 0.5 or 1 for several questions of that
category. The mean of them stands against the judge's grade of the like criterion: grammar, creativity, plot, and
context tracking as consistency. Factual knowledge and reasoning have no like criterion.

One person is no crowd, and a judge need not agree with him; the correlation is reported, nothing is asked of it.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tslens.audit.judge_figures import rank_correlation
from tslens.audit.judge_planted import measure
from tslens.audit.judge_report import AuditText, Measure, Outcomes
from tslens.errors import DataError
from tslens.grading.rubric import Criterion
from tslens.reading import BROKEN, check_values, read_text
from tslens.types import Grade, Graded

FILE = Path("grades") / "human_scores_tinystories_1m_8m_28m.csv"
CATEGORIES: Mapping[str, Criterion] = MappingProxyType(
    {
        "Grammar": "grammar",
        "Creativity": "creativity",
        "Context-Tracking": "consistency",
        "Plot": "plot",
    }
)


@dataclass(frozen=True, slots=True)
class Scored:
    """A completion that a person scored. ``score``: mean over the questions, 0 to 1."""

    graded: Graded
    model: str
    criterion: Criterion
    score: float


@dataclass(frozen=True)
class People:
    """The part of agreement with people. ``seed``: of the bootstrap."""

    scored: tuple[Scored, ...]
    seed: int

    @property
    def texts(self) -> Iterator[AuditText]:
        """Every completion."""
        for one in self.scored:
            facts = {"criterion": one.criterion, "score": one.score}
            yield AuditText(one.graded, "people", one.model, facts)

    def read(self, outcomes: Outcomes) -> Iterator[Measure]:
        """Spearman's correlation, pooled and within model (mean over models), resampled by prompt."""
        for name in CATEGORIES.values():
            mine = [one for one in self.scored if one.criterion == name]
            known = [(one, outcomes[one.graded.key]) for one in mine]
            rows = [(one, float(getattr(found, name))) for one, found in known if isinstance(found, Grade)]
            grades = np.array([grade for _, grade in rows])
            scores = np.array([one.score for one, _ in rows])
            prompts = [int(one.graded.prompt_id, 16) for one, _ in rows]
            for label, strata in (
                ("pooled", [""] * len(rows)),
                ("within model", [one.model for one, _ in rows]),
            ):
                figure = rank_correlation(grades, scores, prompts, strata, seed=self.seed)
                n_failed = len(known) - len(rows)
                note = f"{n_failed} of {len(known)} have no grade" if n_failed else ""
                yield measure("people", "people", label, "people", name, figure, "Spearman", note=note)


def read_scores(path: Path) -> tuple[Scored, ...]:
    """The scored completions of a file, in its order. Raises DataError if it is absent or of another form."""
    found = []
    try:
        text = read_text(path)
        check_values(text, ",\n")
        with io.StringIO(text, newline="") as file:
            for number, row in enumerate(csv.DictReader(file)):
                name = CATEGORIES.get(row["category"])
                if name is None:
                    continue
                columns = [key for key in row if key.startswith(f"{row['category']}_")]
                scores = [float(row[key]) for key in columns if row[key]]
                prompt_id = hashlib.blake2b(row["prompt"].encode(), digest_size=8).hexdigest()
                graded = Graded(row["prompt"], row["completion"], prompt_id, number)
                found.append(Scored(graded, row["model_name"], name, sum(scores) / len(scores)))
    except (OSError, *BROKEN, csv.Error) as error:
        raise DataError(
            f"Cannot read people's scores from {path}: {error}.", "Get the file again."
        ) from error
    if not found:
        raise DataError(f"There are no people's scores in {path}.", "Get the file again.")
    return tuple(found)
