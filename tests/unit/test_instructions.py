"""Instructions: written, read back, drawn; the training side never asks for what is held out."""

import hashlib
import json
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.corpus import author
from tslens.corpus.check_features import has_feature
from tslens.corpus.dice import Dice
from tslens.corpus.instructions.draw import draw_instruction, find_offer, read_combinations
from tslens.corpus.instructions.form import (
    KINDS,
    Instruction,
    feature_of,
    parse_prompt,
    write_prompt,
    write_text,
)
from tslens.corpus.instructions.variant import instruct_stories
from tslens.corpus.stories import is_validation, normalise
from tslens.corpus.words import find_sentences
from tslens.errors import DataError, UsageError
from tslens.labels import FEATURES
from tslens.types import Story

# Form -------------------------------------------------------------------------------------------------------

PROMPT = """Words: swim, frog, sad
Random sentence: He was very wet.
Features: Dialogue, BadEnding
Summary: Lily loses her ball and finds it under a tree.
Story:"""
INSTRUCTION = Instruction(
    kinds=("words", "sentence", "features", "summary"),
    words=("swim", "frog", "sad"),
    sentence="He was very wet.",
    features=("dialogue", "bad_ending"),
    summary="Lily loses her ball and finds it under a tree.",
)

lines = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=60).map(
    lambda text: text.strip()
)
full_lines = lines.filter(bool)
stories = st.lists(st.one_of(lines, st.sampled_from(["Story:", "Words: a, b", "Summary:", "Story: "]))).map(
    lambda rows: normalise("\n".join(rows))
)
one_word = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=12)


@st.composite
def instructions(draw):
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, unique=True))
    words = draw(st.lists(one_word, min_size=1, max_size=5)) if "words" in kinds else []
    return Instruction(
        kinds=tuple(kinds),
        words=tuple(words),
        words_pos=tuple(draw(st.sampled_from((["NOUN"] * len(words), [])))),
        sentence=draw(full_lines) if "sentence" in kinds else "",
        features=tuple(draw(st.lists(st.sampled_from(list(FEATURES)), min_size=1, unique=True)))
        if "features" in kinds
        else (),
        summary=draw(full_lines) if "summary" in kinds else "",
    )


def test_a_prompt_is_written_as_in_the_published_data():
    assert write_prompt(INSTRUCTION) == PROMPT
    assert parse_prompt(PROMPT).instruction == INSTRUCTION
    assert parse_prompt(PROMPT).story == ""


@given(instructions(), stories)
def test_every_text_is_read_back(instruction, story):
    text = write_text(instruction, story)
    assert normalise(text) == text or not story
    parsed = parse_prompt(text)
    assert parsed.story == story
    assert parsed.instruction == instruction.as_prompted()
    assert parse_prompt(write_prompt(instruction)).instruction == instruction.as_prompted()


@given(instructions())
def test_every_record_is_read_back(instruction):
    row = json.loads(json.dumps(instruction.to_json()))
    assert Instruction.from_json(row) == instruction
    assert not {"words", "sentence", "features", "summary"} - set(instruction.kinds) & set(row)


@pytest.mark.parametrize(
    "text",
    [
        PROMPT.replace("\n", " \t\n") + " \n\nOnce.\n\nTwice.",
        PROMPT.replace("\n", "\r\n") + "\r\nOnce.\n\nTwice.",
        PROMPT.replace("\nFeatures", "\n\nFeatures") + "\n\n\nOnce.\n\nTwice.",
        PROMPT.replace("BadEnding", "badending") + " Once.\n\nTwice.",
    ],
)
def test_small_variations_are_read(text):
    parsed = parse_prompt(text)
    assert parsed.instruction == INSTRUCTION
    assert parsed.story == "Once.\n\nTwice."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Once upon a time", "no line of an instruction"),
        ("Words: a\nSubject: b\nStory:", "'Subject: b'"),
        ("Words: a\nWords: b\nStory:", "two lines"),
        ("Words:\nStory:", "nothing after"),
        ("Words: , ,\nStory:", "nothing after"),
        ("Features: Dialogue, Sadness\nStory:", '"Sadness"'),
        ("Words: a\n", "no line"),
        ("", "no line"),
        ("Story:\nOnce.", "asks for nothing"),
    ],
)
def test_what_is_no_prompt_is_refused(text, said):
    with pytest.raises(DataError) as error:
        parse_prompt(text)
    assert said in error.value.message


