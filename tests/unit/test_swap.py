"""A swap of patterns does what a hook by hand does, and nothing where a head is given its own pattern."""

import numpy as np
import pytest
import torch
from einops import einsum

from tslens.causal.ablation import ablated
from tslens.causal.rerun import losses_at
from tslens.causal.swap import Swap, losses_of_each, swapped_losses
from tslens.errors import ModelError, ProbeInputError, UsageError
from tslens.model.batches import IGNORED
from tslens.types import HeadId

BOUND = 1e-5
N_POS = 40
LENGTHS = (40, 31, 18)
FOREIGN = ("gpt2", "llama", "gpt_neo")


@pytest.fixture(scope="module", params=["l3_h64", *FOREIGN])
def model(request, random_model):
    return random_model(request.param)


@pytest.fixture(scope="module")
def tiny(random_model):
    return random_model("l3_h64")


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return torch.randint(0, tokenizer.vocab_size, (3, N_POS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def targets(tokens):
    targets = torch.full_like(tokens, IGNORED)
    for row, length in enumerate(LENGTHS):
        targets[row, :length] = torch.cat([tokens[row, 1:length], torch.zeros(1, dtype=torch.long)])
    return targets


@pytest.fixture(scope="module")
def at(targets):
    return targets != IGNORED


def patterns_of(model, tokens):
    return [pattern.clone() for pattern in model.attention_patterns(tokens)]


def other_pattern(pattern, seed=3):
    """Another distribution for each query over the keys that it may look at."""
    noise = torch.randn(pattern.shape, generator=torch.Generator().manual_seed(seed))
    return noise.masked_fill(pattern == 0, float("-inf")).softmax(-1)


def test_without_swaps_the_loss_is_the_models(model, tokens, targets, at):
    clean = swapped_losses(model, tokens, [], targets, at)
    with torch.no_grad():
        logits = model.unembed(model.final_residual(tokens))
    by_hand = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
    )
    np.testing.assert_allclose(clean, by_hand[at].numpy(), atol=BOUND, rtol=BOUND)
    assert len(clean) == sum(LENGTHS)


def test_heads_that_get_their_own_patterns_change_nothing(model, tokens, targets, at):
    clean = swapped_losses(model, tokens, [], targets, at)
    patterns = patterns_of(model, tokens)
    every = [
        Swap(HeadId(layer, head), pattern[:, head])
        for layer, pattern in enumerate(patterns)
        for head in range(pattern.shape[1])
    ]
    for swaps in ([every[-1]], [every[1]], every):
        same = swapped_losses(model, tokens, swaps, targets, at)
        np.testing.assert_allclose(same, clean, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layer", [0, 1])
def test_a_swap_is_the_change_that_the_new_pattern_makes(model, tokens, targets, at, layer):
    """Against a rerun from the middle, which knows nothing of hooks."""
    head = HeadId(layer, 2)
    prefix = model.prefix(tokens)
    old = prefix.pattern(layer)[:, head.index]
    new = other_pattern(old)
    values = prefix.values(layer)[:, head.index]
    mixed = einsum(new - old, values, "r q k, r k e -> r q e")
    change = einsum(mixed, prefix.output(layer)[head.index], "r q e, e d -> r q d")
    with torch.no_grad():
        final = prefix.rerun(layer, change[None], at)[0]
        expected = losses_at(model, final, targets[at])
    found = swapped_losses(model, tokens, [Swap(head, new)], targets, at)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert np.abs(found - swapped_losses(model, tokens, [], targets, at)).max() > 0.01


def test_each_swap_alone_is_that_swap(model, tokens, targets, at):
    """In any order, at some positions, a head with two patterns among them."""
    patterns = patterns_of(model, tokens)
    some = at & (torch.arange(N_POS) % 3 == 1)
    swaps = [
        Swap(HeadId(layer, head), other_pattern(patterns[layer][:, head], seed))
        for layer, head, seed in ((1, 1, 3), (0, 0, 4), (1, 3, 5), (0, 0, 6), (0, 2, 7))
    ]
    found = losses_of_each(model, model.prefix(tokens), swaps, targets, some, max_variants=2)
    assert found.shape == (5, int(some.sum()))
    for of_swap, swap in zip(found, swaps, strict=True):
        expected = swapped_losses(model, tokens, [swap], targets, some)
        np.testing.assert_allclose(of_swap, expected, atol=1e-4, rtol=1e-4)


def test_a_pattern_of_zeros_is_ablation(tiny, tokens, targets, at):
    heads = [HeadId(0, 1), HeadId(1, 0), HeadId(1, 3), HeadId(2, 2)]
    nothing = torch.zeros(*tokens.shape, tokens.shape[1])
    found = swapped_losses(tiny, tokens, [Swap(head, nothing) for head in heads], targets, at)
    with ablated(tiny, heads), torch.no_grad():
        expected = losses_at(tiny, tiny.final_residual(tokens)[at], targets[at])
    np.testing.assert_allclose(found, expected, atol=BOUND, rtol=BOUND)


def test_heads_of_later_layers_attend_anew(tiny, tokens, targets, at):
    """Two swaps at once are not the sum of two swaps."""
    patterns = patterns_of(tiny, tokens)
    one = Swap(HeadId(0, 0), other_pattern(patterns[0][:, 0]))
    two = Swap(HeadId(2, 1), other_pattern(patterns[2][:, 1]))
    clean, first, second, both = (
        swapped_losses(tiny, tokens, swaps, targets, at) for swaps in ([], [one], [two], [one, two])
    )
    assert np.abs((both - clean) - (first - clean) - (second - clean)).max() > 0.01


def test_no_hook_stays(model, tokens, targets, at):
    new = other_pattern(patterns_of(model, tokens)[0][:, 0])
    swapped_losses(model, tokens, [Swap(HeadId(0, 0), new)], targets, at)
    assert not any(model.list_hooks())


@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda pattern: pattern.flip(-1), ProbeInputError, "looks ahead"),
        (lambda pattern: pattern[:2], ProbeInputError, "has shape"),
        (lambda pattern: pattern[:, :, :5], ProbeInputError, "has shape"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(tiny, tokens, targets, at, change, error, words):
    new = change(patterns_of(tiny, tokens)[0][:, 0])
    with pytest.raises(error, match=words):
        swapped_losses(tiny, tokens, [Swap(HeadId(0, 0), new)], targets, at)


def test_heads_and_places_that_are_not_there_are_refused(tiny, tokens, targets, at):
    own = patterns_of(tiny, tokens)[0][:, 0]
    with pytest.raises(ProbeInputError, match="twice"):
        swapped_losses(tiny, tokens, [Swap(HeadId(0, 0), own)] * 2, targets, at)
    with pytest.raises(UsageError, match="no L7H0"):
        swapped_losses(tiny, tokens, [Swap(HeadId(7, 0), own)], targets, at)
    with pytest.raises(ProbeInputError, match="no next token"):
        swapped_losses(tiny, tokens, [], targets, torch.ones_like(at))


def test_a_model_with_hooks_is_refused(random_model, tokens, targets, at):
    hooked = random_model("l1_h64")
    hooked.add_hook("blocks.0.hook_resid_pre", lambda passed, hook: passed)
    with pytest.raises(ModelError, match="hooks"):
        swapped_losses(hooked, tokens, [], targets, at)
