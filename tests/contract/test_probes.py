"""One battery for every probe: what scikit-learn's estimator checks are for estimators."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tslens
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.corpus.words import find_units
from tslens.probes.base import ATTENTION_FLOOR, Calibration, find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.plan import make_plan
from tslens.probes.units import LabelNeeds
from tslens.probes.user_label import UserLabel

PROBES = {**find_probes(), "label_mine": UserLabel("mine")}
NULLS = {
    "positional": {"uniform"},
    "identity": {"distance", "frequency"},
    "relational": {"distance", "offset", "words", "shifted"},
}
NOT_BY_DISTANCE = [name for name, p in PROBES.items() if p.family != "positional"] + ["sentence_start"]
NEEDS = LabelNeeds(scheme=True, users=("mine",))
WINDOW = 24
CONTEXT = 180  # stories are cut here, which every probe has to bear


@pytest.fixture(scope="module")
def gold():
    """Author stories with gold labels, and a user's label on some of their words and marks."""
    return [
        replace(
            story, extra={**story.extra, "mine": [i % 11 == 2 for i in range(len(find_units(story.text)))]}
        )
        for story in list(tslens.read_stories("author:60"))[:14]
    ]


@pytest.fixture(scope="module")
def pieces(gold):
    """A tokenizer that cuts many words in pieces."""
    return StoryTokenizer.train(gold, vocab_size=600)


@pytest.fixture(params=PROBES, scope="module")
def probe(request):
    return PROBES[request.param]


@pytest.fixture(scope="module")
def gold_batch(gold, pieces):
    return batch_of_stories(gold, pieces, n_ctx=CONTEXT, labels=NEEDS)


def own(probe, pieces, seed=0):
    """The first of the probe's own batches, None if it reads stories."""
    batches = probe.own_batches(
        d_vocab=pieces.vocab_size, start_id=pieces.start_id, n_ctx=512, seed=seed, batch_tokens=2048
    )
    return None if batches is None else next(batches)


@pytest.fixture(scope="module")
def batch(probe, gold_batch, pieces):
    made = own(probe, pieces)
    return gold_batch if made is None else made


@pytest.fixture(scope="module")
def counted(gold):
    """Whole stories in tokens of words, as a shipped model reads them, and the tokenizer."""
    tokenizer = tslens.load_model("shipped:l1_h64").tokenizer
    return batch_of_stories(gold, tokenizer, n_ctx=512, labels=NEEDS), tokenizer


@pytest.fixture(scope="module")
def calibration(probe, batch, pieces):
    counted = {position: Counter(found.tolist()) for position, found in probe.calibrate(batch).items()}
    offsets = {(probe.name, position): [d for d, _ in c.most_common()] for position, c in counted.items()}
    return Calibration(
        np.bincount(batch.tokens[batch.is_query], minlength=pieces.vocab_size), offsets, WINDOW
    )


@pytest.fixture(scope="module")
def rows(probe, batch, calibration):
    return probe.rows(batch, calibration)


def planted(row, batch, strength):
    """A pattern that puts ``strength`` on the targets of each query, evenly, the rest evenly everywhere."""
    n_rows, n_pos = batch.tokens.shape
    pattern = uniform_pattern(n_rows, n_pos)
    target = np.zeros_like(pattern)
    everywhere = row.value_all or row.value
    target[everywhere.row, everywhere.query, everywhere.key] = 1.0
    has = target.sum(-1, keepdims=True)
    mixed = (1 - strength) * pattern + strength * target / np.maximum(has, 1)
    return torch.from_numpy(np.where(has > 0, mixed, pattern)).float()[:, None]


def uniform_pattern(n_rows, n_pos, window=None):
    distance = np.arange(n_pos)[:, None] - np.arange(n_pos)
    seen = (distance >= 0) & (distance < (window or n_pos))
    return (seen / seen.sum(-1, keepdims=True))[None].repeat(n_rows, 0)


def random_pattern(n_rows, n_heads, n_pos, seed=0):
    raw = torch.rand(n_rows, n_heads, n_pos, n_pos, generator=torch.Generator().manual_seed(seed)).tril()
    return raw / raw.sum(-1, keepdim=True)


