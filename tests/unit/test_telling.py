"""The rule for summaries: each of its conditions, on pairs of a summary and a story that differ in one thing."""

from dataclasses import replace

import pytest

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.markup import read_marks
from tslens.corpus.instructions.compliance import check_summary


def labelled(marked):
    """Text and gold labels, from the author's notation."""
    found = read_marks([("opening", marked)])
    return found.text, label_story(found)


def follows(story, summary):
    return check_summary(*labelled(summary), *labelled(story)).is_followed


LILY = "Lily@hero_s"
BEN = "Ben@friend_s was_v there. "


@pytest.mark.parametrize(
    ("summary", "told", "not_told"),
    [
        # predicate, particle, adverb, noun of a preposition
        ("felt_v sad.", "felt_v very sad.", "felt_v happy."),
        ("ran_v away.", "ran_v away / and cried_v.", "ran_v to her mom."),
        ("gave_v up.", "never slept_v / and gave_v up.", "gave_v a party_o."),
        ("picked_v up a stone_o.", "picked_v up a big stone_o.", "picked_v a stone_o."),
        ("sat_v alone.", "sat_v alone on the steps.", "sat_v on the steps."),
        ("went_v to the moon.", "went_v to the moon one day.", "went_v to bed."),
        ("played_v with Ben@friend.", "played_v with him@friend.", "played_v alone."),
        ("gave_v a cake_o to Ben@friend.", "gave_v a cake_o to Ben@friend.", "gave_v a cake_o to Mom@mom."),
        ("was helped_v by Ben@friend.", "was helped_v by Ben@friend.", "was helped_v by Mom@mom."),
        # verbs that need what follows them
        ("stopped_v / crying_i.", "stopped_v / crying_i.", "stopped_v / laughing_i."),
        ("wanted_v / to find_i a dog_o.", "wanted_v / to find_i a dog_o.", "saw_v a dog_o / and wanted_v / to eat_i."),
        ("learned_v / to swim_i.", "learned_v / to swim_i fast.", "learned_v / to wait_i."),
        ("tried_v / and ran_v.", "ran_v.", "tried_v / to eat_i."),
        ("told_v Ben@friend everything_o.", "told_v Ben@friend everything_o.", "told_v Ben@friend a story_o."),
    ],
)  # fmt: skip
def test_what_goes_with_the_verb_must_be_told(summary, told, not_told):
    summary = f"{LILY} {summary}"
    assert follows(f"{BEN}{LILY} {told}", summary) is True
    assert follows(f"{BEN}{LILY} {not_told}", summary) is False


@pytest.mark.parametrize(
    "summary",
    [
        "Lily@hero_s and Ben@friend ate_v a cake_o.",
        "They@hero+friend_s ate_v a cake_o. Lily@hero_s and Ben@friend were_v friends.",
    ],
)  # fmt: skip
def test_what_two_do_is_not_told_by_one(summary):
    assert follows(f"{BEN}{LILY} ate_v the cake_o.", summary) is False
    assert (
        follows(f"{BEN}{LILY} and Mom@mom ate_v the cake_o.", "Lily@hero_s and Ben@friend ate_v a cake_o.")
        is False
    )
    assert follows(f"{LILY} met_v Ben@friend_o. They@hero+friend_s ate_v the cake_o.", summary) is True
    assert follows("Ben@friend_s and Lily@hero ate_v the cake_o.", summary) is True


def test_what_one_does_is_told_by_two():
    assert follows("Ben@friend_s and Lily@hero ate_v the cake_o.", f"{LILY} ate_v a cake_o.") is True
    assert follows("Ben@friend_s and Mom@mom ate_v Lily's@hero cake_o.", f"{LILY} ate_v a cake_o.") is False


@pytest.mark.parametrize(
    "story",
    [
        '"Oh no," Lily@hero_s cried_v.',
        '"Oh no!" cried_v Lily@hero_s.',
        'Lily@hero_s cried_v, "Oh no!"',
        '"Oh no," Lily@hero_s cried_v / and ran_v home^ADV.',
    ],
)
def test_the_verb_of_a_quotation_tells_nothing(story):
    assert follows(story, f"{LILY} cried_v.") is False


@pytest.mark.parametrize(
    "story",
    [
        "Lily@hero_s cried_v.",
        'Lily@hero_s cried_v. "Oh no!" said_v Ben_s.',
        '"Oh no!" said_v Ben_s. Lily@hero_s cried_v.',
        '"Oh no," said_v Lily@hero_s / and cried_v.',
    ],
)
def test_a_verb_near_a_quotation_tells_what_it_says(story):
    assert follows(story, f"{LILY} cried_v.") is True


def test_an_object_in_a_quotation_still_counts():
    story = 'Lily@hero_s told_v Ben_o, "It_s is_v late."'
    assert follows(story, f"{LILY} told_v Ben_o.") is True


def test_denial_in_a_quotation_is_not_that_of_its_verb():
    text, labels = labelled('"No, never," Lily@hero_s told_v Ben_o.')
    labels = replace(
        labels, clause=tuple(0 if pos != "PUNCT" else -1 for pos in labels.pos)
    )  # as a parser reads it
    assert check_summary(*labelled(f"{LILY} told_v Ben_o."), text, labels).is_followed is True
    assert follows('"No, never," Lily@hero_s told_v Ben_o.', f"{LILY} told_v Ben_o.") is True
    assert follows(f"{LILY} never told_v Ben_o.", f"{LILY} told_v Ben_o.") is False


def test_every_object_must_be_in_the_story():
    summary = f"{LILY} lost_v a ball_o / and found_v a shoe_o."
    assert follows(f"{LILY} lost_v a ball_o. A shoe_s fell_v.", summary) is True
    assert follows(f"{LILY} lost_v a ball_o.", summary) is False


def test_what_the_rule_does_not_see():
    """Limits that the methods name; a change here is a change of the rule."""
    assert follows(f"{LILY} found_v a blue ball_o.", f"{LILY} found_v a red ball_o.") is True
    assert follows(f"{LILY} would find_v a ball_o.", f"{LILY} found_v a ball_o.") is True
