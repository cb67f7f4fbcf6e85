"""What heads produce: places, matched weights, direct attribution, copying, and verdicts where the truth is known."""

import warnings
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from tslens.causal.replacement import MeanZ
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ModelError, ProbeInputError
from tslens.files import write_jsonl
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Calibration
from tslens.probes.batch import story_batches
from tslens.probes.production import produce
from tslens.probes.production.classes import COPYING, N_WORDS, Classes, NextClass
from tslens.probes.production.contrast import Weights, matched, moves
from tslens.probes.production.copying import copied, eigenvalue_shares, moved_keys
from tslens.probes.production.corrected import Corrected
from tslens.probes.production.direct import DirectReader, Run, unembedding, written_by_heads
from tslens.probes.production.places import Places, joined
from tslens.probes.production.produce import NEEDS, score_production
from tslens.probes.production.report import Produced
from tslens.probes.production.results import SCHEMA, load_production, save_production
from tslens.probes.production.total import TotalReader
from tslens.probes.production.verdict import FLOOR, threshold
from tslens.probes.strata import Strata, Texts
from tslens.probes.twins import random_twins
from tslens.probes.units import KIND
from tslens.types import HeadId, Provenance

STORIES = list(write_stories(40, seed=7))
TOKENIZER = StoryTokenizer.train(STORIES, vocab_size=512)


