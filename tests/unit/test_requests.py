"""Plans and prompts of stories asked of a large model, and the gates that mark what was not followed."""

import hashlib
from collections import Counter

import pytest

from tslens.corpus.author import read_wishes, write_story
from tslens.corpus.check_features import has_feature
from tslens.corpus.corrupt import corrupt
from tslens.corpus.diversity.story_index import StoryIndex
from tslens.corpus.labelled import read_labels
from tslens.corpus.requests.asking import (
    Asking,
    Unanswered,
    read_story_replies,
    read_summary_replies,
    story_call,
    summary_call,
)
from tslens.corpus.requests.gates import MOST_UNKNOWN, check_story, mark_stories
from tslens.corpus.requests.plans import MOST_FEATURES, StoryPlan, check_template, draw_plan, story_prompt
from tslens.corpus.vocabulary import load_vocabulary
from tslens.errors import UsageError
from tslens.labels import FEATURES
from tslens.llm.calls import CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.types import Story

ASKING = Asking("some-model", seed=3)


def test_the_prompt_is_that_of_tinystories():
    plan = StoryPlan(0, "decorate", "thunder", "ancient", ("dialogue", "bad_ending"))
    assert story_prompt(plan) == (
        "Write a short story (3-5 paragraphs) which only uses very simple words that a 3 year old child would "
        'likely understand. The story should use the verb "decorate", the noun "thunder" and the adjective '
        '"ancient". The story should have the following features: the story should contain at least one dialogue, '
        "the story has a bad ending. Remember to only use simple words!"
    )


def test_without_features_the_prompt_asks_for_none():
    text = story_prompt(StoryPlan(0, "swim", "frog", "sad", ()))
    assert text.endswith('the adjective "sad". Remember to only use simple words!')


def test_a_template_of_ones_own():
    plan = StoryPlan(0, "swim", "frog", "sad", ("twist",))
    template = "{features}Use {verb}, {noun}, {adjective}. { } {}"
    check_template(template)
    assert story_prompt(plan, template) == (
        "The story should have the following features: something unexpected happens / there is a plot twist. "
        "Use swim, frog, sad. { } {}"
    )


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{verb} {adjective} {features}", r"lacks \{noun\}"),
        ("{verb} {noun} {adjective}", r"lacks \{features\}"),
        ("{verb} {noun} {adjective} {features} {mood}", r"has \{mood\}"),
    ],
)
def test_templates_that_ask_for_something_else_are_refused(template, says):
    with pytest.raises(UsageError, match=says):
        check_template(template)


def test_plans_follow_from_seed_and_index_alone():
    plans = [draw_plan(index, seed=1) for index in range(2000)]
    assert plans == [draw_plan(index, seed=1) for index in reversed(range(2000))][::-1]
    assert plans[:50] != [draw_plan(index, seed=2) for index in range(50)]
    words = load_vocabulary()
    for plan in plans:
        assert plan.verb in words.verbs and plan.noun in words.nouns and plan.adjective in words.adjectives
        assert len({plan.verb, plan.noun, plan.adjective}) == 3
        assert not {"bad_ending", "happy_ending"} <= set(plan.features)
        assert list(plan.features) == [name for name in FEATURES if name in plan.features]
    sizes = Counter(len(plan.features) for plan in plans)
    assert set(sizes) == set(range(MOST_FEATURES + 1)) and min(sizes.values()) > 350
    assert len({(plan.verb, plan.noun, plan.adjective) for plan in plans}) == 2000


def test_the_same_prompts_everywhere():
    prompts = "\n".join(story_prompt(draw_plan(index, seed=0)) for index in range(500))
    digest = hashlib.sha256(prompts.encode()).hexdigest()
    assert (
        digest == "28cf40270932f9806a8aa84fe42df8f0244c025d1c7220d4b7d1e969c2d72249"
    )  # changes with the words


# Replies ------------------------------------------------------------------------------------------------------


class Answers:
    """Stands for a ledger: what is known of each call."""

    def __init__(self, known):
        self.known = known

    def find(self, call):
        return self.known.get(call.key)

    outcome = Ledger.outcome


def reply(key, text, finish_reason="stop"):
    return Reply(key, text, "served", "fp", finish_reason, 10, 20, 0.0, True)


def test_stories_come_in_the_order_of_their_plans():
    known = {
        "story-0000002": reply("story-0000002", "Two  \n\nlines."),
        "story-0000000": reply("story-0000000", "Zero.", "length"),
        "story-0000003": CallFailure("story-0000003", "refusal", "I cannot."),
    }
    unkept = [CallFailure("story-0000001", "budget", "no money")]
    found = list(read_story_replies(6, ASKING, Answers(known), unkept))
    assert [story.text for story in found if isinstance(story, Story)] == ["Zero.", "Two\nlines."]
    reasons = {row.index: row.reason for row in found if isinstance(row, Unanswered)}
    assert reasons == {1: "budget", 3: "refusal", 4: "unreachable", 5: "unreachable"}
    story, plan = found[2], draw_plan(2, seed=3)
    assert story.extra["words"] == [plan.verb, plan.noun, plan.adjective]
    assert story.extra["index"] == 2 and story.extra["prompt"] == story_prompt(plan)
    assert story.extra["reply"]["model"] == "served" and story.extra["reply"]["completion_tokens"] == 20
    assert found[1].asked["features"] == list(draw_plan(1, seed=3).features)


