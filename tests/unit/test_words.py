from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.corpus.words import align, find_punctuation, find_sentences, find_words, label_tokens
from tslens.types import Story


def cut(text: str, spans: list[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "words", "punctuation"),
    [
        ("Tom's dog didn’t run.", ["Tom's", "dog", "didn’t", "run"], ["."]),
        ("a well-known ice-cream - yes", ["a", "well-known", "ice-cream", "yes"], ["-"]),
        ("the dogs' bowl, 'tis", ["the", "dogs", "bowl", "tis"], ["'", ",", "'"]),
        (
            "Zoë, naïve, e\u0301te, Мама, 猫",
            ["Zoë", "naïve", "e\u0301te", "Мама", "猫"],
            [",", ",", ",", ","],
        ),
        ("3.5 of 1,000. 4th", ["3.5", "of", "1,000", "4th"], ["."]),
        ("snake_case a--b a.b", ["snake", "case", "a", "b", "a", "b"], ["_", "-", "-", "."]),
        ("“Hi!”\n😀", ["Hi"], ["“", "!", "”", "😀"]),
        (" \n ", [], []),
    ],
)
def test_words_and_punctuation(text: str, words: list[str], punctuation: list[str]) -> None:
    assert cut(text, find_words(text)) == words
    assert cut(text, find_punctuation(text)) == punctuation


SENTENCES = [
    # text, sentences separated by | as they should be, closing marks (_ for none)
    ("Tom ran. He fell.", "Tom ran.|He fell.", ". ."),
    ("Tom ran! Why? He fell", "Tom ran!|Why?|He fell", "! ? _"),
    ("Tom ran\nHe fell\n", "Tom ran|He fell", "_ _"),
    ("Tom ran.\nhe fell.", "Tom ran.|he fell.", ". ."),
    ('"Hi!" said Tom. He ran.', '"Hi!" said Tom.|He ran.', ". ."),
    ('"Hi!" Tom said.', '"Hi!"|Tom said.', "! ."),
    ("“Hi!” Tom said.", "“Hi!”|Tom said.", "! ."),
    ('Tom said, "Hi. I am Tom." Lily ran.', 'Tom said, "Hi.|I am Tom."|Lily ran.', ". . ."),
    ('"Come here," said Tom.', '"Come here," said Tom.', "."),
    ('"Is it you?" he asked.', '"Is it you?" he asked.', "."),
    (
        "Mr. Fox and Mrs. Hen saw Dr. Bear on St. John Road.",
        "Mr. Fox and Mrs. Hen saw Dr. Bear on St. John Road.",
        ".",
    ),
    ("He met Mr.\nThen he ran.", "He met Mr.|Then he ran.", ". ."),
    ("He had a red X. Mr. Tom ran.", "He had a red X.|Mr. Tom ran.", ". ."),
    ("He is a xMr. Tom ran.", "He is a xMr.|Tom ran.", ". ."),
    ("It was 3.5 miles. He ran.", "It was 3.5 miles.|He ran.", ". ."),
    ("He was 3. Tom was 4.", "He was 3.|Tom was 4.", ". ."),
    ("And then... he ran.", "And then... he ran.", "."),
    ("And then… he ran…", "And then… he ran…", "…"),
    ("And then... He ran.", "And then...|He ran.", "... ."),
    ("He waited . . . Then he ran.", "He waited . . .|Then he ran.", ".~.~. ."),
    ("No!! Really?! Yes.", "No!!|Really?!|Yes.", "!! ?! ."),
    ("(He ran.) She fell.", "(He ran.)|She fell.", ". ."),
    ("He said 'go.' She went.", "He said 'go.'|She went.", ". ."),
    ('"Stay inside. "\nTom ran.', '"Stay inside. "|Tom ran.', ". ."),
    ("Tom ran.Lily fell.", "Tom ran.Lily fell.", "."),
    ('"..."\nTom ran.', '"..."|Tom ran.', "... ."),
    ("Tom ran.  ", "Tom ran.", "."),
    ("3. 4. Go.", "3.|4.|Go.", ". . ."),
    ("* * *\nTom ran.", "* * *|Tom ran.", "_ ."),
    ("", "", ""),
    (" \n ", "", ""),
]


@pytest.mark.parametrize(("text", "expected", "closings"), SENTENCES)
def test_sentences(text: str, expected: str, closings: str) -> None:
    found = find_sentences(text)
    assert cut(text, [(one.start, one.end) for one in found]) == (expected.split("|") if expected else [])
    marks = [text[slice(*one.closing)].replace(" ", "~") if one.closing else "_" for one in found]
    assert marks == closings.split()


PIECES = st.sampled_from(
    ["a", "B", " ", " ", ".", "!", "…", '"', "”", "\n", "Mr", "3", "'", "-", "é", "😀", "e\u0301"]
)


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=30))
def test_sentences_hold_every_character_once(text: str) -> None:
    end = 0
    for sentence in find_sentences(text):
        assert not text[end : sentence.start].strip()
        assert text[sentence.start : sentence.end].strip() and "\n" not in text[sentence.start : sentence.end]
        if sentence.closing:
            assert sentence.start <= sentence.closing[0] < sentence.closing[1] <= sentence.end
            assert set(text[slice(*sentence.closing)]) <= set(".!?… ")
        end = sentence.end
    assert not text[end:].strip()


