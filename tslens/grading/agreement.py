"""How far judges agree, one with himself among them: Krippendorff's alpha and Gwet's AC2, with intervals over prompts.

**Alpha** is one minus the disagreement within texts over that of ratings paired at random (Krippendorff 2011, Computing
Krippendorff's Alpha-Reliability). Two ratings disagree by 0 or 1 ("nominal"), by the square of their difference
("interval"), or by the square of how many ratings lie between them, half of their own at either end ("ordinal": that is
the difference of their mid-ranks). A text with a single rating says nothing.

**AC2** is (p_a - p_e) / (1 - p_e): p_a is the weighted agreement within texts; p_e is that of judges who guess where a
rating is hard, sum w / (q (q - 1)) * sum pi (1 - pi) over q categories with shares pi (Gwet 2014, Handbook of
Inter-Rater Reliability, 4th edition). Where nearly all ratings are alike, alpha may be near 0 although two of a text
hardly ever differ; AC2 is not. But quadratic weights over a long scale forgive small differences, so that AC2 is high
even of judges who differ by a point on most texts. So both are shown, and the mean difference in points.

**Intervals**: texts of one prompt are one cluster; each prompt is left out once (jackknife), Student's t on the
logarithm of the disagreement, which is one minus a coefficient: its law is more even. By simulation 92 to 95 of 100
hold the truth with 30 prompts (``tests/faults``), more than by a bias-corrected bootstrap. They are not to be trusted
below ``stats.MIN_CLUSTERS`` prompts. Scikit-learn and scipy have neither coefficient.

Axes: unit (a text), rater (a judge, or a time that he was asked), value, category, replicate (weights of the texts).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.grading.rubric import CRITERIA, Criterion
from tslens.stats import LEVEL
from tslens.types import Grade, GradeFailure

Metric = Literal["nominal", "ordinal", "interval"]
STEP = 0.5  # points: grades are real numbers, the categories of AC2 are these steps from 0 to 10
SCALE = np.arange(0.0, 10.0 + STEP, STEP)

Statistic = Callable[[Float[np.ndarray, "replicate unit"]], Float[np.ndarray, " replicate"]]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval.

    ``value``: None where it is not defined. ``low``, ``high``: None also where nothing varies from prompt to prompt, as
    where all agree.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Agreement:
    """How far the grades of the same texts agree.

    ``alpha_ordinal``, ``alpha_interval``: Krippendorff's, 1 is perfect, 0 chance. ``ac2``: Gwet's, of grades rounded to
    half points, quadratic weights. ``difference``: mean absolute difference of two grades of a text, in points.
    ``n``: texts with two grades or more, of ``n_prompts``. ``n_missed``: texts with fewer, as a judge failed.
    """

    alpha_ordinal: Estimate
    alpha_interval: Estimate
    ac2: Estimate
    difference: Estimate
    n: int
    n_missed: int
    n_prompts: int

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return asdict(self)


def self_agreement(outcomes: Iterable[Grade | GradeFailure]) -> Mapping[Criterion, Agreement]:
    """Agreement of a judge with himself on the texts of one model that he was given more than once.

    Texts that he was given once are left out; empty where there are no others.
    """
    found: dict[tuple[str, int], dict[int, Grade | GradeFailure]] = {}
    for one in outcomes:
        found.setdefault((one.graded.prompt_id, one.graded.sample), {})[one.graded.repeat] = one
    again = {place: found[place] for place in sorted(found) if len(found[place]) > 1}
    if not again:
        return {}
    prompts = [prompt_id for prompt_id, _ in again]
    times = sorted({time for given in again.values() for time in given})
    return {
        name: measure_agreement(
            np.array([[_grade(given.get(time), name) for time in times] for given in again.values()]),
            prompts,
        )
        for name in CRITERIA
    }


def _grade(one: Grade | GradeFailure | None, name: Criterion) -> float:
    return float(getattr(one, name)) if isinstance(one, Grade) else float("nan")


def measure_agreement(grades: Float[np.ndarray, "unit rater"], prompts: Sequence[str]) -> Agreement:
    """Agreement of grades from 0 to 10, NaN where one is missing. ``prompts``: that each text belongs to."""
    is_paired = np.isfinite(grades).sum(1) > 1
    paired, of_paired = grades[is_paired], [p for p, kept in zip(prompts, is_paired, strict=True) if kept]
    values = np.unique(paired[np.isfinite(paired)])
    counts = _counts(paired, values)
    in_steps = _counts(np.round(grades / STEP) * STEP, SCALE)
    apart = np.array([_apart(row[np.isfinite(row)]) for row in paired])
    weights = quadratic_weights(SCALE)
    return Agreement(
        alpha_ordinal=_estimate(lambda w: _alpha(w, counts, values, "ordinal"), of_paired, best=1.0),
        alpha_interval=_estimate(lambda w: _alpha(w, counts, values, "interval"), of_paired, best=1.0),
        ac2=_estimate(lambda w: _ac2(w, in_steps, weights), prompts, best=1.0),
        difference=_estimate(lambda w: _ratio(w @ apart, w.sum(1)), of_paired, best=0.0),
        n=len(paired),
        n_missed=len(grades) - len(paired),
        n_prompts=len(set(of_paired)),
    )


def _apart(row: Float[np.ndarray, " rater"]) -> float:
    """Mean absolute difference of two grades of a text."""
    return float(np.mean([abs(one - other) for one, other in combinations(row.tolist(), 2)]))


# The coefficients -------------------------------------------------------------------------------------------


def krippendorff_alpha(ratings: Float[np.ndarray, "unit rater"], metric: Metric) -> float | None:
    """Krippendorff's alpha; NaN is a missing rating. None where all pairable ratings are equal, or none is there."""
    paired = ratings[np.isfinite(ratings).sum(1) > 1]
    values = np.unique(paired[np.isfinite(paired)])
    found = _alpha(np.ones((1, len(paired))), _counts(paired, values), values, metric)
    return _number(found[0])


