"""Random sets of like cost: nested rungs, interpolation by hand, and rungs that hold the component left out."""

import numpy as np
import pytest
import scipy.stats

from tslens.causal.ablation import LayerId
from tslens.link.random_sets import Expected, Rung, expected_of, random_rungs
from tslens.types import HeadId, NeuronId


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("l2_h64")


def test_rungs_grow_within_a_draw_and_differ_between_draws(model):
    rungs = random_rungs(model, seed=0, n_draws=2, shares=(0.1, 0.5))
    first, second, other, _ = (set(rung.components) for rung in rungs)
    assert first < second and first != other
    heads = [one for one in rungs[1].components if isinstance(one, HeadId)]
    assert len(heads) == 4 and len(rungs[1].components) - 4 == 256
    assert rungs == random_rungs(model, seed=0, n_draws=2, shares=(0.1, 0.5))


RUNGS = [
    Rung(0, 0.1, (HeadId(0, 1),)),
    Rung(0, 0.5, (HeadId(0, 1), HeadId(1, 2))),
    Rung(1, 0.1, (HeadId(1, 0),)),
    Rung(1, 0.5, (HeadId(1, 0), HeadId(0, 0))),
    Rung(2, 0.1, (HeadId(0, 3),)),
    Rung(2, 0.5, (HeadId(0, 3), HeadId(0, 2))),
]
COSTS = [0.01, 0.36, 0.04, 0.64, 0.01, 0.36]  # roots 0.1, 0.6, 0.2, 0.8
TAKEN = np.array([[1.0, 2.0, 0.5, 1.0, 0.0, 0.0], [3.0, 6.0, 1.5, 3.0, 0.0, 0.0]])  # two items


def test_draws_begin_with_different_heads(model):
    firsts = [rung.components[0] for rung in random_rungs(model, seed=4, n_draws=8, shares=(0.01,))]
    assert len(set(firsts)) == 8


def test_what_is_expected_lies_between_two_rungs_on_the_root_of_the_cost(model):
    found = expected_of(RUNGS, COSTS, [HeadId(1, 3)], 0.16, model)  # root 0.4
    assert found.weights == pytest.approx(
        np.array([[0.4, 0.6, 0, 0, 0, 0], [0, 0, 2 / 3, 1 / 3, 0, 0], [0, 0, 0, 0, 0.4, 0.6]])
    )
    by_draw = np.array([[1.6, 2 / 3, 0], [4.8, 2, 0]])
    assert found.of(TAKEN) == pytest.approx(by_draw.mean(1))
    means = by_draw.mean(0)
    reach = scipy.stats.t.ppf(0.95, 2) * means.std(ddof=1) * np.sqrt(4 / 3)
    assert found.reach(TAKEN) == pytest.approx(reach)


def test_below_the_first_rung_it_is_a_part_of_it(model):
    found = expected_of(RUNGS, COSTS, [HeadId(1, 3)], 0.0025, model)
    assert found.weights.sum(1) == pytest.approx([0.5, 0.25, 0.5])


@pytest.mark.parametrize("cost", [0.0, -0.02])
def test_what_costs_nothing_is_expected_to_take_nothing(model, cost):
    found = expected_of(RUNGS, COSTS, [HeadId(1, 3)], cost, model)
    assert not found.weights.any() and found.reach(TAKEN) == 0 and not found.of(TAKEN).any()


def test_one_more_draw_lies_within_the_reach_as_often_as_it_says():
    """Simulated draws: the next one is above mean and reach in 5%."""
    rng, n_above = np.random.default_rng(0), 0
    for _ in range(2000):
        taken = rng.normal(1, 0.3, (1, 7))
        of_six = Expected(np.eye(6))
        n_above += taken[0, 6] > of_six.of(taken[:, :6])[0] + of_six.reach(taken[:, :6])
    assert 65 <= n_above <= 137  # 100 expected


def test_rungs_that_hold_the_component_are_left_out(model):
    """The first draw reaches 0.01 only without it, so two draws are left, which is too few."""
    assert expected_of(RUNGS, COSTS, [HeadId(1, 2)], 0.16, model) is None
    more = [*RUNGS, Rung(3, 0.5, (HeadId(1, 1),))]
    found = expected_of(more, [*COSTS, 0.36], [HeadId(1, 2)], 0.16, model)
    assert not found.weights[:, :2].any() and len(found.weights) == 3


def test_where_too_few_reach_there_is_no_null(model):
    assert expected_of(RUNGS, COSTS, [HeadId(1, 3)], 0.5, model) is None


def test_a_draw_can_be_held_against_the_others(model):
    more = [*RUNGS, Rung(3, 0.5, (HeadId(1, 1),))]
    found = expected_of(more, [*COSTS, 0.36], (), 0.16, model, without=0)
    assert len(found.weights) == 3 and not found.weights[:, :2].any()


def test_a_layer_is_held_by_its_units(model):
    """Of four heads two are half, which is no more than half."""
    layer = [LayerId(1, "attn")]
    half, most = [HeadId(1, 0), HeadId(1, 1)], [HeadId(1, 0), HeadId(1, 1), HeadId(1, 2)]
    rungs = [Rung(draw, 0.5, (*half, NeuronId(0, 1))) for draw in range(3)]
    assert expected_of(rungs, [0.3] * 3, layer, 0.1, model) is not None
    rungs = [Rung(draw, 0.5, (*most, NeuronId(0, 1))) for draw in range(3)]
    assert expected_of(rungs, [0.3] * 3, layer, 0.1, model) is None
