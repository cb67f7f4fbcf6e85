"""Groups of heads matched by loss, the interaction, its permutation and the verdict, on planted truths."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from tslens.causal.ablation import ablated
from tslens.causal.ablator import Ablator
from tslens.errors import DataError
from tslens.grading.prompts import load_beginnings
from tslens.link.conjecture import (
    LEAST_COST,
    TOLERANCE,
    Matched,
    Readings,
    costs_on,
    counted,
    find_shares,
    first_pairs,
    intervention,
    match_groups,
    permute_labels,
)
from tslens.link.conjecture_grades import grade_measures, write_all
from tslens.link.conjecture_labels import Labelling, draw_labellings, groups_of, n_labellings, why_not
from tslens.link.conjecture_results import (
    ByGrades,
    ByReadouts,
    Found,
    load_by_grades,
    load_by_readouts,
    save_conjecture,
)
from tslens.link.conjecture_stats import (
    LEAST_SIZE,
    Contrast,
    Measure,
    OverModels,
    Permutation,
    contrast_of,
    joint_p,
    over_models,
    verdict_of,
)
from tslens.link.grade_map import Drawing
from tslens.link.measure import ReadoutScore
from tslens.link.pairs import Pair, Readout, Side
from tslens.link.story_costs import CostStories
from tslens.model.generate import generate
from tslens.probes.kinds.report import SHARES, HeadKind, Interval
from tslens.probes.programs.report import Estimate
from tslens.stats import poisson_weights
from tslens.types import Grade, Graded, GradeFailure, HeadId, Provenance, Story

HEADS = [HeadId(0, index) for index in range(8)]
TWO = Labelling(tuple(HEADS[:3]), tuple(HEADS[3:7]))


# Groups -----------------------------------------------------------------------------------------------------


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


def test_groups_are_the_heads_of_two_kinds_and_the_strict_ones_are_beyond_twins():
    assert groups_of(kinds()) == TWO
    assert groups_of(kinds(), strict=True) == Labelling(tuple(HEADS[1:3]), tuple(HEADS[3:7]))
    assert why_not(kinds(), TWO) == ""


def test_a_model_with_few_heads_or_with_balances_that_meet_does_not_count():
    few = kinds(n_semantic=2)
    assert why_not(few, groups_of(few)) == "semantic heads: 2, fewer than 3"
    assert "do not separate" in why_not(kinds(highest=0.4), TWO)
    assert why_not(kinds(highest=0.39), TWO) == ""


# Labels drawn anew ------------------------------------------------------------------------------------------


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


def test_all_labellings_are_drawn_once_where_there_are_few():
    drawn = draw_labellings(TWO, 60, within_layers=False, seed=0)
    assert len(drawn) == len(set(drawn)) == n_labellings(TWO, within_layers=False) == 35
    apart = Labelling(tuple(HeadId(1, i) for i in range(3)), TWO.semantic)
    assert draw_labellings(apart, 60, within_layers=True, seed=0) == [apart]


def test_each_labelling_is_as_likely_as_any_other():
    n_times = dict.fromkeys(draw_labellings(TWO, 60, within_layers=False, seed=0)[1:], 0)
    for seed in range(200):
        for one in draw_labellings(TWO, 5, within_layers=False, seed=seed)[1:]:
            n_times[one] += 1
    expected = 1000 / 34
    chi2 = sum((n - expected) ** 2 / expected for n in n_times.values())
    assert chi2 < 65  # 99.9% of 33 degrees of freedom: 63.9


# Matching ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.7, 1, 2, 4])
def test_the_share_is_found_where_costs_grow_by_any_power(power):
    sizes = {(HEADS[0],): 0.5, (HEADS[1],): 3.0, (HEADS[2],): 0.101, (HEADS[3],): 0.05}

    def costs_of(asked):
        return [sizes[one.components] * one.share**power for one in asked]

    found = find_shares(costs_of, list(sizes), list(sizes.values()), 0.1)
    for (_, size), one in list(zip(sizes.items(), found, strict=True))[:2]:
        share, cost = one
        assert cost == pytest.approx(0.1, rel=TOLERANCE)
        assert share == pytest.approx((0.1 / size) ** (1 / power), rel=TOLERANCE / power * 1.1)
    assert found[2] == (1.0, 0.101) and found[3] is None


def test_the_share_is_found_where_a_little_of_an_ablation_helps_the_model():
    def costs_of(asked):
        return [2 * one.share**2 - 0.5 * one.share for one in asked]

    ((share, cost),) = find_shares(costs_of, [(HEADS[0],)], [1.5], 0.05)
    assert cost == pytest.approx(0.05, rel=TOLERANCE)
    assert share == pytest.approx((0.5 + (0.25 + 0.4) ** 0.5) / 4, rel=0.01)


@pytest.fixture(scope="module")
def own_stories(tiny_model):
    """Written by the model itself, so that it loses without its heads."""
    start = "Once upon a time, Tom"
    written = generate(tiny_model, [start], samples=12, max_tokens=60, temperature=1.0, seed=1)
    return [Story(start + one.completion) for one in written]


def test_two_groups_of_a_random_model_cost_the_same(tiny_model, own_stories):
    on = CostStories(tiny_model, own_stories)
    means = on.means.everywhere()
    costs_of = costs_on(on, Ablator(tiny_model, means))
    triples = list(combinations([HeadId(layer, index) for layer, index in product((0, 1), range(4))], 3))
    costs = dict(zip(triples, costs_of([intervention(heads) for heads in triples]), strict=True))
    pairs = (Labelling(*one) for one in combinations(triples, 2) if not {*one[0]} & {*one[1]})
    groups = max(pairs, key=lambda one: min(0.5 * costs[one.distance], costs[one.semantic]))
    found = match_groups(costs_of, groups)
    assert isinstance(found, Matched)
    assert found.shares[1] == 1.0 and 0 < found.shares[0] < 1.0
    whole = [loss_without(tiny_model, on, heads, 1.0, means) for heads in groups]
    again = [loss_without(tiny_model, on, *one, means) for one in zip(groups, found.shares, strict=True)]
    assert np.allclose(whole, found.whole, rtol=1e-3) and np.allclose(again, found.costs, rtol=1e-3)
    assert abs(again[0] - again[1]) < 1.1 * TOLERANCE * min(whole)
    assert abs(whole[0] - whole[1]) > 10 * TOLERANCE * min(whole)  # there was something to match


def loss_without(model, on, heads, share, means):
    """What ``ablated`` costs on stories, row by row from logits."""
    found = []
    for batch in on.batches:
        tokens = torch.from_numpy(batch.tokens)
        with torch.no_grad():
            clean = model(tokens)
            with ablated(model, heads, means=means, share=share):
                under = model(tokens)
        for row, n in enumerate(batch.length.tolist()):
            targets = [*batch.tokens[row, 1:n].tolist(), model.tokenizer.start_id]
            at = (torch.arange(n), torch.tensor(targets))
            logs = [logits[row, :n].log_softmax(-1)[at].mean() for logits in (clean, under)]
            found.append(float(logs[0] - logs[1]))
    return np.mean(found)


def test_a_group_that_costs_nothing_cannot_be_matched():
    assert "nothing to match" in match_groups(lambda asked: [0.3, LEAST_COST / 2], TWO)
    assert isinstance(match_groups(lambda asked: [0.3 * one.share for one in asked], TWO), Matched)


# The interaction --------------------------------------------------------------------------------------------


def measures_of(planted, *, n=400, noise=0.0, seed=0):
    """Measures of which each group takes planted shares, by name, with its capability; stories shared among them."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n // 2), 2).tolist()
    found = []
    for name, (capability, distance, semantic) in planted.items():
        there = rng.uniform(1, 3, n)
        taken = np.outer([distance, semantic], there) + noise * rng.normal(size=(2, n))
        found.append(Measure(name, capability, cluster, taken, there))
    return found