@pytest.fixture(scope="module")
def plan(probe, batch, calibration):
    return make_plan(batch, [probe], calibration)


def measures(plan, pattern, *, local=False):
    """Mean over stories of every measure of one head."""
    read = plan.read(pattern, local=local)[:, :, 0]
    means = [float(read[plan.present[:, i], i].mean()) for i in range(len(plan.measures))]
    return dict(zip(plan.measures, means, strict=True))


def contrasts(found, position):
    """Value minus each null at one position."""
    return {m.null: v for m, v in found.items() if m.kind == "null" and m.position == position}


def test_it_says_what_it_is(probe):
    assert probe.name == probe.name.lower()
    assert len(probe.description) > 10
    assert probe.family in NULLS
    assert probe.served, "every probe declares where the model needs what the role gives"
    assert probe.floor == ATTENTION_FLOOR
    assert probe.basis in ("positional", None)
    assert probe.basis is None or probe.family == "positional"


def test_it_costs_what_it_declares(probe, counted):
    """Pairs that it reads for a token, within a factor of two and a half."""
    batch, tokenizer = counted
    batch = own(probe, tokenizer) or batch
    reads = make_plan(batch, [probe], Calibration(np.bincount(batch.tokens[batch.is_query], minlength=4096)))
    per_token = (len(reads.pairs.weight) + len(reads.slots.weight)) / batch.length.sum()
    assert probe.cost is None or probe.cost / 2.5 < per_token < probe.cost * 2.5
    assert (probe.cost is None) == (probe.name == "label_mine"), per_token


def test_it_serves_real_positions(probe, batch):
    served = probe.serves(batch)
    if served is None:
        assert probe.name == "first_token"
        return
    assert served.shape == batch.tokens.shape
    assert served.dtype == bool
    assert served.any()
    assert not (served & ~batch.is_query).any()


def test_it_has_the_nulls_of_its_family_each_in_one_form(probe, rows):
    positions = probe.positions if probe.family == "relational" else ("word",)
    assert tuple(row.position for row in rows) == positions
    for row in rows:
        assert set(row.nulls) >= NULLS[probe.family]
        for null in row.nulls.values():
            forms = (null.pairs, null.profile, null.number, null.difference)
            assert sum(form is not None for form in forms) == 1


def test_every_measure_has_a_query_in_some_stories(plan):
    for column, measure in enumerate(plan.measures):
        assert plan.present[:, column].sum() >= 2, measure


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_planted_attention_is_found_at_its_strength(batch, plan, rows, strength):
    for row in rows:
        found = measures(plan, planted(row, batch, strength))
        value = next(v for m, v in found.items() if m.kind == "value" and m.position == row.position)
        # A query with many targets has some at the most frequent distance, which the value leaves out.
        assert 0.95 * strength <= value <= 1 + 1e-4
        excess = contrasts(found, row.position)
        at_offset = value - excess.pop("offset", value)
        assert 0 <= at_offset < 0.7  # decided by the text alone
        assert min(excess.values()) > 0.5 * strength, excess


