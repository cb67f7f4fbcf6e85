"""What two groups of heads take from grades: texts written whole and without either, on common random numbers.

Axes: group (distance, semantic), item (prompt and sample).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tslens.causal.means import Means
from tslens.grading.completions import Drawing, Prompt
from tslens.grading.judge import Outcome
from tslens.grading.rubric import CRITERIA, Criterion
from tslens.link.conjecture.figures import OF_CONJECTURE, Measure
from tslens.link.conjecture.labels import Labelling
from tslens.link.conjecture.matching import Matched
from tslens.link.grade_map import points_of, prompt_key, write_without
from tslens.model.story_model import StoryModel
from tslens.types import Graded

LEAST_GRADED = 0.9  # of the texts, for a model to count


def write_all(
    model: StoryModel,
    prompts: Sequence[Prompt],
    labelling: Labelling,
    matched: Matched,
    means: Means,
    drawing: Drawing,
    progress: Callable[[int], None] = lambda n_done: None,
) -> tuple[list[Graded], list[Graded], list[Graded]]:
    """Texts of the whole model, without the distance heads, without the semantic ones; each group by its share."""
    whole, distance, semantic = (
        write_without(model, prompts, heads, means, drawing, progress, share=share)
        for heads, share in zip(((), *labelling), (1.0, *matched.shares), strict=True)
    )
    return whole, distance, semantic


@dataclass(frozen=True, eq=False)
class GradedGroups:
    """``measures``: of each criterion. ``n_graded``: texts with a grade from all three, of ``n_texts``."""

    measures: list[Measure]
    n_graded: int
    n_texts: int

    @property
    def is_enough(self) -> bool:
        """Whether enough of the texts have their grades."""
        return self.n_graded >= LEAST_GRADED * self.n_texts


def grade_measures(
    whole: Sequence[Outcome],
    distance: Sequence[Outcome],
    semantic: Sequence[Outcome],
    doses: Mapping[Criterion, float],
) -> GradedGroups:
    """Drops of grammar and consistency, text by text, beside what one planted fault costs.

    Outcomes of the same prompts and samples in the same order. Raises KeyError for a judge that has no dose of either.
    """
    clusters = [prompt_key(one.graded.prompt_id) for one in whole]
    measures, is_graded = [], np.ones(len(whole), dtype=bool)
    for name in OF_CONJECTURE:
        column = CRITERIA.index(name)
        clean, *without = (points_of(of_set)[:, column] for of_set in (whole, distance, semantic))
        taken = np.stack([clean - one for one in without])
        is_graded &= np.isfinite(taken).all(0)
        measures.append((name, taken, doses[name]))  # type: ignore[index]  # both are criteria too
    kept = np.flatnonzero(is_graded).tolist()
    found = [
        Measure(name, name, [clusters[i] for i in kept], taken[:, kept], np.full(len(kept), dose))
        for name, taken, dose in measures
    ]
    return GradedGroups(found, len(kept), len(whole))
