"""Edge knock-out moves the mass it says and no other; it hurts where a head is needed, and only there.

Also the ablation of whole heads.
"""

import copy
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tslens.causal.ablation import ablated
from tslens.causal.knockout import LEAST_MASS, EdgeTest, knock_out
from tslens.causal.replacement import MeanZ, head_losses, other_rows
from tslens.errors import ProbeInputError, UsageError
from tslens.model.batches import IGNORED
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.types import HeadId

BOUND = 1e-5
N_POS = 40
LENGTHS = [40, 31, 18]
D_VOCAB = 60


@pytest.fixture(scope="module")
def model():
    """Three layers (the second one windowed) of four heads, weights and biases far from zero."""
    model = TinyTransformer(ModelSpec.from_name("l3_h64"), D_VOCAB, seed=5)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".W_" in name:
                parameter.mul_(6)
            elif name.endswith(("b_O", "b_out", "b_in", "ln2.b")):
                parameter.normal_(0, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, D_VOCAB, (3, N_POS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def targets(tokens):
    """The next token, at the last real position the token that begins and ends a story."""
    targets = torch.full_like(tokens, IGNORED)
    for row, length in enumerate(LENGTHS):
        targets[row, :length] = torch.cat([tokens[row, 1:length], torch.zeros(1, dtype=torch.long)])
    return targets


def random_test(head, seed, n_queries=25, rows=(0, 1, 2)):
    """One to three keys of the role and one to three others at some queries, in any order."""
    rng = np.random.default_rng(seed)
    edges, control = [], []
    for row in rows:
        for query in rng.choice(np.arange(8, N_POS), n_queries // len(rows), replace=False):
            keys = rng.permutation(np.arange(1, query + 1))
            first, second = rng.integers(1, 4, 2)
            edges += [(row, query, key) for key in keys[:first]]
            control += [(row, query, key) for key in keys[first : first + second]]
    mix = [np.array(pairs)[rng.permutation(len(pairs))] for pairs in (edges, control)]
    return EdgeTest(head, *mix[0].T, *mix[1].T)


def by_hand(pattern, test, targets):
    """The pattern of the head in each arm, one query after the other."""
    arms = {arm: pattern.clone() for arm in ("target", "control", "full")}
    queries = {}
    for row, query, key in zip(test.row, test.query, test.key, strict=True):
        queries.setdefault((row, query), ([], []))[0].append(key)
    for row, query, key in zip(test.control_row, test.control_query, test.control_key, strict=True):
        queries.setdefault((row, query), ([], []))[1].append(key)
    told = {}
    for (row, query), (role, control) in sorted(queries.items()):
        if not role or not control or targets[row, query] == IGNORED:
            continue
        p = pattern[row, query]
        of_role, of_control = float(p[role].sum()), float(p[control].sum())
        mass = min(of_role, of_control)
        by_mass = mass >= LEAST_MASS
        told[row, query] = (mass, of_role, by_mass)
        takes = {
            "target": p[role] * (mass / of_role if by_mass else 1),
            "control": p[control] * (mass / of_control) if by_mass else p[control[: len(role)]],
            "full": p[role],
        }
        for arm, taken in takes.items():
            keys = control if arm == "control" else role
            arms[arm][row, query, keys[: len(taken)]] -= taken
            arms[arm][row, query, 0] += taken.sum()
    return arms, told


def hooked_losses(model, tokens, targets, head, pattern):
    """Loss at each position when the pattern of one head is replaced."""

    def swap(old, hook):
        new = old.clone()
        new[:, head.index] = pattern
        return new

    with torch.no_grad():
        hooks = [(f"blocks.{head.layer}.attn.hook_pattern", swap)]
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none").double()


def assert_same(one, other):
    for field in fields(one):
        np.testing.assert_allclose(
            getattr(one, field.name), getattr(other, field.name), atol=BOUND, rtol=BOUND
        )


@pytest.mark.parametrize("head", [HeadId(0, 1), HeadId(1, 3), HeadId(2, 0)], ids=str)
def test_every_arm_is_a_run_with_a_hooked_pattern(model, tokens, targets, head):
    test = random_test(head, seed=head.layer)
    prefix = model.prefix(tokens)
    (effects,) = knock_out(model, prefix, [test], targets, max_variants=3)
    clean = prefix.pattern(head.layer)[:, head.index]
    arms, told = by_hand(clean, test, targets)
    places = list(zip(effects.row, effects.query, strict=True))
    assert places == list(told)
    assert 0 < sum(effects.by_mass) < len(places)  # both branches are there
    assert any(LENGTHS[row] <= query for row, query in zip(test.row, test.query, strict=True))
    for i, place in enumerate(places):
        mass, of_role, by_mass = told[place]
        assert effects.mass[i] == pytest.approx(mass, abs=1e-6)
        assert effects.mass_target[i] == pytest.approx(of_role, abs=1e-6)
        assert effects.by_mass[i] == by_mass
    for arm, pattern in [("clean", clean), *arms.items()]:
        assert torch.allclose(pattern.sum(-1), torch.ones(()), atol=BOUND)
        expected = hooked_losses(model, tokens, targets, head, pattern)[effects.row, effects.query]
        found = getattr(effects, f"loss_{arm}")
        np.testing.assert_allclose(found, expected, atol=BOUND, rtol=BOUND)
        if arm != "clean":
            assert np.abs(found - effects.loss_clean).max() > 1e-3


def test_tests_that_share_a_batch_do_not_change_each_other(model, tokens, targets):
    heads = [HeadId(2, 1), HeadId(0, 0), HeadId(2, 1), HeadId(1, 2), HeadId(0, 0)]
    tests = [random_test(head, seed) for seed, head in enumerate(heads)]
    prefix = model.prefix(tokens)
    together = knock_out(model, prefix, tests, targets, max_variants=100)
    in_parts = knock_out(model, prefix, tests, targets, max_variants=4)
    for test, one, other in zip(tests, together, in_parts, strict=True):
        (alone,) = knock_out(model, prefix, [test], targets, max_variants=1)
        assert_same(one, alone)
        assert_same(other, alone)


def test_padding_and_other_rows_change_nothing(model, tokens, targets):
    test = random_test(HeadId(0, 2), 3)
    (together,) = knock_out(model, model.prefix(tokens), [test], targets, max_variants=9)
    for row, length in enumerate(LENGTHS):
        of_row, of_control = (
            (rows == row) & (query < length)
            for rows, query in ((test.row, test.query), (test.control_row, test.control_query))
        )
        n = np.zeros
        alone = EdgeTest(
            test.head,
            n(of_row.sum(), int), test.query[of_row], test.key[of_row],
            n(of_control.sum(), int), test.control_query[of_control], test.control_key[of_control],
        )  # fmt: skip
        prefix = model.prefix(tokens[row : row + 1, :length])
        (found,) = knock_out(model, prefix, [alone], targets[row : row + 1, :length], max_variants=9)
        there = together.row == row
        assert found.row.any() == 0 and len(found.row) == there.sum() > 0
        for field in fields(found):
            if field.name != "row":
                expected = getattr(together, field.name)[there]
                np.testing.assert_allclose(getattr(found, field.name), expected, atol=BOUND, rtol=BOUND)


def test_the_order_of_role_edges_and_queries_is_no_matter(model, tokens, targets):
    test = random_test(HeadId(1, 1), 8)
    order = np.random.default_rng(0).permutation(len(test.row))
    shuffled = replace(test, row=test.row[order], query=test.query[order], key=test.key[order])
    prefix = model.prefix(tokens)
    one, other = knock_out(model, prefix, [test, shuffled], targets, max_variants=6)
    assert_same(one, other)


def test_the_clean_model_stays_as_it_is(model, tokens, targets):
    prefix = model.prefix(tokens)
    parts = [prefix.final, prefix.pattern(0), prefix.values(0), prefix.z(0), *model.state_dict().values()]
    before, clean = copy.deepcopy(parts), model(tokens)
    first = knock_out(model, prefix, [random_test(HeadId(0, 0), 1)], targets, max_variants=3)
    heads = [HeadId(0, 0), HeadId(2, 3)]
    head_losses(model, prefix, heads, "zero", targets, targets != IGNORED, max_variants=2)
    again = knock_out(model, prefix, [random_test(HeadId(0, 0), 1)], targets, max_variants=3)
    assert_same(first[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(before, parts, strict=True))
    assert torch.equal(model(tokens), clean)
    assert not any(model.list_hooks())


def test_queries_without_both_kinds_of_keys_or_a_target_are_left_out(model, tokens, targets):
    """Role: 5, 9 (no control), 12 (only position 0), 20 (padding of row 2). Control: 5, 7 (no role), 12, 20."""
    test = EdgeTest(
        HeadId(0, 0),
        np.array([2, 2, 2, 2, 2]), np.array([5, 5, 9, 12, 20]), np.array([0, 3, 3, 0, 3]),
        np.array([2, 2, 2, 2]), np.array([5, 7, 12, 20]), np.array([2, 2, 2, 2]),
    )  # fmt: skip
    prefix = model.prefix(tokens)
    (effects,) = knock_out(model, prefix, [test], targets, max_variants=3)
    assert (effects.row.tolist(), effects.query.tolist()) == ([2], [5])
    assert effects.mass_target[0] == pytest.approx(float(prefix.pattern(0)[2, 0, 5, 3]))


def test_a_test_without_queries_gives_none(model, tokens, targets):
    nothing = np.zeros(0, dtype=np.int64)
    empty, other = EdgeTest(HeadId(0, 0), *[nothing] * 6), random_test(HeadId(0, 1), 1)
    prefix = model.prefix(tokens)
    found, beside = knock_out(model, prefix, [empty, other], targets, max_variants=6)
    assert all(len(getattr(found, field.name)) == 0 for field in fields(found))
    assert_same(beside, knock_out(model, prefix, [other], targets, max_variants=6)[0])
    assert knock_out(model, prefix, [], targets, max_variants=6) == []


@pytest.mark.parametrize(
    ("key", "control"),
    [([3, 3], [2, 1]), ([3, 4], [3, 1]), ([3, 4], [1, 1]), ([3, 6], [1, 2]), ([3, -1], [1, 2])],
)
def test_edges_that_cannot_be_are_refused(key, control):
    two = np.array([0, 0]), np.array([5, 5])
    with pytest.raises(ProbeInputError, match="twice, looks ahead"):
        EdgeTest(HeadId(0, 0), *two, np.array(key), *two, np.array(control))


def test_edges_and_heads_that_are_not_there_are_refused(model, tokens, targets):
    one = [np.array([3]), np.array([5]), np.array([2]), np.array([3]), np.array([5]), np.array([1])]
    prefix = model.prefix(tokens)
    with pytest.raises(ProbeInputError, match="3 rows of 40"):
        knock_out(model, prefix, [EdgeTest(HeadId(0, 0), *one)], targets, max_variants=3)
    with pytest.raises(UsageError, match="no L3H0"):
        knock_out(model, prefix, [random_test(HeadId(3, 0), 0)], targets, max_variants=3)


# A head that is needed -----------------------------------------------------------------------------------

NOUNS = range(40, D_VOCAB)  # tokens that the head looks at and copies


@pytest.fixture(scope="module")
def copier():
    """One head that looks at nouns from everywhere and writes what it finds; nothing else in the model works.

    Token vectors are random but for the last axis, which marks nouns. Every position asks for that axis.
    """
    model = TinyTransformer(ModelSpec.from_name("l1_h64_a1"), D_VOCAB, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (model.blocks[0].ln1, model.blocks[0].ln2, model.ln_final):
            norm.w.fill_(1)
        model.ln_final.w.fill_(0.15)  # so that no prediction is certain
        drawn = torch.randn(D_VOCAB, 62, generator=torch.Generator().manual_seed(1))
        model.embed.W_E[:, :-2] = F.layer_norm(drawn, (62,))  # so that attention is to all nouns alike
        model.embed.W_E[0] = 0  # mass that goes to position 0 brings nothing
        model.embed.W_E[NOUNS[0] :, -1] = 3
        model.pos_embed.W_pos[:, -2] = 3
        attn = model.blocks[0].attn
        attn.W_Q[0, -2, 0], attn.W_K[0, -1, 0] = 1, 1
        attn.W_V[0] = torch.eye(64)
        attn.W_V[0, -2:] = 0
        attn.W_O[0] = 4 * torch.eye(64)
    return model.eval()


def test_a_head_that_copies_is_needed_at_its_target_and_not_at_a_matched_key(copier):
    """Stories of common tokens and two nouns; the token to predict is the first of them, at four queries."""
    rng = np.random.default_rng(0)
    rows = np.arange(10)
    tokens = torch.from_numpy(rng.integers(1, NOUNS[0], (10, 20)))
    nouns = np.array([rng.choice(NOUNS, 2, replace=False) for _ in rows])
    tokens[:, 0], tokens[:, 4], tokens[:, 9] = 0, torch.from_numpy(nouns[:, 0]), torch.from_numpy(nouns[:, 1])
    targets = torch.full_like(tokens, IGNORED)
    targets[:, 12:16] = tokens[:, 4:5]
    row, query = np.repeat(rows, 4), np.tile(np.arange(12, 16), 10)
    test = EdgeTest(HeadId(0, 0), row, query, np.full(40, 4), row, query, np.full(40, 9))
    (effects,) = knock_out(copier, copier.prefix(tokens), [test], targets, max_variants=3)
    assert effects.by_mass.all()
    assert (effects.mass > 0.2).all()
    hurt, control = effects.loss_target - effects.loss_clean, effects.loss_control - effects.loss_clean
    assert (hurt > 3).all()
    assert (control < 0).all()  # the other noun no longer competes
    assert (effects.loss_full >= effects.loss_target - BOUND).all()
    with torch.no_grad(), ablated(copier, [HeadId(0, 0)]):
        without = F.cross_entropy(copier(tokens)[:, 12:16].flatten(0, 1), targets[:, 12:16].flatten())
    assert effects.loss_full.mean() == pytest.approx(float(without), rel=0.5)  # the head is all that there is


# Whole heads ---------------------------------------------------------------------------------------------


def losses_with_z(model, tokens, targets, head, z):
    """Losses [row pos] when what a head has mixed is replaced."""

    def swap(old, hook):
        new = old.clone()
        new[:, :, head.index] = z
        return new

    with torch.no_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{head.layer}.attn.hook_z", swap)])
    return F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none").double()


HEADS = [HeadId(2, 1), HeadId(0, 3), HeadId(0, 0), HeadId(1, 2)]


@pytest.fixture(scope="module")
def means(model, tokens):
    means = MeanZ()
    means.add(model.prefix(tokens), torch.tensor(LENGTHS))
    return means.mean(N_POS)


@pytest.mark.parametrize("method", ["zero", "mean", "resample"])
@pytest.mark.parametrize("max_variants", [1, 10])
def test_a_replaced_head_is_a_hooked_head(model, tokens, targets, means, method, max_variants):
    prefix = model.prefix(tokens)
    other = torch.tensor([2, 0, 1])
    at = (targets != IGNORED) & (torch.arange(N_POS) % 3 == 0)
    found = head_losses(
        model, prefix, HEADS, method, targets, at, mean=means, other=other, max_variants=max_variants
    )
    assert found.shape == (len(HEADS), at.sum())
    for losses, head in zip(found, HEADS, strict=True):
        z, mean = prefix.z(head.layer)[:, :, head.index], means[head.layer, :, head.index].float()
        new = torch.zeros_like(z) if method == "zero" else mean.expand(z.shape).clone()
        if method == "resample":
            for row, source in enumerate(other.tolist()):
                new[row, : LENGTHS[source]] = z[source, : LENGTHS[source]]
        expected = losses_with_z(model, tokens, targets, head, new)[at]
        np.testing.assert_allclose(losses, expected, atol=BOUND, rtol=BOUND)


def test_a_story_alone_is_resampled_to_the_mean(model, tokens, targets, means):
    prefix, at = model.prefix(tokens[:1]), targets[:1] != IGNORED
    arguments = {"mean": means, "other": other_rows(1, np.random.default_rng(0)), "max_variants": 4}
    alone = head_losses(model, prefix, HEADS, "resample", targets[:1], at, **arguments)
    mean = head_losses(model, prefix, HEADS, "mean", targets[:1], at, **arguments)
    assert np.array_equal(alone, mean)


def test_the_mean_counts_real_positions_once(model, tokens):
    """Rows fed in batches of different widths; beyond the longest story stands the mean of all positions."""
    means = MeanZ()
    means.add(model.prefix(tokens[2:, :20]), torch.tensor(LENGTHS[2:]))
    means.add(model.prefix(tokens[:2]), torch.tensor(LENGTHS[:2]))
    found = means.mean(50)
    z = torch.stack([model.prefix(tokens).z(layer) for layer in range(3)]).double()
    real = torch.arange(N_POS) < torch.tensor(LENGTHS)[:, None]
    for pos in (0, 17, 18, 30, 31, 39):
        torch.testing.assert_close(found[:, pos], z[:, real[:, pos], pos].mean(1), atol=BOUND, rtol=BOUND)
    for pos in (40, 49):
        torch.testing.assert_close(found[:, pos], z[:, real].mean(1), atol=BOUND, rtol=BOUND)
    assert torch.equal(means.mean(7), found[:, :7])
    with pytest.raises(ValueError, match="no story"):
        MeanZ().mean(4)


@pytest.mark.parametrize("n_rows", [2, 3, 10])
def test_other_rows_are_others(n_rows):
    for seed in range(20):
        other = other_rows(n_rows, np.random.default_rng(seed)).tolist()
        assert sorted(other) == list(range(n_rows))
        assert all(row != source for row, source in enumerate(other))
    assert other_rows(n_rows, np.random.default_rng(19)).tolist() == other


def test_replacements_that_cannot_be_are_refused(model, tokens, targets, means):
    prefix, at = model.prefix(tokens), targets != IGNORED
    with pytest.raises(UsageError, match="the mean of each of 40"):
        head_losses(model, prefix, HEADS, "mean", targets, at, mean=means[:, :39], max_variants=4)
    with pytest.raises(UsageError, match="another row"):
        head_losses(model, prefix, HEADS, "resample", targets, at, mean=means, max_variants=4)
    with pytest.raises(UsageError, match="no L0H4"):
        head_losses(model, prefix, [HeadId(0, 4)], "zero", targets, at, max_variants=4)
    with pytest.raises(ProbeInputError, match="no next token"):
        head_losses(model, prefix, HEADS, "zero", targets, torch.ones_like(at), max_variants=4)
