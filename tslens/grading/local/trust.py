"""How far the local judge is to be believed: what pages and tables say beside its grades.

The figures are those of ``reports/judge/results.json``: Spearman's correlation with the grades of GPT-4o on 200
completions, each graded by a base that had not seen its prompt; a test holds them to that file.
"""

from __future__ import annotations

from collections.abc import Mapping

from tslens.grading.rubric import CRITERIA, Criterion

SEES_FAULTS = "It sees faults far better than it ranks good texts."
N_COMPLETIONS = 200
POOLED: Mapping[Criterion, float] = {"grammar": 0.58, "creativity": 0.54, "consistency": 0.31, "plot": 0.47}
"""Over the completions of all models together."""

WITHIN: Mapping[Criterion, float] = {"grammar": 0.40, "creativity": 0.47, "consistency": 0.07, "plot": 0.34}
"""Among completions of one and the same model."""

BY_SIZE: Mapping[Criterion, float] = {"consistency": 0.52, "plot": 0.60}
"""Of the size of the model alone, where it predicts GPT-4o's grades better than the judge does."""


def agreement_told() -> str:
    """How far its grades agree with GPT-4o's, in sentences."""
    size = _figures(BY_SIZE)
    return (
        f"How far it agrees with GPT-4o, by rank correlation on {N_COMPLETIONS} completions: {_figures(POOLED)}; among "
        f"texts of one model: {_figures(WITHIN)} (1: the same order, 0: none). The size of the model alone gives "
        f"{size}, more than this judge."
    )


def _figures(of: Mapping[Criterion, float]) -> str:
    return ", ".join(f"{name} {of[name]:.2f}" for name in CRITERIA if name in of)