PLANTED = {
    "agreement": ("grammar", 0.9, 0.3),
    "tense": ("grammar", 0.5, 0.1),
    "swapped_names": ("consistency", 0.2, 0.6),
}
"""Grammar 0.7 and 0.2, consistency 0.2 and 0.6: distance 0.5, semantic -0.4."""


def test_a_planted_interaction_is_recovered():
    exact = contrast_of(measures_of(PLANTED), seed=0)
    assert exact.interaction.value == pytest.approx(0.9)
    assert (exact.distance.value, exact.semantic.value) == (pytest.approx(0.5), pytest.approx(-0.4))
    assert exact.effects["distance grammar"].value == pytest.approx(0.7)
    assert exact.effects["semantic: swapped_names"].value == pytest.approx(0.6)
    assert exact.n_items == dict.fromkeys(PLANTED, 400)
    noisy = contrast_of(measures_of(PLANTED, noise=2.0, seed=1), seed=0)
    assert noisy.interaction.low < 0.9 < noisy.interaction.high
    assert 0.1 < noisy.interaction.high - noisy.interaction.low < 1.0
    assert contrast_of(measures_of({"tense": PLANTED["tense"]}), seed=0) is None


def test_intervals_are_percentiles_over_stories_that_all_measures_share():
    measures = measures_of(PLANTED, n=30, noise=1.0, seed=4)
    weights, drawn = poisson_weights(5, list(range(15))), []
    for row in weights[1:]:
        of_item = np.repeat(row, 2)
        share = {one.name: one.taken @ of_item / (one.there @ of_item) for one in measures}
        by_group = (share["agreement"] + share["tense"]) / 2 - share["swapped_names"]
        drawn.append(by_group[0] - by_group[1])
    found = contrast_of(measures, seed=5).interaction
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_the_interval_covers_what_was_planted():
    n_covered = 0
    for seed in range(60):
        found = contrast_of(measures_of(PLANTED, n=80, noise=1.0, seed=seed), seed=seed).interaction
        n_covered += found.low <= 0.9 <= found.high
    assert binomtest(n_covered, 60, 0.95).pvalue > 0.005


