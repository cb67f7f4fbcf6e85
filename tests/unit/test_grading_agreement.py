"""Coefficients of agreement against published examples, their definitions, and what they must be."""

import json
from itertools import permutations

import numpy as np
import pytest

from tslens.grading.agreement import (
    SCALE,
    gwet_ac2,
    krippendorff_alpha,
    measure_agreement,
    quadratic_weights,
    self_agreement,
)
from tslens.grading.rubric import CRITERIA
from tslens.types import Grade, Graded, GradeFailure

N = np.nan
# Krippendorff 2011, Computing Krippendorff's Alpha-Reliability, section C: four observers, twelve units.
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
        [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
    ]
).T
FIVE = np.arange(1.0, 6.0)


def noisy(n_units=60, n_raters=3, seed=0, spread=1.0, missing=0.2):
    """Ratings in whole points around a truth of each text."""
    rng = np.random.default_rng(seed)
    ratings = np.round(rng.normal(6, 2, (n_units, 1)) + rng.normal(0, spread, (n_units, n_raters)))
    ratings = np.clip(ratings, 0, 10)
    ratings[rng.random(ratings.shape) < missing] = N
    return ratings


# The coefficients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(metric, value):
    assert krippendorff_alpha(FOUR_OBSERVERS, metric) == pytest.approx(value, abs=5e-4)


@pytest.mark.parametrize(("weights", "value"), [(np.eye(5), 0.77544), (quadratic_weights(FIVE), 0.914)])
def test_gwet_of_the_published_example(weights, value):
    """The same ratings, as the package irrCAC of Gwet shows them (``cac.raw4raters``)."""
    n_digits = len(str(value)) - 2
    assert round(gwet_ac2(FOUR_OBSERVERS, FIVE, weights), n_digits) == value


def by_pairs(ratings, metric):
    """Alpha as it is defined: mean disagreement of pairs within units, and of all pairs."""
    units = [row[~np.isnan(row)] for row in ratings]
    units = [row for row in units if len(row) > 1]
    pooled = np.concatenate(units)

    def apart(a, b):
        if metric == "nominal":
            return float(a != b)
        if metric == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = ((pooled >= low) & (pooled <= high)).sum()
        return (between - ((pooled == a).sum() + (pooled == b).sum()) / 2) ** 2

    within = sum(sum(apart(a, b) for a, b in permutations(row, 2)) / (len(row) - 1) for row in units)
    total = sum(apart(a, b) for a, b in permutations(pooled, 2)) / (len(pooled) - 1)
    return 1 - within / total


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_alpha_is_what_its_definition_says(metric):
    for seed in range(3):
        ratings = noisy(25, seed=seed) / 2
        assert krippendorff_alpha(ratings, metric) == pytest.approx(by_pairs(ratings, metric), rel=1e-9)


def test_ac2_by_hand():
    """Two judges, two grades: 40 and 45 texts alike, 15 not. The chance term is 2 * 0.475 * 0.525."""
    ratings = np.array([[0, 0]] * 45 + [[10, 10]] * 40 + [[10, 0]] * 10 + [[0, 10]] * 5, dtype=float)
    ends = np.array([0.0, 10.0])
    expected = (0.85 - 0.49875) / (1 - 0.49875)
    assert gwet_ac2(ratings, ends, quadratic_weights(ends)) == pytest.approx(expected)
    # the scale has a middle that nobody uses: 3 categories, weights 1, 3/4, 0 apart
    three = np.array([0.0, 5.0, 10.0])
    chance = (3 + 4 * 0.75) / 6 * 0.49875
    assert gwet_ac2(ratings, three, quadratic_weights(three)) == pytest.approx((0.85 - chance) / (1 - chance))


def test_who_agrees_wholly_has_one_and_who_guesses_has_none():
    rng = np.random.default_rng(1)
    same = np.repeat(rng.integers(0, 11, (30, 1)).astype(float), 3, axis=1)
    for metric in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(same, metric) == pytest.approx(1)
        guessed = krippendorff_alpha(rng.integers(0, 11, (4000, 2)).astype(float), metric)
        assert abs(guessed) < 0.06
    assert gwet_ac2(same, SCALE, quadratic_weights(SCALE)) == pytest.approx(1)


