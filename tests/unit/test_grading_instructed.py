"""How stories follow their instructions: shares by kind over prompts, the held-out combination by itself."""

import json

import pytest

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.markup import read_marks
from tslens.errors import DataError
from tslens.grading.instructed import (
    TRAINED,
    check_texts,
    exchanged,
    parsed_labels,
    summarise_compliance,
)
from tslens.grading.prompts import load_instruction_sets
from tslens.types import Graded

SUMMARY = "Lily@hero_s lost_v her ball@thing_o / and found_v it@thing_o."
TOLD = "Lily@hero_s lost_v her ball@thing_o. She@hero_s found_v it@thing_o."
UNTOLD = "Lily@hero_s cried_v. The dog@dog_s ran_v."
GOLD = {
    found.text: label_story(found)
    for found in (read_marks([("opening", s)]) for s in (SUMMARY, TOLD, UNTOLD))
}
BALL, STORY, OTHER = GOLD


class Gold:
    """A labelling function that knows three texts and what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, texts):
        self.asked.append(list(texts))
        return [GOLD[text] for text in texts]


def story(prompt_id, text, instructions, sample=0, **fields):
    return Graded("", text, prompt_id, sample, instructions=instructions, **fields)


def test_each_thing_asked_for_has_a_verdict():
    asked = {"words": ["swim", "frog", "sky", "sad"], "features": ["dialogue", "twist"]}
    text = 'The frog liked the swim. "I am sad," it said.'
    (found,) = check_texts([story("i1", text, asked)])
    assert found.compliance.shares == {"words": 0.75, "features": 0.5} and found.held_out is None
    row = json.loads(json.dumps(found.to_json()))
    assert row["verdicts"][2] == {"kind": "words", "item": "sky", "answer": "not followed"}
    assert row["prompt_id"] == "i1" and row["is_followed"] is False and row["shares"]["words"] == 0.75


def test_the_part_of_speech_is_not_asked_for_as_no_prompt_shows_it():
    asked = {"words": ["swim"], "words_pos": ["VERB"]}
    (found,) = check_texts([story("i1", "They went for a swim.", asked)])
    assert found.compliance.is_followed is True
    with pytest.raises(DataError):
        check_texts([story("i1", "A story.", {"words": "swim"})])


def test_the_beginning_of_a_story_belongs_to_it():
    one = Graded("Once a frog", " swam.", "i1", 0, instructions={"words": ["frog", "swim"]})
    assert check_texts([one])[0].compliance.is_followed is True


def test_labels_are_asked_for_summaries_only_and_once():
    label = Gold()
    asked = {"words": ["ball"], "summary": BALL}
    texts = [story("i1", text, asked, s) for s, text in enumerate((STORY, OTHER, STORY))]
    texts.append(story("i2", "A story without labels.", {"words": ["ball"]}))
    found = check_texts(texts, label=label)
    assert label.asked == [[STORY, BALL, OTHER]]
    assert [one.compliance.is_followed for one in found] == [True, False, True, False]
    assert [one.held_out for one in found] == ["words+summary"] * 3 + [None]
    silent = Gold()
    check_texts(texts[3:], label=silent)
    assert silent.asked == []


def test_texts_without_instructions_or_given_again_are_left_out():
    asked = {"words": ["ball"]}
    texts = [
        story("i1", "A ball.", asked),
        story("i1", "A ball.", asked, repeat=1),
        Graded("A", " ball.", "b1", 0),
    ]
    assert [one.graded for one in check_texts(texts)] == texts[:1]


def test_shares_are_over_prompts_and_held_out_combinations_have_their_own_rows():
    words, both = {"words": ["ball", "frog"]}, {"summary": BALL, "words": ["ball"]}
    more = {**both, "features": ["dialogue"]}
    texts = [story("i1", "A ball.", words, s) for s in range(3)]
    texts += [story("i2", "A ball and a frog.", words), story("i3", "A sky.", words)]
    texts += [story("i4", STORY, both), story("i5", OTHER, both), story("i6", STORY, more)]
    rows = summarise_compliance(check_texts(texts[::-1], label=Gold()))
    assert list(rows) == [TRAINED, "held out: words+summary"]
    trained, held_out = rows.values()
    share = trained.kinds["words"]
    assert share.mean == pytest.approx((0.5 + 1 + 0) / 3) and (share.n_prompts, share.n) == (3, 5)
    assert 0 <= share.low < 0.5 < share.high <= 1
    assert trained.followed.mean == pytest.approx(1 / 3) and set(trained.kinds) == {"words"}
    assert held_out.kinds["summary"].mean == pytest.approx(2 / 3) and held_out.n == 3
    assert held_out.kinds["features"].n == 1 and held_out.kinds["features"].low is None
    assert held_out.followed.mean == pytest.approx(1 / 3) and held_out.untold == {}
    row = json.loads(json.dumps(held_out.to_json()))
    assert row["kinds"]["summary"]["n"] == 3 and row["followed"]["n_prompts"] == 3
    assert summarise_compliance([]) == {}


def test_other_combinations_can_be_held_out():
    texts = [story("i1", "A ball.", {"words": ["ball"], "features": ["twist"]})]
    (found,) = check_texts(texts, held_out=[frozenset({"features", "words"})])
    assert found.held_out == "words+features"


def test_what_nobody_can_tell_is_counted_and_no_share():
    (text,) = (found.text for found in [read_marks([("opening", "Lily@hero_s was_v glad.")])])
    gold = label_story(read_marks([("opening", "Lily@hero_s was_v glad.")]))
    asked = {"summary": text, "sentence": "It rained."}
    found = check_texts(
        [story("i1", text, asked), story("i2", text, {"summary": text})], label=lambda t: [gold]
    )
    (row,) = summarise_compliance(found).values()
    assert row.untold == {"summary": 2} and set(row.kinds) == {"sentence"}
    assert row.followed.n == 1 and row.followed.mean == 0
    (alone,) = summarise_compliance(found[1:]).values()
    assert alone.followed is None and alone.to_json()["followed"] is None


def test_exchanged_instructions_show_what_chance_follows():
    texts = [
        story("i1", "A ball.", {"words": ["ball"]}),
        story("i1", "Two balls.", {"words": ["ball"]}, 1),
        story("i2", '"It is cold," said the frog.', {"words": ["frog"], "features": ["dialogue"]}),
        story("i3", '"A sky," said Ben.', {"features": ["dialogue"]}),
    ]
    swapped = exchanged([*texts, Graded("A", " b", "b1", 0)])
    assert [one.completion for one in swapped] == [one.completion for one in texts]
    asked = [one.instructions for one in texts]
    assert [one.instructions for one in swapped] == [asked[2], asked[2], asked[3], asked[0]]
    (row,) = summarise_compliance(check_texts(swapped)).values()
    assert row.kinds["words"].mean == 0 and row.kinds["features"].mean == 0.5
    assert exchanged(texts[:2]) == []


def test_the_package_s_sets_are_told_by_the_annotator(parser):
    """Texts that hold each word, sentence and summary; and the empty story."""
    sets = [one for one in load_instruction_sets() if one.instruction.summary][:8]
    texts = []
    for one in sets:
        asked = one.instruction
        text = " ".join([asked.summary, asked.sentence, *(f"There was a {word}." for word in asked.words)])
        texts.append(story(one.id, text, asked.to_json()))
        texts.append(story(one.id, "", asked.to_json(), 1))
    found = check_texts(texts)
    full, empty = found[::2], found[1::2]
    assert all(one.compliance.shares.get("summary", 1) == 1 for one in full)
    assert all(one.compliance.shares.get(kind, 1) == 1 for one in full for kind in ("words", "sentence"))
    assert not any(one.compliance.is_followed for one in empty)
    assert all((one.held_out is not None) == known.held_out for one, known in zip(full, sets, strict=True))
    assert parsed_labels(["A cat sat."])[0].made_by == parser.version