# Permutation ------------------------------------------------------------------------------------------------


def permutation(found, others):
    return Permutation(found, tuple(others), 0.1, 1 + len(others), 0)


def test_p_of_a_model_counts_the_labels_that_were_found():
    assert permutation(2.0, [0.0, 1.0, 2.0, 3.0]).p == 3 / 5
    assert permutation(4.0, [0.0] * 19).p == 1 / 20
    assert permutation(4.0, [0.0] * 19).can_tell and not permutation(4.0, [0.0] * 18).can_tell


def test_p_over_models_is_that_of_all_sums():
    rng = np.random.default_rng(0)
    models = [permutation(one[0], one[1:]) for one in rng.normal([[2], [0], [1]], size=(3, 8)).tolist()]
    sums = [sum(one) for one in product(*([model.found, *model.others] for model in models))]
    exact = np.mean(np.array(sums) >= sum(model.found for model in models) - 1e-9)
    assert joint_p(models, seed=1, n_sums=20_000) == pytest.approx(exact, abs=4 * 0.5 / 20_000**0.5)
    with pytest.raises(ValueError, match="no model"):
        joint_p([], seed=0)


def test_p_is_uniform_where_labels_mean_nothing():
    rng, n = np.random.default_rng(7), 400
    ps = []
    for seed in range(n):
        sizes = rng.uniform(0.1, 3, (3, 1))  # models of different spread
        draws = (sizes * rng.normal(size=(3, 21))).tolist()
        ps.append(joint_p([permutation(one[0], one[1:]) for one in draws], seed=seed, n_sums=499))
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