def test_a_story_may_hold_lines_like_those_of_a_prompt():
    story = "Words: swim\nStory:\nSummary: nothing\nFeatures: Sadness"
    assert parse_prompt(write_text(INSTRUCTION, story)).story == story


@pytest.mark.parametrize("row", [{}, {"words": "swim"}, {"sentence": ["a"]}, {"words_pos": ["NOUN"]}])
def test_what_is_no_record_is_refused(row):
    with pytest.raises(DataError):
        Instruction.from_json(row)


# Draws ------------------------------------------------------------------------------------------------------

REAL = Story(
    'Once there was a cat. He jumped on a big table.\n"Hello!" said Lily. She gave the cat a fish, '
    "and they were happy. The end."
)


@pytest.fixture(scope="module")
def written():
    return list(author.write_stories(300, seed=12))


def test_an_author_story_is_asked_for_what_it_was_asked_for(written):
    for story in written:
        offer = find_offer(story, Dice(0))
        assert [word for word, _ in offer.words] == story.extra["words"]
        assert [pos for _, pos in offer.words] == story.extra["words_pos"]
        assert list(offer.features) == story.extra["features"]
        assert offer.summary == story.extra["summary"]


def test_any_sentence_but_the_first(written):
    for story in written:
        first, *others = [story.text[s.start : s.end] for s in find_sentences(story.text)]
        sentences = find_offer(story, Dice(0)).sentences
        assert set(sentences) <= set(others)
        assert first not in sentences
        assert len(sentences) >= 3
        assert all(sentence.count('"') % 2 == 0 for sentence in sentences)


def test_a_story_without_a_plan():
    offer = find_offer(REAL, Dice(0))
    tags = {"jump": "VERB", "give": "VERB", "cat": "NOUN", "table": "NOUN", "big": "ADJ", "happy": "ADJ"}
    assert {word for word, _ in offer.words} <= {*tags, "fish", "say", "end"}
    assert {pos for _, pos in offer.words} == {""}
    assert "Lily" not in dict(offer.words)
    assert offer.sentences == (
        "He jumped on a big table.",
        '"Hello!" said Lily.',
        "She gave the cat a fish, and they were happy.",
    )
    assert offer.features == ("happy_ending",)
    assert offer.summary == ""


def test_words_of_labels_keep_their_part_of_speech(written):
    story = Story(written[0].text, {"labels": written[0].extra["labels"]})
    offer = find_offer(story, Dice(0))
    assert [pos for _, pos in offer.words] == ["VERB", "NOUN", "ADJ"]


@pytest.mark.parametrize(
    "extra",
    [
        {"words": 147, "features": "none", "summary": 3},
        {"words": [1, 2], "features": [None]},
        {"words": ["a,b"]},
    ],
)
def test_fields_of_another_kind_are_not_read(extra):
    offer = find_offer(Story(REAL.text, extra), Dice(0))
    assert len(offer.words) == 3
    assert offer.summary == ""


def test_a_summary_of_two_lines_becomes_one():
    assert (
        find_offer(Story("A cat. It ran off.", {"summary": "A cat\n runs. "}), Dice(0)).summary
        == "A cat runs."
    )


def test_all_allowed_subsets_and_orders_come_up(written):
    drawn = Counter(draw_instruction(story, seed=1).kinds for story in written if story.extra["features"])
    assert all({"words", "summary"} - set(kinds) for kinds in drawn)
    assert {len(kinds) for kinds in drawn} == {1, 2, 3}
    assert {("words", "sentence"), ("sentence", "words")} <= set(drawn)
    assert len({frozenset(kinds) for kinds in drawn}) == 11  # of 15 subsets, 4 hold both words and summary


def test_held_out_prompts_ask_for_the_combination(written):
    for story in written:
        assert {"words", "summary"} <= set(draw_instruction(story, seed=1, is_held_out=True).kinds)
    held_out = read_combinations(["words+features", "sentence+summary"])
    for story in written:
        kinds = set(draw_instruction(story, seed=1, held_out=held_out).kinds)
        assert not any(combination <= kinds for combination in held_out)
    assert draw_instruction(REAL, seed=1, is_held_out=True) is None
    assert draw_instruction(REAL, seed=1, held_out=(), is_held_out=True) is not None


