"""What is measured of completions, of a corpus and of two compared, on texts small enough to check by hand."""

import json
from collections import Counter

import numpy as np
import pytest

from tslens.corpus.diversity.comparison import MEAN_OVERLAP, compare_stories
from tslens.corpus.diversity.completions import measure_completions
from tslens.corpus.diversity.copying import (
    LOOSER,
    STRICTER,
    Copying,
    count_grades,
    grade_copying,
    measure_copying,
)
from tslens.corpus.diversity.corpus_profile import measure_corpus, own_counts
from tslens.corpus.diversity.estimates import estimate, estimate_difference, histogram
from tslens.corpus.diversity.grams import gram_overlap, gram_precision, grams, shared_runs, words_of
from tslens.corpus.diversity.names import find_names
from tslens.corpus.diversity.sampling import (
    Completed,
    draw_numbers,
    place_in_corpus,
    read_completions,
    sample_stories,
    split_story,
    stories_numbered,
)
from tslens.corpus.diversity.story_index import Nearest, Span, StoryIndex
from tslens.errors import DataError, UsageError
from tslens.types import Story


def build(texts, folder, names=()):
    return StoryIndex.build(map(Story, texts), folder, source="test", source_sha256="0", names=names)


TALE = (
    "One day {0} went to the park with a big red ball. {0} saw {1} there. They played and ran and sang until the "
    "sun went down behind the tall trees. Then {0} went home and had soup."
)
OTHER = "A green frog sat in a pond. It ate nine flies. The flies were not amused, but the frog slept well that night."


@pytest.fixture
def indexes(tmp_path):
    texts = [TALE.format("Tom", "Mia"), OTHER]
    return build(texts, tmp_path / "plain"), build(texts, tmp_path / "masked", ["tom", "mia", "ben", "sue"])


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        (TALE.format("Tom", "Mia"), "exact"),
        (TALE.format("Tom", "Mia")[:150], "exact"),
        (TALE.format("Ben", "Sue").replace("big", "very new").replace("sun", "old sun"), "simple_template"),
        ("A green frog sat in a pond.", "none"),  # all of it, but too short to be called a copy
        ("Nothing here is like what anybody ever told about ponds or parks before today.", "none"),
        ("", "none"),
    ],
)
def test_grades(indexes, text, grade):
    found = measure_copying(text, *indexes)
    assert grade_copying(found) == grade


def test_names_are_what_a_simple_template_swaps(indexes):
    text = TALE.format("Ben", "Sue").replace("went", "walked")
    found = measure_copying(text, *indexes)
    assert found.masked_span.n_words > found.span.n_words
    assert found.masked_nearest.score > found.nearest.score
    assert measure_copying(text, *indexes, leave_out=0).nearest.story == 1


def test_thresholds_decide():
    def one(run, precision, masked_run=0):
        return Copying(
            100,
            Nearest(0, precision, 1),
            Span(run, 0, 1, 0),
            Nearest(0, precision, 1),
            Span(masked_run, 0, 1, 0),
        )

    assert grade_copying(one(50, 0.1)) == "exact" and grade_copying(one(49, 0.1)) == "none"
    assert grade_copying(one(49, 0.1, 50)) == "simple_template"
    assert grade_copying(one(0, 0.75)) == "simple_template"
    assert grade_copying(one(0, 0.74)) == "complex_template"
    assert grade_copying(one(0, 0.49)) == "none"
    rows = [one(45, 0.1), one(0, 0.7), one(0, 0.45)]
    assert list(count_grades(rows).values()) == [0, 0, 1, 2]
    assert list(count_grades(rows, LOOSER).values()) == [1, 1, 1, 0]
    assert list(count_grades(rows, STRICTER).values()) == [0, 0, 1, 2]


