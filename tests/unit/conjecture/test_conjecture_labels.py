"""Groups of heads by kind, and labels drawn anew: their sizes, their number, each as likely as any other."""

from itertools import product

import pytest

from tslens.link.conjecture.labels import Labelling, draw_labellings, groups_of, n_labellings, why_not
from tslens.probes.kinds.report import SHARES, HeadKind, Interval
from tslens.types import HeadId

HEADS = [HeadId(0, index) for index in range(8)]


def kind_of(index, kind, low, high, *, layer=0, beyond=True):
    """A head of which only kind, balance and twins matter."""
    shares = {name: Interval(0.2, 0.2, 0.2) for name in SHARES}
    balance = Interval((low + high) / 2, low, high)
    total = Interval(1.0, 1.0, 1.0)
    return HeadKind(HeadId(layer, index), kind, kind, 1.0, (kind, kind), total, shares, balance, 0.0, beyond)


def kinds(highest=-0.5, n_semantic=4):
    return [
        *(kind_of(i, "positional", 0.4 + 0.1 * i, 0.9, beyond=i > 0) for i in range(3)),
        *(kind_of(3 + i, "semantic", -0.9, highest) for i in range(n_semantic)),
        kind_of(7, "mixed", -0.1, 0.1),
    ]


def test_groups_are_the_heads_of_two_kinds_and_the_strict_ones_are_beyond_twins(two):
    assert groups_of(kinds()) == two
    assert groups_of(kinds(), strict=True) == Labelling(tuple(HEADS[1:3]), tuple(HEADS[3:7]))
    assert why_not(kinds(), two) == ""


def test_a_model_with_few_heads_or_with_balances_that_meet_does_not_count(two):
    few = kinds(n_semantic=2)
    assert why_not(few, groups_of(few)) == "semantic heads: 2, fewer than 3"
    assert "do not separate" in why_not(kinds(highest=0.4), two)
    assert why_not(kinds(highest=0.39), two) == ""


# Labels drawn anew --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("within_layers", [True, False])
def test_labels_drawn_anew_keep_sizes_and_heads(within_layers):
    distance = tuple(HeadId(layer, index) for layer, index in product((0, 1), range(4)))
    semantic = tuple(HeadId(layer, index) for layer, index in product((0, 1), range(4, 7)))
    given = Labelling(distance, semantic)
    drawn = draw_labellings(given, 50, within_layers=within_layers, seed=3)
    assert drawn[0] == given and len(drawn) == len(set(drawn)) == 51
    for one in drawn:
        assert (len(one.distance), len(one.semantic)) == (8, 6)
        assert {*one.distance, *one.semantic} == {*distance, *semantic}
        assert list(one.distance) == sorted(one.distance) and list(one.semantic) == sorted(one.semantic)
    of_layer = {sum(head.layer == 0 for head in one.distance) for one in drawn}
    assert of_layer == {4} if within_layers else len(of_layer) > 2
    assert n_labellings(given, within_layers=within_layers) == (35**2 if within_layers else 3003)


def test_all_labellings_are_drawn_once_where_there_are_few(two):
    drawn = draw_labellings(two, 60, within_layers=False, seed=0)
    assert len(drawn) == len(set(drawn)) == n_labellings(two, within_layers=False) == 35
    apart = Labelling(tuple(HeadId(1, i) for i in range(3)), two.semantic)
    assert draw_labellings(apart, 60, within_layers=True, seed=0) == [apart]


def test_each_labelling_is_as_likely_as_any_other(two):
    n_times = dict.fromkeys(draw_labellings(two, 60, within_layers=False, seed=0)[1:], 0)
    for seed in range(200):
        for one in draw_labellings(two, 5, within_layers=False, seed=seed)[1:]:
            n_times[one] += 1
    expected = 1000 / 34
    chi2 = sum((n - expected) ** 2 / expected for n in n_times.values())
    assert chi2 < 65  # 99.9% of 33 degrees of freedom: 63.9
