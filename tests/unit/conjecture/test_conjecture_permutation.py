"""Labels of heads permuted: p of a model, p over models, and labels that mean something or nothing."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from tslens.link.conjecture.figures import Measure, joint_p
from tslens.link.conjecture.labels import draw_labellings
from tslens.link.conjecture.matching import LEAST_COST, TOLERANCE, Readings, permute_labels
from tslens.types import HeadId

HEADS = [HeadId(0, index) for index in range(8)]


def test_p_of_a_model_counts_the_labels_that_were_found(permutation_of):
    assert permutation_of(2.0, [0.0, 1.0, 2.0, 3.0]).p == 3 / 5
    assert permutation_of(4.0, [0.0] * 19).p == 1 / 20
    assert permutation_of(4.0, [0.0] * 19).can_tell and not permutation_of(4.0, [0.0] * 18).can_tell


def test_p_over_models_is_that_of_all_sums(permutation_of):
    rng = np.random.default_rng(0)
    models = [permutation_of(one[0], one[1:]) for one in rng.normal([[2], [0], [1]], size=(3, 8)).tolist()]
    sums = [sum(one) for one in product(*([model.found, *model.others] for model in models))]
    exact = np.mean(np.array(sums) >= sum(model.found for model in models) - 1e-9)
    assert joint_p(models, seed=1, n_sums=20_000) == pytest.approx(exact, abs=4 * 0.5 / 20_000**0.5)
    with pytest.raises(ValueError, match="no model"):
        joint_p([], seed=0)


def test_p_is_uniform_where_labels_mean_nothing(permutation_of):
    rng, n = np.random.default_rng(7), 400
    ps = []
    for seed in range(n):
        sizes = rng.uniform(0.1, 3, (3, 1))  # models of different spread
        draws = (sizes * rng.normal(size=(3, 21))).tolist()
        ps.append(joint_p([permutation_of(one[0], one[1:]) for one in draws], seed=seed, n_sums=499))
    for level in (0.05, 0.2, 0.5, 0.8):
        assert binomtest(sum(p <= level for p in ps), n, level).pvalue > 0.001


class Planted(Readings):
    """Heads that take of two readouts what is planted, as far as they go."""

    def __init__(self, takes):
        self.takes, self.asked = takes, []

    def measures(self, interventions):
        self.asked = list(interventions)
        found = []
        for number, capability in enumerate(("grammar", "consistency")):
            taken = [
                one.share * sum(self.takes[head][number] for head in one.components) for one in self.asked
            ]
            found.append(
                Measure(capability, capability, [1, 2], np.outer(taken, [0.5, 1.5]), np.full(2, 9.0))
            )
        return found


def test_labels_that_mean_something_are_the_best_of_all_at_one_cost(two):
    cost = dict(zip(HEADS, [0.1, 0.2, 0.3, 0.05, 0.2, 0.1, 0.4, 0.9], strict=True))

    def costs_of(asked):
        return [one.share**2 * sum(cost[head] for head in one.components) for one in asked]

    takes = {head: (1.0, 0.0) if head in two.distance else (0.0, 1.0) for head in HEADS}
    labellings = draw_labellings(two, 60, within_layers=False, seed=0)
    planted = Planted(takes)
    found = permute_labels(planted, costs_of, labellings, [2.0, 4.0], 35)
    least = 0.05 + 0.1 + 0.1  # the three cheapest heads
    assert found.cost == pytest.approx(least)
    assert np.allclose(costs_of(planted.asked), least, rtol=TOLERANCE)
    shares = [(least / sum(cost[head] for head in heads)) ** 0.5 for heads in two]
    by_hand = shares[0] * 3 / 2.0 + shares[1] * 4 / 4.0  # of what the whole model has, 2 and 4 nats
    assert found.found == pytest.approx(by_hand, rel=2 * TOLERANCE)
    assert len(found.others) == 34 and found.n_left_out == 0 and found.p == 1 / 35


def test_labellings_with_a_group_that_costs_nothing_are_left_out(two):
    cost = dict.fromkeys(HEADS, LEAST_COST / 3.5) | {HEADS[0]: 0.2, HEADS[6]: 0.2}

    def costs_of(asked):
        return [one.share * sum(cost[head] for head in one.components) for one in asked]

    labellings = draw_labellings(two, 60, within_layers=False, seed=0)
    takes = dict.fromkeys(HEADS, (0.3, 0.3))
    found = permute_labels(Planted(takes), costs_of, labellings, [1.0, 1.0], 35)
    n_usable = sum(len({HEADS[0], HEADS[6]} & set(one.distance)) >= 1 for one in labellings)
    assert 1 + len(found.others) + found.n_left_out == 35
    assert 1 + len(found.others) == n_usable
    assert found.found == pytest.approx(0) and found.p == 1.0
    cheap = {**cost, HEADS[0]: 0.0}
    why = permute_labels(
        Planted(takes), lambda asked: [sum(cheap[head] for head in one.components) for one in asked],
        labellings, [1.0, 1.0], 35,
    )  # fmt: skip
    assert "costs less" in why
