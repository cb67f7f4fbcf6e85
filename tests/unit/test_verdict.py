"""Whole scans where the truth is known: hand-set heads are found, random ones are not."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

import tslens
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.corpus.words import find_units
from tslens.errors import ProbeInputError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import choose_probes
from tslens.probes.held_out import HeldOut
from tslens.probes.results import load_head_scores, save_head_scores
from tslens.probes.scan import score_heads
from tslens.probes.twins import N_TWINS, random_twins
from tslens.probes.user_label import UserLabel
from tslens.probes.verdict import _threshold
from tslens.provenance import provenance
from tslens.stats import Means, one_sided
from tslens.types import HeadId, HeadScore, Story

PREVIOUS, DUPLICATE, SINK, IDLE = (HeadId(0, index) for index in range(4))


@pytest.fixture(scope="module")
def stories():
    """Author stories with gold labels; with direct speech, so that every probe has a query in 30 of them."""
    return [story for story in tslens.read_stories("author:200") if '"' in story.text][:50]


@pytest.fixture(scope="module")
def tokenizer(stories):
    return StoryTokenizer.train(stories, vocab_size=1200)


@pytest.fixture(scope="module")
def hand_set(tokenizer):
    """One layer of four heads: previous token, duplicate token, first token, nothing.

    Half of the residual stream holds the token, half the position as eight rotating hands; a head that turns the
    hands back by one place looks one place back.
    """
    model = TinyTransformer(ModelSpec.from_name("l1_h64"), tokenizer.vocab_size, seed=0, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(1)
    pos = torch.arange(512)
    speed = 2 * torch.pi / torch.tensor([3.0, 5.0, 7.0, 11.0, 17.0, 29.0, 61.0, 127.0])
    with torch.no_grad():
        for parameter in model.blocks[0].parameters():
            parameter.zero_()
        model.blocks[0].ln1.w.fill_(1.0)
        model.embed.W_E.zero_()
        model.embed.W_E[:, :32] = torch.randn(tokenizer.vocab_size, 32, generator=generator)
        model.embed.W_E[:, :32] /= model.embed.W_E[:, :32].norm(dim=1, keepdim=True) / 4
        model.pos_embed.W_pos.zero_()
        angle = pos[:, None] * speed
        model.pos_embed.W_pos[:, 32:48:2], model.pos_embed.W_pos[:, 33:48:2] = angle.cos(), angle.sin()
        model.pos_embed.W_pos[0, 63] = 6.0
        attention = model.blocks[0].attn
        for hand in range(8):
            at, turn = 32 + 2 * hand, float(speed[hand])
            c, s = np.cos(turn), np.sin(turn)
            rotation = torch.tensor(
                [[c, -s], [s, c]], dtype=torch.float32
            )  # rows: the hand, columns: turned back
            attention.W_Q[0, at : at + 2, 2 * hand : 2 * hand + 2] = 3 * rotation
            attention.W_K[0, at : at + 2, 2 * hand : 2 * hand + 2] = torch.eye(2)
        mix = torch.randn(32, 16, generator=generator) / 4
        attention.W_Q[1, :32], attention.W_K[1, :32] = 2 * mix, mix
        attention.W_Q[2, 48:62] = 0.0
        model.pos_embed.W_pos[:, 62] = 2.0
        attention.W_Q[2, 62, 0], attention.W_K[2, 63, 0] = 3.0, 3.0
    return model.eval()


@pytest.fixture(scope="module")
def report(hand_set, stories):
    return score_heads(hand_set, stories, seed=0, n_explain=0)


def row(report, head, probe, position="word"):
    return next(s for s in report.scores if (s.head, s.probe, s.position) == (head, probe, position))


@pytest.mark.parametrize(
    ("head", "probe"), [(PREVIOUS, "previous_token"), (DUPLICATE, "duplicate_token"), (SINK, "first_token")]
)
def test_hand_set_heads_are_candidates_for_what_they_do(report, head, probe):
    found = row(report, head, probe)
    assert found.status == "candidate", found
    assert found.value > 0.3
    assert found.p < 0.01
    assert all(half > 0.05 for half in found.excess_halves)


def test_they_are_not_candidates_for_what_they_do_not_do(report):
    found = {(s.head, s.probe) for s in report.scores if s.status == "candidate"}
    allowed = {
        (PREVIOUS, "previous_token"),
        (PREVIOUS, "previous_word"),
        (DUPLICATE, "duplicate_token"),
        (SINK, "first_token"),
    }
    assert found <= allowed, found - allowed


def test_a_head_that_does_nothing_is_no(report):
    assert report.status_of(IDLE) in {"no", "unclear"}


def test_no_cause_is_claimed_and_basis_is_by_construction(report):
    assert all(s.cause is None and s.status != "role" for s in report.scores)
    assert {s.basis for s in report.scores if s.probe == "sentence_end"} == {None}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", ["fresh", "redrawn"])
def test_random_models_have_no_candidates(hand_set, stories, seed, kind):
    twin = hand_set.random_twin(kind, seed=100 + seed)
    found = score_heads(twin, stories, seed=seed, n_explain=0)
    assert [s for s in found.scores if s.status == "candidate"] == []


def test_twins_have_the_scale_of_the_model(hand_set):
    twins = list(random_twins(hand_set, seed=3))
    assert (
        len({float(twin.embed.W_E.detach().sum()) for twin in twins}) == len(twins) == sum(N_TWINS.values())
    )
    for mine, drawn in zip(hand_set.parameters(), twins[-1].parameters(), strict=True):
        if mine.numel() > 1000:
            assert float(drawn.std().detach()) == pytest.approx(
                float(mine.std().detach()), rel=0.15, abs=1e-6
            )


def test_no_twin_is_the_initialisation_of_the_model(hand_set):
    begun = TinyTransformer(hand_set.spec, hand_set.cfg.d_vocab, seed=0)
    twin = next(random_twins(begun, seed=0))
    assert not torch.equal(twin.blocks[0].attn.W_Q, begun.blocks[0].attn.W_Q)


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_of_too_few_stories_nothing_is_told(hand_set, stories):
    found = score_heads(hand_set, stories[:1], probes=["previous_token"], seed=0, n_explain=0)
    assert {(score.status, score.p, score.excess_low) for score in found.scores} == {("no", 1.0, -1.0)}


def test_a_model_in_another_precision_is_scanned_as_well(hand_set, stories):
    double = copy.deepcopy(hand_set).double()
    probes = ["first_token", "sentence_end"]
    one, other = (
        score_heads(m, stories[:40], probes=probes, seed=0, n_explain=0) for m in (hand_set, double)
    )
    for a, b in zip(one.scores, other.scores, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-5)


def test_the_null_of_the_twins_picks_a_head_and_not_its_noise():
    """The highest value belongs to the noisiest head; the largest lower end to another."""
    mean, se = np.array([[[0.30, 0.25, 0.10]]]), np.array([[[0.10, 0.01, 0.01]]])

    def null(n):
        return _threshold(Means(mean, se, np.array([n])), 0)

    assert null(20) == pytest.approx(0.25 - float(one_sided(np.array(20))) * 0.01)
    assert null(4) == pytest.approx(0.30), "too few to trust a lower end"
    assert null(0) == 1.0


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_twins_read_on_until_a_rare_probe_has_been_asked(hand_set, stories):
    """A label of every eleventh word that only six of fifty stories have."""
    labelled = [
        replace(
            story,
            extra={
                **story.extra,
                "rare": [
                    index >= len(stories) - 6 and i % 11 == 2 for i in range(len(find_units(story.text)))
                ],
            },
        )
        for index, story in enumerate(stories)
    ]
    probes = [UserLabel("rare"), *choose_probes(["first_token"])]
    found = score_heads(hand_set, labelled, probes=probes, seed=0, n_explain=0).scores
    rare = [score for score in found if score.probe == "label_rare"]
    assert {score.n_stories for score in rare} == {6}
    assert all(0.01 < score.nulls["twins"] < 0.9 for score in rare)


def test_equal_seeds_give_equal_reports_whatever_the_order(hand_set, stories):
    chosen = ["first_token", "sentence_end"]
    one = score_heads(hand_set, stories[:40], probes=chosen, seed=4, n_explain=0)
    same = score_heads(hand_set, stories[:40], probes=chosen, seed=4, n_explain=0)
    turned = score_heads(hand_set, stories[39::-1], probes=chosen, seed=4, n_explain=0)
    assert one.scores == same.scores
    for a, b in zip(one.scores, turned.scores, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-6)
        for null in a.nulls.keys() - {"twins"}:  # the twins read the first stories
            assert a.nulls[null] == pytest.approx(b.nulls[null], abs=1e-6)
        assert a.status == b.status


def test_halves_and_floors_are_reported(report):
    counts = report.counts_at_floors
    assert counts["half"] >= counts["floor"] >= counts["double"] >= 3
    assert len(report.distance_profiles) == 4
    assert report.distance_profiles[PREVIOUS][1] > 0.5  # most of its attention one place back
    assert "previous_token" in report._repr_html_()
    assert len(report.to_pandas()) == len(report.scores)


def test_few_stories_are_said_and_no_story_is_refused(hand_set, stories):
    with pytest.warns(UserWarning, match="below 30"):
        few = score_heads(hand_set, stories[:3], probes=["sentence_end"], seed=0, n_explain=0)
    assert few.n_stories == 3
    with pytest.raises(ProbeInputError, match="no story"):
        score_heads(hand_set, [], seed=0)
    with pytest.raises(ProbeInputError, match="two"):
        score_heads(hand_set, [Story("a")], seed=0)


def test_training_stories_are_left_out(hand_set, stories):
    exclude = {story.digest for story in stories[:20]}
    found = score_heads(hand_set, stories, probes=["first_token"], exclude=exclude, seed=0, n_explain=0)
    assert (found.n_stories, found.n_excluded) == (len(stories) - 20, 20)


def test_default_stories_are_held_out_author_stories(hand_set):
    found = list(HeldOut(hand_set, None, 5))
    assert len(found) == 5
    assert all(story.digest % 20 == 0 for story in found)


def test_what_is_left_out_is_kept_for_the_4_gram(hand_set):
    held_out = HeldOut(hand_set, None, 5)
    found = {story.text for story in held_out}
    assert len(held_out.others) > 20
    assert not found & set(held_out.others)
    assert all(Story(text).digest % 20 for text in held_out.others)


def test_scores_come_back_from_disk(report, tmp_path):
    record = provenance(command="x", seed=0, data="d", data_sha256="0", started="", seconds=1.0)
    path = tmp_path / "scores.jsonl"
    save_head_scores(report, path, model="m", checkpoint="c", record=record)
    header, rows = load_head_scores(path)
    assert header["schema"] == "tslens.head_score/1"
    assert rows == list(report.scores)
    assert isinstance(rows[0], HeadScore)
    assert (tmp_path / "scores.provenance.json").exists()