def test_equal_prompts_of_two_plans_are_two_calls():
    one, other = (StoryPlan(index, "swim", "frog", "sad", ()) for index in (0, 1))
    assert story_call(one, ASKING).hash != story_call(other, ASKING).hash
    assert story_call(one, ASKING).hash == story_call(one, Asking("some-model", seed=3)).hash
    assert (
        story_call(one, ASKING).hash != story_call(one, Asking("some-model", seed=3, server="http://x")).hash
    )


def test_summaries_join_their_stories_and_none_is_dropped():
    stories = [Story("A frog swam {story} home.", {"mood": 1}), Story("Ben ate."), Story("Mia slept.")]
    assert "A frog swam {story} home." in summary_call(0, stories[0], ASKING).messages[0][1]
    known = {
        "summary-0000000": reply("summary-0000000", "A frog swims home\n and is glad."),
        "summary-0000001": reply("summary-0000001", "Ben", "length"),
    }
    rows = list(read_summary_replies(stories, ASKING, Answers(known), []))
    assert [story.text for story, _ in rows] == [story.text for story in stories]
    assert rows[0][0].extra["summary"] == "A frog swims home and is glad." and rows[0][0].extra["mood"] == 1
    assert rows[0][0].extra["summary_reply"]["marked"] == []
    assert rows[1][0].extra["summary_reply"]["marked"] == ["cut", "length"]
    assert "summary" not in rows[2][0].extra and rows[2][1].reason == "unreachable"


# Gates --------------------------------------------------------------------------------------------------------


def asked(index=0, *, text=None, finish_reason="stop"):
    """A story of the author as if it had been asked for and had come, and its labels."""
    wishes = read_wishes("swim,frog,sad", "twist,dialogue")
    story = write_story(index, seed=8, wishes=wishes)
    extra = {name: value for name, value in story.extra.items() if name != "labels"}
    extra["reply"] = {"finish_reason": finish_reason}
    return Story(story.text if text is None else text, extra), read_labels(story)


def test_a_story_that_follows_passes():
    story, labels = asked()
    gates = check_story(story, labels=labels, near_duplicate=None)
    assert gates.marked == () and gates.missing_words == () and gates.missing_features == ()
    assert gates.to_json()["marked"] == [] and gates.n_paragraphs == story.text.count("\n") + 1


def test_what_is_missing_is_marked():
    story, labels = asked()
    twin = corrupt(Story(story.text, story.extra), labels, "ignored_instruction", "one", seed=0)
    gates = check_story(Story(twin.text, story.extra), labels=None, near_duplicate=None)
    assert len(gates.missing_words) == 1 and "words" in gates.marked
    plain, _ = asked(text="There was a sad frog. It liked to swim in the pond all day.")
    gates = check_story(plain, labels=None, near_duplicate=7)
    assert gates.missing_words == ()
    assert gates.missing_features == ("dialogue", "twist")
    assert gates.marked == ("features", "length", "near_duplicate") and gates.near_duplicate == 7


def test_a_word_counts_only_in_its_part_of_speech(parser):
    from tslens.corpus.annotate import annotate

    story, _ = asked(text="A frog was sad. Then it went for a swim with its mother in the big pond.")
    (labelled,) = annotate([story], parser=parser)
    gates = check_story(story, labels=read_labels(labelled), near_duplicate=None)
    assert gates.missing_words == ("swim",)


def test_cut_and_hard_words_are_marked():
    story, labels = asked(finish_reason="length")
    assert check_story(story, labels=labels, near_duplicate=None).marked == ("length",)
    hard = story.text + " The epistemological quandary perturbed hermeneutic ontologists' dialectics."
    gates = check_story(Story(hard, story.extra), labels=None, near_duplicate=None)
    assert "vocabulary" in gates.marked and gates.unknown_share > MOST_UNKNOWN
    assert "epistemological" in gates.unknown_words and "quandary" in gates.unknown_words


def test_contractions_names_and_numbers_are_no_hard_words():
    text = "Zorblax can't, won't and didn’t see mom's 3 well-known dress-up frogs in Timbuktu."
    story, _ = asked(text=text)
    assert check_story(story, labels=None, near_duplicate=None).unknown_words == ()


def test_near_duplicates_point_to_the_earlier_story(tmp_path):
    first, _ = asked(0)
    other, _ = asked(1)
    twin = Story(first.text.replace("frog", "toad"), {**first.extra, "index": 9})
    stories = [first, other, twin]
    index = StoryIndex.build(stories, tmp_path / "index", source="x", source_sha256="")
    rows = list(mark_stories(stories, index, parser=None))
    assert [row.extra["gates"]["near_duplicate"] for row in rows] == [None, None, 0]
    assert rows[2].extra["gates"]["missing_words"] == ["frog"]
    assert has_feature("twist", first.text) and all("labels" not in row.extra for row in rows)