@pytest.fixture(scope="module")
def model():
    """Two layers of two heads, far enough from zero that attention is not even."""
    found = TinyTransformer(ModelSpec.from_name("l2_h32"), TOKENIZER.vocab_size, seed=3, tokenizer=TOKENIZER)
    with torch.no_grad():
        for name, parameter in found.named_parameters():
            if ".W_" in name:
                parameter.mul_(8)
            if name.startswith("ln_final"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return found.eval()


@pytest.fixture(scope="module")
def read():
    """Batches of the stories, their places and classes."""
    batches = list(story_batches(STORIES, TOKENIZER, n_ctx=512, batch_tokens=1024, labels=NEEDS))
    texts = Texts(batches, (), Calibration(np.zeros(512, dtype=np.int64)), has_ends=True)
    strata = Strata.of(texts, TOKENIZER.vocab_size, 512)
    places = [Places.of(batch, one) for batch, one in zip(batches, strata.of_batch, strict=True)]
    n_rows = [len(batch.length) for batch in batches]
    return batches, places, Classes.count(places, n_rows, TOKENIZER, TOKENIZER.vocab_size)


@pytest.fixture
def few_twins(monkeypatch):
    """Two random twins, where the test does not ask about them."""
    monkeypatch.setattr(
        produce, "random_twins", lambda model, *, seed: islice(random_twins(model, seed=seed), 2)
    )


# Places and classes -----------------------------------------------------------------------------------------


def test_places_are_where_the_next_token_begins_a_unit(read):
    batches, places, _ = read
    for batch, here in zip(batches, places, strict=True):
        for row in range(len(batch.length)):
            mine = here.row == row
            begins = set(batch.units.first[row][batch.units.kind[row] >= 0] - 1) - {0}
            assert set(here.pos[mine].tolist()) == begins and 0 not in here.pos[mine]
        assert (here.token == batch.tokens[here.row, here.pos + 1]).all()
        assert (here.current == batch.tokens[here.row, here.pos]).all()
        for row, pos, seen in list(zip(here.row, here.pos, here.seen, strict=True))[:300]:
            assert seen == (batch.tokens[row, pos + 1] in batch.tokens[row, 1 : pos + 1])


def test_classes_are_the_parts_of_speech_and_the_commonest_words(read):
    _, places, classes = read
    names = [one.name for one in classes.all if one.kind == "part"]
    assert {"NOUN", "VERB", "PUNCT", "closing", "DET"} <= set(names)
    words = [one for one in classes.all if one.kind == "word"]
    assert 0 < len(words) <= N_WORDS
    every = joined(places, [int(here.row.max()) + 1 for here in places])
    counts = np.bincount(every.token)
    assert counts[words[0].members[0]] == counts.max() == words[0].n_places
    assert [one.name for one in classes.only(np.arange(len(classes)) < 2).all] == names[:2]
    by_name = dict(zip([one.name for one in classes.all], classes.holds(every).T, strict=True))
    assert (by_name["closing"] <= by_name["PUNCT"]).all() and by_name["closing"].any()
    assert not (by_name["NOUN"] & by_name["VERB"]).any()
    np.testing.assert_allclose(classes.profile.sum(0), 0, atol=1e-12)
    noun = [one.name for one in classes.all].index("NOUN")
    share = np.bincount(every.token[every.kind == KIND["NOUN"]], minlength=len(classes.share))
    np.testing.assert_allclose(classes.profile[:, noun] + classes.share, share / share.sum(), atol=1e-12)


# Weights ----------------------------------------------------------------------------------------------------


def test_matched_weights_compare_within_strata():
    holds = np.array([1, 0, 0, 1, 1, 0], dtype=bool)[:, None]
    strata = np.array([0, 0, 0, 1, 2, 2])[:, None]
    found = matched(holds, strata)[:, 0]
    np.testing.assert_allclose(found, [0.5, -0.25, -0.25, 0.0, 0.5, -0.5])  # the fourth has no match
    assert not matched(holds, np.arange(6)[:, None]).any()
    assert matched(np.zeros((0, 3), dtype=bool), np.zeros((0, 3), dtype=int)).shape == (0, 3)


def test_a_head_that_depends_on_the_stratum_alone_has_no_value(read):
    batches, places, classes = read
    weights = Weights.of(classes, places[0], batches[0].cluster, seed=0)
    for column, one in enumerate(classes.all):
        if one.kind == "part":
            total = np.bincount(places[0].row, weights.value[:, column] * places[0].alike)
            np.testing.assert_allclose(total, 0, atol=1e-9)
    positive = np.where(weights.value > 0, weights.value, 0)
    sums = np.stack([np.bincount(places[0].row, column) for column in positive.T], 1)
    np.testing.assert_allclose(sums, weights.has_value[: len(sums)].astype(float), atol=1e-9)
    is_in = classes.holds(places[0])
    assert (weights.value[is_in] >= 0).all() and (weights.value[~is_in] <= 0).all()


def test_moves_depend_on_story_and_seed_alone():
    assert moves(100, 7, 0) == moves(100, 7, 0) != moves(100, 8, 0)
    assert all(10 <= by < 90 for key in range(50) for by in moves(100, key, 1))


# Direct attribution -----------------------------------------------------------------------------------------


def test_contributions_are_exact_for_a_frozen_scale(model, read):
    """Taking a head away with the scale held: the logits change by exactly what was attributed to it."""
    batches, places, classes = read
    batch, here = batches[0], places[0]
    reader = DirectReader(model, classes)
    does, _ = reader.read(batch.tokens, here, moved_keys(batch, 0))
    tokens = torch.from_numpy(batch.tokens)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
        last = cache["blocks.1.hook_resid_post"]
        scale = cache["ln_final.hook_scale"]

        def logits(resid):
            centred = resid - resid.mean(-1, keepdim=True)
            return model.unembed(centred / scale * model.ln_final.w + model.ln_final.b)

        for layer, head in ((0, 1), (1, 0)):
            z = cache[f"blocks.{layer}.attn.hook_z"][:, :, head]
            without = last - z @ model.blocks[layer].attn.W_O[head]
            change = (logits(last) - logits(without))[here.row, here.pos].double()
            wanted = change @ torch.from_numpy(classes.profile)
            number = layer * model.cfg.n_heads + head
            torch.testing.assert_close(does[:, number, :-1].double(), wanted, atol=2e-4, rtol=1e-3)
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][:, head]
            beyond = change - (change @ torch.from_numpy(classes.share))[:, None]
            for i in range(0, len(here), 37):
                row, pos = here.row[i], here.pos[i]
                keys = tokens[row, 1 : pos + 1]
                by_hand = (pattern[row, pos, 1 : pos + 1].double() * beyond[i, keys]).sum()
                assert float(does[i, number, -1]) == pytest.approx(float(by_hand), abs=2e-3)


def test_all_parts_sum_to_the_logits(model):
    """Heads, MLPs, embeddings and biases, each through the same frozen scale."""
    tokens = torch.tensor([[TOKENIZER.start_id, *TOKENIZER.encode(STORIES[0].text)[:60]]])
    run = Run.of(model, tokens)
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens)
        W_U = unembedding(model)
        heads = sum(
            torch.einsum("rphe,hed->rpd", run.z[layer], written_by_heads(model, layer)) for layer in range(2)
        )
        rest = cache["blocks.1.hook_resid_post"] - sum(
            torch.einsum("rphe,hed->rpd", run.z[layer], model.blocks[layer].attn.W_O) for layer in range(2)
        )
        rest = (rest - rest.mean(-1, keepdim=True)) * model.ln_final.w
        total = (heads + rest) / run.scale @ W_U + model.unembed(model.ln_final.b)
    torch.testing.assert_close(total, logits, atol=5e-4, rtol=1e-3)


