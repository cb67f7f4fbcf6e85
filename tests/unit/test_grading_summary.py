"""Means, differences and needs of grades."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_rel

from tslens.grading.rubric import CRITERIA
from tslens.grading.summary import MOST_FAILURES, paired, prompts_needed, summarise
from tslens.types import Grade, Graded, GradeFailure

RNG = np.random.default_rng(0)


def graded(prompt, sample, repeat=0):
    return Graded("Once", " upon", f"p{prompt}", sample, repeat=repeat)


def grades(shift=0.0, n_prompts=12, n_samples=5, seed=0):
    rng = np.random.default_rng(seed)
    of_prompt = np.random.default_rng(99).normal(6, 1, n_prompts)
    return [
        Grade(graded(p, s), *(of_prompt[p] + shift + rng.normal(0, 1, 4)), "AB"[s % 2])
        for p in range(n_prompts)
        for s in range(n_samples)
    ]


def table(found, name="grammar"):
    prompts = sorted({one.graded.prompt_id for one in found})
    return np.array([np.mean([getattr(o, name) for o in found if o.graded.prompt_id == p]) for p in prompts])


def test_means_are_over_prompts_with_the_interval_of_a_t_test():
    found = grades()
    summary = summarise(found)
    for name in CRITERIA:
        of_prompts = table(found, name)
        expected = ttest_1samp(of_prompts, 0).confidence_interval(0.95)
        mean = summary.means[name]
        assert mean.mean == pytest.approx(of_prompts.mean()) and (mean.n_prompts, mean.n) == (12, 60)
        assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high))
    assert summary.ages == {"A": 0.6, "B": 0.4, "C": 0, "D": 0, "E": 0, "F": 0} and summary.n == 60
    assert summary.to_json()["means"]["plot"]["n_prompts"] == 12


def test_a_prompt_with_more_completions_weighs_no_more():
    found = [one for one in grades() if one.graded.prompt_id != "p3" or one.graded.sample == 0]
    assert summarise(found).means["grammar"].mean == pytest.approx(table(found).mean())


def test_failures_are_counted_and_too_many_leave_no_mean():
    found = grades()
    for n_failed, has_means in ((5, True), (30, False)):
        failed = [GradeFailure(graded(20, i), "refusal" if i % 2 else "schema", "x") for i in range(n_failed)]
        summary = summarise([*found, *failed])
        assert sum(summary.failures.values()) == n_failed and set(summary.failures) == {"refusal", "schema"}
        assert summary.failure_rate == pytest.approx(n_failed / (60 + n_failed))
        assert bool(summary.means) == has_means == (summary.failure_rate <= MOST_FAILURES)
    assert not summarise([]).means and summarise([]).failure_rate == 0


def test_what_was_graded_again_counts_once():
    found = grades()
    again = [Grade(graded(0, s, repeat=1), 0, 0, 0, 0, "F") for s in range(5)]
    assert summarise([*found, *again]) == summarise(found)
    assert paired([*found, *again], found) == paired(found, found)


def test_differences_are_paired_by_prompt():
    mine, theirs = grades(0.8, seed=1), grades(0.0, seed=2)
    found = paired(mine, theirs)["creativity"]
    a, b = table(mine, "creativity"), table(theirs, "creativity")
    expected = ttest_rel(a, b).confidence_interval(0.95)
    assert found.mean == pytest.approx((a - b).mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (
        found.high - found.low
        < summarise(mine).means["creativity"].high - summarise(mine).means["creativity"].low
    )
    assert paired(mine, []) == {}
    some = [one for one in theirs if one.graded.sample < 2]
    assert paired(mine, some)["plot"].n == 24


def test_all_completions_count_against_one_true_ending():
    mine, theirs = grades(0.8, seed=1), [one for one in grades(seed=2) if one.graded.sample == 0]
    expected = (table(mine, "plot") - table(theirs, "plot")).mean()
    for found, sign in ((paired(mine, theirs)["plot"], 1), (paired(theirs[::-1], mine)["plot"], -1)):
        assert (found.mean, found.n_prompts, found.n) == (pytest.approx(sign * expected), 12, 12)


def test_so_many_prompts_would_show_a_difference():
    """With as many as it says, eight of ten studies find it."""
    n = prompts_needed(grades(seed=1, n_prompts=200), grades(seed=2, n_prompts=200), "plot", difference=0.5)
    n_found = sum(
        paired(grades(0.5, n, 5, seed=1000 + i), grades(0.0, n, 5, seed=5000 + i))["plot"].low > 0
        for i in range(150)
    )
    assert 0.65 < n_found / 150 < 0.95, (n, n_found)
    assert prompts_needed(grades(n_prompts=1), grades(n_prompts=1), "plot") is None
    assert summarise(grades(n_prompts=1)).means["plot"].low is None
