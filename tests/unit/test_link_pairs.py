"""Minimal pairs: what is read of two texts, mirrors, and the pairs that stories, prompts and templates give."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.corpus.author import write_story
from tslens.corpus.labelled import read_labels
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError
from tslens.grading.prompts import load_short_prompts
from tslens.link.answer_pairs import MOST_WRONG, answer_readouts, load_answers
from tslens.link.balance import MOST_OF_CLUSTER, Mirrored
from tslens.link.instruction_pairs import sentence_pairs, word_pairs
from tslens.link.lost_objects import lost_object_readout
from tslens.link.pairs import Pair, Side, after_one_beginning, after_two_beginnings
from tslens.link.readouts import encoder
from tslens.link.story_pairs import FAULTS_READ, fault_pairs, in_other_tense
from tslens.model.shipped import tokenizer_file
from tslens.types import Story

SHIPPED = "cc8626255732"  # what all shipped models read with
N_CTX = 512


@pytest.fixture(scope="module")
def shipped_tokenizer():
    return StoryTokenizer.load(tokenizer_file(SHIPPED))


@pytest.fixture(scope="module")
def encode(shipped_tokenizer):
    return encoder(shipped_tokenizer)


@pytest.fixture(scope="module")
def authored():
    return [write_story(index, seed=3) for index in range(30)]


def ids(*values):
    return np.array(values)


def read(side):
    return side.tokens[side.first :].tolist()


# What is read -----------------------------------------------------------------------------------------------


def test_after_one_beginning_reads_from_the_first_difference_to_the_last_and_cuts_the_rest():
    pair = after_one_beginning(7, ids(0, 1, 2, 3, 4, 5), ids(0, 1, 9, 3, 8, 5), 10)
    assert (pair.cluster, pair.right.first, pair.wrong.first) == (7, 2, 2)
    assert pair.right.tokens.tolist() == [0, 1, 2, 3, 4] and pair.wrong.tokens.tolist() == [0, 1, 9, 3, 8]
    assert (read(pair.right), read(pair.wrong), pair.right.n_read) == ([2, 3, 4], [9, 3, 8], 3)


@pytest.mark.parametrize(
    ("right", "wrong", "n_ctx"),
    [
        (ids(0, 1, 2), ids(0, 1, 2), 9),  # alike
        (ids(0, 1, 2), ids(0, 3, 4, 2), 9),  # stretches of one token and of two
        (ids(0, 1), ids(0, 1, 1), 9),  # one is the beginning of the other
        (ids(5, 1), ids(6, 1), 9),  # nothing stands before
        (ids(0, 1, 2, 3), ids(0, 1, 2, 4), 3),  # behind the context
    ],
)
def test_texts_that_make_no_pair(right, wrong, n_ctx):
    assert after_one_beginning(0, right, wrong, n_ctx) is None


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12), st.lists(st.integers(0, 3), min_size=2, max_size=12)
)
def test_what_is_read_holds_every_difference_and_no_more(right, wrong):
    right, wrong = ids(0, *right), ids(0, *wrong)
    pair = after_one_beginning(0, right, wrong, 99)
    if pair is None:
        return
    first, n_read = pair.right.first, pair.right.n_read
    assert n_read == pair.wrong.n_read
    assert right[:first].tolist() == wrong[:first].tolist()
    assert right[first + n_read :].tolist() == wrong[first + n_read :].tolist()
    assert right[first] != wrong[first] and right[first + n_read - 1] != wrong[first + n_read - 1]


def test_after_two_beginnings_reads_the_same_end_in_both():
    pair = after_two_beginnings(1, ids(0, 5, 6, 7, 8), ids(0, 4, 7, 8), 2, 9)
    assert (read(pair.right), read(pair.wrong)) == ([7, 8], [7, 8])
    assert after_two_beginnings(1, ids(0, 5, 7), ids(0, 4, 8), 1, 9) is None  # other ends
    assert after_two_beginnings(1, ids(0, 5, 7), ids(0, 4, 7), 0, 9) is None  # nothing to read
    assert after_two_beginnings(1, ids(0, 7), ids(0, 7), 2, 9) is None  # nothing stands before
    assert after_two_beginnings(1, ids(0, 5, 7), ids(0, 4, 7), 1, 2) is None  # behind the context


# Mirrors ----------------------------------------------------------------------------------------------------


def single(cluster, right, wrong):
    return Pair(cluster, Side(ids(0, right), 1), Side(ids(0, wrong), 1))


def clusters_and_rights(found):
    return [[(pair.cluster, *read(pair.right)) for pair in item] for item in found.items]


def test_a_pair_is_taken_with_its_mirror_of_the_same_story_first():
    found = Mirrored(10)
    found.offer([single(1, 5, 6)])
    found.offer([single(2, 5, 6), single(2, 6, 5), single(2, 7, 5)])
    assert clusters_and_rights(found) == [[(2, 5), (2, 6)]]
    found.offer([single(3, 7, 8)])
    found.offer([single(4, 6, 5)])  # mirrors the story 1, which still waits: one cluster from now on
    assert clusters_and_rights(found)[1:] == [[(1, 5), (1, 6)]]
    found.offer([single(5, 6, 5)])  # story 1 waits no more
    found.offer([])
    assert len(found.items) == 2


def test_no_story_fills_a_readout_and_no_item_is_half_taken():
    found = Mirrored(5)
    for cluster in (1, 2):
        found.offer([single(cluster, a, b) for a, b in 4 * [(5, 6), (6, 5)]])
    assert [pair.cluster for item in found.items for pair in item] == [1] * 2 * MOST_OF_CLUSTER
    assert found.is_full


def test_the_same_tokens_in_another_order_are_their_own_mirror():
    found = Mirrored(4)
    for cluster in range(3):
        found.offer([Pair(cluster, Side(ids(0, 1, 2), 1), Side(ids(0, 2, 1), 1))])
    assert clusters_and_rights(found) == [[(0, 1, 2)], [(1, 1, 2)], [(2, 1, 2)]]
    assert found.is_full


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(1, 3)).filter(lambda ab: ab[0] != ab[1]), max_size=6
        ),
        max_size=20,
    )
)
def test_items_are_couples_of_mirrors_and_no_cluster_shares_a_story(stories):
    found = Mirrored(20)
    offered = [[single(i, a, b) for a, b in told] for i, told in enumerate(stories)]
    for pairs in offered:
        found.offer(pairs)
    story_of = {id(pair.right): i for i, pairs in enumerate(offered) for pair in pairs}
    owner = {}
    for first, second in found.items:
        assert read(first.right) == read(second.wrong) and read(first.wrong) == read(second.right)
        assert first.cluster == second.cluster
        for pair in (first, second):
            assert owner.setdefault(story_of[id(pair.right)], pair.cluster) == pair.cluster
    taken = [id(pair.right) for item in found.items for pair in item]
    assert len(set(taken)) == len(taken) <= 20
    assert max(Counter(item[0].cluster for item in found.items).values(), default=0) <= MOST_OF_CLUSTER


# Stories ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS_READ)
def test_stories_and_their_twins_differ_in_what_is_read(kind, authored, encode, shipped_tokenizer):
    pairs = [
        pair for story in authored[:10] for pair in fault_pairs(story, kind, encode, n_ctx=N_CTX, seed=1)
    ]
    assert len(pairs) >= 10
    digests = {story.digest for story in authored}
    told = [shipped_tokenizer.decode(encode(story.text)[1:]) for story in authored]
    for pair in pairs:
        assert pair.cluster in digests and pair.right.first == pair.wrong.first
        beginning = pair.right.tokens[: pair.right.first]
        assert beginning.tolist() == pair.wrong.tokens[: pair.wrong.first].tolist()
        if kind not in ("tense", "swapped_names"):
            assert any(text.startswith(shipped_tokenizer.decode(pair.right.tokens[1:])) for text in told)
    assert sum(pair.right.n_read == 1 for pair in pairs) * 2 > len(pairs) or kind == "word_order"


def test_a_story_is_put_into_the_present_and_back(authored):
    found = [(story, in_other_tense(story)) for story in authored]
    told = [(story, other) for story, other in found if other is not None]
    assert len(told) >= len(found) // 2
    for story, other in told:
        assert read_labels(other).pos == read_labels(story).pos
        assert " is " in other.text and other.text.count(" was ") < story.text.count(" was ") + 1
        past = in_other_tense(other)
        assert past is not None and in_other_tense(past).text == other.text


def test_tense_pairs_stand_in_the_past_and_in_the_present(authored, encode, shipped_tokenizer):
    read_as_right = {
        shipped_tokenizer.decode(read(pair.right))
        for story in authored
        for pair in fault_pairs(story, "tense", encode, n_ctx=N_CTX, seed=0)
    }
    assert {" was", " is"} <= read_as_right


def test_two_characters_of_the_same_pronouns_exchange_their_names(authored, encode, shipped_tokenizer):
    found = Mirrored(100)
    for story in authored:
        found.offer(list(fault_pairs(story, "swapped_names", encode, n_ctx=N_CTX, seed=0)))
    assert len(found.items) >= 10
    exchanged = 0
    stories = {story.digest: story.text for story in authored}
    for first, second in found.items:
        assert read(first.right) == read(second.wrong) and read(first.wrong) == read(second.right)
        told, other = (shipped_tokenizer.decode(one.right.tokens[1:]) for one in (first, second))
        if not stories[second.cluster].startswith(other):
            assert first.cluster == second.cluster and stories[first.cluster].startswith(told)
            exchanged += 1
            own, new = (re.findall(r"\w+", text) for text in (told, other))
            changed = [(a, b) for a, b in zip(own, new, strict=True) if a != b]
            assert len(set(changed)) == 2 or {a for a, _ in changed} != {b for _, b in changed}
            assert all((b, a) in changed or own[-1] in (a, b) for a, b in changed)
    assert exchanged >= 5


def test_stories_without_labels_are_refused(encode):
    with pytest.raises(DataError, match="no labels"):
        list(fault_pairs(Story("Tom was sad."), "agreement", encode, n_ctx=N_CTX, seed=0))
    with pytest.raises(DataError, match="no labels"):
        list(word_pairs([Story("Tom was sad."), Story("He ran.")], encode, n_ctx=N_CTX, seed=0))


# Prompts ----------------------------------------------------------------------------------------------------


def test_a_word_is_asked_for_in_one_prompt_and_another_in_the_other(authored, encode, shipped_tokenizer):
    pairs = list(word_pairs(authored, encode, n_ctx=N_CTX, seed=0))
    assert len(pairs) >= 25
    stories = {story.digest: story for story in authored}
    for pair in pairs:
        right, wrong = (shipped_tokenizer.decode(side.tokens[1:]) for side in (pair.right, pair.wrong))
        (asked, told), (asked_wrong, told_wrong) = (text.split("\nStory:\n") for text in (right, wrong))
        assert told == told_wrong and stories[pair.cluster].text.startswith(told)
        words, others = (one.removeprefix("Words: ").split(", ") for one in (asked, asked_wrong))
        assert sum(a != b for a, b in zip(words, others, strict=True)) == 1
        swapped = next(b for a, b in zip(words, others, strict=True) if a != b)
        assert swapped not in read_labels(stories[pair.cluster]).lemma
        assert read(pair.right) == read(pair.wrong)
        assert told.endswith(shipped_tokenizer.decode(read(pair.right)))


def test_a_sentence_is_asked_for_in_one_prompt_and_another_in_the_other(authored, encode, shipped_tokenizer):
    pairs = list(sentence_pairs(authored, encode, n_ctx=N_CTX, seed=0))
    assert len(pairs) >= 25
    for pair in pairs:
        right, wrong = (shipped_tokenizer.decode(side.tokens[1:]) for side in (pair.right, pair.wrong))
        sentence = right.split("\n")[0].removeprefix("Random sentence: ")
        assert shipped_tokenizer.decode(read(pair.right)).strip() == sentence
        assert sentence not in wrong.split("\n")[0]


def test_wrong_answers_are_wrong_and_there_are_enough_of_as_many_tokens(encode):
    prompts = {prompt.id: prompt for prompt in load_short_prompts()}
    assert load_answers().keys() == prompts.keys()
    for name, answers in load_answers().items():
        prompt = prompts[name]
        known = {word.lower() for word in (*prompt.success, *prompt.partial)}
        assert len(set(answers.wrong)) == len(answers.wrong) >= 8, name
        assert not known & {word.lower() for word in answers.wrong}, name
        assert answers.right not in answers.wrong
        right = answers.right or prompt.success[0]
        begun = prompt.text if prompt.text.endswith('"') else f"{prompt.text} "
        n_tokens = len(encode(begun + right))
        assert sum(len(encode(begun + wrong)) == n_tokens for wrong in answers.wrong) >= MOST_WRONG, name
        if prompt.by_rule:
            assert prompt.outcome(f" {right}.") == "success", name
            assert {prompt.outcome(f" {wrong}.") for wrong in answers.wrong} == {"failure"}, name


def test_what_a_prompt_names_stands_against_what_else_it_names(encode, shipped_tokenizer):
    readouts = {one.name: one for one in answer_readouts(load_short_prompts(), encode, n_ctx=N_CTX)}
    assert {name: one.n_clusters for name, one in readouts.items()} == {
        "factual": 20, "reasoning": 20, "context": 17,
    }  # fmt: skip
    assert len(readouts["factual"].pairs) == 20 * MOST_WRONG
    (duck,) = [
        pair for pair in readouts["context"].pairs if shipped_tokenizer.decode(read(pair.right)) == " frog"
    ]
    assert shipped_tokenizer.decode(read(duck.wrong)) == " duck"
    secret = [
        shipped_tokenizer.decode(pair.right.tokens)
        for pair in readouts["context"].pairs
        if "a secret" in shipped_tokenizer.decode(pair.right.tokens)
    ]
    assert secret and all(text.endswith('to Mom, "I do not know') for text in secret)


# Lost objects -----------------------------------------------------------------------------------------------


def test_one_verb_takes_the_object_away_before_the_same_use(encode, shipped_tokenizer):
    readout = lost_object_readout(encode, n_ctx=N_CTX, n_pairs=300, seed=0)
    assert len(readout.pairs) == 300 and 30 <= readout.n_clusters <= 60
    for pair in readout.pairs:
        there, gone = (side.tokens[: side.first] for side in (pair.right, pair.wrong))
        assert (there != gone).sum() == 1
        assert read(pair.right) == read(pair.wrong)
        use = shipped_tokenizer.decode(read(pair.right))
        assert use.startswith(" ") and " the " in use
        begun = shipped_tokenizer.decode(there)
        assert begun.rsplit(" ", 1)[-1] in begun.split("named ")[1]  # who has it uses it
    again, other = (lost_object_readout(encode, n_ctx=N_CTX, n_pairs=20, seed=seed) for seed in (0, 1))
    tokens = [pair.right.tokens.tolist() for pair in readout.pairs[:20]]
    assert [pair.right.tokens.tolist() for pair in again.pairs] == tokens
    assert [pair.right.tokens.tolist() for pair in other.pairs] != tokens