def test_total_contributions_are_what_logits_lose(model, read):
    """A hook that puts the mean in the head's place does the same."""
    batches, places, classes = read
    batch, here = batches[0], places[0]
    does, _ = TotalReader(model, classes, batches).read(batch.tokens, here, moved_keys(batch, 0))
    means = MeanZ()
    for one in batches:
        means.add(model.prefix(torch.from_numpy(one.tokens)), torch.from_numpy(one.length))
    tokens, mean = torch.from_numpy(batch.tokens), means.mean(batch.tokens.shape[1])
    with torch.no_grad():
        clean = model(tokens)
        for layer, head in ((0, 1), (1, 0)):

            def put(z, hook, layer=layer, head=head):
                z[:, :, head] = mean[layer, :, head].to(z)
                return z

            changed = model.run_with_hooks(tokens, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", put)])
            lost = (clean - changed)[here.row, here.pos].double()
            number = layer * model.cfg.n_heads + head
            wanted = lost @ torch.from_numpy(classes.profile)
            torch.testing.assert_close(does[:, number, :-1].double(), wanted, atol=5e-4, rtol=1e-3)
            _, cache = model.run_with_cache(tokens)
            pattern = cache[f"blocks.{layer}.attn.hook_pattern"][:, head]
            beyond = lost - (lost @ torch.from_numpy(classes.share))[:, None]
            for i in range(0, len(here), 41):
                row, pos = here.row[i], here.pos[i]
                keys = tokens[row, 1 : pos + 1]
                by_hand = (pattern[row, pos, 1 : pos + 1].double() * beyond[i, keys]).sum()
                assert float(does[i, number, -1]) == pytest.approx(float(by_hand), abs=2e-3)


def test_the_reading_leaves_no_hook_behind(model, read):
    batches, places, classes = read
    DirectReader(model, classes).read(batches[0].tokens, places[0], moved_keys(batches[0], 0))
    assert not any(model.list_hooks())


# Copying ----------------------------------------------------------------------------------------------------


def test_moved_keys_keep_the_start_and_the_padding(read):
    batch = read[0][0]
    found = moved_keys(batch, 3)
    for row, length in enumerate(batch.length.tolist()):
        for one in found[:, row]:
            assert sorted(one[:length]) == list(range(length)) and one[0] == 0
            assert (one[length:] == np.arange(length, len(one))).all()
            assert (one[1:length] != np.arange(1, length)).all()


def test_copied_weighs_by_attention_and_leaves_the_start_out():
    pattern = torch.tensor([[0.5, 0.3, 0.2]]).reshape(1, 1, 1, 3)
    written, directions = torch.ones(1, 1, 1, 2), torch.tensor([[9.0, 0], [2, -1], [0, -2]])[None]
    own, other = copied(pattern, written, directions, torch.tensor([[[0, 2, 1]], [[0, 1, 2]]]))
    assert float(own) == pytest.approx(0.3 * 1 - 0.2 * 2)
    assert float(other) == pytest.approx((0.3 * -2 + 0.2 * 1 + 0.3 - 0.4) / 2)


def test_eigenvalues_tell_a_head_that_copies_from_one_that_forbids(model):
    """The small matrix has the eigenvalues of the whole circuit; W_O the transpose of W_V copies."""
    copying = TinyTransformer(ModelSpec.from_name("l1_h32"), TOKENIZER.vocab_size, seed=3)
    with torch.no_grad():
        attention = copying.blocks[0].attn
        attention.W_O[0] = attention.W_V[0].T
        attention.W_O[1] = -attention.W_V[1].T
    shares = eigenvalue_shares(copying, [written_by_heads(copying, 0)], unembedding(copying))
    assert shares[0] > 0.95 and shares[1] < -0.95
    written, W_U = [written_by_heads(model, layer) for layer in range(2)], unembedding(model)
    found = eigenvalue_shares(model, written, W_U)
    with torch.no_grad():
        block = model.blocks[1]
        embedding = block.ln1(model.W_E + model.W_pos.mean(0))
        left = (embedding - embedding.mean(0)) @ block.attn.W_V[1]
        right = written[1][1] @ (W_U - W_U.mean(1, keepdim=True))
        whole = torch.linalg.eigvals((left @ right).double())
    assert found[3] == pytest.approx(float(whole.real.sum() / whole.abs().sum()), abs=1e-3)


# Verdicts ---------------------------------------------------------------------------------------------------


def test_the_threshold_of_twins_is_the_largest_lower_end():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.01, (20, 1, 5))
    values[:, 0, 3] += 0.5
    assert threshold(values)[0] == pytest.approx(0.5, abs=0.02)
    values[3:, 0] = np.nan
    assert threshold(values)[0] == pytest.approx(values[:3, 0].mean(0).max())
    assert threshold(np.full((4, 1, 2), np.nan))[0] == 0


