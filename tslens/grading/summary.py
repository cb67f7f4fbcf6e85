"""What grades say: means with intervals over prompts, paired differences, how many completions a difference needs.

Completions of one prompt are alike, so prompts are what is resampled: a mean is over prompts of the mean over their
completions, and its interval is that of a t-test over prompts. Two models compare on the same prompts only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

from tslens.grading.rubric import AGE_GROUPS, CRITERIA, AgeGroup, Criterion
from tslens.stats import LEVEL
from tslens.types import Grade, GradeFailure

MOST_FAILURES = 0.1  # of the texts: above it there is no mean of a model
NOTABLE = 0.3  # points: a difference that people would like to see
POWER = 0.8


@dataclass(frozen=True)
class Mean:
    """A mean over prompts with its 95% interval; the ends are None of a single prompt. ``n``: completions."""

    mean: float
    low: float | None
    high: float | None
    n_prompts: int
    n: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """What a judge gave the texts of one model. ``means``: empty where too many texts have no grade.

    ``failures``: how many, by reason. ``ages``: share of the texts by age group.
    """

    means: Mapping[Criterion, Mean]
    ages: Mapping[AgeGroup, float]
    n: int
    failures: Mapping[str, int]

    @property
    def failure_rate(self) -> float:
        """Share of the texts that have no grade."""
        n_failed = sum(self.failures.values())
        return n_failed / max(self.n + n_failed, 1)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "means": {name: mean.to_json() for name, mean in self.means.items()},
            "ages": dict(self.ages),
            "n": self.n,
            "failures": dict(self.failures),
            "failure_rate": self.failure_rate,
        }


def summarise(outcomes: Iterable[Grade | GradeFailure]) -> Summary:
    """Means of every criterion; texts that were graded again count once."""
    grades: list[Grade] = []
    failures: dict[str, int] = {}
    for one in outcomes:
        if one.graded.repeat:
            continue
        if isinstance(one, GradeFailure):
            failures[one.reason] = failures.get(one.reason, 0) + 1
        else:
            grades.append(one)
    ages = {
        letter: sum(one.age_group == letter for one in grades) / max(len(grades), 1) for letter in AGE_GROUPS
    }
    found = Summary({}, ages, len(grades), failures)
    if not grades or found.failure_rate > MOST_FAILURES:
        return found
    means = {name: _mean(_of_prompts(grades, name).values(), len(grades)) for name in CRITERIA}
    return Summary(means, ages, len(grades), failures)


def paired(mine: Iterable[Grade], theirs: Iterable[Grade]) -> Mapping[Criterion, Mean]:
    """Mean difference of two models over the prompts that both have a grade for: of each the mean of its completions.

    One side may have fewer completions of a prompt, as true endings have one; ``n`` counts those of that side.
    """
    first, second = ([one for one in grades if not one.graded.repeat] for grades in (mine, theirs))
    both = {one.graded.prompt_id for one in first} & {one.graded.prompt_id for one in second}
    first, second = ([one for one in side if one.graded.prompt_id in both] for side in (first, second))
    if not both:
        return {}
    n = min(len(first), len(second))
    found: dict[Criterion, Mean] = {}
    for name in CRITERIA:
        of_first, of_second = _of_prompts(first, name), _of_prompts(second, name)
        found[name] = _mean([mean - of_second[prompt] for prompt, mean in of_first.items()], n)
    return found


def prompts_needed(
    mine: Sequence[Grade], theirs: Sequence[Grade], name: Criterion, *, difference: float = NOTABLE
) -> int | None:
    """How many prompts, with as many completions each, would show such a difference in 80 of 100 studies.

    By the spread over prompts of the differences that were found; None with fewer than two prompts.
    """
    found = paired(mine, theirs).get(name)
    if found is None or found.low is None or found.high is None:
        return None
    reach = t.ppf((1 + LEVEL) / 2, found.n_prompts - 1)
    deviation = (found.high - found.low) / 2 / reach * math.sqrt(found.n_prompts)
    wanted = norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER)
    return max(2, math.ceil((wanted * deviation / difference) ** 2))


def _of_prompts(grades: Sequence[Grade], name: Criterion) -> dict[str, float]:
    """Mean over the completions of each prompt."""
    of_prompt: dict[str, list[float]] = {}
    for one in grades:
        of_prompt.setdefault(one.graded.prompt_id, []).append(float(getattr(one, name)))
    return {prompt: float(np.mean(values)) for prompt, values in of_prompt.items()}


def _mean(values: Iterable[float], n: int) -> Mean:
    of_prompts = np.array([*values], dtype=float)
    mean, n_prompts = float(of_prompts.mean()), len(of_prompts)
    if n_prompts < 2:
        return Mean(mean, None, None, n_prompts, n)
    reach = float(t.ppf((1 + LEVEL) / 2, n_prompts - 1) * of_prompts.std(ddof=1) / math.sqrt(n_prompts))
    return Mean(mean, mean - reach, mean + reach, n_prompts, n)
