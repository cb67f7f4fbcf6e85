"""Gold marks: words, clauses, entities and quotes of marked sentences, solved by hand."""

import pytest

from tslens.corpus.authoring.markup import MarkError, read_marks


def clauses_of(marked: str) -> tuple[str, list[tuple[str | None, str, str | None]]]:
    """Text, and subject, action and object of each clause."""
    read = read_marks([("opening", marked)])
    word = lambda i: None if i is None else read.text[read.units[i].start : read.units[i].end]  # noqa: E731
    return read.text, [(word(c.subject), word(c.action), word(c.object)) for c in read.clauses]


def test_one_clause():
    text, clauses = clauses_of("Tom@hero_s pulled_v the net_o.")
    assert text == "Tom pulled the net."
    assert clauses == [("Tom", "pulled", "net")]


def test_subject_is_shared_within_the_sentence():
    text, clauses = clauses_of("Tom_s ran_v, / fell_v / and hurt_v his knee_o. It_s was_v late.")
    assert text == "Tom ran, fell and hurt his knee. It was late."
    assert clauses == [
        ("Tom", "ran", None),
        ("Tom", "fell", None),
        ("Tom", "hurt", "knee"),
        ("It", "was", None),
    ]


def test_infinitives_and_commands_have_no_subject():
    assert clauses_of('"Look_i at me!" Tom_s wanted_v / to see_i it_o.')[1] == [
        (None, "Look", None),
        ("Tom", "wanted", None),
        (None, "see", "it"),
    ]


def test_a_clause_inside_another():
    text, clauses = clauses_of("The dog_s (that_s barked_v at Tom) ran_v off / and slept_v.")
    assert text == "The dog that barked at Tom ran off and slept."
    assert clauses == [("that", "barked", None), ("dog", "ran", None), ("dog", "slept", None)] or clauses == [
        ("dog", "ran", None),
        ("that", "barked", None),
        ("dog", "slept", None),
    ]


def test_words_belong_to_the_clause_around_them():
    read = read_marks([("opening", "The dog_s (that_s barked_v) ran_v off.")])
    of = {read.text[u.start : u.end]: c for u, c in zip(read.units, read.clause, strict=True)}
    assert of["The"] == of["dog"] == of["ran"] == of["off"] != of["that"]
    assert of["that"] == of["barked"]
    assert of["."] == -1


def test_subject_after_the_verb_and_quotes_part_clauses():
    assert clauses_of('"I_s am_v sorry," said_v Lily_s.')[1] == [("I", "am", None), ("Lily", "said", None)]


def test_quotes_are_numbered_with_their_marks():
    read = read_marks([("opening", '"Hi," said_v Tom_s. "Bye!"')])
    assert [u.quote for u in read.units] == [0, 0, 0, 0, -1, -1, -1, 1, 1, 1, 1]


def test_a_fragment_has_no_clause():
    read = read_marks([("opening", "Oh no! Tom_s fell_v.")])
    assert read.clause == [-1, -1, -1, 0, 0, -1]


def test_entities_parts_of_speech_and_introduction():
    read = read_marks(
        [
            ("opening", "There was_i *a boy@hero (named_i Tom@hero)*. "),
            ("ending", "Well^INTJ, he@hero_s won_v."),
        ]
    )
    assert read.text == "There was a boy named Tom. Well, he won."
    assert [read.text[u.start : u.end] for u in read.units if u.introduces] == ["a", "boy", "named", "Tom"]
    assert [read.text[u.start : u.end] for u in read.units if u.entity == "hero"] == ["boy", "Tom", "he"]
    assert {u.pos for u in read.units} == {"", "INTJ"}
    assert [u.part for u in read.units] == ["opening"] * 7 + ["ending"] * 5


def test_marks_inside_a_contraction():
    assert clauses_of("It_s's_v cold, / but Tom_s didn't care_v.")[1] == [
        ("It's", "It's", None),
        ("Tom", "care", None),
    ]


@pytest.mark.parametrize(
    ("marked", "fault"),
    [
        ("Tom_s ran_v fell_v.", "two verbs"),
        ("Tom_s Lily_s ran_v.", "two subjects"),
        ("Tom_s.", "without a verb"),
        ("Ran_v home.", "no subject"),
        ("Tom_s ran_v. Fell_v.", "no subject"),
        ("Tom_s ran_v) off.", "without"),
    ],
)
def test_bad_marks_are_refused(marked, fault):
    with pytest.raises(MarkError, match=fault):
        read_marks([("opening", marked)])
