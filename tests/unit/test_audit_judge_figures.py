"""The pairs that judges are audited on, and the figures of the audit, against slower ways to the same numbers."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import linregress, mannwhitneyu, spearmanr

from tslens.audit.judge_figures import area, rank_correlation, slope
from tslens.corpus.author import write_stories
from tslens.corpus.corrupt import FAULTS
from tslens.corpus.words import find_sentences
from tslens.errors import UsageError
from tslens.grading.expected import EXPECTED
from tslens.grading.planted import DOSES, KINDS, NEEDS_INSTRUCTIONS, plant_pairs, shared_prompt


@pytest.fixture(scope="module")
def author():
    return list(write_stories(12, seed=40_000))


# Planted pairs ----------------------------------------------------------------------------------------------


def test_both_of_a_pair_are_cut_alike_and_nothing_tells_them_apart(author):
    pairs = list(plant_pairs(author, seed=0, source="author"))
    texts = {f"{story.digest:016x}": story.text for story in author}
    assert {pair.kind for pair in pairs} == set(KINDS) and {pair.strength for pair in pairs} == set(DOSES)
    for pair in pairs:
        clean, twin = pair.clean, pair.twin
        assert clean.prompt == twin.prompt and clean.prompt_id == twin.prompt_id == pair.story
        assert clean.prompt + clean.completion == texts[pair.story] != twin.prompt + twin.completion
        assert clean.completion.strip() and twin.completion.strip()
        assert clean.ended is twin.ended is None and clean.instructions is twin.instructions is None
        first = find_sentences(texts[pair.story])[0]
        assert clean.prompt in ("", texts[pair.story][: first.end])
    assert {bool(pair.clean.prompt) for pair in pairs if pair.kind == "word_order"} == {True, False}
    assert all(pair.clean.prompt for pair in pairs if pair.kind == "missing_ending")
    keys = Counter(pair.twin.key for pair in pairs)
    assert max(keys.values()) == 1 and not {pair.clean.key for pair in pairs} & set(keys)


def test_a_pair_depends_on_its_story_alone_and_counts_are_kept(author):
    counts = Counter()
    together = list(plant_pairs(author, ["tense"], ["high"], seed=3, source="author", counts=counts))
    alone = list(plant_pairs(author[5:6], ["tense"], ["high"], seed=3, source="author"))
    assert alone[0] in together and counts["corrupted"] == len(together)
    assert alone != list(plant_pairs(author[5:6], ["tense"], ["high"], seed=4, source="author"))


def test_the_prompt_is_shared_only_where_the_first_sentence_is_whole():
    text = "Tom ran. He fell. He cried."
    assert shared_prompt(text, "Tom ran. Fell he. He cried.") == "Tom ran."
    assert shared_prompt(text, "Ran Tom. He fell. He cried.") == ""
    assert shared_prompt(text, "Tom ran.") == ""
    assert shared_prompt(text, "Tom ran. he fell.") == ""  # there the first sentence goes on
    assert shared_prompt("Tom ran.", "Tom ran. He fell.") == ""


def test_what_needs_instructions_is_not_planted(author):
    assert set(KINDS) == set(FAULTS) - {NEEDS_INSTRUCTIONS} == set(EXPECTED)
    with pytest.raises(UsageError, match="asked for nothing"):
        next(plant_pairs(author, [NEEDS_INSTRUCTIONS], seed=0, source="author"))


# Figures ----------------------------------------------------------------------------------------------------


def test_the_area_leaves_out_each_storys_own_twin():
    rng = np.random.default_rng(0)
    clean, twin = rng.normal(1, 1, 40).round(1), rng.normal(0, 1, 40).round(1)
    figure = area(clean, twin)
    others = [
        (clean[i] > twin[j]) + 0.5 * (clean[i] == twin[j]) for i in range(40) for j in range(40) if i != j
    ]
    assert figure.value == pytest.approx(np.mean(others)) and figure.n == 40
    whole = mannwhitneyu(clean, twin).statistic / 1600
    assert figure.value == pytest.approx(whole, abs=0.02) and figure.low < whole < figure.high
    assert area(clean[:9], twin[:9]).value is None


def test_a_judge_that_never_errs_has_an_interval_too():
    """No story is below one whose area is 1: the lower end is that of 40 hits of 40."""
    figure = area(np.arange(40.0) + 100, np.arange(40.0))
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.025 ** (1 / 40))
    blind = area(np.ones(40), np.ones(40))
    assert blind.value == 0.5 and blind.low < 0.4 and blind.high > 0.6


def test_the_interval_of_an_area_covers_it():
    rng, truth = np.random.default_rng(1), 0.7602  # of two normal laws whose means are one deviation apart
    hits = 0
    for _ in range(100):
        clean, twin = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
        figure = area(clean, twin)
        hits += figure.low <= truth <= figure.high
    assert hits >= 88


def test_slopes_are_within_groups():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 60)
    alone = slope(x, 2 * x + rng.normal(0, 0.3, 60), [""] * 60)
    assert alone.low < 2 < alone.high and alone.high - alone.low < 0.3
    y = rng.normal(0, 1, 60)
    assert slope(x, y, [""] * 60).value == pytest.approx(linregress(x, y).slope)
    groups = ["short"] * 30 + ["long"] * 30
    moved = x + np.repeat([0, 10], 30)
    within = slope(moved, -moved + np.repeat([0, 100], 30), groups)  # the groups slope up, each one down
    assert within.value == pytest.approx(-1) and slope(moved, np.repeat([0, 1], 30), groups).value == 0
    assert slope(np.ones(60), y, [""] * 60).value is None
    assert slope(x, y, [str(i) for i in range(60)]).value is None
    mixed = slope(np.append(moved, 99.0), np.append(-moved, 0.0), [*groups, "alone"])
    assert mixed.value == pytest.approx(-1) and mixed.n == 60


def test_rank_correlation_within_strata_and_by_cluster():
    rng = np.random.default_rng(0)
    x, noise_ = rng.normal(0, 1, 90), rng.normal(0, 1, 90)
    keys, strata = np.tile(np.arange(30), 3), np.repeat(["a", "b", "c"], 30)
    pooled = rank_correlation(x, x + noise_, keys, [""] * 90, seed=0)
    assert pooled.value == pytest.approx(spearmanr(x, x + noise_).statistic)
    assert pooled.low < pooled.value < pooled.high and pooled.n == 30
    shift = np.repeat([0.0, 50.0, 100.0], 30)  # the strata differ in both, nothing goes together within one
    apart = rank_correlation(x + shift, noise_ + shift, keys, list(strata), seed=0)
    assert rank_correlation(x + shift, noise_ + shift, keys, [""] * 90, seed=0).value > 0.8
    each = [spearmanr(x[strata == name], noise_[strata == name]).statistic for name in "abc"]
    assert apart.value == pytest.approx(np.mean(each)) and apart.low < 0 < apart.high
    assert rank_correlation(np.ones(90), x, keys, list(strata), seed=0).value is None
