"""The checker of instructions: it finds what is followed and what is not, by the text and its labels alone."""

from itertools import pairwise

import pytest

from tslens.corpus import author
from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.markup import read_marks
from tslens.corpus.corrupted import corrupt_stories, read_fault
from tslens.corpus.instructions.compliance import (
    check_features,
    check_instruction,
    check_sentence,
    check_summary,
    check_words,
)
from tslens.corpus.instructions.form import Instruction
from tslens.corpus.instructions.telling import GROUP, read_telling
from tslens.corpus.labelled import read_labels
from tslens.types import Labels

TEXT = 'Once there was a frog.\n"It is cold," said Tom. He swam and swam, and was not sad any more.'


def answers(verdicts):
    return [verdict.answer for verdict in verdicts]


def labelled(marked):
    """Text and gold labels, from the author's notation."""
    found = read_marks([("opening", marked)])
    return found.text, label_story(found)


@pytest.fixture(scope="module")
def written():
    return list(author.write_stories(400, seed=31))


def asked_for(story):
    """Everything that an author story was asked for, and the labels of its summary."""
    extra = story.extra
    kinds = (
        ("words", "sentence", "features", "summary")
        if extra["features"]
        else ("words", "sentence", "summary")
    )
    instruction = Instruction(
        kinds=kinds,
        words=tuple(extra["words"]),
        words_pos=tuple(extra["words_pos"]),
        sentence=story.text.split("\n")[1].split(". ")[0],
        features=tuple(extra["features"]),
        summary=extra["summary"],
    )
    return instruction, Labels.from_json(extra["summary_labels"])


# Words, sentences, features ---------------------------------------------------------------------------------


def test_words_in_any_inflection():
    assert answers(check_words(["swim", "frog", "sad", "fly"], TEXT)) == ["followed"] * 3 + ["not followed"]
    assert answers(check_words(["swim", "frog"], TEXT, pos=["NOUN", "NOUN"])) == ["not followed", "followed"]
    assert answers(check_words(["Frog", "ice cream"], TEXT + " Frogs like ice cream.")) == ["followed"] * 2
    assert answers(check_words(["rog", "ice cream"], TEXT + " No nice creams.")) == ["not followed"] * 2


def test_words_beyond_the_vocabulary():
    assert answers(check_words(["zorp", "blick"], "He zorped the blicks.")) == ["followed"] * 2
    assert answers(check_words(["zorp"], "He zorped.", pos=["VERB"])) == ["followed"]
    assert answers(check_words(["zorp"], "He zorpled.", pos=["VERB"])) == ["not followed"]


def test_words_by_labels():
    text, labels = labelled("Tom@hero_s liked_v the swim_o in the lake.")
    assert answers(check_words(["swim"], text, pos=["VERB"], labels=labels)) == ["not followed"]
    assert answers(check_words(["swim"], text, pos=["NOUN"], labels=labels)) == ["followed"]
    assert answers(check_words(["swim"], text, labels=labels)) == ["followed"]


@pytest.mark.parametrize(
    ("sentence", "answer"),
    [
        ("He swam and swam, and was not sad any more.", "followed"),
        ('"It is cold," said Tom.', "followed"),
        ("He swam", "followed"),
        ("He swam and sw", "not followed"),
        ("e swam", "not followed"),
        ("He swam and swam and was not sad any more.", "not followed"),
        ('Once there was a frog. "It is cold," said Tom.', "not followed"),
    ],
)
def test_sentences_letter_by_letter(sentence, answer):
    assert check_sentence(sentence, TEXT).answer == answer


def test_features():
    assert answers(check_features(["dialogue", "twist"], TEXT)) == ["followed", "not followed"]
    with pytest.raises(KeyError):
        check_features(["sadness"], TEXT)


# Summaries --------------------------------------------------------------------------------------------------

SUMMARY = "Lily@hero_s lost_v her ball@thing_o / and found_v it@thing_o."


@pytest.mark.parametrize(
    ("story", "n_clauses", "is_followed"),
    [
        ("Lily@hero_s lost_v her ball@thing_o. She@hero_s found_v it@thing_o.", 2, True),
        ("Lily@hero_s was_v sad. The ball@thing_s was_v gone. Then she@hero_s found_v it@thing_o.", 1, True),
        ("Lily@hero_s had_v a friend@friend_o. They@hero+friend_s found_v a ball_o.", 1, True),
        ("Lily@hero_s and Ben@friend found_v a ball_o.", 1, True),
        # another character, another object, denied, another deed, no such character, no such object
        ("Lily@hero_s cried_v. Ben@friend_s found_v the ball_o.", 0, False),
        ("Lily@hero_s had_v a ball_o. She@hero_s found_v a shoe_o.", 0, False),
        ("Lily@hero_s had_v a ball@thing_o. She@hero_s never found_v it@thing_o.", 0, False),
        ("Lily@hero_s had_v a ball@thing_o / and kicked_v it@thing_o.", 0, False),
        ("Anna@hero_s lost_v her ball@thing_o / and found_v it@thing_o.", 0, False),
        ("Lily@hero_s lost_v her shoe@thing_o / and found_v it@thing_o.", 0, False),
        # wanted, not done; found by nobody in particular
        ("Lily@hero_s wanted_v / to find_i her ball_o.", 0, False),
        ("Lily@hero_s cried_v. The ball_s was found_v.", 0, False),
    ],
)
def test_a_summary_needs_character_action_and_object(story, n_clauses, is_followed):
    text, labels = labelled(story)
    found = check_summary(*labelled(SUMMARY), text, labels)
    assert found.n_clauses == (n_clauses, 2)
    assert found.is_followed is is_followed


