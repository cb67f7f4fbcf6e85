"""An instruction for a story, drawn: which kinds, in which order, and what they ask for.

1. What the story offers. Words: those that it was asked to use and uses, or a verb, a noun and an adjective that it
   uses. Sentence: any but the first of three words or more, its quotation marks in pairs. Features: those that it was
   asked for and shows, or, where nobody asked, those whose cues it shows. Summary: where its record has one.
2. A non-empty subset of these kinds that a training text may ask for, or, for a held-out prompt, one that training
   never asks for; each is as likely as any other.
3. The order of the kinds.

Words are taken from the labels of the story where it has any, else from words that can be of one part of speech only
and have no capital; these come without their part of speech, as nobody has looked how they are used.
Of features found by cues, foreshadowing is left out: half of what its cues find is none (``corpus.check_features``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from tslens.corpus.check_features import has_feature
from tslens.corpus.dice import Dice
from tslens.corpus.instructions.compliance import check_words
from tslens.corpus.instructions.form import KINDS, Instruction, Kind, feature_of
from tslens.corpus.labelled import read_labels
from tslens.corpus.vocabulary import analyses, load_vocabulary
from tslens.corpus.words import find_sentences, find_units, find_words
from tslens.errors import UsageError
from tslens.labels import FEATURES
from tslens.types import Story

Combination = frozenset[Kind]
HELD_OUT: tuple[Combination, ...] = (frozenset(("words", "summary")),)
"""Kinds that training never asks for together, as in the paper."""

_DRAWN = ("VERB", "NOUN", "ADJ")
_UNSURE = ("foreshadowing",)
_LEAST_WORDS = 3  # of a sentence that is asked for


def read_combinations(texts: Sequence[str]) -> tuple[Combination, ...]:
    """Held-out combinations as written on a command line: ``words+summary``; ``none`` alone for none.

    Raises UsageError for an unknown kind, or fewer than two of them in one combination.
    """
    if [text.strip().lower() for text in texts] == ["none"]:
        return ()
    return tuple(_read_combination(text) for text in texts)


def _read_combination(text: str) -> Combination:
    names = {name.strip().lower() for name in text.split("+")}
    kinds: Combination = frozenset(kind for kind in KINDS if kind in names)
    if len(kinds) < 2 or kinds != names:
        raise UsageError(
            f'"{text}" is no combination of instructions.',
            f"Write two kinds or more with +, as in words+summary; kinds: {', '.join(KINDS)}. Or none, alone.",
        )
    return kinds


@dataclass(frozen=True, slots=True)
class Offer:
    """What a story can be asked for; an empty field: not this kind. ``words``: with part of speech, "" if not known."""

    words: tuple[tuple[str, str], ...]
    sentences: tuple[str, ...]
    features: tuple[str, ...]
    summary: str


def draw_instruction(
    story: Story, *, seed: int, held_out: Sequence[Combination] = HELD_OUT, is_held_out: bool = False
) -> Instruction | None:
    """An instruction that the story follows, None where it offers nothing to ask for.

    ``held_out``: combinations that training never asks for. ``is_held_out``: the instruction asks for one of them, and
    is None where the story cannot be asked for any (without combinations: it is as in training).
    Depends on the seed, the story and the combinations alone. Raises DataError for labels of another text.
    """
    dice = Dice(seed, "instruct", story.digest)
    offer = find_offer(story, dice)
    offered = {
        "words": offer.words, "sentence": offer.sentences, "features": offer.features, "summary": offer.summary
    }  # fmt: skip
    available = tuple(kind for kind in KINDS if offered[kind])
    subsets = _subsets(available, tuple(held_out), is_held_out and bool(held_out))
    if not subsets:
        return None
    kinds = tuple(dice.shuffled(dice.one_of(subsets)))
    has_tags = "words" in kinds and all(tag for _, tag in offer.words)
    return Instruction(
        kinds=kinds,
        words=tuple(word for word, _ in offer.words) if "words" in kinds else (),
        words_pos=tuple(tag for _, tag in offer.words) if has_tags else (),
        sentence=dice.one_of(offer.sentences) if "sentence" in kinds else "",
        features=offer.features if "features" in kinds else (),
        summary=offer.summary if "summary" in kinds else "",
    )


@cache
def _subsets(
    available: tuple[Kind, ...], held_out: tuple[Combination, ...], is_held_out: bool
) -> tuple[tuple[Kind, ...], ...]:
    subsets = (kinds for size in range(1, len(available) + 1) for kinds in combinations(available, size))
    return tuple(s for s in subsets if any(c <= set(s) for c in held_out) == is_held_out)


def find_offer(story: Story, dice: Dice) -> Offer:
    """What a story can be asked for; of words that nobody asked for, one of each part of speech is drawn."""
    summary = story.extra.get("summary")
    return Offer(
        words=_asked_words(story) or _own_words(story, dice),
        sentences=_sentences(story.text),
        features=_asked_features(story) or _own_features(story),
        summary=" ".join(summary.split()) if isinstance(summary, str) else "",
    )


def _texts(story: Story, name: str) -> list[str]:
    """A field that is a list of strings, empty where it is anything else."""
    values = story.extra.get(name)
    is_list = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return list(values) if isinstance(values, list) and is_list else []


def _asked_words(story: Story) -> tuple[tuple[str, str], ...]:
    """The words that it was asked for and uses."""
    words = [" ".join(word.split()) for word in _texts(story, "words")]
    tags = _texts(story, "words_pos")
    if not words or any(not word or "," in word for word in words):
        return ()
    tags = tags if len(tags) == len(words) else [""] * len(words)
    verdicts = check_words(words, story.text, pos=tags, labels=read_labels(story))
    return tuple(
        pair for pair, verdict in zip(zip(words, tags, strict=True), verdicts, strict=True)
        if verdict.answer == "followed"
    )  # fmt: skip


def _asked_features(story: Story) -> tuple[str, ...]:
    """The features that it was asked for and shows."""
    asked = {feature_of(name) for name in _texts(story, "features")}
    return tuple(name for name in FEATURES if name in asked and has_feature(name, story.text))


def _own_features(story: Story) -> tuple[str, ...]:
    if isinstance(story.extra.get("features"), list):  # it was asked for none
        return ()
    return tuple(name for name in FEATURES if name not in _UNSURE and has_feature(name, story.text))


def _own_words(story: Story, dice: Dice) -> tuple[tuple[str, str], ...]:
    """A verb, a noun and an adjective of the vocabulary that the story uses, as far as it has them."""
    labels = read_labels(story)
    if labels is not None:
        pairs = list(zip(labels.lemma, labels.pos, strict=True))
    else:
        words = [word for start, end in find_units(story.text) if (word := story.text[start:end]).islower()]
        known = [{(lemma, pos) for lemma, pos, _ in analyses(word)} for word in words]
        pairs = [next(iter(options)) for options in known if len(options) == 1]
    vocabulary = load_vocabulary()
    tables: Mapping[str, Mapping[str, object]] = {
        "VERB": vocabulary.verbs, "NOUN": vocabulary.nouns, "ADJ": vocabulary.adjectives
    }  # fmt: skip
    drawn = []
    for tag in _DRAWN:
        lemmas = list(dict.fromkeys(lemma for lemma, pos in pairs if pos == tag and lemma in tables[tag]))
        if lemmas:
            drawn.append((dice.one_of(lemmas), tag if labels else ""))
    return tuple(drawn)


def _sentences(text: str) -> tuple[str, ...]:
    first, *others = [text[s.start : s.end] for s in find_sentences(text)] or [""]
    return tuple(
        other
        for other in dict.fromkeys(others)
        if other != first
        and other not in first
        and len(find_words(other)) >= _LEAST_WORDS
        and other.count('"') % 2 == 0
        and other.count("“") == other.count("”")
        and other == other.strip()
    )
