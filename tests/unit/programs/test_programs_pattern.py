"""Patterns of programs: likeness by hand, steps, bases, the keys of roles."""

import math

import numpy as np
import pytest
import torch

from tslens.probes.base import Calibration, Probe, choose_probes, find_probes
from tslens.probes.batch import batch_of_tokens
from tslens.probes.profile import n_slots
from tslens.probes.programs.likeness import Likeness, divergence, intersection_over_union, jensen_shannon
from tslens.probes.programs.pattern import (
    DistanceTable,
    by_query,
    by_row,
    n_bands,
    with_step,
)
from tslens.probes.programs.roles import Role, RoleText, after_copies, readable

pytestmark = pytest.mark.filterwarnings("ignore:.*intervals are too narrow:UserWarning")
N_CTX = 512
UNLABELLED = ["previous_token", "duplicate_token", "sentence_end", "first_token", "distance_3_4", "induction"]
COPIES = Role("duplicate_token", "word")


def random_rows(*shape, seed=0, sharp=2.0):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (sharp * noise).softmax(-1)


# How like two patterns are -----------------------------------------------------------------------------------


def test_likeness_by_hand():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.5, 0.25, 0.25])
    assert intersection_over_union(p, q) == pytest.approx(0.75 / 1.25)
    m = [0.5, 0.375, 0.125]
    js = 0.5 * sum(a * math.log2(a / b) for a, b in zip(p.tolist(), m, strict=True) if a) + 0.5 * sum(
        a * math.log2(a / b) for a, b in zip(q.tolist(), m, strict=True)
    )
    assert jensen_shannon(p, q) == pytest.approx(math.sqrt(js), abs=1e-5)
    assert divergence(p, q) == pytest.approx(0.5 * math.log(2), abs=1e-6)


def test_likeness_at_its_ends():
    p = random_rows(7, 9)
    apart = torch.eye(4)
    assert torch.allclose(intersection_over_union(p, p), torch.ones(7))
    assert jensen_shannon(p, p).max() < 2e-3 and divergence(p, p).max() < 1e-6
    assert intersection_over_union(apart[:2], apart[2:]).tolist() == [0, 0]
    assert torch.allclose(jensen_shannon(apart[:2], apart[2:]), torch.ones(2))


def test_likeness_is_of_total_variation_and_symmetric():
    p, q = random_rows(20, 9), random_rows(20, 9, seed=1)
    variation = (p - q).abs().sum(-1) / 2
    assert torch.allclose(intersection_over_union(p, q), (1 - variation) / (1 + variation), atol=1e-6)
    assert torch.allclose(jensen_shannon(p, q), jensen_shannon(q, p), atol=1e-6)
    both = Likeness.of(p, q)
    assert torch.equal(both.iou, intersection_over_union(p, q))
    assert torch.equal(both.distance, jensen_shannon(p, q)) and torch.equal(both.divergence, divergence(p, q))


# Steps and bases ---------------------------------------------------------------------------------------------


def test_a_step_gives_its_keys_their_share_and_leaves_the_rest_in_proportion():
    rows = random_rows(3, 2, 5)
    before = rows.clone()
    keys = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    alpha = torch.tensor([0.6, 0.1])
    new = with_step(rows, keys, alpha)
    assert torch.equal(rows, before)
    assert torch.allclose(new.sum(-1), torch.ones(3, 2))
    assert torch.allclose(new[0, :, [1, 3]], (alpha / 2)[:, None].expand(2, 2))
    assert torch.equal(new[1], rows[1])
    rest = new[0][:, [0, 2, 4]]
    assert torch.allclose(
        rest / rest.sum(-1, keepdim=True), rows[0][:, [0, 2, 4]] / rows[0][:, [0, 2, 4]].sum(-1, keepdim=True)
    )
    assert torch.allclose(new[2, :, 0], alpha)


def test_a_step_may_spread_its_share_as_before():
    rows = random_rows(3, 2, 5)
    keys = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
    alpha = torch.tensor([0.6, 0.1])
    new, even = (with_step(rows, keys, alpha, spread) for spread in ("as before", "even"))
    old = rows[0][:, [1, 3]]
    assert torch.allclose(new[0][:, [1, 3]], alpha[:, None] * old / old.sum(-1, keepdim=True))
    assert torch.allclose(new[:, :, ~keys[0]][0], even[:, :, ~keys[0]][0])
    assert torch.allclose(new.sum(-1), torch.ones(3, 2)) and torch.equal(new[1], rows[1])


