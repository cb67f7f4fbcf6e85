"""Heads of known kind are told apart, shares are what they are by hand, files keep what they were given."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tslens.corpus.stories import read_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ModelError, ProbeInputError
from tslens.files import read_jsonl, write_jsonl
from tslens.model.attention import allowed_pairs
from tslens.probes.basis import Rows
from tslens.probes.batch import batch_of_stories
from tslens.probes.kinds import deviance
from tslens.probes.kinds.deviance import FORMS, Deviances, fit_forms, read_deviances, total_deviance
from tslens.probes.kinds.measure import head_kinds
from tslens.probes.kinds.parts import FIRST, NO_UNIT, kind_of_tokens, token_classes
from tslens.probes.kinds.report import (
    KINDS,
    SCHEMA,
    SHARES,
    HeadKind,
    Interval,
    load_head_kinds,
    save_head_kinds,
)
from tslens.probes.kinds.rule import EVEN_NATS, judge_kinds, kind_numbers
from tslens.probes.units import KIND, LabelNeeds
from tslens.provenance import provenance
from tslens.types import HeadId, Provenance, Story

CONTEXT = 28
NAMES = ("distance", "words", "parts", "both", "even", "story")


@pytest.fixture(scope="module")
def gold():
    """Stories with the author's labels."""
    return list(read_stories("author:80"))


@pytest.fixture(scope="module")
def gold_tokenizer(gold):
    return StoryTokenizer.train(gold, vocab_size=400)


@pytest.fixture(scope="module")
def batch(gold, gold_tokenizer):
    return batch_of_stories(gold, gold_tokenizer, n_ctx=CONTEXT, labels=LabelNeeds(scheme=True))


class MadeModel:
    """One layer of six heads whose attention is known: see ``NAMES``.

    ``force``: factor of all scores. A random twin likes other tokens and other classes, with a third of the force.
    """

    train_digests = frozenset()
    device = torch.device("cpu")

    def __init__(self, tokenizer, classes, *, seed=0, force=1.0):
        self.tokenizer, self.classes, self.force, self.asked = tokenizer, classes, force, []
        generator = torch.Generator().manual_seed(seed)
        n = tokenizer.vocab_size
        self.liked = 2.0 * torch.randn(n, generator=generator)
        self.of_class = 3.0 * torch.randn(int(classes.max()) + 1, generator=generator)[classes]
        self.cfg = SimpleNamespace(n_layers=1, n_heads=len(NAMES), d_head=4, d_vocab=n, n_ctx=CONTEXT)

    def window(self, layer):
        return None

    def random_twin(self, kind, *, seed):
        self.asked.append((kind, seed))
        return MadeModel(self.tokenizer, self.classes, seed=seed, force=1 / 3)

    def attention_patterns(self, tokens, scratch=None):
        n = tokens.shape[1]
        pos = torch.arange(n)
        near = -1.0 * (pos[:, None] - pos).abs().float().expand(len(tokens), n, n)
        words = self.liked[tokens][:, None, :].expand(-1, n, -1)
        parts = self.of_class[tokens][:, None, :].expand(-1, n, -1)
        place = tokens.sum(1) % (n - 1) + 1  # no two tokens tell it, and no distance
        story = 6.0 * torch.nn.functional.one_hot(place, n)[:, None, :].expand(-1, n, -1).float()
        scores = torch.stack([near, words, parts, 0.5 * near + words, torch.zeros_like(near), story], 1)
        scores = self.force * scores
        yield scores.masked_fill(~allowed_pairs(pos, pos, None), float("-inf")).softmax(-1)


@pytest.fixture(scope="module")
def made(gold_tokenizer, batch):
    return MadeModel(gold_tokenizer, token_classes([batch], gold_tokenizer.vocab_size))


@pytest.fixture(scope="module")
def report(made, gold):
    layers = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deviance, "EPOCHS", 40)  # made heads give no mean queries and keys to start from
        found = head_kinds(made, gold, seed=0, fitting=layers.append)
    assert layers == [1]
    return found


def test_heads_of_known_kind_are_told_apart(report):
    found = {name: head.kind for name, head in zip(NAMES, report.heads, strict=True)}
    assert found == {
        "distance": "positional",
        "words": "semantic",
        "parts": "syntactic",
        "both": "mixed",
        "even": "even",
        "story": "mixed",
    }
    assert report.n_stories == 80 and sum(report.n_fitted) == 80 and report.n_excluded == 0


