"""The interaction of group and capability, its mean over models and the verdict, on planted truths."""

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from tslens.link.conjecture.figures import LEAST_SIZE, OverModels, contrast_of, over_models, verdict_of
from tslens.probes.programs.report import Estimate
from tslens.stats import poisson_weights


def test_a_planted_interaction_is_recovered(planted, measures_of):
    exact = contrast_of(measures_of(planted), seed=0)
    assert exact.interaction.value == pytest.approx(0.9)
    assert (exact.distance.value, exact.semantic.value) == (pytest.approx(0.5), pytest.approx(-0.4))
    assert exact.effects["distance grammar"].value == pytest.approx(0.7)
    assert exact.effects["semantic: swapped_names"].value == pytest.approx(0.6)
    assert exact.n_items == dict.fromkeys(planted, 400)
    noisy = contrast_of(measures_of(planted, noise=2.0, seed=1), seed=0)
    assert noisy.interaction.low < 0.9 < noisy.interaction.high
    assert 0.1 < noisy.interaction.high - noisy.interaction.low < 1.0
    assert contrast_of(measures_of({"tense": planted["tense"]}), seed=0) is None


def test_intervals_are_percentiles_over_stories_that_all_measures_share(planted, measures_of):
    measures = measures_of(planted, n=30, noise=1.0, seed=4)
    weights, drawn = poisson_weights(5, list(range(15))), []
    for row in weights[1:]:
        of_item = np.repeat(row, 2)
        share = {one.name: one.taken @ of_item / (one.there @ of_item) for one in measures}
        by_group = (share["agreement"] + share["tense"]) / 2 - share["swapped_names"]
        drawn.append(by_group[0] - by_group[1])
    found = contrast_of(measures, seed=5).interaction
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_the_interval_covers_what_was_planted(planted, measures_of):
    n_covered = 0
    for seed in range(60):
        found = contrast_of(measures_of(planted, n=80, noise=1.0, seed=seed), seed=seed).interaction
        n_covered += found.low <= 0.9 <= found.high
    assert binomtest(n_covered, 60, 0.95).pvalue > 0.005


# Over models and verdict --------------------------------------------------------------------------------------


def test_means_over_models_and_over_shapes_by_students_t():
    values = {"a0": 0.1, "a1": 0.3, "b0": 0.5, "b1": 0.9, "b2": 0.4}
    shapes = {name: name[0] for name in values}
    found = over_models(values, shapes)
    ends = ttest_1samp(list(values.values()), 0).confidence_interval(0.95)
    assert (found.mean.low, found.mean.high) == (pytest.approx(ends.low), pytest.approx(ends.high))
    ends = ttest_1samp([0.2, 0.6], 0).confidence_interval(0.95)
    assert (found.of_shapes.low, found.of_shapes.high) == (pytest.approx(ends.low), pytest.approx(ends.high))
    assert found.by_shape == {"a": (pytest.approx(0.2), 2), "b": (pytest.approx(0.6), 3)}
    assert over_models({"a0": 1.0}, shapes) is None
    assert over_models({"a0": 1.0, "a1": 2.0}, shapes).of_shapes is None


def over(low, high, n_models=9, n_shapes=3):
    by_shape = {str(i): (0.0, n_models // n_shapes) for i in range(n_shapes)}
    return OverModels(Estimate((low + high) / 2, low, high), None, by_shape, n_models)


@pytest.mark.parametrize(
    ("readouts", "grades", "p", "expected"),
    [
        (over(0.01, 0.5), over(0.2, 2.0), 0.049, "holds"),
        (over(0.01, 0.5), over(0.2, 2.0), 0.05, "cannot be told"),
        (over(0.01, 0.5), over(0.2, 2.0), None, "cannot be told"),
        (over(0.01, 0.5), over(-0.1, 2.0), 0.001, "cannot be told"),
        (over(-0.5, 0.09), over(-2.0, 0.09), 0.9, "fails"),
        (over(-0.5, LEAST_SIZE), over(-2.0, 0.09), 0.9, "cannot be told"),
        (over(0.01, 0.05), over(0.01, 0.05), 0.9, "fails"),
        (over(0.2, 0.5, n_models=5), over(0.2, 2.0), 0.001, "cannot be told"),
        (over(0.2, 0.5, n_shapes=2), over(0.2, 2.0), 0.001, "cannot be told"),
        (over(-0.5, 0.0), None, 0.9, "cannot be told"),
    ],
)
def test_the_verdict_has_three_outcomes(readouts, grades, p, expected):
    assert verdict_of(readouts, grades, p, n_shapes=3) == expected
