"""Words, sentences and punctuation by rule from characters; no parser.

A word is a run of letters and digits, with single apostrophes, hyphens or (between digits) points and commas
inside. Every other character that is no blank is punctuation. A newline ends a sentence, and so does a closing
mark unless the text goes on: see :func:`find_sentences`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Int, Int32

Span = tuple[int, int]  # text[start:end]

_WORD = r"(?:[^\W_][\u0300-\u036f]*)+"  # letters and digits of any script, with combining accents
_PIECE = re.compile(
    rf"(?P<word>{_WORD}(?:(?:['’\-\u2010\u2011]|(?<=[0-9])[.,](?=[0-9])){_WORD})*)|(?P<punctuation>[^\s])"
)
_CLOSING = re.compile(
    r"(?P<mark>[.!?…]+(?: +[.!?…]+)*)"  # "!!", "...", also ". . ."
    r"[\"”’')\]»]*"  # quotes and brackets that the mark stands inside
    r"(?=(?P<blank>[^\S\n]*)(?P<next>[^\n]?))"  # what follows in the paragraph
)
_ABBREVIATION = re.compile(r"(?<!\w)(?:Mr|Mrs|Ms|Dr|St)\.$")


@dataclass(frozen=True)
class Sentence:
    """One sentence, ``text[start:end]``. ``closing``: span of its closing mark, None where it has none."""

    start: int
    end: int
    closing: Span | None


@dataclass(frozen=True, eq=False)
class TokenWords:
    """Words, sentences and punctuation of a text, per token (``<|endoftext|>`` not counted).

    ``word``: index of the word that the token belongs to, -1 for none. ``word_first``, ``word_last``: its
    first and last piece; where a text is cut inside a word, that word has no last piece.
    ``sentence``: index; blanks and newlines belong to the sentence before them, -1 before the first.
    ``sentence_start``: first piece of the first word of a sentence. ``sentence_end``: token with the last
    character of the closing mark. ``punctuation``: holds punctuation and no part of a word.
    """

    word: Int32[np.ndarray, " token"]
    word_first: Bool[np.ndarray, " token"]
    word_last: Bool[np.ndarray, " token"]
    sentence: Int32[np.ndarray, " token"]
    sentence_start: Bool[np.ndarray, " token"]
    sentence_end: Bool[np.ndarray, " token"]
    punctuation: Bool[np.ndarray, " token"]


def find_words(text: str) -> list[Span]:
    """Words in order: "don't", "well-known", "3.5" and "Zoë" are one each."""
    return [found.span() for found in _PIECE.finditer(text) if found.lastgroup == "word"]


def find_punctuation(text: str) -> list[Span]:
    """Single characters that are neither blank nor part of a word, in order."""
    return [found.span() for found in _PIECE.finditer(text) if found.lastgroup == "punctuation"]


def find_units(text: str) -> list[Span]:
    """Words and single punctuation marks, in the order of the text: what labels are given to."""
    return list(_units(text))


@lru_cache(maxsize=16)
def _units(text: str) -> tuple[Span, ...]:
    """Whoever labels a story asks for its units several times."""
    return tuple(found.span() for found in _PIECE.finditer(text))


def find_sentences(text: str) -> list[Sentence]:
    """Sentences in order; every character that is not blank is in exactly one.

    1. A newline ends a sentence.
    2. A run of closing marks (``.``, ``!``, ``?``, ``…``) ends one where a blank or the paragraph's end follows;
       quotes and brackets right after it belong to the sentence.
    3. It ends none where the next letter is a small one: '"Hi!" said Tom', "and then ... he ran".
    4. "Mr.", "Mrs.", "Ms.", "Dr." and "St." end none inside a paragraph.
    5. What has no word and no mark (a quote left over) joins the sentence before it in the paragraph.
    """
    sentences: list[Sentence] = []
    for paragraph in re.finditer(r"[^\n]+", text):
        first = len(sentences)
        start = paragraph.start()
        for found in _CLOSING.finditer(text, start, paragraph.end()):
            if _ends_sentence(text, found):
                _add(sentences, text, start, found.end(), found.span("mark"))
                start = found.end()
        if len(sentences) > first and not re.search(r"[^\W_]", text[start : paragraph.end()]):
            last = sentences.pop()
            _add(sentences, text, last.start, paragraph.end(), last.closing)
        else:
            _add(sentences, text, start, paragraph.end(), None)
    return sentences


def _ends_sentence(text: str, found: re.Match[str]) -> bool:
    if not found["next"]:
        return True
    if not found["blank"] or found["next"].islower():
        return False
    mark_end = found.end("mark")
    return not (found["mark"] == "." and _ABBREVIATION.search(text, max(0, mark_end - 5), mark_end))


def _add(sentences: list[Sentence], text: str, start: int, end: int, closing: Span | None) -> None:
    """Add a sentence without the blanks around it, if anything is left."""
    stretch = text[start:end]
    if stretch.strip():
        left = len(stretch) - len(stretch.lstrip())
        sentences.append(Sentence(start + left, start + len(stretch.rstrip()), closing))


# From characters to tokens ----------------------------------------------------------------------------------


def align(
    spans: Sequence[Span] | Int[np.ndarray, "span 2"], offsets: Sequence[Span] | Int[np.ndarray, "token 2"]
) -> tuple[Int[np.ndarray, " span"], Int[np.ndarray, " span"]]:
    """First and last token (inclusive) that overlap each span of characters.

    ``offsets``: characters of each token in order. A token belongs to every span that it overlaps, so " Tom"
    belongs to the word "Tom". Where no token overlaps (the tokens are cut), first is greater than last.
    """
    span, token = _pairs(spans), _pairs(offsets)
    first = np.searchsorted(token[:, 1], span[:, 0], side="right")
    last = np.searchsorted(token[:, 0], span[:, 1], side="left") - 1
    return first, last


def label_tokens(text: str, offsets: Sequence[Span] | Int[np.ndarray, "token 2"]) -> TokenWords:
    """Words, sentences and punctuation of each token of a text.

    ``offsets``: characters of each token, in order (``StoryTokenizer.encode_with_offsets``); a cut text may
    have fewer than its characters need. A token that overlaps two words belongs to the later one.
    """
    pieces = [(found.start(), found.end(), found.lastgroup == "word") for found in _PIECE.finditer(text)]
    piece = np.array(pieces, dtype=np.int64).reshape(-1, 3)
    words, marks = piece[piece[:, 2] == 1, :2], piece[piece[:, 2] == 0, 0]
    sentences = find_sentences(text)
    starts = np.array([sentence.start for sentence in sentences], dtype=np.int64)
    closings = [sentence.closing[1] for sentence in sentences if sentence.closing]
    token = _pairs(offsets)
    begin, end = token[:, 0], token[:, 1]

    word = np.searchsorted(words[:, 0], end, side="left") - 1  # the last word that begins before its end
    inside = (word >= 0) & (np.append(words[:, 1], 0)[word] > begin)
    word = np.where(inside, word, -1)
    word_first = inside & (word != np.concatenate(([-1], word[:-1])))
    word_last = inside & (word != np.append(word[1:], -1)) & (end >= np.append(words[:, 1], 0)[word])

    sentence_of_word = np.searchsorted(starts, words[:, 0], side="right") - 1
    opens = np.append(np.diff(sentence_of_word, prepend=-1) > 0, False)
    sentence_end = np.zeros(len(token), dtype=bool)
    closing = np.array(closings, dtype=np.int64)
    first, last = align(np.stack([closing - 1, closing], 1), token)
    sentence_end[last[first <= last]] = True
    n_marks = np.searchsorted(marks, end, side="left") - np.searchsorted(marks, begin, side="left")
    return TokenWords(
        word=word.astype(np.int32),
        word_first=word_first,
        word_last=word_last,
        sentence=(np.searchsorted(starts, end - 1, side="right") - 1).astype(np.int32),
        sentence_start=word_first & opens[word],
        sentence_end=sentence_end,
        punctuation=(n_marks > 0) & ~inside,
    )


def _pairs(spans: Sequence[Span] | Int[np.ndarray, "span 2"]) -> Int[np.ndarray, "span 2"]:
    return np.asarray(spans, dtype=np.int64).reshape(-1, 2)