def test_completions_by_hand(tmp_path):
    texts = [TALE.format("Tom", "Mia"), OTHER]
    plain, masked = build(texts, tmp_path / "a"), build(texts, tmp_path / "b", ["tom", "mia"])
    items = []
    for number, text in enumerate(texts):
        prompt, ending = split_story(text)
        completion = ending if number == 0 else " The frog ate soup. The frog ate soup."
        items.append(Completed(prompt, completion, ending, number))
    report = measure_completions(items, plain, masked, seed=0)
    means = {row.name: row for row in report.estimates}
    second = gram_precision(items[1].completion, items[1].ending)
    assert means["R_2p with the true ending"].mean == pytest.approx((1 + second) / 2)
    overlap = gram_overlap(items[0].completion, items[1].completion)
    assert means["largest R_2 with another completion"].mean == pytest.approx(overlap)
    nearest = [max(gram_precision(item.completion, text) for text in texts) for item in items]
    assert means["largest R_2p with a story"].mean == pytest.approx(np.mean(nearest))
    others = [gram_precision(items[0].completion, texts[1]), gram_precision(items[1].completion, texts[0])]
    assert means["largest R_2p, own story left out"].mean == pytest.approx(np.mean(others))
    everything = grams(words_of(texts[0]), 3) | grams(words_of(texts[1]), 3)
    mine = grams(words_of(items[1].completion), 3)
    assert means["3-grams that the corpus never has"].mean == pytest.approx(
        len(mine - everything) / len(mine) / 2
    )
    pooled = next(row for row in report.histograms if row.name == "log10 relative frequency, 3-grams")
    assert pooled.never == len(mine - everything)
    assert sum(pooled.counts) == len(mine & everything) + len(grams(words_of(items[0].completion), 3))
    assert report.grades["all stories"]["as defined"]["exact"] == 1
    assert report.grades["own story left out"]["as defined"]["exact"] == 0
    assert means["true endings: 5-grams that no other story has"].mean == 1.0


def test_a_repeated_run_of_its_own_is_new(tmp_path):
    texts = ["a b c a b c", "x y z a b"]
    plain = build(texts, tmp_path)
    report = measure_corpus(dict(enumerate(texts)), plain, plain, seed=0)
    means = {row.name: row.mean for row in report.estimates}
    # pairs of the first: ab bc ca; of the second: xy yz za ab; only ab is in both
    assert means["2-grams that no other story has"] == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert means["largest R_2 with another story"] == pytest.approx(2 / 7)
    assert own_counts(words_of(texts[0]))[1].tolist() == [2, 2, 1]


def test_comparison_by_hand(stories):
    texts = [story.text for story in stories]
    first, second = texts[:20], [text.replace("ball", f"ball {n}") for n, text in enumerate(texts[:20])]
    rows = {row.name: row for row in compare_stories(first, second, seed=0, n_permutations=20)}
    sets = [grams(words_of(text), 2) for text in first]
    n_all = sum(len(words_of(text)) - 1 for text in first)
    assert rows["distinct-2"].first.mean == pytest.approx(len(set().union(*sets)) / n_all)
    table = [[gram_overlap(a, b) for b in first if b is not a] for a in first]
    assert rows[MEAN_OVERLAP].first.mean == pytest.approx(np.mean(table), abs=1e-6)
    largest = rows["largest R_2 with another story"]
    assert largest.first.mean == pytest.approx(np.mean([max(row) for row in table]), abs=1e-6)
    held = Counter(gram for one in sets for gram in one)
    new = [sum(held[gram] == 1 for gram in one) / len(one) for one in sets]
    assert rows["2-grams that no other story has"].first.mean == pytest.approx(np.mean(new))
    assert rows["words of a story"].first.mean == np.mean([len(words_of(text)) for text in first])
    for row in rows.values():
        assert row.difference.low <= row.difference.mean <= row.difference.high
        assert row.difference.mean == pytest.approx(row.first.mean - row.second.mean)


def test_a_difference_is_seen_and_none_is_not(stories):
    texts = [story.text for story in stories]
    same = {row.name: row for row in compare_stories(texts[:30], texts[30:], seed=0, n_permutations=99)}
    repeated = [texts[n % 3] for n in range(30)]
    other = {row.name: row for row in compare_stories(texts[:30], repeated, seed=0, n_permutations=99)}
    for name in ("largest R_2 with another story", "3-grams that no other story has", "distinct-3"):
        assert other[name].p == pytest.approx(0.01) and same[name].p > 0.05
        assert (other[name].difference.mean > 0) == other[name].more


def test_comparison_refuses_unequal_sets():
    for first, second in ((["a b"] * 3, ["a b"] * 2), (["a b"], ["a b"])):
        with pytest.raises(UsageError, match="Cannot compare"):
            compare_stories(first, second, seed=0)


def test_intervals():
    generator = np.random.default_rng(0)
    values = generator.normal(3, 1, 200).tolist()
    keys = list(range(200))
    found = estimate("x", [*values, None], [*keys, 7], seed=1)
    assert found.n == 200 and found.mean == pytest.approx(np.mean(values))
    half = 1.96 * np.std(values) / np.sqrt(199)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)
    assert estimate("x", [*values, None], [*keys, 7], seed=2) != found
    shuffled = generator.permutation(200)
    again = estimate("x", [values[i] for i in shuffled], [keys[i] for i in shuffled], seed=1)
    assert again.low == pytest.approx(found.low)
    assert estimate("x", [None], [1], seed=0).mean is None
    assert estimate("x", [2.0], [1], seed=0).low is None
    both = estimate_difference("d", (values, [v - 1 for v in values]), (keys, keys), seed=1)
    assert both.mean == pytest.approx(1) and both.low < 1 < both.high
    assert both.high - both.low == pytest.approx(2 * half * np.sqrt(2), rel=0.15)