def test_shares_say_what_explains_a_head(report):
    by_name = dict(zip(NAMES, report.heads, strict=True))
    for name, head in by_name.items():
        values = {share: head.shares[share].value for share in SHARES}
        if name != "even":
            four = [values[one] for one in SHARES[:4]]
            assert sum(four) == pytest.approx(1)
            assert values["parts_of_speech"] + values["words"] == pytest.approx(values["unique_tokens"])
            assert all(head.shares[one].low <= values[one] <= head.shares[one].high for one in SHARES)
    distance, words, parts = (by_name[name].shares for name in NAMES[:3])
    # Which token stands before another, tokens can guess: what they can is shared.
    assert distance["unique_distance"].low > 0.3 and abs(distance["unique_tokens"].value) < 0.02
    assert abs(distance["unexplained"].value) < 0.02
    assert words["unique_tokens"].low > 0.5 and abs(words["unique_distance"].value) < 0.05
    assert words["words"].value > words["parts_of_speech"].value
    assert parts["parts_of_speech"].low > 0.6 and parts["words"].high < 0.15
    assert by_name["story"].shares["unexplained"].low > 0.8
    assert by_name["even"].total.value == pytest.approx(0, abs=1e-5) and by_name["even"].balance is None
    assert by_name["distance"].balance.value > 0.9 and by_name["words"].balance.value < -0.8


def test_totals_are_held_against_the_largest_of_five_twins(report, made, batch):
    kinds, seeds = zip(*made.asked, strict=True)
    assert kinds == ("fresh", *["redrawn"] * 4) and len(set(seeds)) == 5
    rows = Rows(torch.from_numpy(batch.tokens), torch.from_numpy(batch.length))
    totals = [
        total_deviance(made.random_twin(kind, seed=seed), rows).mean(0) for kind, seed in made.asked[:5]
    ]
    assert report.twins == pytest.approx(np.max(totals), rel=0.1)  # read here on other stories too
    beyond = {name for name, head in zip(NAMES, report.heads, strict=True) if head.beyond_twins}
    assert beyond == {*NAMES} - {"even"}
    for head in report.heads:
        assert head.beyond_twins == (head.total.low > report.twins)


def test_training_stories_are_left_out(made, gold):
    with pytest.raises(ProbeInputError, match="each needs 5"):
        head_kinds(made, gold, seed=0, exclude={story.digest for story in gold[4:]})


def test_a_model_without_tokenizer_is_refused(made, gold):
    bare = MadeModel.__new__(MadeModel)
    bare.__dict__ = {**made.__dict__, "tokenizer": None}
    with pytest.raises(ModelError, match="no tokenizer"):
        head_kinds(bare, gold, seed=0)


# Deviance ------------------------------------------------------------------------------------------------


class TwoRows(MadeModel):
    """A model whose one head attends to the token before with 0.7, and evenly to the rest."""

    def __init__(self):
        self.cfg = SimpleNamespace(n_layers=1, n_heads=1, d_head=4, d_vocab=9, n_ctx=8)

    def attention_patterns(self, tokens, scratch=None):
        n = tokens.shape[1]
        pattern = torch.zeros(n, n)
        pattern[0, 0] = 1
        for q in range(1, n):
            pattern[q, : q + 1] = 0.3 / q
            pattern[q, q - 1] = 0.7
        yield pattern.expand(len(tokens), 1, n, n)


def test_the_total_is_by_hand():
    """Of a story of three tokens: query 1 has 0.7 and 0.3, query 2 has 0.7 and twice 0.15."""
    rows = Rows(torch.zeros(2, 4, dtype=torch.long), torch.tensor([3, 4]))
    one = 0.7 * np.log(0.7) + 0.3 * np.log(0.3) + np.log(2)
    two = 0.7 * np.log(0.7) + 0.3 * np.log(0.15) + np.log(3)
    three = 0.7 * np.log(0.7) + 0.3 * np.log(0.1) + np.log(4)
    expected = [(one + two) / 2, (one + two + three) / 3]
    assert total_deviance(TwoRows(), rows)[:, 0] == pytest.approx(expected, rel=1e-5)


