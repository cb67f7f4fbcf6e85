"""The checkers of faults: each on pairs of texts written by hand, and none on the twins of another kind."""

import pytest

from tslens.corpus.corrupt import FAULTS, corrupt
from tslens.corpus.faults.check import find_fault
from tslens.corpus.words import find_units
from tslens.types import Clause, Labels, Story

TEXT = (
    'Tom had a red kite. "I like the wind," said Tom. Anna was his friend, and she often came to visit him.\n'
    "One windy day the string broke, and the kite flew away over the trees. Tom cried a little. "
    "Anna looked behind the big barn with her dog.\n"
    "They walked slowly through the whole wood. At last they saw something red. It was the kite, high in an oak."
)
NOUNS = "kite wind friend day string trees barn dog wood oak".split()
VERBS = {"like": "like", "said": "say", "came": "come", "visit": "visit", "broke": "break", "flew": "fly",
         "cried": "cry", "looked": "look", "walked": "walk", "saw": "see", "had": "have", "was": "be"}  # fmt: skip
ENTITIES = {"tom": 0, "his": 0, "him": 0, "anna": 1, "she": 1, "her": 1, "they": 2, "it": 3, "kite": 3}
WORDS = ["visit", "red", "dog"]
EXCEPTIONS = {("missing_ending", "ignored_instruction")}  # what stood in the ending alone is gone with it


def make_labels():
    """Labels of TEXT: each verb heads a clause of the words since the last, its subject the nearest name or noun."""
    words = [TEXT[start:end].lower() for start, end in find_units(TEXT)]
    pos, clause, clauses, quote = [], [], [], []
    subject, n_marks = 0, 0
    for unit, word in enumerate(words):
        if word in ("tom", "anna"):
            pos.append("PROPN")
        elif word in NOUNS:
            pos.append("NOUN")
        elif word in VERBS:
            pos.append("VERB")
        elif word in ("red", "windy", "big", "whole", "high"):
            pos.append("ADJ")
        elif word in ("they", "it", "she", "i", "his", "him", "her", "something"):
            pos.append("PRON")
        else:
            pos.append("PUNCT" if not word.isalnum() else "DET" if word in ("a", "an", "the") else "ADP")
        subject = unit if word in ("tom", "anna", "they", "it", "she", "i", "string", "kite") else subject
        clause.append(len(clauses) if word.isalnum() else -1)
        if word in VERBS:
            clauses.append(Clause(unit, None if word == "visit" else subject))
        quote.append(0 if word == '"' or n_marks == 1 else -1)
        n_marks += word == '"'
    clause = [min(index, len(clauses) - 1) for index in clause]
    n = len(words)
    return Labels("test", tuple(pos), tuple(VERBS.get(word, word) for word in words), tuple(clause), tuple(clauses),
                  tuple(ENTITIES.get(word, -1) for word in words), (-1,) * n, 0, (0,), ("kite",), tuple(quote),
                  ("opening",) * n)  # fmt: skip


LABELS = make_labels()


def find(kind, twin, words=None):
    return [twin[start:end] for start, end in find_fault(kind, TEXT, twin, LABELS, words=words)]


@pytest.mark.parametrize(
    ("kind", "old", "new", "expected"),
    [
        ("word_order", "Tom cried a little", "A cried little Tom", ["A cried little Tom."]),
        ("agreement", "Anna was his", "Anna were his", ["were"]),
        ("agreement", "I like", "I likes", ["likes"]),
        ("tense", "Tom cried", "Tom cries", ["cries"]),
        ("tense", "It was", "It is", ["is"]),
        ("swapped_names", "Anna looked", "Tom looked", ["Tom"]),
        ("changed_pronoun", "visit him", "visit her", ["her"]),
        ("object_back", "a little. Anna", "a little. Tom flew the kite. Anna", ["Tom flew the kite."]),
        (
            "repeated_sentence",
            "a little. Anna",
            "a little. Tom cried a little. Anna",
            ["Tom cried a little."],
        ),
        ("missing_ending", " It was the kite, high in an oak.", "", [""]),
        ("missing_ending", "the kite, high in an oak.", "", [""]),
        ("ignored_instruction", ", and she often came to visit him", "", [""]),
    ],
)
def test_each_fault_is_found_in_its_place_and_no_other_is(kind, old, new, expected):
    assert TEXT.count(old) == 1
    twin = TEXT.replace(old, new)
    assert find(kind, twin, WORDS) == expected
    fired = {other for other in FAULTS if other != kind and find(other, twin, WORDS)}
    assert fired <= {other for made, other in EXCEPTIONS if made == kind}


@pytest.mark.parametrize("kind", FAULTS)
def test_nothing_is_found_in_the_story_itself(kind):
    assert find(kind, TEXT, WORDS) == []
    assert find(kind, TEXT) == []


def test_a_moved_sentence_is_one_fault():
    twin = TEXT.replace("Tom cried a little. ", "").replace("whole wood.", "whole wood. Tom cried a little.")
    assert find("sentence_order", twin) == ["Tom cried a little."]


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("tense", "Tom cried", "Tom shouts"),
        ("agreement", "Anna was", "Anna is"),
        ("swapped_names", "Anna looked", "Ben looked"),
        ("changed_pronoun", "visit him", "visit he"),
        ("object_back", "a little. Anna", "a little. Tom petted the cow. Anna"),
        ("repeated_sentence", "a little. Anna", "a little. He cried a little. Anna"),
        ("word_order", "Tom cried a little", "Tom shouted a little"),
        ("ignored_instruction", "Tom cried a little. ", ""),
    ],
)
def test_other_changes_of_the_same_place_are_no_such_fault(kind, old, new):
    twin = TEXT.replace(old, new)
    assert twin != TEXT
    assert find(kind, twin, WORDS) == []


def test_a_word_counts_as_there_in_any_form():
    twin = TEXT.replace("often came to visit him", "visited him")
    assert find("ignored_instruction", twin, ["visit"]) == []
    assert find("ignored_instruction", twin, ["come"]) == [""]


def test_unknown_kinds_are_refused():
    with pytest.raises(KeyError):
        find("spelling", TEXT)


@pytest.mark.parametrize("kind", FAULTS)
def test_confusion_matrix(kind):
    story = Story(TEXT, {"words": WORDS})
    n_twins = 0
    for seed in range(6):
        for strength in ("low", "high"):
            twin = corrupt(story, LABELS, kind, strength, seed=seed)
            if twin is None:
                continue
            n_twins += 1
            fired = {other for other in FAULTS if find(other, twin.text, WORDS)}
            assert kind in fired
            assert fired - {kind} <= {other for made, other in EXCEPTIONS if made == kind}, twin.text
    assert n_twins == 12
