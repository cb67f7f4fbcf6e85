"""The label scheme: one set of names, units and definitions, for gold labels of the author and for the annotator.

A *unit* is a word or a single punctuation mark, in the order of the text (``corpus.words.find_units``). Words,
sentences and punctuation come by rule from characters; all else from the author, who knows, or from the annotator,
who reads a parse. ``types.Labels`` holds what is stored; ``corpus.labelled`` derives the rest, aligns it to tokens and
lists the pairs of each relation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PARTS_OF_SPEECH = (
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
)
"""Universal parts of speech. A contraction has that of its first part: "didn't" is AUX, "I'm" is PRON."""

MADE_BY_AUTHOR = "author"
"""``Labels.made_by`` of gold labels."""

THIRD_PERSON = frozenset(
    "he him his himself she her hers herself it its itself they them their theirs themselves".split()
)
"""Pronouns that are mentions and have antecedents."""

STORY_PARTS = ("opening", "problem", "turn", "ending", "moral")

FEATURES = {
    "dialogue": "the story should contain at least one dialogue",
    "bad_ending": "the story has a bad ending",
    "happy_ending": "the story has a happy ending",
    "moral_value": "the story has a moral value",
    "twist": "something unexpected happens / there is a plot twist",
    "foreshadowing": "the narrative uses foreshadowing or setup and payoff",
    "conflict": "the story has some sort of conflict",
}
"""Features of a story that a request can ask for, with the wording of the TinyStories requests."""


@dataclass(frozen=True, slots=True)
class Label:
    """One label of a unit. ``kind``: a flag, an index (-1: none) or a category."""

    name: str
    kind: Literal["flag", "index", "category"]
    definition: str


LABELS = (
    Label("pos", "category", "universal part of speech; names are PROPN, marks PUNCT"),
    Label("sentence", "index", "sentence of the story"),
    Label("sentence_start", "flag", "first word of a sentence"),
    Label("sentence_end", "flag", "last closing mark of a sentence"),
    Label(
        "clause", "index", "clause of the story: a main verb with its words; -1 in a fragment and for marks"
    ),
    Label("subject", "flag", "head word of the nsubj or nsubjpass of a clause"),
    Label("action", "flag", "main verb of a clause; in a copular clause the form of be"),
    Label("object", "flag", "head word of the direct object of a clause"),
    Label(
        "mention",
        "index",
        "entity: names, nouns that name a character, third-person pronouns and what they stand for",
    ),
    Label("antecedent", "index", "unit of the nearest earlier mention that is no pronoun; for pronouns"),
    Label("protagonist", "flag", "mention of the protagonist"),
    Label("introduction", "flag", "words of the first mention of the protagonist"),
    Label(
        "topic", "flag", "one of up to three nouns of highest in-story count times inverse document frequency"
    ),
    Label("quote", "index", "stretch of direct speech, its opening and closing marks included"),
    Label("story_part", "category", "opening, problem, turn, ending or moral"),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """A set of (query unit, key unit) pairs, the key earlier."""

    name: str
    query: str
    key: str


RELATIONS = (
    Relation("subject", "action of a clause", "its subject"),
    Relation("action", "object of a clause", "its action"),
    Relation("object", "later words of a clause", "its object"),
    Relation("antecedent", "third-person pronoun", "its antecedent"),
    Relation("name", "any word", "the nearest earlier name"),
    Relation("protagonist", "any word", "earlier mentions of the protagonist"),
    Relation("sentence_end", "any word", "the nearest earlier closing mark"),
    Relation("topic", "any word", "earlier topic nouns"),
    Relation("topic_determiner", '"the" or "a"', "earlier topic nouns"),
    Relation("topic_next", '"the" or "a" before a topic noun', "earlier mentions of that noun"),
    Relation("quote", "words in direct speech", "its opening mark"),
)