def test_deviances_left_are_those_of_the_predicted_rows(made, batch):
    rows = Rows(torch.from_numpy(batch.tokens[:16]), torch.from_numpy(batch.length[:16]))
    heads = [HeadId(0, index) for index in range(len(NAMES))]
    classes = token_classes([batch], made.cfg.d_vocab)
    forms = fit_forms(made, [rows], heads, classes, seed=0)
    found = read_deviances(made, rows, [forms])
    (true,) = made.attention_patterns(rows.tokens)
    for form in FORMS:
        predicted = forms[form].pattern(rows.tokens)[0]
        divergence = torch.nn.functional.kl_div(predicted.log(), true, reduction="none").nan_to_num().sum(-1)
        for row, length in enumerate(rows.length.tolist()):
            expected = divergence[row, :, 1:length].mean(-1)
            assert torch.allclose(torch.from_numpy(found.left[form][row]).float(), expected, atol=1e-4)
    assert np.allclose(found.total, total_deviance(made, rows))
    assert np.allclose(found.first[0, 4], (1 / np.arange(2, batch.length[0] + 1)).mean())  # the even head


# Parts of speech -----------------------------------------------------------------------------------------


def test_tokens_have_the_part_of_speech_of_their_unit(batch):
    kind = kind_of_tokens(batch)
    assert (kind[:, 0] == FIRST).all()
    row = 0
    for unit in np.flatnonzero(batch.units.kind[row] >= 0):
        last = batch.units.last[row, unit]
        assert kind[row, last] == batch.units.kind[row, unit] or batch.units.first[row, unit + 1] == last
    assert (kind == KIND["NOUN"]).sum() > 50 and (kind[batch.is_token] == NO_UNIT).mean() < 0.2


def test_classes_are_numbered_without_a_gap(batch, gold_tokenizer):
    n = gold_tokenizer.vocab_size
    classes = token_classes([batch], n)
    assert classes.shape == (n,) and torch.equal(classes.unique(), torch.arange(int(classes.max()) + 1))
    start = int(batch.tokens[0, 0])
    assert (classes == classes[start]).sum() == 1
    seen = np.unique(batch.tokens[batch.is_token])
    unseen = np.setdiff1d(np.arange(n), seen)
    assert len(unseen) and len(classes[unseen].unique()) == 1
    assert int(classes[unseen[0]]) not in classes[seen].tolist()


# The rule ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "total, distance, tokens, parts, kind",
    [
        (1.0, 0.5, 0.1, 0.0, "positional"),
        (1.0, 0.2, 0.1, 0.1, "positional"),
        (1.0, 0.5, 0.3, 0.3, "mixed"),
        (1.0, 0.1, 0.5, 0.3, "syntactic"),
        (1.0, 0.1, 0.5, 0.2, "semantic"),
        (1.0, 0.09, 0.01, 0.0, "mixed"),
        (1.0, -0.02, 0.3, 0.0, "semantic"),
        (1.0, 0.0, 0.0, 0.0, "mixed"),
        (EVEN_NATS / 2, 0.9, 0.0, 0.0, "even"),
    ],
)
def test_kinds_follow_the_rule(total, distance, tokens, parts, kind):
    shares = np.zeros(len(SHARES))
    for name, value in {
        "unique_distance": distance,
        "unique_tokens": tokens,
        "parts_of_speech": parts,
    }.items():
        shares[SHARES.index(name)] = value
    assert KINDS[int(kind_numbers(np.array(total), shares))] == kind


def deviances(left, total, noise, n=100, seed=0):
    """Of one head: total and what each form leaves, with noise over stories."""
    rng = np.random.default_rng(seed)
    scale = 1 + noise * rng.normal(size=(n, 1))
    by_form = {form: left[form] * scale + 0.02 * noise * rng.normal(size=(n, 1)) for form in FORMS}
    return Deviances(total * scale, by_form, np.full((n, 1), 0.25)), [
        int(x) for x in rng.integers(2**63, size=n)
    ]


def test_a_ratio_of_numbers_that_move_together_has_a_narrow_interval():
    found, keys = deviances({"distance": 0.6, "tokens": 1.2, "parts": 0.5, "both": 0.4}, 2.0, 0.3)
    (row,) = judge_kinds([HeadId(0, 0)], found, keys, twins=0.0, seed=0)
    assert row.shares["unique_distance"].value == pytest.approx(0.4, abs=0.01)
    assert row.shares["unique_distance"].error < 0.02 < row.total.error
    assert row.kind == row.nearest == "positional" and row.certain == 1.0 and row.first == 0.25
    assert row.balance.value == pytest.approx(0.6 / 1.0, abs=0.02)
    assert row.difference.value == pytest.approx(0.3, abs=0.01)