@given(st.text(max_size=40))
def test_words_and_punctuation_share_the_text_out(text: str) -> None:
    spans = sorted(find_words(text) + find_punctuation(text))
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    covered = "".join(cut(text, spans))
    assert covered == "".join(text.split())


def test_align_counts_every_token_that_overlaps() -> None:
    #        Tom   's    _dog  .     \n    Run
    tokens = [(0, 3), (3, 5), (5, 9), (9, 10), (10, 11), (11, 14)]
    first, last = align([(0, 5), (6, 9), (9, 10), (11, 14), (0, 14), (14, 17)], tokens)
    assert first.tolist() == [0, 2, 3, 5, 0, 6]
    assert last.tolist() == [1, 2, 3, 5, 5, 5]  # the last span has no token: first > last
    first, last = align([], tokens)
    assert len(first) == len(last) == 0
    first, last = align([(0, 1)], [])
    assert first[0] > last[0]


def test_align_of_a_character_in_pieces() -> None:
    first, last = align([(0, 1), (1, 2)], [(0, 1), (1, 2), (1, 2), (1, 2)])
    assert (first.tolist(), last.tolist()) == ([0, 1], [0, 3])


def test_labels_of_a_text_by_hand() -> None:
    text = '"Hi!" said Mr. Tom-cat.\nWow! Zo'
    pieces = ['"', "Hi", '!"', " said", " Mr", ".", " T", "om", "-", "cat", ".", "\n", "W", "ow", "!", " Zo"]
    ends = np.cumsum([len(piece) for piece in pieces])
    offsets = np.stack([ends - [len(piece) for piece in pieces], ends], axis=1)
    found = label_tokens(text, offsets)
    assert found.word.tolist() == [-1, 0, -1, 1, 2, -1, 3, 3, 3, 3, -1, -1, 4, 4, -1, 5]
    assert found.word_first.nonzero()[0].tolist() == [1, 3, 4, 6, 12, 15]
    assert found.word_last.nonzero()[0].tolist() == [1, 3, 4, 9, 13, 15]
    assert found.sentence.tolist() == [0] * 12 + [1] * 3 + [2]
    assert found.sentence_start.nonzero()[0].tolist() == [1, 12, 15]
    assert found.sentence_end.nonzero()[0].tolist() == [10, 14]
    assert found.punctuation.nonzero()[0].tolist() == [0, 2, 5, 10, 14]


def test_a_word_that_is_cut_has_no_last_piece() -> None:
    found = label_tokens("Tom ran away.", [(0, 3), (3, 7), (7, 9)])
    assert found.word.tolist() == [0, 1, 2]
    assert found.word_last.tolist() == [True, True, False]
    assert not found.sentence_end.any()


@pytest.mark.parametrize("text", ["", "...", "a"])
def test_labels_of_almost_nothing(text: str) -> None:
    found = label_tokens(text, [(i, i + 1) for i in range(len(text))])
    assert len(found.word) == len(text)
    assert found.word_first.sum() == len(find_words(text))


@pytest.fixture(scope="module")
def tokenizer() -> StoryTokenizer:
    text = "Once upon a time, Tom ran to the old well-known park. “Oh no!” said Mr. Fox... Zoë didn't see it."
    return StoryTokenizer.train([Story(text)] * 3, vocab_size=310)


@settings(max_examples=300)
@given(st.lists(PIECES | st.sampled_from(["Tom", "didn't", "Zoë", " the"]), max_size=30).map("".join))
@example("Once upon a time, Tom ran... 😀 well-known Zoë.")
def test_labels_agree_with_the_characters(tokenizer: StoryTokenizer, text: str) -> None:
    _, offsets = tokenizer.encode_with_offsets(text)
    found, words = label_tokens(text, offsets), find_words(text)
    assert found.word.dtype == found.sentence.dtype == np.int32
    first, last = align(words, offsets)
    assert found.word_first.nonzero()[0].tolist() == first.tolist()
    assert found.word_last.nonzero()[0].tolist() == last.tolist()
    sentences = find_sentences(text)
    for i, (start, end) in enumerate(offsets):
        overlapping = [k for k, (a, b) in enumerate(words) if a < end and b > start]
        assert found.word[i] == (overlapping[-1] if overlapping else -1)
        in_mark = any(start < b and end > a for a, b in find_punctuation(text))
        assert found.punctuation[i] == (in_mark and not overlapping)
        if text[start:end].strip():
            index = found.sentence[i]
            assert sentences[index].start < end and sentences[index].end > start
    closings = [one.closing[1] - 1 for one in sentences if one.closing]
    marked = found.sentence_end.nonzero()[0]
    assert all(offsets[i][0] <= c < offsets[i][1] for i, c in zip(marked, closings, strict=True))
    with_words = [s for s in sentences if find_words(text[s.start : s.end])]
    assert found.sentence_start.sum() == len(with_words)