def test_corrected_lower_ends_hold_for_all_tests_together():
    rng = np.random.default_rng(1)
    table = rng.normal(0, 1, (200, 30))
    table[:, 0] += 1
    table[::2, 5] = np.nan
    table[:, 6] = np.nan
    found = Corrected.of(table, rng.integers(2**63, size=200).tolist(), 0)
    assert found.n[5] == 100 and found.n[6] == 0 and found.low[6] == -np.inf
    alone = table[:, 0].mean() - 1.66 * table[:, 0].std() / 200**0.5
    assert 0.5 < found.low[0] < alone and found.low_half[0] > 0
    assert (np.delete(found.low, [0, 6]) < 0.05).all()


def quiet_score(model, stories, **more):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="There are only", category=UserWarning)
        return score_production(model, stories, seed=0, exclude=(), **more)


def test_a_redrawn_model_produces_nothing(model):
    """Its heads write so much that the floor alone would not refuse them; those of a fresh one write nearly nothing."""
    redrawn = model.random_twin("redrawn", seed=99)
    with torch.no_grad():
        for weights in (redrawn.embed.W_E, *(block.attn.W_O for block in redrawn.blocks)):
            weights.mul_(5)
    found = quiet_score(redrawn, STORIES)
    assert {row.status for row in found.rows} <= {"no", "unclear"}
    assert max(row.value for row in found.rows) > FLOOR > 2 * max(row.excess_low for row in found.rows)
    assert len({row.head for row in found.rows}) == 4
    assert all(row.cause is None and row.basis is None for row in found.rows)


def test_the_order_of_the_stories_does_not_matter(model, few_twins):
    one, other = (quiet_score(model, stories, n_explain=0) for stories in (STORIES, STORIES[::-1]))
    assert [row.name for row in one.rows] == [row.name for row in other.rows]
    for name in ("value", "low", "high"):
        values = [[getattr(row, name) for row in found.rows] for found in (one, other)]
        np.testing.assert_allclose(*values, atol=1e-3)


def test_both_ways_agree_on_text_and_differ_in_what_is_read(model, few_twins):
    found = {way: quiet_score(model, STORIES[:30], way=way, n_explain=0) for way in ("direct", "total")}
    assert [one.way for one in found.values()] == list(found)
    assert found["direct"].classes == found["total"].classes
    assert any(
        abs(one.value - other.value) > 1e-3
        for one, other in zip(found["direct"].rows, found["total"].rows, strict=True)
    )


def test_few_stories_are_warned_of_and_none_are_an_error(model, few_twins):
    with pytest.warns(UserWarning, match="only 6 stories"):
        found = score_production(model, STORIES[:6], seed=0, exclude=())
    assert all(row.status == "no" for row in found.rows)
    with pytest.raises(ProbeInputError, match="no story"):
        score_production(model, STORIES[:2], seed=0, exclude={one.digest for one in STORIES})


def test_a_model_with_hooks_is_refused(model):
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z)
    try:
        with pytest.raises(ModelError, match="hooks"):
            score_production(model, STORIES, seed=0)
    finally:
        model.reset_hooks()


def test_rows_come_back_from_their_file(tmp_path, model, few_twins):
    report = quiet_score(model, STORIES[:30], n_explain=0)
    record = Provenance("c", "1", 0, "author:30", "00", "now", 1.0, "3", "2", "x")
    path = tmp_path / "rows.jsonl"
    save_production(report, path, model="m", checkpoint="c", record=record)
    header, rows = load_production(path)
    assert tuple(rows) == report.rows and header["floor"] == FLOOR
    assert header["classes"][0]["class"] == report.classes[0]["class"]
    assert any(row.beside for row in rows if row.name == COPYING)
    write_jsonl(path, SCHEMA, {}, [{**rows[0].to_json(), "kind": "verse"}])
    with pytest.raises(DataError, match="no row of production"):
        load_production(path)


def test_a_row_keeps_what_was_found_of_it():
    row = Produced(
        HeadId(0, 1), "word", " the", 1.0, 0.5, 1.5, {"none": 0.0}, 1.0, 0.4, 0.01, "role", (1.0, None),
        (0.9, None), 12, "lexical", 0.8, 0.3, {"mean": 0.1}, None,
    )  # fmt: skip
    assert Produced.from_json(row.to_json()) == row
    assert replace(row, status="no") != row


def test_a_class_of_words_is_one_token(read):
    _, places, classes = read
    one = next(one for one in classes.all if one.kind == "word")
    assert isinstance(one, NextClass)
    assert set(places[0].token[one.holds(places[0])].tolist()) <= {one.members[0]}
