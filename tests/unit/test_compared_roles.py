"""Differences of roles between two models: none where there is none, found where one was planted."""

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from tslens.audit.heads import audit_stories
from tslens.audit.planted import PlantedHead, PlantedHeads
from tslens.audit.truth import relation_edges
from tslens.errors import ProbeInputError
from tslens.link.compared_roles import compare_losses, compare_roles, compare_tables
from tslens.model.load import load_model
from tslens.model.spec import N_CTX
from tslens.probes.base import choose_probes
from tslens.probes.held_out import loss_on
from tslens.probes.matching.role_tables import RoleTable, read_tables, role_of, stories_of_both
from tslens.probes.scan import score_heads
from tslens.stats import second_half
from tslens.types import HeadId, Story

OF_TEXT = ["previous_token", "punctuation", "induction"]


def heads_of(n):
    return [HeadId(0, i) for i in range(n)]


def table(rng, keys, mean, noise=0.2):
    """Heads of these mean excesses over the null "hard"; the null "easy" leaves 0.3 more."""
    value = np.asarray(mean) + 0.1 + noise * rng.standard_normal((len(keys), len(mean)))
    return RoleTable(tuple(keys), value, ("easy", "hard"), np.stack([value + 0.2, value - 0.1], 1))


def keys_of(rng, n):
    return [int(key) for key in rng.integers(2**62, size=n)]


def compared(tables, n_heads, seed=0):
    return compare_tables(tables, [{}, {}], [heads_of(n_heads)] * 2, seed=seed)


# Of known tables --------------------------------------------------------------------------------------------


def test_a_difference_is_the_mean_of_both_halves_as_by_hand():
    rng = np.random.default_rng(0)
    keys = keys_of(rng, 80)
    a, b = table(rng, keys, [0.3, 0.0]), table(rng, keys[::-1], [0.0, 0.5])
    (found,) = compared({"role": (a, b)}, 2)
    assert (found.a.best, found.b.best) == (("L0H0", "L0H0"), ("L0H1", "L0H1"))
    assert found.a.nulls == ("hard", "hard") and found.n_stories == 80
    by_story = b.value[::-1, 1] - a.value[:, 0]
    is_second = np.array([second_half(key) for key in keys])
    parts = [by_story[is_second == half] for half in (False, True)]
    assert found.difference.mean == pytest.approx((parts[0].mean() + parts[1].mean()) / 2)
    assert found.b.value.mean - found.b.excess.mean == pytest.approx(0.1)
    ends = ttest_1samp(by_story, 0).confidence_interval(0.95)
    assert found.difference.high - found.difference.low == pytest.approx(ends.high - ends.low, rel=0.15)
    assert found.corrected_low == pytest.approx(found.difference.low, abs=0.02)  # of a single role
    assert found.is_real and found.p < 0.01 and not found.is_held
    (turned,) = compared({"role": (b, a)}, 2)
    assert turned.difference.mean == pytest.approx(-found.difference.mean)
    assert turned.corrected_low == pytest.approx(-found.corrected_high)


def test_the_best_of_many_is_not_measured_where_it_was_chosen():
    rng, fair, naive = np.random.default_rng(1), [], []
    keys = keys_of(rng, 40)
    for _ in range(25):
        a = table(rng, keys, [0.0] * 16)
        (found,) = compared({"role": (a, a)}, 16)
        fair.append(found.a.excess.mean)
        naive.append(a.contrast.mean(0).min(0).max())
    assert np.mean(naive) > 0.04
    assert abs(np.mean(fair)) < 0.02


def test_equal_models_differ_at_the_stated_rate():
    """Eight roles whose models differ by noise alone, in each draw: one or more real in about one draw of twenty."""
    any_real, covered = [], []
    for draw in range(60):
        rng = np.random.default_rng(draw)
        keys = keys_of(rng, 40)
        means = [0.3, 0.0, 0.0]
        tables = {f"role {i}": (table(rng, keys, means), table(rng, keys, means)) for i in range(8)}
        found = compared(tables, 3, seed=draw)
        any_real.append(any(one.is_real for one in found))
        covered += [one.difference.low <= 0 <= one.difference.high for one in found]
    assert sum(any_real) <= 8  # of 60: more than that comes in one run of 250 at 5%
    assert 0.92 < np.mean(covered) < 0.98


def test_halves_that_choose_differently_have_wider_intervals():
    rng = np.random.default_rng(2)
    keys = keys_of(rng, 60)
    is_second = np.array([second_half(key) for key in keys])
    a = table(rng, keys, [0.0, 0.0])
    value = a.value.copy()
    value[is_second, 0] += 1.0
    value[~is_second, 1] += 1.0
    crossed = RoleTable(a.cluster, value, ("hard",), value[:, None] - 0.1)
    (found,) = compared({"role": (crossed, crossed)}, 2)
    assert found.a.best == ("L0H0", "L0H1")  # the second half chose the first, and the other way round
    x = [value[~is_second, 0], value[is_second, 1]]
    added = sum(1.96 * part.std(ddof=1) / len(part) ** 0.5 for part in x) / 2
    assert (found.a.excess.high - found.a.excess.low) / 2 == pytest.approx(added, rel=0.12)