def test_a_kind_on_the_border_is_unclear():
    left = {
        "distance": 0.6,
        "tokens": 0.8,
        "parts": 0.5,
        "both": 0.4,
    }  # distance 0.2 of 2, tokens 0.1: just twice
    found, keys = deviances(left, 2.0, 1.0)
    (row,) = judge_kinds([HeadId(0, 0)], found, keys, twins=0.0, seed=0)
    assert row.kind == "unclear" and row.nearest in ("positional", "mixed") and row.certain < 0.95


def test_halves_that_disagree_leave_a_kind_open():
    found, keys = deviances({"distance": 0.6, "tokens": 1.2, "parts": 0.5, "both": 0.4}, 2.0, 0.05)
    from tslens.stats import second_half

    side = np.array([second_half(key) for key in keys])[:, None]
    left = {**found.left, "distance": np.where(side, found.left["distance"], found.left["tokens"] + 0.9)}
    (row,) = judge_kinds([HeadId(0, 0)], dataclasses.replace(found, left=left), keys, twins=0.0, seed=0)
    assert row.halves[0] != row.halves[1] and row.kind == "unclear"


def test_intervals_cover_the_truth():
    """Of a hundred samples about 95 intervals hold the ratio of the means."""
    left = {"distance": 0.6, "tokens": 1.2, "parts": 0.5, "both": 0.4}
    held = 0
    for seed in range(100):
        found, keys = deviances(left, 2.0, 0.5, n=60, seed=seed)
        (row,) = judge_kinds([HeadId(0, 0)], found, keys, twins=0.0, seed=seed)
        held += row.shares["unique_distance"].low <= 0.4 <= row.shares["unique_distance"].high
    assert 88 <= held <= 100


# Files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def record() -> Provenance:
    return provenance(
        command="tslens kinds", seed=0, data="author:80", data_sha256="0" * 64, started="2026", seconds=1.0
    )


def test_a_file_gives_back_its_rows(report, record, tmp_path):
    path = tmp_path / "kinds.jsonl"
    save_head_kinds(report, path, model="made", checkpoint="none", record=record)
    header, rows = load_head_kinds(path)
    assert rows == list(report.heads)
    assert header["model"] == "made" and header["n_stories"] == 80 and header["twins"] == report.twins
    assert path.with_suffix(".provenance.json").exists()
    assert "NaN" not in path.read_text(encoding="utf-8")


def test_rows_that_do_not_say_it_are_held_against_the_twins(report, record, tmp_path):
    path = tmp_path / "kinds.jsonl"
    save_head_kinds(report, path, model="made", checkpoint="none", record=record)
    header, rows = read_jsonl(path, SCHEMA)
    for row in rows:
        del row["beyond_twins"]
    write_jsonl(path, SCHEMA, {key: header[key] for key in header if key != "schema"}, rows)
    assert load_head_kinds(path)[1] == list(report.heads)


def test_a_broken_row_is_refused(report, record, tmp_path):
    path = tmp_path / "kinds.jsonl"
    save_head_kinds(report, path, model="made", checkpoint="none", record=record)
    header, rows = read_jsonl(path, SCHEMA)
    del rows[0]["shares"]["words"]
    write_jsonl(path, SCHEMA, {key: header[key] for key in header if key != "schema"}, rows)
    with pytest.raises(DataError, match="no row of kinds"):
        load_head_kinds(path)


def test_a_report_shows_as_a_table(report):
    table = report.to_pandas()
    assert len(table) == len(NAMES) and {"head", "kind", "total", *SHARES} <= set(table.columns)
    assert "positional" in report._repr_html_()


def test_the_error_of_an_interval_is_a_normal_one():
    assert Interval(0.5, 0.5 - 1.96 * 0.1, 0.5 + 1.96 * 0.1).error == pytest.approx(0.1)


def test_a_row_of_another_head_is_another_row(report):
    row = report.heads[0]
    assert HeadKind.from_json(row.to_json()) == row
    assert Story("x").digest != Story("y").digest