def test_denial_must_match():
    summary = "Lily@hero_s did not share_v the cake_o."
    for story, is_followed in (
        ("Lily@hero_s shared_v the cake_o.", False),
        ("Lily@hero_s didn't share_v the cake_o.", True),
        ("Lily@hero_s never shared_v the cake_o.", True),
    ):
        assert check_summary(*labelled(summary), *labelled(story)).is_followed is is_followed


def test_a_passive_summary_asks_for_no_doer():
    summary = "Lily@hero_s was told_v / to wait_i."
    for story, is_followed in (
        ("Her mom_s told_v Lily_o / to wait_i.", True),
        ("Lily@hero_s was told_v / to wait_i.", True),
        ("Lily@hero_s told_v her mom_o a joke.", False),
    ):
        assert check_summary(*labelled(summary), *labelled(story)).is_followed is is_followed


def test_a_progressive_is_no_passive():
    telling = read_telling(*labelled("Lily@hero_s was painting_v a tree_o."))
    assert [(clause.who, clause.action, clause.what) for clause in telling.clauses] == [
        ({"lily"}, "paint", {"tree"})
    ]


def test_forms_of_be_tell_nothing():
    found = check_summary(*labelled("Lily@hero_s was_v glad."), *labelled("Lily@hero_s was_v glad."))
    assert found.is_followed is None


def test_they_of_a_plural_noun_is_no_group():
    group = read_telling(*labelled("Lily@hero_s ran_v. They@hero+friend_s fell_v."))
    ducks = read_telling(*labelled("The ducks@ducks_s ran_v. They@ducks_s fell_v."))
    assert GROUP in group.clauses[1].who
    assert ducks.clauses[1].who == {"duck"}


# Whole instructions -----------------------------------------------------------------------------------------


def test_author_stories_follow_their_own_instruction(written):
    n_followed = 0
    for story in written:
        instruction, summary_labels = asked_for(story)
        found = check_instruction(instruction, story.text, read_labels(story), summary_labels)
        shares = found.shares
        assert all(shares[kind] == 1 for kind in instruction.kinds if kind != "summary"), story.text
        n_followed += found.is_followed
    assert n_followed >= 0.97 * len(written)


def test_another_instruction_is_followed_by_chance_at_most(written):
    found = []
    for story, other in pairwise(written):
        instruction, summary_labels = asked_for(story)
        found.append(check_instruction(instruction, other.text, read_labels(other), summary_labels))
    assert sum(one.is_followed is True for one in found) == 0
    assert sum(one.shares["summary"] for one in found) <= 0.02 * len(found)
    assert sum(one.shares["words"] for one in found) <= 0.2 * len(found)
    assert sum(one.shares["sentence"] for one in found) <= 0.02 * len(found)


def test_without_labels_nobody_can_tell_a_summary(written):
    instruction, summary_labels = asked_for(written[0])
    for labels, about in ((None, summary_labels), (read_labels(written[0]), None)):
        found = check_instruction(instruction, written[0].text, labels, about)
        assert found.is_followed is None
        assert "summary" not in found.shares
        assert found.shares["words"] == 1


def test_twins_that_ignore_a_word_are_found(written):
    twins = list(corrupt_stories(written[:150], read_fault("ignored_instruction:one"), seed=0))
    assert len(twins) > 100
    for twin in twins:
        instruction = Instruction(("words",), tuple(twin.extra["words"]), tuple(twin.extra["words_pos"]))
        found = check_instruction(instruction, twin.text)
        assert found.is_followed is False, twin.text
        assert check_instruction(instruction, twin.extra["original"]).is_followed is True


def test_the_annotator_sees_most_summaries_told(written, parser):
    from tslens.corpus.annotation.labelling import label

    n_own = n_other = 0
    before = None
    for story in written[:60]:
        labels = label(story.text, parser.parse(story.text), made_by=parser.version)
        summary = story.extra["summary"]
        read = label(summary, parser.parse(summary), made_by=parser.version)
        n_own += bool(check_summary(summary, read, story.text, labels).is_followed)
        if before:
            n_other += bool(check_summary(*before, story.text, labels).is_followed)
        before = summary, read
    assert n_own >= 0.8 * 60
    assert n_other <= 3


@pytest.mark.parametrize(
    ("word", "text", "answer"),
    [
        ("moth", "His mother sang.", "not followed"),
        ("corn", "She sat in the corner.", "not followed"),
        ("new", "The news was good.", "not followed"),
        ("moth", "Two moths flew.", "followed"),
        ("ice cream", "Tom liked ice cream.", "followed"),
        ("teddy bear", "Teddy bears ran.", "followed"),
        ("t-shirt", "Red t-shirts hung there.", "followed"),
        ("zorb", "The zorbs zorbed.", "followed"),
        ("zorb", "The zorber sang.", "not followed"),
    ],
)
def test_words_that_look_alike(word, text, answer):
    assert answers(check_words([word], text)) == [answer]