def test_stories_without_a_query_are_left_out_of_both():
    rng = np.random.default_rng(3)
    keys = keys_of(rng, 60)
    a, b = table(rng, keys, [0.3]), table(rng, keys, [0.3])
    a.value[:10], a.contrast[:10] = np.nan, np.nan
    b.contrast[50:, 1] = np.nan  # the hard null has no query there
    few = table(rng, keys, [0.3])
    few.value[8:], few.contrast[8:] = np.nan, np.nan
    found = compared({"role": (a, b), "few": (few, few)}, 1)
    assert [(one.role, one.n_stories) for one in found] == [("role", 40)]
    assert compared({"few": (few, few)}, 1) == []


# Of models --------------------------------------------------------------------------------------------------


def test_tables_have_the_means_of_a_scan(tiny_model, stories):
    report = score_heads(tiny_model, stories, seed=0, probes=OF_TEXT, n_explain=0)
    twins = {role_of(one): one.nulls["twins"] for one in report.scores}
    tables = read_tables(tiny_model, stories, choose_probes(OF_TEXT), twins, seed=0)
    assert list(tables) == OF_TEXT
    for score in report.scores:
        mine, head = tables[role_of(score)], 4 * score.head.layer + score.head.index
        assert np.nanmean(mine.value[:, head]) == pytest.approx(score.value, abs=1e-5)
        told = dict(zip(mine.nulls, np.nanmean(mine.contrast[:, :, head], 0), strict=True))
        assert {name: score.value - null for name, null in score.nulls.items()} == pytest.approx(
            told, abs=1e-5
        )


def test_a_model_does_not_differ_from_itself(tiny_model, stories):
    n_read = []
    found = compare_roles(tiny_model, tiny_model, stories, seed=0, probes=OF_TEXT[:2], progress=n_read.append)
    assert [one.role for one in found.roles] == OF_TEXT[:2] and found.n_stories == 60 and n_read[-1] == 120
    for one in found.roles:
        assert (one.difference.mean, one.corrected_low, one.corrected_high, one.p) == (0, 0, 0, 1)
        assert one.a == one.b and not one.is_real
    for one in compare_losses(tiny_model, tiny_model, stories, seed=0):
        assert one.difference.mean == 0 and not one.is_real


@pytest.fixture(scope="module")
def planted():
    """Two makers of planted models: heads look at subjects with a strength of one's own, at names with 0.3."""
    tokenizer = load_model("shipped:l1_h64").tokenizer
    author = audit_stories(50, seed=5)
    edges = relation_edges(author, tokenizer, n_ctx=N_CTX)

    def make(strength, seed):
        heads = [
            PlantedHead(("subject", "word"), "uniform", strength),
            PlantedHead(("name", "word"), "near", 0.3),
            PlantedHead(("name", "word"), "uniform", 0.0),
        ]
        return PlantedHeads(heads, edges, tokenizer, seed=seed)

    return make, author


def test_a_planted_difference_is_found_and_no_other(planted):
    make, author = planted
    found = compare_roles(make(0.2, 0), make(0.5, 1), author, seed=0, probes=["subject", "name"])
    of = {one.role: one for one in found.roles}
    assert list(of) == ["subject", "subject before", "name", "name before"]
    assert of["subject"].is_real and of["subject"].a.best == ("L0H0", "L0H0")
    assert of["subject"].difference.mean == pytest.approx(0.3, abs=0.05)
    assert of["subject"].a.holders == of["subject"].b.holders == ("L0H0",)
    assert not of["name"].is_real and of["name"].b.best == ("L0H1", "L0H1") and of["name"].is_held


def test_losses_are_those_of_the_models(tiny_model, random_model, stories):
    other = random_model("l1_h64")
    bits, nats = compare_losses(tiny_model, other, stories, seed=0)
    mine, theirs = loss_on(tiny_model, stories), loss_on(other, stories)
    assert (bits.unit, nats.unit) == ("bits per byte", "nats per token")
    assert (bits.a.mean, bits.b.mean) == pytest.approx((mine.bits_per_byte, theirs.bits_per_byte))
    assert nats.difference.mean == pytest.approx(theirs.loss_nats - mine.loss_nats)
    assert bits.is_real == (not bits.difference.low <= 0 <= bits.difference.high)
    assert bits.difference.high - bits.difference.low < bits.b.high - bits.b.low + bits.a.high - bits.a.low
    foreign = load_model("shipped:l1_h64")
    assert [one.unit for one in compare_losses(tiny_model, foreign, stories, seed=0)] == ["bits per byte"]


def test_both_models_read_the_same_of_a_story(tiny_model, random_model, stories):
    short = random_model("llama")  # a context of 64
    long = Story(" ".join(story.text for story in stories[:3]))
    brief = Story("Tom had a red ball.")
    assert stories_of_both(tiny_model, tiny_model, [long, brief, long]) == [long, brief]
    assert stories_of_both(tiny_model, short, [long, brief]) == [brief]
    assert len(short.tokenizer.encode_story(brief.text, context=64)) < 66
    with pytest.raises(ProbeInputError, match="fits the contexts"):
        stories_of_both(short, tiny_model, [long])


def test_rounding_is_no_difference(tiny_model, stories):
    """The same weights but for the last bits of float32."""
    moved = type(tiny_model)(tiny_model.spec, tiny_model.cfg.d_vocab, seed=5, tokenizer=tiny_model.tokenizer)
    moved.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + 2e-7)
    found = compare_roles(tiny_model, moved.eval(), stories[:30], seed=0, probes=["previous_token"])
    (one,) = found.roles
    assert 0 < abs(one.difference.mean) < 1e-5 and not one.is_real and one.p == 1
