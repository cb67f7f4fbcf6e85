"""What may make a neuron fire: for every token of a story, which labels it has.

The labels are those of ``tslens.labels`` as flags (a category gives one flag for each of its values), and a few that
follow from them: pronouns that are subjects, first and later mentions, places in the sentence and in the story, clauses
of glad and of unhappy events. Every piece of a word has the word's labels; a token that holds several units has those
of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from jaxtyping import Bool, Int

from tslens.corpus.labelled import read_labels, token_units, unit_labels, user_label
from tslens.corpus.vocabulary import load_vocabulary
from tslens.corpus.words import Span, align, find_units
from tslens.errors import DataError
from tslens.labels import PARTS_OF_SPEECH, STORY_PARTS
from tslens.types import Labels, Story

EARLY_WORDS = 3  # of a sentence
EARLY_SHARE = 0.2  # of a story's units

_PART_WORDS = {
    "ADJ": "adjectives",
    "ADP": "prepositions",
    "ADV": "adverbs",
    "AUX": "auxiliary verbs",
    "CCONJ": "coordinating conjunctions",
    "DET": "determiners",
    "INTJ": "interjections",
    "NOUN": "common nouns",
    "NUM": "numbers",
    "PART": "particles",
    "PRON": "pronouns",
    "PROPN": "names",
    "PUNCT": "punctuation marks",
    "SCONJ": "subordinating conjunctions",
    "SYM": "symbols",
    "VERB": "verbs",
    "X": "words of no known part of speech",
}

TOKEN_LABELS: Mapping[str, str] = {
    **{f"pos_{part.lower()}": _PART_WORDS[part] for part in PARTS_OF_SPEECH},
    "sentence_start": "the first word of a sentence",
    "sentence_end": "the mark that closes a sentence",
    "early_in_sentence": f"the first {EARLY_WORDS} words of a sentence",
    "late_in_sentence": f"the last {EARLY_WORDS} words of a sentence",
    "early_in_story": "the first fifth of the story",
    "late_in_story": "the last fifth of the story",
    "subject": "the head word of a subject",
    "subject_pronoun": "pronouns that are subjects",
    "action": "the main verb of a clause",
    "object": "the head word of a direct object",
    "object_pronoun": "pronouns that are direct objects",
    "mention": "words that mention a character",
    "first_mention": "the first mention of a character or thing",
    "later_mention": "later mentions",
    "antecedent": "pronouns that stand for somebody named before",
    "protagonist": "mentions of the protagonist",
    "introduction": "the introduction of the protagonist",
    "topic": "nouns that are the story's topic",
    "quote": "direct speech",
    "glad_event": "clauses in which somebody is glad",
    "unhappy_event": "clauses in which somebody is unhappy",
    **{f"part_{part}": f"the {part} of the story" for part in STORY_PARTS},
}
"""Every label with what it marks, in words. Labels of a user follow by their own names."""


def names_with(users: Sequence[str]) -> tuple[str, ...]:
    """Names of all labels, those of a user behind."""
    return (*TOKEN_LABELS, *users)


def token_flags(
    story: Story, offsets: Sequence[Span], users: Sequence[str] = ()
) -> Bool[np.ndarray, "token label"]:
    """Which labels each token of a story has, in the order of :func:`names_with`.

    ``offsets``: characters of each token. Raises DataError for a story without labels, or without a user's.
    """
    labels = read_labels(story)
    if labels is None:
        raise DataError(
            f"A story has no labels: {story.text[:40]!r}.",
            "Give them with: tslens data annotate STORIES --out FILE",
        )
    of_units = unit_flags(story.text, labels)
    table = [np.asarray(of_units[name], dtype=bool) for name in TOKEN_LABELS]
    table += [np.array([bool(value) for value in user_label(story, name)], dtype=bool) for name in users]
    flags = np.stack(table, 1)
    return _carried(story.text, flags, offsets)


def _carried(
    text: str, flags: Bool[np.ndarray, "unit label"], offsets: Sequence[Span]
) -> Bool[np.ndarray, "token label"]:
    """Flags of units on tokens: every piece of a unit, all units of a token."""
    first, last = align(find_units(text), offsets)
    owner = token_units(text, offsets)
    found = np.append(flags, np.zeros((1, flags.shape[1]), bool), 0)[owner]
    shared = [unit for unit in np.flatnonzero(first <= last).tolist() if owner[first[unit]] != unit]
    for unit in shared:
        found[first[unit] : last[unit] + 1] |= flags[unit]
    return found


def unit_flags(text: str, labels: Labels) -> dict[str, Bool[np.ndarray, " unit"]]:
    """Every label of ``TOKEN_LABELS`` for each word and mark of a story."""
    table = unit_labels(text, labels)
    pos = np.array(labels.pos, dtype=object)
    is_mark = pos == "PUNCT"
    flag = {
        name: np.array(table[name], dtype=bool)
        for name in ("sentence_start", "sentence_end", "subject", "action", "object", "protagonist",
                     "introduction", "topic")
    }  # fmt: skip
    mention, part = np.array(labels.mention), np.array(labels.story_part, dtype=object)
    first = _first_mentions(labels.mention)
    place = (np.arange(len(pos)) + 0.5) / max(len(pos), 1)
    early, late = _places_in_sentence(np.array(table["sentence"]), is_mark)
    found = {f"pos_{name.lower()}": pos == name for name in PARTS_OF_SPEECH}
    found |= flag
    found |= {
        "early_in_sentence": early,
        "late_in_sentence": late,
        "early_in_story": place < EARLY_SHARE,
        "late_in_story": place >= 1 - EARLY_SHARE,
        "subject_pronoun": flag["subject"] & (pos == "PRON"),
        "object_pronoun": flag["object"] & (pos == "PRON"),
        "mention": mention >= 0,
        "first_mention": first,
        "later_mention": (mention >= 0) & ~first,
        "antecedent": np.array(labels.antecedent) >= 0,
        "quote": np.array(labels.quote) >= 0,
        "glad_event": _events(labels, "glad"),
        "unhappy_event": _events(labels, "unhappy"),
    }
    return found | {f"part_{name}": part == name for name in STORY_PARTS}


def _first_mentions(mention: Sequence[int]) -> Bool[np.ndarray, " unit"]:
    seen: set[int] = set()
    first = np.zeros(len(mention), dtype=bool)
    for unit, entity in enumerate(mention):
        if entity >= 0 and entity not in seen:
            seen.add(entity)
            first[unit] = True
    return first


def _places_in_sentence(
    sentence: Int[np.ndarray, " unit"], is_mark: Bool[np.ndarray, " unit"]
) -> tuple[Bool[np.ndarray, " unit"], Bool[np.ndarray, " unit"]]:
    """The first and the last words of each sentence, marks not counted."""
    word = np.flatnonzero(~is_mark)
    early, late = np.zeros(len(sentence), dtype=bool), np.zeros(len(sentence), dtype=bool)
    of_word = sentence[word]
    number = np.arange(len(word))
    begins = np.searchsorted(of_word, of_word, side="left")
    ends = np.searchsorted(of_word, of_word, side="right")
    early[word] = number - begins < EARLY_WORDS
    late[word] = ends - number <= EARLY_WORDS
    return early, late


def _events(labels: Labels, frame: str) -> Bool[np.ndarray, " unit"]:
    """Units of the clauses that have a word of a feeling, and none of the opposite."""
    words, opposite = _feelings(frame), _feelings("unhappy" if frame == "glad" else "glad")
    has, has_not = set(), set()
    for lemma, clause in zip(labels.lemma, labels.clause, strict=True):
        if clause >= 0:
            if lemma in words:
                has.add(clause)
            elif lemma in opposite:
                has_not.add(clause)
    return np.array([clause in has and clause not in has_not for clause in labels.clause], dtype=bool)


@cache
def _feelings(frame: str) -> frozenset[str]:
    """Adjectives of the vocabulary that say how somebody feels: "glad" or "unhappy"."""
    adjectives = load_vocabulary().adjectives
    return frozenset(
        lemma for lemma, one in adjectives.items() if any(use.frame == frame for use in one.uses)
    )


def shifted(
    flags: Bool[np.ndarray, "token label"], n_shifts: int, rng: np.random.Generator
) -> Bool[np.ndarray, "shift token label"]:
    """The labels of one story moved around it in a circle, each time by a tenth to nine tenths of its length."""
    n = len(flags)
    by = rng.integers(max(1, n // 10), max(2, n - n // 10), n_shifts)
    return np.stack([np.roll(flags, shift, axis=0) for shift in by.tolist()])