def test_order_of_texts_and_judges_does_not_matter_and_neither_does_the_unit():
    ratings = noisy()
    turned = np.random.default_rng(2).permuted(ratings, axis=1)[::-1]
    for metric in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(turned, metric) == pytest.approx(krippendorff_alpha(ratings, metric))
    weights = quadratic_weights(SCALE)
    assert gwet_ac2(turned, SCALE, weights) == pytest.approx(gwet_ac2(ratings, SCALE, weights))
    assert gwet_ac2(ratings / 2, SCALE / 2, weights) == pytest.approx(gwet_ac2(ratings, SCALE, weights))
    interval = krippendorff_alpha(ratings, "interval")
    assert krippendorff_alpha(3 - 0.1 * ratings, "interval") == pytest.approx(interval)
    assert krippendorff_alpha(ratings**3, "interval") != pytest.approx(interval, abs=1e-3)
    ordinal = krippendorff_alpha(ratings, "ordinal")
    assert krippendorff_alpha(ratings**3, "ordinal") == pytest.approx(ordinal)


def test_a_text_with_one_rating_says_nothing_to_alpha_and_its_level_to_ac2():
    ratings = noisy()
    more = np.vstack([ratings, [[N, 10, N]] * 20, [[N, N, N]] * 5])
    assert krippendorff_alpha(more, "ordinal") == krippendorff_alpha(ratings, "ordinal")
    weights = quadratic_weights(SCALE)
    assert gwet_ac2(more, SCALE, weights) != pytest.approx(gwet_ac2(ratings, SCALE, weights), abs=1e-3)
    empty = np.vstack([ratings, [[N, N, N]] * 5])
    assert gwet_ac2(empty, SCALE, weights) == pytest.approx(gwet_ac2(ratings, SCALE, weights))


def test_where_there_is_no_coefficient():
    alone, alike = np.array([[1, N], [N, 2.0]]), np.full((4, 2), 7.0)
    assert krippendorff_alpha(alone, "interval") is None and krippendorff_alpha(alike, "ordinal") is None
    weights = quadratic_weights(SCALE)
    assert gwet_ac2(alone, SCALE, weights) is None and gwet_ac2(alike, SCALE, weights) == 1
    with pytest.raises(ValueError, match=r"7\.2 is none"):
        gwet_ac2(np.array([[7, 7.2]]), SCALE, weights)


# Intervals --------------------------------------------------------------------------------------------------


def study(n_prompts, seed, n_texts=2):
    """Grades of judges who agree better on some prompts than on others, and the prompts."""
    rng = np.random.default_rng(seed)
    level = rng.normal(6, 1, n_prompts).repeat(n_texts)
    spread = rng.choice([0.3, 1.2], n_prompts).repeat(n_texts)
    truth = level + rng.normal(0, 0.3, len(level))
    grades = truth[:, None] + spread[:, None] * rng.normal(0, 1, (len(level), 2))
    return np.clip(grades, 0, 10).round(1), [f"p{i // n_texts}" for i in range(len(level))]


def test_intervals_hold_the_truth_as_often_as_they_say():
    truth = krippendorff_alpha(study(20_000, 99)[0], "interval")
    found = [measure_agreement(*study(40, seed)).alpha_interval for seed in range(60)]
    n_held = sum(one.low <= truth <= one.high for one in found)
    assert n_held >= 51, n_held
    assert all(one.low < one.value < one.high for one in found)
    assert np.mean([one.high - one.low for one in found]) < 0.5


def test_texts_of_one_prompt_are_one_cluster():
    grades, prompts = study(40, 5)
    thrice = np.repeat(grades, 3, axis=0)
    alike = measure_agreement(thrice, [p for p in prompts for _ in range(3)])
    apart = measure_agreement(thrice, [str(i) for i in range(len(thrice))])
    for name in ("alpha_ordinal", "alpha_interval", "ac2", "difference"):
        one, other = getattr(alike, name), getattr(apart, name)
        assert one.value == pytest.approx(other.value)
        assert one.high - one.low > 1.4 * (other.high - other.low), name
    assert (alike.n, alike.n_prompts, apart.n_prompts) == (240, 40, 240)