def test_labels_that_mean_something_are_the_best_of_all_at_one_cost():
    cost = dict(zip(HEADS, [0.1, 0.2, 0.3, 0.05, 0.2, 0.1, 0.4, 0.9], strict=True))

    def costs_of(asked):
        return [one.share**2 * sum(cost[head] for head in one.components) for one in asked]

    takes = {head: (1.0, 0.0) if head in TWO.distance else (0.0, 1.0) for head in HEADS}
    labellings = draw_labellings(TWO, 60, within_layers=False, seed=0)
    planted = Planted(takes)
    found = permute_labels(planted, costs_of, labellings, [2.0, 4.0], 35)
    least = 0.05 + 0.1 + 0.1  # the three cheapest heads
    assert found.cost == pytest.approx(least)
    assert np.allclose(costs_of(planted.asked), least, rtol=TOLERANCE)
    shares = [(least / sum(cost[head] for head in heads)) ** 0.5 for heads in TWO]
    by_hand = shares[0] * 3 / 2.0 + shares[1] * 4 / 4.0  # of what the whole model has, 2 and 4 nats
    assert found.found == pytest.approx(by_hand, rel=2 * TOLERANCE)
    assert len(found.others) == 34 and found.n_left_out == 0 and found.p == 1 / 35


def test_labellings_with_a_group_that_costs_nothing_are_left_out():
    cost = dict.fromkeys(HEADS, LEAST_COST / 3.5) | {HEADS[0]: 0.2, HEADS[6]: 0.2}

    def costs_of(asked):
        return [one.share * sum(cost[head] for head in one.components) for one in asked]

    labellings = draw_labellings(TWO, 60, within_layers=False, seed=0)
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


# Over models and verdict ------------------------------------------------------------------------------------


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


# Readouts ---------------------------------------------------------------------------------------------------


def score(name, capability, low, least):
    return ReadoutScore(
        name, capability, "", low + 0.1, low, low + 0.2, 0.7, 0.6, 0.8, least, (0.7, 0.7), 9, 9, 9
    )  # fmt: skip


def pair(cluster, right, wrong):
    return Pair(cluster, Side(np.array(right), 2), Side(np.array(wrong), 2))


def test_readouts_count_that_are_passed_by_more_than_random_models_do():
    asked = {
        "tense": ("grammar", 0.05, 0.6), "agreement": ("grammar", 0.02, 0.6), "word_order": ("grammar", 0.5, 0.5),
        "lost_object": ("consistency", 0.5, 0.7), "factual": ("knowledge", 0.5, 0.9),
    }  # fmt: skip
    readouts = [Readout(name, capability, "", ()) for name, (capability, _, _) in asked.items()]
    scores = [score(name, *rest) for name, rest in asked.items()]
    assert [one.name for one in counted(readouts, scores)] == ["tense", "lost_object"]


def test_the_first_pairs_keep_items_whole():
    items = [(pair(i, [1, 2, 3], [1, 2, 4]),) * n for i, n in enumerate((2, 1, 2, 1))]
    readout = Readout("tense", "grammar", "", tuple(items))
    assert [len(first_pairs(readout, n).items) for n in (2, 3, 4, 5, 9)] == [1, 2, 2, 3, 4]


def test_what_groups_take_of_readouts_is_what_the_ablated_model_says(tiny_model, stories):
    on = CostStories(tiny_model, stories[:6])
    means = on.means.everywhere()
    items = tuple((pair(i, [1, 5, 7 + i, 30, 31], [1, 5, 40 - i, 30, 31]),) for i in range(5))
    readout = Readout("tense", "grammar", "", items)
    sets = [((HeadId(0, 1), HeadId(1, 2)), 0.6), ((HeadId(1, 0),), 1.0)]
    (found,) = Readings(Ablator(tiny_model, means), [readout]).measures([intervention(*one) for one in sets])

    def difference(one):
        told = []
        for side in (one.right, one.wrong):
            with torch.no_grad():
                logs = tiny_model(torch.tensor(side.tokens[None, :-1])).log_softmax(-1)[0]
            told.append(
                sum(float(logs[at - 1, side.tokens[at]]) for at in range(side.first, len(side.tokens)))
            )
        return told[0] - told[1]

    clean = np.array([difference(item[0]) for item in items])
    assert np.allclose(found.there, clean, atol=1e-4)
    for column, (heads, share) in enumerate(sets):
        with ablated(tiny_model, heads, means=means, share=share):
            under = np.array([difference(item[0]) for item in items])
        assert np.allclose(found.taken[column], clean - under, atol=1e-4)
        assert np.abs(clean - under).max() > 0.01
    assert list(found.cluster) == list(range(5))


