"""How a head does on graded texts that it was not fitted on: by prompt, and leaving out the model as well.

Axes: text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata, spearmanr

from tslens.grading.local.fit import POINTS, GradedSet, fit_base
from tslens.grading.local.heads import Detector, likeliest_fault

N_FOLDS = 8  # of the prompts


@dataclass(frozen=True)
class Groups:
    """Prompt and model of each graded text, and the size of the model in parameters."""

    prompt: Sequence[str]
    model: Sequence[str]
    size: Sequence[float]

    def folds(self) -> np.ndarray:
        """Fold of each text: all texts of a prompt are in one."""
        order = {prompt: number for number, prompt in enumerate(sorted(set(self.prompt)))}
        return np.array([order[prompt] % N_FOLDS for prompt in self.prompt])


def held_out_grades(
    name: str,
    graded: GradedSet,
    groups: Groups,
    beside: Sequence[GradedSet],
    detectors: Mapping[str, Detector],
    still: Float[np.ndarray, "evidence evidence"],
    *,
    without_model: bool,
) -> Float[np.ndarray, " text"]:
    """What each text is given by a base that saw no text of its prompt's fold and, if asked, none of its model.

    ``beside``: other sets, which are fitted on whole; the rest as for ``fit.fit_base``. The detectors have seen no
    grades. The constant of each fit is set so that the middle of all texts stays where it is: else a base that has not
    seen the best model puts it lower, and ranks of texts of several fits say more of that than of the texts.
    """
    folds, models = groups.folds(), np.array(groups.model)
    found = np.full(len(folds), np.nan)
    middle = graded.rows.mean(0)
    taken = POINTS * likeliest_fault(name, detectors, graded.rows)
    for model in sorted(set(groups.model)) if without_model else [None]:
        for fold in range(N_FOLDS):
            test = (folds == fold) & ((models == model) | (model is None))
            if test.any():
                train = graded.subset((folds != fold) & ((models != model) | (model is None)))
                base = fit_base(name, [train, *beside], detectors, still)
                found[test] = (graded.rows[test] - middle) @ base.weights
    return found - taken + taken.mean() + graded.given[name].mean()


def pooled(found: np.ndarray, given: np.ndarray) -> float:
    """Spearman's correlation over all texts."""
    return float(spearmanr(found, given).statistic)


def within(found: np.ndarray, given: np.ndarray, models: Sequence[str]) -> list[float]:
    """Spearman's correlation within each model, in order of their names."""
    names = np.array(models)
    return [pooled(found[names == model], given[names == model]) for model in sorted(set(models))]


def partial(found: np.ndarray, given: np.ndarray, size: Sequence[float]) -> float:
    """Spearman's partial correlation: of what is left of both ranks when the rank of the size is taken out."""
    of_size = np.stack([np.ones(len(found)), rankdata(size)], 1)

    def rest(values: np.ndarray) -> np.ndarray:
        ranks = rankdata(values)
        return ranks - of_size @ np.linalg.lstsq(of_size, ranks, rcond=None)[0]

    return float(np.corrcoef(rest(found), rest(given))[0, 1])
