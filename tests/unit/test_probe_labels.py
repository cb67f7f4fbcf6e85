"""Labels of a scan: a story's own, else the annotator's, else none and said so."""

from dataclasses import replace

import pytest

import tslens
from tslens.corpus.labelled import read_labels
from tslens.errors import DataError
from tslens.probes import labels as module
from tslens.probes.base import find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.labels import needs_of, parser_is_missing, with_labels
from tslens.probes.scan import score_heads
from tslens.probes.units import LabelNeeds
from tslens.probes.user_label import UserLabel

NEEDING = {name for name, probe in find_probes().items() if probe.labels.scheme}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Labels that a test makes go nowhere else."""
    monkeypatch.setenv("TSLENS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def gold():
    return list(tslens.read_stories("author:60"))[:6]


@pytest.fixture
def no_parser(monkeypatch):
    """No parser anywhere, as where spaCy is not installed."""

    def refuse():
        raise DataError("There is no parser.", "Install one.")

    monkeypatch.setattr(module, "open_parser", refuse)
    monkeypatch.setattr("tslens.corpus.annotate.open_parser", refuse)


def bare(story):
    """The story without its labels."""
    return replace(story, extra={name: value for name, value in story.extra.items() if name != "labels"})


def test_most_relations_need_labels_and_nothing_else_does():
    relational = {name for name, probe in find_probes().items() if probe.family == "relational"}
    assert relational - {"sentence_end"} == NEEDING


def test_what_probes_need_together():
    probes = find_probes()
    assert needs_of([probes["previous_token"], probes["sentence_end"]]) == LabelNeeds()
    assert needs_of([probes["previous_token"], probes["subject"]]) == LabelNeeds(scheme=True)
    own = [UserLabel("mine"), UserLabel("yours"), UserLabel("mine")]
    assert needs_of(own) == LabelNeeds(scheme=True, users=("mine", "yours"))


def test_own_labels_are_kept_and_the_others_are_made_in_order(gold, monkeypatch):
    """Whatever the mix, and across groups."""
    monkeypatch.setattr(module, "CHUNK", 4)
    asked = []

    def fake(stories, *, cache):
        for story in stories:
            asked.append(story.text)
            made = next(one for one in gold if one.text == story.text).extra["labels"]
            yield replace(story, extra={**story.extra, "labels": {**made, "made_by": "fake"}})

    monkeypatch.setattr(module, "annotate", fake)
    for plain in ({0}, {1, 2, 5}, {3, 4}, set(range(6)), set()):
        asked.clear()
        mixed = [bare(story) if i in plain else story for i, story in enumerate(gold)]
        found = list(with_labels(iter(mixed)))
        assert [story.text for story in found] == [story.text for story in gold]
        made_by = [read_labels(story).made_by for story in found]
        assert made_by == ["fake" if i in plain else "author" for i in range(6)]
        assert [story.extra["index"] for story in found] == [story.extra["index"] for story in gold]
        assert asked == [gold[i].text for i in sorted(plain)]


def test_gold_labels_ask_for_no_parser(gold, no_parser):
    assert list(with_labels(gold)) == gold
    with pytest.raises(DataError, match="no parser"):
        list(with_labels([*gold, bare(gold[0])]))


def test_a_missing_parser_is_said(no_parser):
    assert parser_is_missing() == "There is no parser."


def test_a_parser_that_is_here_is_not_missing(parser):
    assert parser_is_missing() == ""


def test_a_batch_without_labels_names_the_story(gold, tokenizer):
    with pytest.raises(DataError, match="no labels") as caught:
        batch_of_stories([bare(gold[0])], tokenizer, n_ctx=512, labels=LabelNeeds(scheme=True))
    assert gold[0].text[:20] in str(caught.value)
    assert "annotate" in caught.value.hint


def test_stories_without_labels_are_annotated(parser, tiny_model, stories):
    """A scan of bare stories is the scan of stories that were annotated before."""
    some = stories[:6]
    before = list(tslens.annotate(some))
    chosen = ["subject", "name"]
    with pytest.warns(UserWarning, match="below 30"):
        found = score_heads(tiny_model, some, probes=chosen, seed=0, n_explain=0)
    with pytest.warns(UserWarning, match="below 30"):
        expected = score_heads(tiny_model, before, probes=chosen, seed=0, n_explain=0)
    assert found.left_out == ()
    assert found.scores == expected.scores
    assert {score.probe for score in found.scores} == set(chosen)


def test_without_a_parser_probes_that_need_labels_are_left_out_and_named(tiny_model, stories, no_parser):
    report = score_heads(tiny_model, stories[:40], seed=0, n_explain=0)
    assert set(report.left_out) == NEEDING
    assert not {score.probe for score in report.scores} & NEEDING
    assert {"sentence_end", "previous_token", "induction"} <= {score.probe for score in report.scores}


def test_without_a_parser_a_probe_that_was_asked_for_is_an_error(tiny_model, stories, no_parser):
    with pytest.raises(DataError, match="no parser"):
        score_heads(tiny_model, stories[:3], probes=["previous_token", "subject"], seed=0, n_explain=0)
    with pytest.warns(UserWarning, match="below 30"):
        report = score_heads(tiny_model, stories[:3], probes=["previous_token"], seed=0, n_explain=0)
    assert report.left_out == ()


def test_without_a_parser_gold_labels_are_enough(tiny_model, gold, no_parser):
    with pytest.warns(UserWarning, match="below 30"):
        report = score_heads(tiny_model, gold, seed=0, n_explain=0)
    assert report.left_out == ()
    assert {score.probe for score in report.scores} >= {"subject", "topic", "quote"}


def test_a_label_of_the_user_is_probed_like_a_built_in_one(tiny_model, gold, no_parser):
    mine = [
        replace(s, extra={**s.extra, "mine": [word.startswith("s") for word in s.text.split()]}) for s in gold
    ]
    with pytest.warns(UserWarning, match="below 30"):
        report = score_heads(tiny_model, mine, probes=[UserLabel("mine")], seed=0, n_explain=0)
    assert {score.probe for score in report.scores} == {"label_mine"}
    assert {score.position for score in report.scores} == {"word", "before"}
    with pytest.raises(DataError, match="yours"):
        score_heads(tiny_model, mine, probes=[UserLabel("yours")], seed=0, n_explain=0)


def test_a_story_that_stands_there_twice_is_read_twice(tiny_model, stories):
    report = score_heads(
        tiny_model, [*stories[:30], *stories[:5]], probes=["previous_token"], seed=0, n_explain=0
    )
    assert report.n_stories == 35
    assert all(0 <= score.value <= 1 for score in report.scores)