def gwet_ac2(
    ratings: Float[np.ndarray, "unit rater"],
    categories: Float[np.ndarray, " category"],
    weights: Float[np.ndarray, "category category"],
) -> float | None:
    """Gwet's AC2; NaN is a missing rating. None where no text has two ratings.

    ``categories``: all that there are, used or not. ``weights``: agreement of each two, 1 on the diagonal; those of the
    identity give AC1. Raises ValueError for a rating of no category.
    """
    found = _ac2(np.ones((1, len(ratings))), _counts(ratings, categories), weights)
    return _number(found[0])


def quadratic_weights(categories: Float[np.ndarray, " category"]) -> Float[np.ndarray, "category category"]:
    """One minus the square of the difference over that of the scale's two ends."""
    apart = categories[:, None] - categories[None, :]
    squares: np.ndarray = 1 - np.square(apart / np.ptp(categories))
    return squares


def _counts(
    ratings: Float[np.ndarray, "unit rater"], values: Float[np.ndarray, " value"]
) -> Float[np.ndarray, "unit value"]:
    """How often a text got each value. Raises ValueError for a rating that is none of them."""
    counts: np.ndarray = (ratings[:, :, None] == values).sum(1).astype(float)
    if counts.sum() != np.isfinite(ratings).sum():
        odd = ratings[np.isfinite(ratings) & ~np.isin(ratings, values)]
        raise ValueError(f"{odd[0]} is none of the categories.")
    return counts


