"""Random sets of like cost: nested rungs, interpolation by hand, and rungs that hold the component left out."""

import numpy as np
import pytest

from tslens.causal.ablation import LayerId
from tslens.link.random_sets import Rung, expected_of, random_rungs
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
]


def test_what_is_expected_lies_between_two_rungs(model):
    weights = expected_of(RUNGS, [0.1, 0.3, 0.2, 0.6], [HeadId(1, 3)], 0.25, model)
    by_hand = (0.25 * np.array([1, 0, 0, 0]) + 0.75 * np.array([0, 1, 0, 0])) / 2
    by_hand += (0.875 * np.array([0, 0, 1, 0]) + 0.125 * np.array([0, 0, 0, 1])) / 2
    assert weights == pytest.approx(by_hand)


def test_below_the_first_rung_it_is_a_part_of_it(model):
    assert expected_of(RUNGS, [0.1, 0.3, 0.2, 0.6], [HeadId(1, 3)], 0.05, model) == pytest.approx(
        [0.25, 0, 0.125, 0]
    )


@pytest.mark.parametrize("cost", [0.0, -0.02])
def test_what_costs_nothing_is_expected_to_take_nothing(model, cost):
    assert expected_of(RUNGS, [0.1, 0.3, 0.2, 0.6], [HeadId(1, 3)], cost, model) == pytest.approx([0] * 4)


def test_rungs_that_hold_the_component_are_left_out(model):
    weights = expected_of(RUNGS, [0.1, 0.3, 0.2, 0.6], [HeadId(1, 2)], 0.25, model)
    assert weights == pytest.approx([0, 0, 0.875, 0.125])  # the first draw reaches 0.1 only without it


def test_where_nothing_reaches_there_is_no_null(model):
    assert expected_of(RUNGS, [0.1, 0.3, 0.2, 0.6], [HeadId(1, 3)], 0.7, model) is None


def test_a_layer_is_held_by_its_units(model):
    layer = [LayerId(1, "attn")]  # four heads
    half = [HeadId(1, 0), HeadId(1, 1)]
    rungs = [Rung(0, 0.1, (HeadId(1, 0), NeuronId(0, 1))), Rung(0, 0.5, (*half, NeuronId(0, 1)))]
    assert expected_of(rungs, [0.1, 0.3], layer, 0.1, model) == pytest.approx([1, 0])
    assert expected_of(rungs, [0.1, 0.3], layer, 0.2, model) is None
