"""Given words: which ones a story can be asked for, and a sentence that uses each in its part of speech."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from tslens.corpus.dice import Dice
from tslens.corpus.vocabulary import (
    Adjective,
    Noun,
    Use,
    Verb,
    analyses,
    inflect,
    load_vocabulary,
    plural,
)
from tslens.errors import UsageError
from tslens.types import Labels

_NAMES: Mapping[str, str] = {"noun": "NOUN", "verb": "VERB", "adjective": "ADJ", "adj": "ADJ"}
_TABLES: Mapping[str, str] = {"NOUN": "noun", "VERB": "verb", "ADJ": "adjective"}
DRAWN = ("VERB", "NOUN", "ADJ")
_DRAWN_SHARE = 0.6
_SLOT = re.compile(r"\{([wW])(?:\.(\w+))?\}")


@dataclass(frozen=True, slots=True)
class GivenWord:
    """A word that a story must use. ``pos``: NOUN, VERB or ADJ."""

    lemma: str
    pos: str


def draw_words(dice: Dice) -> tuple[GivenWord | None, ...]:
    """A verb, a noun and an adjective, as in the requests of TinyStories; None: one that the story has anyway."""
    return tuple(
        GivenWord(dice.one_of(_lemmas(pos)), pos) if dice.chance(_DRAWN_SHARE) else None for pos in DRAWN
    )


def words_of(dice: Dice, labels: Labels, given: Sequence[GivenWord | None]) -> tuple[GivenWord, ...]:
    """The drawn words, each None made a word of the vocabulary that the told story has, and no other request has."""
    words = [word for word in given if word]
    for pos, word in zip(DRAWN, given, strict=True):
        if word is None:
            uses = _words(pos)
            pairs = zip(labels.lemma, labels.pos, strict=True)
            own = dict.fromkeys(lemma for lemma, tag in pairs if tag == pos and lemma in uses)
            words.append(GivenWord(dice.one_of(list(own)), pos))
    return tuple(sorted(words, key=lambda word: DRAWN.index(word.pos)))


def parse_word(text: str) -> GivenWord:
    """Read ``swim`` or ``swim:verb``; a word of several parts of speech is taken in the first that has it, of verb,
    noun and adjective.

    Raises UsageError for a word that the vocabulary does not have (in that part of speech).
    """
    lemma, _, name = text.lower().partition(":")
    if name and name not in _NAMES:
        raise UsageError(f'"{name}" is no part of speech of words to use.', "Write noun, verb or adjective.")
    for pos in [_NAMES[name]] if name else DRAWN:
        if lemma in _words(pos):
            return GivenWord(lemma, pos)
    raise UsageError(f'The author has no {f"{name} " if name else ""}"{lemma}".', _hint(lemma))


def _hint(text: str) -> str:
    """The word in another part of speech or form, else words that are spelled alike."""
    forms = dict.fromkeys((base, pos) for base, pos, _ in analyses(text))
    known = [f"{base}:{_TABLES[pos]}" for base, pos in forms if pos in DRAWN and base in _words(pos)]
    if not known:
        every = {word: None for pos in DRAWN for word in _words(pos)}
        known = get_close_matches(text, list(every), n=3)
    return f"Did you mean {' or '.join(known)}?" if known else "Words stand in tslens/assets/vocabulary.toml."


def choose_uses(dice: Dice, words: Sequence[GivenWord | None]) -> list[str]:
    """A sentence for each word, in the notation of ``assets/author``; no sentence twice."""
    told: set[str] = set()
    return [_choose_use(dice, word, number, told) for number, word in enumerate(words) if word]


def _choose_use(dice: Dice, word: GivenWord, number: int, told: set[str]) -> str:
    """A sentence that uses a word.

    ``number``: of the word among those of the story; its entity is called ``w0``, ``w1``, ...
    """
    use: Use = dice.one_of(_words(word.pos)[word.lemma])
    lines = _sentences()[_TABLES[word.pos]][use.frame]
    line = dice.one_of([line for line in lines if line not in told] or lines)
    told.add(line)
    line = line.replace("{with}", use.company)
    forms = _forms(word)

    def form(found: re.Match[str]) -> str:
        text = forms[found[2] or "base"]
        tag = "" if word.pos == "VERB" else f"^{word.pos}"  # verbs are marked by their role
        return (text.capitalize() if found[1] == "W" else text) + tag

    return re.sub(r"@w\b", f"@w{number}", _SLOT.sub(form, line))


def _forms(word: GivenWord) -> Mapping[str, str]:
    lemma = word.lemma
    if word.pos == "NOUN":
        return {"base": lemma, "s": plural(lemma)}
    if word.pos == "ADJ":
        return {"base": lemma}
    return {
        "base": lemma,
        "s": inflect(lemma, "third"),
        "past": inflect(lemma, "past"),
        "part": inflect(lemma, "participle"),
        "ing": inflect(lemma, "gerund"),
    }


@cache
def _words(pos: str) -> Mapping[str, Sequence[Use]]:
    vocabulary = load_vocabulary()
    tables: Mapping[str, Mapping[str, Noun | Verb | Adjective]] = {
        "NOUN": vocabulary.nouns,
        "VERB": vocabulary.verbs,
        "ADJ": vocabulary.adjectives,
    }
    return {lemma: entry.uses for lemma, entry in tables[pos].items()}


@cache
def _lemmas(pos: str) -> Sequence[str]:
    return tuple(_words(pos))


@cache
def _sentences() -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Sentences by part of speech and frame."""
    asset = tomllib.loads((resources.files("tslens") / "assets/author/uses.toml").read_text(encoding="utf-8"))
    return {
        part: {frame: block.strip().splitlines() for frame, block in blocks.items()}
        for part, blocks in asset.items()
    }