# Grades -----------------------------------------------------------------------------------------------------


def grades(points):
    """Outcomes of texts of two prompts; None: without a grade."""
    found = []
    for number, one in enumerate(points):
        text = Graded("Once", "there was", f"p{number % 2}", number // 2)
        grade = None if one is None else Grade(text, one[0], 5.0, one[1], 5.0, "B")
        found.append(grade or GradeFailure(text, "too short", ""))
    return found


def test_drops_of_grades_are_over_what_a_planted_fault_costs():
    whole = grades([(8, 6), (7, 7), (9, 9), (5, 5)])
    distance = grades([(6, 6), (6, 6), None, (4, 5)])
    semantic = grades([(8, 4), (7, 6), (1, 1), (5, 3)])
    found = grade_measures(whole, distance, semantic, {"grammar": 2.0, "consistency": 0.5})
    assert (found.n_graded, found.n_texts, found.is_enough) == (3, 4, False)
    contrast = contrast_of(found.measures, seed=0)
    assert contrast.effects["distance grammar"].value == pytest.approx((2 + 1 + 1) / 3 / 2)
    assert contrast.effects["distance consistency"].value == pytest.approx((0 + 1 + 0) / 3 / 0.5)
    assert contrast.effects["semantic grammar"].value == 0
    assert contrast.semantic.value == pytest.approx(-(2 + 1 + 2) / 3 / 0.5)
    assert contrast.interaction.value == pytest.approx(2 / 3 - 2 / 3 + 10 / 3)


def test_texts_without_a_group_are_of_common_random_numbers_and_by_its_share(tiny_model, stories):
    means = CostStories(tiny_model, stories[:6]).means
    matched = Matched((0.2, 0.1), (0.0, 1.0), (0.0, 0.1))
    texts = write_all(
        tiny_model, load_beginnings()[:2], Labelling((HeadId(0, 0), HeadId(1, 1)), (HeadId(0, 2), HeadId(1, 3))),
        matched, means, Drawing(samples=2, max_tokens=12, temperature=1.0, seed=4),
    )  # fmt: skip
    whole, distance, semantic = ([one.completion for one in of_set] for of_set in texts)
    assert len(whole) == 4 and whole == distance and whole != semantic
    assert not any(point.fwd_hooks for point in tiny_model.hook_dict.values())


# Files ------------------------------------------------------------------------------------------------------


def test_files_give_back_what_was_saved(tmp_path):
    contrast = contrast_of(measures_of(PLANTED, n=20, noise=0.3), seed=0)
    found = Found(TWO, "", Matched((0.3, 0.1), (0.5, 1.0), (0.1, 0.1)), contrast)
    left_out = Found(Labelling((), TWO.semantic), "0 distance heads")
    record = Provenance("run", "1", 0, "author:9:0", "ab", "2026-01-01T00:00:00+00:00", 1.0, "3", "2", "here")
    readouts = ByReadouts(
        found, [{"readout": "tense"}], ["tense"], None, left_out, permutation(0.4, [0.1, 0.2]), "3 labellings"
    )
    save_conjecture(readouts, tmp_path / "a.json", {"model": "l1"}, record)
    assert load_by_readouts(tmp_path / "a.json") == ({"model": "l1"}, readouts)
    by_grades = ByGrades(found, 9, 10, {"grammar": 1.5})
    save_conjecture(by_grades, tmp_path / "b.json", {"model": "l1"}, record)
    assert load_by_grades(tmp_path / "b.json") == ({"model": "l1"}, by_grades)
    with pytest.raises(DataError, match="its schema is not"):
        load_by_grades(tmp_path / "a.json")
    assert isinstance(Contrast.from_json(contrast.to_json()), Contrast)