# A judge and himself ----------------------------------------------------------------------------------------


def given(prompt, sample, points, repeat=0):
    return Grade(Graded("Once", " upon", f"b{prompt:02d}", sample, repeat=repeat), *points, "B")


def outcomes(spread, n_prompts=30, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for prompt in range(n_prompts):
        for sample in range(2):
            points = rng.normal(6, 1.5, 4)
            found.append(given(prompt, sample, np.clip(points, 0, 10)))
            if sample == 0:
                again = np.clip(points + rng.normal(0, spread, 4), 0, 10)
                found.append(given(prompt, sample, again, repeat=1))
    return found


def test_only_texts_that_were_given_again_count():
    found = outcomes(0.5)
    rows = self_agreement(found)
    assert tuple(rows) == CRITERIA
    first = {one.graded.prompt_id: one for one in found if one.graded.sample == 0 and not one.graded.repeat}
    again = {one.graded.prompt_id: one for one in found if one.graded.repeat}
    for name in CRITERIA:
        row = rows[name]
        pairs = np.array([[getattr(first[p], name), getattr(again[p], name)] for p in first])
        assert (row.n, row.n_prompts, row.n_missed) == (30, 30, 0)
        assert row.difference.value == pytest.approx(np.abs(pairs[:, 0] - pairs[:, 1]).mean())
        assert row.alpha_ordinal.value == pytest.approx(krippendorff_alpha(pairs, "ordinal"))
        assert row.alpha_interval.value == pytest.approx(krippendorff_alpha(pairs, "interval"))
        in_steps = np.round(pairs * 2) / 2
        assert row.ac2.value == pytest.approx(gwet_ac2(in_steps, SCALE, quadratic_weights(SCALE)))
        assert row.alpha_interval.low < row.alpha_interval.value < row.alpha_interval.high <= 1
    assert self_agreement(found[::-1]) == rows
    assert json.loads(json.dumps(rows["plot"].to_json()))["difference"]["low"] == rows["plot"].difference.low
    assert self_agreement([one for one in found if not one.graded.repeat]) == {}


def test_a_failure_is_no_grade():
    found = outcomes(0.5)
    failed = [
        GradeFailure(one.graded, "refusal", "x") if one.graded.repeat and i % 4 == 1 else one
        for i, one in enumerate(found)
    ]
    n_failed = sum(isinstance(one, GradeFailure) for one in failed)
    rows = self_agreement(failed)
    assert n_failed > 3 and (rows["plot"].n, rows["plot"].n_missed) == (30 - n_failed, n_failed)
    lost = {one.graded.prompt_id for one in failed if isinstance(one, GradeFailure)}
    kept = self_agreement([one for one in found if one.graded.prompt_id not in lost])["plot"]
    assert rows["plot"].alpha_ordinal == kept.alpha_ordinal and rows["plot"].difference == kept.difference
    every = [GradeFailure(one.graded, "cut", "x") for one in found]
    nothing = self_agreement(every)["plot"]
    assert nothing.n == 0 and nothing.ac2.value is None and nothing.difference.low is None


def test_a_judge_who_always_says_the_same_of_a_text():
    row = self_agreement(outcomes(0.0))["grammar"]
    assert row.alpha_interval.value == pytest.approx(1) and row.ac2.value == pytest.approx(1)
    assert row.difference.value == 0 and row.difference.low is None and row.alpha_ordinal.low is None


def test_where_grades_are_nearly_alike_ac2_still_sees_agreement():
    found = outcomes(0.0)
    flat = [given(int(o.graded.prompt_id[1:]), o.graded.sample, [9] * 4, o.graded.repeat) for o in found]
    odd = given(3, 0, [8] * 4, repeat=1)
    flat = [odd if one.graded == odd.graded else one for one in flat]
    row = self_agreement(flat)["plot"]
    assert row.alpha_ordinal.value < 0.05 and row.ac2.value > 0.95