def test_histogram_counts_everything():
    row = histogram("x", [-1, 0, 0.5, 0.99, 1, 9], (0, 0.5, 1), never=4)
    assert row.counts == (2, 4) and row.never == 4
    assert histogram("x", [], (0, 1)).counts == (0,)


def test_names_by_how_they_are_written():
    texts = [
        'Then Lily ran. "Oh," said Lily, and Lily\'s mom saw Bob. He met Bob, and Bob was Red.',
        "Now a red ball and Mom. I saw mom and I saw Mom, and TV and TV and TV and TV.",
        "So Lily met Lily. And Red met red. Once on Monday, on Monday, on Monday.",
    ]
    assert find_names(map(Story, texts)) == {"lily", "lily's", "bob", "bob's", "monday", "monday's"}


def test_shared_runs():
    text = "The red fox ran home. The red fox slept."
    runs = [text[a:b] for a, b in shared_runs(text, "A red fox ran. The red hen slept.")]
    assert runs == ["The red fox ran", "The red fox"]
    assert shared_runs("", "a b") == [] == shared_runs("a b", "")
    assert [text[a:b] for a, b in shared_runs(text, text)] == [text[:-1]]


def test_stories_are_cut_and_drawn():
    assert split_story("One two, three four. Five!") == ("One two", ", three four. Five!")
    assert split_story("One") == ("One", "") and split_story("!!") == ("!!", "")
    assert draw_numbers(4, 9, seed=0) == [0, 1, 2, 3]
    drawn = draw_numbers(1000, 50, seed=0)
    assert len(set(drawn)) == 50 and max(drawn) < 1000
    assert draw_numbers(1000, 50, seed=0) == drawn != draw_numbers(1000, 50, seed=1)
    many = [Story(str(n)) for n in range(300)]
    some = sample_stories(many, 20, seed=3)
    assert len({story.text for story in some}) == 20
    assert sample_stories(many, 7, seed=3) == some[:7]
    assert sample_stories(many[:5], 20, seed=3) != many[:5]


def test_completions_are_placed(tmp_path, story_file, stories):
    index = build([story.text for story in stories], tmp_path)
    prompt, ending = split_story(stories[5].text)
    items = [Completed(prompt, "x"), Completed("Nobody knows this", "y"), Completed("", "z")]
    placed = place_in_corpus(items, index, story_file)
    assert [item.story for item in placed] == [5, None, None]
    assert [item.ending for item in placed] == [ending, None, None]
    assert [*stories_numbered(story_file, [9, 2]).items()] == [(9, stories[9]), (2, stories[2])]


def test_a_story_must_begin_with_its_prompt(tmp_path):
    path = tmp_path / "done.jsonl"
    path.write_text('{"prompt": "A cat", "completion": "!", "story": "A cat sat."}\n', encoding="utf-8")
    assert read_completions(path) == [Completed("A cat", "!", " sat.")]
    path.write_text('{"prompt": "A dog", "completion": "!", "story": "A cat sat."}\n', encoding="utf-8")
    with pytest.raises(DataError, match="completion 1: its story does not begin"):
        read_completions(path)


@pytest.mark.parametrize("n_short", [1, 2, 4])
def test_stories_too_short_to_compare_are_refused(n_short):
    long = [
        "one fish swims in a pond",
        "two birds sing on a wall",
        "three cats run up a hill",
        "a dog barks at me",
    ]
    short = ["Hi."] * n_short + long[n_short:]
    if n_short < 2:  # no half of the set is without words
        rows = compare_stories(long, short, seed=0, n_permutations=20)
        assert all(np.isfinite([row.p, row.null_low, row.difference.mean]).all() for row in rows)
        return
    with pytest.raises(DataError, match="fewer than 4 words"):
        compare_stories(long, short, seed=0, n_permutations=20)


def test_a_completion_may_hold_any_line_end_of_unicode(tmp_path):
    path = tmp_path / "c.jsonl"
    row = {"prompt": "Once", "completion": "there was\u2028a\x85frog."}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_completions(path)[0].completion == row["completion"]
