"""The story index against brute force over the same stories."""

import json
from collections import Counter

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from tslens.corpus.diversity import build_index
from tslens.corpus.diversity.build_index import index_for
from tslens.corpus.diversity.grams import DEPTH, gram_overlap, gram_precision, grams, words_of
from tslens.corpus.diversity.story_index import ARRAYS, Nearest, Span, StoryIndex
from tslens.corpus.words import find_words
from tslens.errors import DataError, RunError, UsageError
from tslens.types import Story


def build(texts, folder, **options):
    return StoryIndex.build(map(Story, texts), folder, source="test", source_sha256="0", **options)


def nearest_by_hand(texts, text, measure, before=None, leave_out=None):
    best = None
    for number, other in enumerate(texts[:before]):
        if number == leave_out:
            continue
        mine, theirs = grams(words_of(text), 2), grams(words_of(other), 2)
        if not mine:
            return None
        shared = len(mine & theirs)
        score = shared / len(mine) if measure == "precision" else 2 * shared / (len(mine) + len(theirs))
        if best is None or score > best.score:
            best = Nearest(number, score, shared)
    return best


def span_by_hand(texts, text, leave_out=None):
    words, spans = words_of(text), find_words(text)
    best = Span(0, 0, 0, None)
    for length in range(1, len(words) + 1):
        holder = {}
        for number, other in enumerate(texts):
            for gram in grams(words_of(other), length) if number != leave_out else ():
                holder.setdefault(gram, number)
        starts = range(len(words) - length + 1)
        found = next((i for i in starts if tuple(words[i : i + length]) in holder), None)
        if found is None:
            return best
        number = holder[tuple(words[found : found + length])]
        best = Span(length, spans[found][0], spans[found + length - 1][1], number)
    return best


def check_against_hand(index, texts, text, leave_out=None, before=None):
    for measure in ("precision", "f"):
        found = index.nearest(text, measure=measure, before=before, leave_out=leave_out)
        assert found == nearest_by_hand(texts, text, measure, before, leave_out)
    assert index.longest_span(text, leave_out=leave_out) == span_by_hand(texts, text, leave_out)
    for k in range(1, DEPTH + 1):
        rows = [words_of(other) for other in texts]
        everywhere = Counter(tuple(row[i : i + k]) for row in rows for i in range(len(row) - k + 1))
        mine = words_of(text)
        different = dict.fromkeys(tuple(mine[i : i + k]) for i in range(len(mine) - k + 1))
        assert index.counts(text, k).tolist() == [everywhere[gram] for gram in different]
        assert index.n_grams(k) == everywhere.total()


WORDS = st.sampled_from(
    ["a", "B", "b", "c", "Zoë", "it's", "it’s", "3.5", "!", '"', "İ", "\u0301", "_", "日本"]
)
TEXTS = st.lists(WORDS, max_size=14).map(" ".join)


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=7), st.lists(TEXTS, min_size=1, max_size=3), st.data())
def test_small_corpora(tmp_path_factory, texts, asked, data):
    index = build(texts, tmp_path_factory.mktemp("index"))
    assert index.n_stories == len(texts)
    assert index.n_words == sum(len(words_of(text)) for text in texts)
    for text in [*asked, *texts[:2]]:
        check_against_hand(index, texts, text)
        leave_out = data.draw(st.integers(0, len(texts) - 1))
        before = data.draw(st.integers(0, len(texts) + 1))
        check_against_hand(index, texts, text, leave_out, before)


@settings(max_examples=60)
@given(st.text(max_size=40))
def test_the_word_rule_is_that_of_find_words(text):
    assert words_of(text) == [text[a:b].lower().replace("’", "'") for a, b in find_words(text)]


@pytest.mark.parametrize("block", [2**22, 97])
def test_author_stories(tmp_path, monkeypatch, block):
    from tslens.corpus.author import write_stories

    monkeypatch.setattr(build_index, "BLOCK_WORDS", block)
    texts = [story.text for story in write_stories(12, seed=3, text_only=True)]
    index = build(texts, tmp_path)
    asked = [*texts[:3], texts[4][100:400] + texts[9][50:300], "Once upon a time there was nobody."]
    for number, text in enumerate(asked):
        check_against_hand(index, texts, text)
        check_against_hand(index, texts, text, leave_out=number, before=17)


def test_wide_keys_are_sorted_like_narrow_ones(tmp_path, monkeypatch, stories):
    texts = [story.text for story in stories]
    build(texts, tmp_path / "narrow")
    monkeypatch.setattr(build_index, "KEY_BITS", 20)
    build(texts, tmp_path / "wide")
    for name in ARRAYS:
        wide, narrow = ((tmp_path / kind / f"{name}.npy").read_bytes() for kind in ("wide", "narrow"))
        assert wide == narrow, name


def test_real_stories(tmp_path, real_stories):
    from tslens.corpus.stories import read_stories

    texts = [story.text for story in read_stories(real_stories, limit=150, text_only=True)]
    index = build(texts, tmp_path)
    for number in (0, 7):
        check_against_hand(index, texts, texts[number], leave_out=number)


