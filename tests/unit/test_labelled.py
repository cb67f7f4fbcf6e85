"""Labels per unit and per token, relations, labels of users."""

import pytest

from tslens.corpus.labelled import (
    read_labels,
    relation_pairs,
    token_labels,
    token_units,
    unit_labels,
    user_label,
)
from tslens.corpus.words import find_units
from tslens.errors import DataError
from tslens.labels import LABELS, RELATIONS
from tslens.types import Clause, Labels, Story

TEXT = 'Lily saw a ball. "The ball is red," she said.'
# units:  0Lily 1saw 2a 3ball 4. 5" 6The 7ball 8is 9red 10, 11" 12she 13said 14.
POS = tuple("PROPN VERB DET NOUN PUNCT PUNCT DET NOUN AUX ADJ PUNCT PUNCT PRON VERB PUNCT".split())
LEMMAS = tuple('lily see a ball . " the ball be red , " she say .'.split())
LABELS_OF_TEXT = Labels(
    made_by="hand",
    pos=POS,
    lemma=LEMMAS,
    clause=(0, 0, 0, 0, -1, -1, 1, 1, 1, 1, -1, -1, 2, 2, -1),
    clauses=(Clause(1, 0, 3), Clause(8, 7), Clause(13, 12)),
    mention=(0, -1, -1, 1, -1, -1, -1, 1, -1, -1, -1, -1, 0, -1, -1),
    antecedent=(-1,) * 12 + (0, -1, -1),
    protagonist=0,
    introduction=(0,),
    topics=("ball",),
    quote=(-1,) * 5 + (0,) * 7 + (-1,) * 3,
    story_part=("opening",) * 15,
)


def test_every_label_has_a_value_for_every_unit():
    table = unit_labels(TEXT, LABELS_OF_TEXT)
    assert list(table) == [label.name for label in LABELS]
    assert {len(values) for values in table.values()} == {15}
    flags = {name: [i for i, v in enumerate(values) if v is True] for name, values in table.items()}
    assert flags["sentence_start"] == [0, 6]
    assert flags["sentence_end"] == [4, 14]
    assert flags["subject"] == [0, 7, 12]
    assert flags["action"] == [1, 8, 13]
    assert flags["object"] == [3]
    assert flags["protagonist"] == [0, 12]
    assert flags["introduction"] == [0]
    assert flags["topic"] == [3, 7]


def test_relations():
    pairs = relation_pairs(TEXT, LABELS_OF_TEXT)
    assert list(pairs) == [relation.name for relation in RELATIONS]
    assert pairs["subject"] == [(1, (0,)), (8, (7,)), (13, (12,))]
    assert pairs["action"] == [(3, (1,))]
    assert pairs["object"] == []
    assert pairs["antecedent"] == [(12, (0,))]
    assert pairs["quote"] == [(6, (5,)), (7, (5,)), (8, (5,)), (9, (5,))]
    assert pairs["topic"] == [(i, (3,)) for i in (6, 7)] + [(i, (3, 7)) for i in (8, 9, 12, 13)]
    assert pairs["topic_determiner"] == [(6, (3,))]
    assert pairs["topic_next"] == [(6, (3,))]  # "The", for the noun after it
    assert pairs["sentence_end"] == [(i, (4,)) for i in (6, 7, 8, 9, 12, 13)]
    assert pairs["name"][0] == (1, (0,))
    assert all(key < query for found in pairs.values() for query, keys in found for key in keys)


def test_tokens_of_a_word_have_its_labels():
    offsets = [
        (0, 2),
        (2, 4),
        (4, 8),
        (8, 10),
        (10, 13),
        (13, 15),
        (15, 17),
        (17, 18),
    ]  # Li ly _saw _a _ba ll ._ "
    assert token_units(TEXT, offsets).tolist() == [0, 0, 1, 2, 3, 3, 4, 5]
    carried = token_labels(TEXT, unit_labels(TEXT, LABELS_OF_TEXT), offsets)
    assert carried["subject"] == [True, True] + [False] * 6
    assert carried["pos"][:3] == ["PROPN", "PROPN", "VERB"]
    assert carried["clause"][-2:] == [-1, -1]
    assert carried["sentence_end"] == [False] * 6 + [True, False]


def test_a_token_with_two_marks_keeps_both_flags():
    text = '"Go."'
    labels = Labels("hand", ("PUNCT", "VERB", "PUNCT", "PUNCT"), ('"', "go", ".", '"'), (-1, 0, -1, -1),
                    (Clause(1),), (-1,) * 4, (-1,) * 4, None, (), (), (0,) * 4, ("opening",) * 4)  # fmt: skip
    carried = token_labels(text, unit_labels(text, labels), [(0, 3), (3, 5)])
    assert carried["sentence_end"] == [False, True]
    assert carried["pos"] == ["VERB", "PUNCT"]


def test_a_cut_text_leaves_units_without_tokens():
    carried = token_labels(TEXT, unit_labels(TEXT, LABELS_OF_TEXT), [(0, 4), (4, 8)])
    assert carried["action"] == [False, True]


def test_labels_pass_through_json():
    story = Story(TEXT, {"labels": LABELS_OF_TEXT.to_json()})
    assert read_labels(story) == LABELS_OF_TEXT
    assert read_labels(Story(TEXT)) is None


@pytest.mark.parametrize("row", [{"pos": ["NOUN"]}, 3, {**LABELS_OF_TEXT.to_json(), "pos": ["NOUN"]}])
def test_labels_of_another_kind_are_refused(row):
    with pytest.raises(DataError):
        read_labels(Story(TEXT, {"labels": row}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (list("abcdefghij"), list("abcdd") + list("eefghhhijj")),  # words parted by blanks: ten
        (list(range(15)), list(range(15))),  # units
    ],
)
def test_labels_of_a_user(values, expected):
    assert len(find_units(TEXT)) == 15
    assert user_label(Story(TEXT, {"mood": values}), "mood") == expected


def test_labels_of_a_user_on_words_only():
    story = Story("Tom ran - fast!", {"mood": ["x", "y", "z"]})
    assert user_label(story, "mood") == ["x", "y", None, "z", None]


@pytest.mark.parametrize("extra", [{}, {"mood": "happy"}, {"mood": [1, 2]}])
def test_bad_labels_of_a_user_are_refused(extra):
    with pytest.raises(DataError, match="mood"):
        user_label(Story(TEXT, extra), "mood")