def test_a_story_that_offers_nothing():
    assert draw_instruction(Story("Hm."), seed=0) is None


def test_the_draw_depends_on_seed_and_text(written):
    drawn = [draw_instruction(story, seed=1) for story in written[:50]]
    assert drawn == [draw_instruction(story, seed=1) for story in written[:50]]
    assert drawn != [draw_instruction(story, seed=2) for story in written[:50]]


def test_combinations_are_read():
    assert read_combinations(["none"]) == ()
    assert read_combinations(["Words + Summary"]) == (frozenset(("words", "summary")),)


@pytest.mark.parametrize("text", ["words", "words+words", "words+plot", "none+words", "+", ""])
def test_combinations_that_are_none(text):
    with pytest.raises(UsageError):
        read_combinations([text])


# The variant of a corpus ------------------------------------------------------------------------------------


def test_training_and_prompts_are_apart():
    made = list(instruct_stories("author:400:3", seed=0))
    assert len(made) == 400
    assert all(one.is_held_out == is_validation(Story(one.story)) for one in made)
    assert 5 < sum(one.is_held_out for one in made) < 40
    for one in made:
        assert ({"words", "summary"} <= set(one.instruction.kinds)) == one.is_held_out
        row = one.to_json()
        assert row["text"] == normalise(row["text"])
        assert parse_prompt(row["text"]).story == row["story"] == one.story
        assert parse_prompt(one.to_prompt()["prompt"]).instruction == one.instruction.as_prompted()
        assert (one.summary_labels is None) == ("summary" not in one.instruction.kinds)


def test_the_number_of_processes_changes_nothing(story_file):
    for source in ("author:120:3", story_file):
        alone = list(instruct_stories(source, seed=0))
        assert list(instruct_stories(source, seed=0, n_processes=2)) == alone
    assert {one.source for one in alone} == {story_file.name}
    assert [one.index for one in alone] == list(range(len(alone)))


def test_first_hundred_texts_keep_their_bytes():
    """Made by this test itself: when stories or instructions change on purpose, take the digest from its failure."""
    rows = "".join(json.dumps(one.to_json()) + "\n" for one in instruct_stories("author:100:0", seed=0))
    assert hashlib.blake2b(rows.encode(), digest_size=16).hexdigest() == "6c8b050147fec780e6e2c05ebe8b1350"


def test_it_streams():
    assert len(list(islice(instruct_stories("author:999999999", seed=0), 60))) == 60


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("BadEnding", "bad_ending"),
        ("bad ending", "bad_ending"),
        ("plot twist", "twist"),
        ("Moral_Value", "moral_value"),
        ("mood", None),
    ],
)
def test_names_of_features(name, feature):
    assert feature_of(name) == feature


def test_only_what_a_story_does_is_asked_for():
    text = "A cat ran home. The dog ran off too, and to their surprise it turned out to be a wolf."
    extra = {"words": ["cat", "zebra", "run"], "features": ["Conflict", "plot twist"]}
    offer = find_offer(Story(text, extra), Dice(0))
    assert offer.words == (("cat", ""), ("run", "")) and offer.features == ("twist",)


def test_foreshadowing_that_nobody_asked_for_is_not_offered():
    story = next(
        story
        for index in range(200)
        if has_feature("foreshadowing", (story := author.write_story(index, seed=3)).text)
    )
    assert "foreshadowing" not in find_offer(Story(story.text), Dice(0)).features
    asked = Story(story.text, {"features": ["foreshadowing"]})
    assert find_offer(asked, Dice(0)).features == ("foreshadowing",)


@pytest.mark.parametrize(
    "row",
    [
        {"words": [1, 2]},
        {"features": ["nope"]},
        {"words": []},
        {"sentence": ""},
        {"words": ["a,b"]},
        {"sentence": "a\nStory:\nb"},
        {"summary": "x", "words_pos": ["NOUN"]},
    ],
)
def test_records_that_cannot_be_written_are_refused(row):
    with pytest.raises(DataError, match="no instruction"):
        Instruction.from_json(row)


def test_a_summary_of_several_lines_is_read_as_one():
    parsed = parse_prompt("\ufeffSummary: Lily lost\nher ball.\nWords: a, b\nStory:\nOnce.")
    assert parsed.instruction.summary == "Lily lost her ball." and parsed.instruction.words == ("a", "b")