def _alpha(
    weights: Float[np.ndarray, "replicate unit"],
    counts: Float[np.ndarray, "unit value"],
    values: Float[np.ndarray, " value"],
    metric: Metric,
) -> Float[np.ndarray, " replicate"]:
    """Alpha of texts that have ``weights``, all with two ratings or more; NaN where it is not defined."""
    n_ratings = counts.sum(1)
    pooled = weights @ counts
    n = pooled.sum(1)
    if metric == "nominal":
        within = (n_ratings**2 - (counts**2).sum(1))[None] / 2
        total = (n**2 - (pooled**2).sum(1)) / 2
    else:
        places = np.cumsum(pooled, axis=1) - pooled / 2 if metric == "ordinal" else values[None]
        within = n_ratings * (places**2 @ counts.T) - (places @ counts.T) ** 2
        total = n * (places**2 * pooled).sum(1) - (places * pooled).sum(1) ** 2
    observed = (weights * within / np.maximum(n_ratings - 1, 1)).sum(1)
    varies = (pooled > 0).sum(1) > 1
    return 1 - _ratio((n - 1) * observed, np.where(varies, total, 0.0))


def _ac2(
    weights: Float[np.ndarray, "replicate unit"],
    counts: Float[np.ndarray, "unit category"],
    agree: Float[np.ndarray, "category category"],
) -> Float[np.ndarray, " replicate"]:
    """AC2 of texts that have ``weights``; NaN where it is not defined."""
    n_ratings = counts.sum(1)
    n_pairs = np.maximum(n_ratings * (n_ratings - 1), 1)
    within = (counts * (counts @ agree - 1)).sum(1) / n_pairs
    is_paired, is_rated = (n_ratings > 1).astype(float), (n_ratings > 0).astype(float)
    observed = _ratio(weights @ (within * is_paired), weights @ is_paired)
    shares = weights @ (counts / np.maximum(n_ratings, 1)[:, None])
    pi = _ratio(shares, (weights @ is_rated)[:, None])
    q = len(agree)
    chance = agree.sum() / (q * (q - 1)) * (pi * (1 - pi)).sum(1)
    return (observed - chance) / (1 - chance)


# Intervals --------------------------------------------------------------------------------------------------


def _estimate(statistic: Statistic, prompts: Sequence[str], *, best: float) -> Estimate:
    """A statistic of weighted texts, on all of them once, with its interval over prompts. ``best``: where all agree."""
    names = sorted(set(prompts))
    if not names:
        return Estimate(None, None, None)
    column = {name: i for i, name in enumerate(names)}
    of_prompt = np.concatenate([np.ones((1, len(names))), 1 - np.eye(len(names))])
    found = statistic(of_prompt[:, [column[prompt] for prompt in prompts]])
    value = _number(found[0])
    ends = None if value is None else _jackknife(value, found[1:], best)
    low, high = ends or (None, None)
    return Estimate(value, low, high)


def _jackknife(
    value: float, without: Float[np.ndarray, " prompt"], best: float
) -> tuple[float, float] | None:
    """95% by Student's t, on the logarithm of the distance from ``best``; as it is where a prompt is all that differs.

    ``without``: each prompt left out once. None where nothing varies.
    """
    without = without[np.isfinite(without)]
    n = len(without)
    if n < 2 or np.ptp(without) < 1e-12:
        return None
    middle, each = abs(value - best), np.abs(without - best)
    by_log = min(middle, float(each.min())) > 1e-12
    if by_log:
        middle, each = np.log(middle), np.log(each)
    error = np.sqrt((n - 1) / n * ((each - each.mean()) ** 2).sum())
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    near, far = middle - reach, middle + reach
    near, far = (np.exp(near), np.exp(far)) if by_log else (max(near, 0.0), far)
    return (float(best - far), float(best - near)) if best else (float(near), float(far))


def _ratio(
    top: Float[np.ndarray, "*axes"], bottom: Float[np.ndarray, "*others"]
) -> Float[np.ndarray, "*axes"]:
    """Quotient, NaN where the divisor is zero."""
    top, bottom = np.broadcast_arrays(top, bottom)
    found: np.ndarray = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