def test_a_run_across_two_stories_is_no_run(tmp_path):
    index = build(["the red fox ran", "home to her den", ""], tmp_path)
    assert index.longest_span("The red fox ran home to her den.").n_words == 4
    assert index.counts("ran home", 2).tolist() == [0]
    assert index.nearest("ran home", measure="precision") == Nearest(0, 0.0, 0)


def test_texts_without_pairs_have_no_nearest_story(tmp_path):
    index = build(["the red fox", "fox"], tmp_path)
    for text in ("", "!!!", "fox"):
        assert index.nearest(text, measure="f") is None
    assert index.nearest("red fox", measure="f", before=0) is None
    assert index.nearest("red fox", measure="f", before=1, leave_out=0) is None
    assert index.longest_span("") == Span(0, 0, 0, None)
    assert index.longest_span("A fox!") == Span(1, 2, 5, 0)
    assert index.longest_span("A fox!", leave_out=0) == Span(1, 2, 5, 1)


def test_different_unknown_words_stay_different(tmp_path):
    index = build(["the fox"], tmp_path)
    assert index.nearest("zig zag zog the fox", measure="precision").score == 1 / 4
    assert index.nearest("zig zig zig the fox", measure="precision").score == 1 / 3


def test_the_beginning_of_a_story(tmp_path):
    texts = ["A cat sat on the red mat.", "So a cat sat.", "A cat sat on the red rug."]
    index = build(texts, tmp_path)
    assert index.story_beginning_with("a cat sat") == 0
    assert index.story_beginning_with("A cat sat on the red rug") == 2
    assert index.story_beginning_with("so A") == 1
    for text in ("", "cat sat", "a cat sat on the red rug too", "a dog"):
        assert index.story_beginning_with(text) is None


def test_masked_names_are_one_word(tmp_path):
    texts = ["Tom had a red ball.", "Mia's ball was new."]
    index = build(texts, tmp_path, names=["tom", "mia", "mia's"])
    assert index.longest_span("Mia had a red ball").n_words == 5
    assert index.nearest("tom ball was new", measure="precision") == Nearest(1, 1.0, 3)
    assert index.names == {"tom", "mia", "mia's"}


def test_counts_go_up_to_five(tmp_path):
    index = build(["a b c"], tmp_path)
    for k in (0, 6):
        with pytest.raises(UsageError, match="from 1 to 5"):
            index.counts("a b", k)


def test_equal_stories_give_equal_bytes(tmp_path, stories):
    for name in "ab":
        build([story.text for story in stories], tmp_path / name)
    for path in (tmp_path / "a").glob("*.npy"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in ARRAYS), "vocabulary.json"])
def test_a_torn_index_is_refused(tmp_path, stories, name):
    build([story.text for story in stories], tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="is broken"):
        StoryIndex(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="is broken"):
        StoryIndex(tmp_path)


def test_a_foreign_folder_is_refused(tmp_path, stories):
    with pytest.raises(DataError, match="holds no story index"):
        StoryIndex(tmp_path)
    build([story.text for story in stories], tmp_path)
    facts = json.loads((tmp_path / "index.json").read_text())
    for other in ({**facts, "schema": "tslens.story_index/0"}, []):
        (tmp_path / "index.json").write_text(json.dumps(other))
        with pytest.raises(DataError, match="has schema"):
            StoryIndex(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({**facts, "sizes": {}}))
    with pytest.raises(DataError, match="is broken"):
        StoryIndex(tmp_path)


def test_an_array_of_another_index_is_refused(tmp_path, stories):
    build([story.text for story in stories], tmp_path)
    np.save(tmp_path / "starts.npy", np.zeros(3))
    with pytest.raises(DataError, match="is broken"):
        StoryIndex(tmp_path)


def test_nothing_is_left_of_an_index_that_failed(tmp_path):
    def broken():
        yield Story("a story")
        raise DataError("cut off.", "")

    folder = tmp_path / "index"
    with pytest.raises(DataError, match="cut off"):
        StoryIndex.build(broken(), folder, source="", source_sha256="")
    assert not folder.exists()
    with pytest.raises(DataError, match="no story"):
        StoryIndex.build([], folder, source="", source_sha256="")
    build(["kept"], folder)
    with pytest.raises(DataError, match="cut off"):
        StoryIndex.build(broken(), folder, source="", source_sha256="")
    assert not list(folder.glob("*.*"))


def test_the_cache_is_made_once(tmp_path, story_file, monkeypatch):
    told = []
    index = index_for(story_file, tmp_path, progress=lambda *done: told.append(done))
    assert told[-1] == ("sorting", 1.0)
    monkeypatch.setattr(build_index, "write_index", None)
    assert index_for(story_file, tmp_path).folder == index.folder
    assert index.source == story_file.name


def test_a_held_folder_is_refused(tmp_path, story_file, monkeypatch):
    folder = index_for(story_file, tmp_path).folder
    build_index.remove_index(folder)
    with FileLock(folder / ".lock"), pytest.raises(RunError, match="in use"):
        index_for(story_file, tmp_path)


def test_pure_measures():
    assert gram_precision("a b c", "A b, d") == 1 / 2
    assert gram_precision("a b", "b a") == 0
    assert gram_precision("a", "a b") is None
    assert gram_overlap("a b c", "a b") == 2 / 3
    assert gram_overlap("a b c", "a") is None
    assert gram_precision("a b c d", "a b c", k=3) == 1 / 2
