"""Groups of heads matched by loss: the share at which each costs the same, found and computed again."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from tslens.causal.ablation import ablated
from tslens.causal.ablator import Ablator
from tslens.link.conjecture.labels import Labelling
from tslens.link.conjecture.matching import (
    LEAST_COST,
    TOLERANCE,
    Matched,
    costs_on,
    find_shares,
    intervention,
    match_groups,
)
from tslens.link.story_costs import CostStories
from tslens.model.generate import generate
from tslens.types import HeadId, Story

HEADS = [HeadId(0, index) for index in range(8)]


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


def test_a_group_that_costs_nothing_cannot_be_matched(two):
    assert "nothing to match" in match_groups(lambda asked: [0.3, LEAST_COST / 2], two)
    assert isinstance(match_groups(lambda asked: [0.3 * one.share for one in asked], two), Matched)