def table_of(window=None, n_heads=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    slots = torch.rand(n_heads, n_slots(N_CTX), generator=generator)
    sink = 0.4 * torch.rand(n_heads, n_bands(N_CTX), generator=generator)
    return DistanceTable(window, slots, sink)


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("base", ["uniform", "even", "profile"])
def test_bases_are_patterns(base, window):
    rows = table_of(window).rows(base, 21)
    distance = torch.arange(21)[:, None] - torch.arange(21)
    visible = (distance >= 0) & (distance < (window or 99))
    assert rows.shape == (21, 2, 21)
    assert torch.allclose(rows.sum(-1), torch.ones(21, 2), atol=1e-5)
    assert not rows[(~visible)[:, None].expand(-1, 2, -1)].any()
    assert (rows[visible[:, None].expand(-1, 2, -1)] > 0).all()
    if base == "uniform":
        assert torch.allclose(
            rows[9, 0, visible[9]], torch.full((min(10, window or 99),), 1 / min(10, window or 99))
        )


def test_even_gives_position_0_its_own_and_the_rest_alike():
    table = table_of()
    row = table.rows("even", 21)[12, 1]
    assert row[0] == pytest.approx(0.99 * float(table.sink[1, 3]) + 0.01 / 13, abs=1e-5)
    assert torch.allclose(row[1:13], row[1].expand(12))


# Keys of roles -----------------------------------------------------------------------------------------------


def test_the_keys_of_a_role_are_those_its_probe_scores(gold_batch, gold_text, tokenizer):
    """The mean mass on the keys, story by story, is the probe's own measure at all its queries."""
    n_rows, n_pos = gold_batch.tokens.shape
    pattern = by_row(random_rows(n_rows * n_pos, 2, n_pos), n_rows)
    rows = by_query(pattern)
    checked = 0
    for probe in (probe for probe in find_probes().values() if not probe.labels.users):
        if probe.name in ("induction", "rare_word"):  # read other sequences; other token counts
            continue
        position = next(role.position for role in gold_text.at if role.probe == probe.name)
        keys = gold_text.keys(Role(probe.name, position), None)
        mass = (rows * keys[:, None]).sum(-1).view(n_rows, n_pos, 2)
        asks = keys.any(1).view(n_rows, n_pos)
        by_story = [mass[row][asks[row]].mean(0) for row in range(n_rows) if asks[row].any()]
        assert torch.allclose(torch.stack(by_story).mean(0), probe.score(pattern, gold_batch), atol=1e-5), (
            probe.name
        )
        checked += 1
    assert checked > 15


def test_roles_have_both_positions_and_their_names(gold_text):
    names = {str(role) for role in gold_text.at}
    assert {"subject", "subject before", "topic_determiner", "previous_token", "induction"} <= names
    assert "topic_determiner before" not in names


def test_after_copies_by_hand():
    batch = batch_of_tokens([[0, 5, 6, 7, 5, 5, 6]], [1])
    pairs = after_copies(batch)
    found = set(zip(pairs.query.tolist(), pairs.key.tolist(), strict=True))
    assert found == {(4, 2), (5, 2), (6, 3)}  # at 5 the copy at 4 is followed by the token itself


def test_moved_keys_keep_their_distance_and_their_story(gold_batch, gold_text):
    n_pos = gold_text.n_pos
    role = Role("name", "word")
    own, moved = (gold_text.pairs(role, None, moved=moved) for moved in (False, True))
    assert 0.5 * len(own) < len(moved) <= len(own)
    for row in range(len(gold_batch.length)):
        (of_own, of_moved) = (
            {(int(c) // n_pos % n_pos, int(c) % n_pos) for c in codes if int(c) // n_pos**2 == row}
            for codes in (own, moved)
        )
        size = int(gold_batch.length[row]) - 1
        shifts = [
            by for by in range(3, size - 2)
            if of_moved <= {((q + by - 1) % size + 1, (k + by - 1) % size + 1) for q, k in of_own}
        ]  # fmt: skip
        assert shifts and of_moved
        assert all(0 < key < query <= size for query, key in of_moved)


def test_stories_too_short_to_move_have_no_moved_keys():
    text = RoleText.of(
        batch_of_tokens([[0, 5, 5, 5]], [1]),
        choose_probes(["duplicate_token"]),
        Calibration(np.ones(9, dtype=int)),
    )
    assert len(text.pairs(COPIES, None)) == 3 and len(text.pairs(COPIES, None, moved=True)) == 0


def test_keys_beyond_the_window_are_none(gold_text):
    role = Role("protagonist", "word")
    near = gold_text.keys(role, 16)
    query = torch.arange(len(near)) % gold_text.n_pos
    distance = query[:, None] - torch.arange(gold_text.n_pos)
    assert torch.equal(near, gold_text.keys(role, None) & (distance < 16))
    assert near.any()


def test_probes_with_sequences_of_their_own_are_no_programs(tiny_model):
    class Own(Probe):
        name, description, family, served = "own", "", "identity", ""

        def rows(self, batch, calibration):
            return []

        def own_batches(self, **_):
            return iter(())

    chosen = readable([Own(), *find_probes().values()], tiny_model)
    assert "own" not in {probe.name for probe in chosen}
    assert "induction" in {probe.name for probe in chosen}