def test_uniform_attention_has_no_excess(batch, plan, rows):
    for window in (None, WINDOW):
        pattern = torch.from_numpy(uniform_pattern(*batch.tokens.shape, window)).float()[:, None]
        found = measures(plan, pattern, local=window is not None)
        for row in rows:
            assert min(contrasts(found, row.position).values()) < 0.02
            if "uniform" in row.nulls:
                assert contrasts(found, row.position)["uniform"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("probe", NOT_BY_DISTANCE, indirect=True)
def test_a_head_of_any_fixed_distance_has_no_excess(batch, plan, rows):
    """Distance alone must not make a role that is about words."""
    n_rows, n_pos = batch.tokens.shape
    for distance in (1, 2, 3, 5, 9):
        pattern = np.eye(n_pos, k=-distance)[None, None].repeat(n_rows, 0)
        found = measures(plan, torch.from_numpy(pattern).float())
        for row in rows:
            excess = contrasts(found, row.position)
            assert min(excess.values()) < 0.02, (distance, excess)


def test_values_stay_between_zero_and_one(batch, plan):
    read = plan.read(random_pattern(len(batch.length), 3, batch.tokens.shape[1]), local=False)
    for column, measure in enumerate(plan.measures):
        low = -1e-5 if measure.kind != "null" else -1 - 1e-5
        assert read[:, column].min() >= low
        assert read[:, column].max() <= 1 + 1e-5


def test_inputs_are_untouched_and_a_second_reading_gives_the_same_bytes(probe, batch, calibration):
    tokens, length = batch.tokens.copy(), batch.length.copy()
    raw = random_pattern(len(batch.length), 2, batch.tokens.shape[1])
    kept = raw.clone()
    once, again = (make_plan(batch, [probe], calibration).read(raw, local=False) for _ in range(2))
    score = probe.score(raw, batch)
    assert torch.equal(raw, kept)
    assert np.array_equal(batch.tokens, tokens)
    assert np.array_equal(batch.length, length)
    assert torch.equal(once, again)
    assert torch.equal(score, probe.score(raw, batch))


def test_sequences_of_its_own_follow_from_the_seed(probe, pieces):
    one, same, other = (own(probe, pieces, seed) for seed in (3, 3, 4))
    if one is None:
        assert other is None
        return
    assert np.array_equal(one.tokens, same.tokens)
    assert one.tokens.shape != other.tokens.shape or not np.array_equal(one.tokens, other.tokens)


@pytest.mark.parametrize("probe", [name for name in PROBES if name != "induction"], indirect=True)
def test_padding_company_and_order_do_not_change_a_story(probe, gold, pieces, calibration):
    """Each story has the same measures alone, beside longer ones, and in another order."""
    some = gold[:4]
    together = make_plan(batch_of_stories(some, pieces, n_ctx=CONTEXT, labels=NEEDS), [probe], calibration)
    turned = make_plan(
        batch_of_stories(some[::-1], pieces, n_ctx=CONTEXT, labels=NEEDS), [probe], calibration
    )
    pattern = random_pattern(4, 2, together.tokens.shape[1], seed=1)
    read = together.read(pattern, local=False)
    torch.testing.assert_close(turned.read(pattern.flip(0), local=False).flip(0), read, atol=1e-6, rtol=1e-5)
    assert torch.equal(turned.present.flip(0), together.present)
    for index, story in enumerate(some):
        alone = make_plan(
            batch_of_stories([story], pieces, n_ctx=CONTEXT, labels=NEEDS), [probe], calibration
        )
        n_pos = alone.tokens.shape[1]
        first = alone.read(pattern[index : index + 1, :, :n_pos, :n_pos], local=False)[0]
        torch.testing.assert_close(first, read[index], atol=1e-6, rtol=1e-5)
        assert torch.equal(alone.present[0], together.present[index])


def test_position_zero_never_asks_and_no_key_lies_ahead(batch, rows):
    for row in rows:
        sets = [row.value, row.value_all]
        sets += [
            pairs for null in row.nulls.values() for pairs in (null.pairs, null.profile, null.difference)
        ]
        for pairs in sets:
            if pairs is not None:
                assert (pairs.query >= 1).all()
                assert (pairs.key >= 0).all()
                assert (pairs.key < pairs.query).all()
                assert (pairs.query < batch.length[pairs.row]).all()


def test_weights_of_a_story_are_those_of_a_mean_over_queries(rows):
    for row in rows:
        for pairs in (row.value, row.value_all):
            if pairs is not None:
                asking = np.unique(np.stack([pairs.row, pairs.query]), axis=1)[0]
                assert pairs.weight == pytest.approx(1 / np.bincount(asking)[pairs.row])


def test_the_pure_measure_agrees_with_the_plan(probe, batch, plan, rows):
    row = rows[0]
    for pattern in (planted(row, batch, 0.4), random_pattern(len(batch.length), 1, batch.tokens.shape[1])):
        found = measures(plan, pattern)
        kind = "all" if row.value_all is not None else "value"
        value = next(v for m, v in found.items() if m.kind == kind and m.position == row.position)
        assert float(probe.score(pattern, batch)[0]) == pytest.approx(value, abs=1e-5)


def test_it_is_named_in_the_methods(probe):
    name = "label_NAME" if isinstance(probe, UserLabel) else probe.name
    text = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert f"`{name}`" in text
