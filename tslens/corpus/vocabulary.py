"""The words of children's stories and their forms: nouns, verbs and adjectives with their uses, and function words.

``assets/vocabulary.toml`` lists them with what no rule gives; regular forms follow ``corpus.spelling``.
``assets/author/parts_of_speech.toml`` adds words that the author's sentences use and nobody can ask for.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal

from tslens.corpus.spelling import add_ed, add_ing, add_s, add_third, compare

Countability = Literal["count", "mass", "plural"]
Form = Literal["base", "third", "past", "participle", "gerund"]
Analysis = tuple[str, str, str]  # lemma, universal part of speech, form

FORMS: tuple[Form, ...] = ("base", "third", "past", "participle", "gerund")

_LONG_U = re.compile(r"(?:uni(?!n|m)|us[aeiu]|u[tk][aeiou]|eu|one(?!ro)|once|ufo)")
_SILENT_H = re.compile(r"(?:hour|honest|honor|heir)")
_NUMBER = MappingProxyType(
    {"was": "were", "were": "was", "is": "are", "are": "is", "am": "are", "has": "have", "have": "has",
     "does": "do", "do": "does"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """One way to use a word. ``frame``: its sentences in ``uses.toml``. ``company``: marked text, {with} there."""

    frame: str
    company: str = ""


@dataclass(frozen=True, slots=True)
class Noun:
    """``plural`` is the word itself where it has no other form; frames of ``uses`` are the noun's classes."""

    lemma: str
    plural: str
    countability: Countability
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb with its past and its past participle."""

    lemma: str
    past: str
    participle: str
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Adjective:
    """``suits``: classes of nouns that it fits."""

    lemma: str
    suits: tuple[str, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Nouns, verbs and adjectives by lemma."""

    nouns: Mapping[str, Noun]
    verbs: Mapping[str, Verb]
    adjectives: Mapping[str, Adjective]


@cache
def _asset(name: str) -> Mapping[str, Any]:
    return tomllib.loads((resources.files("tslens") / "assets" / name).read_text(encoding="utf-8"))


@cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary, read once."""
    asset = _asset("vocabulary.toml")
    nouns: dict[str, Noun] = {}
    for countability in ("count", "mass", "plural"):
        for frame, text in asset["nouns"][countability].items():
            for entry in text.split():
                lemma, _, irregular = entry.partition(":")
                old = nouns.get(lemma)
                form = irregular or (add_s(lemma) if countability == "count" else lemma)
                kept = old or Noun(lemma, form, countability, ())
                nouns[lemma] = Noun(lemma, kept.plural, kept.countability, (*kept.uses, Use(frame)))
    verbs: dict[str, Verb] = {}
    for frame, entry, company in _entries(asset["verbs"]):
        lemma, *irregular = entry.split(":")
        forms = irregular or [add_ed(lemma)] * 2
        verb = verbs.get(lemma) or Verb(lemma, forms[0], forms[1], ())
        verbs[lemma] = Verb(lemma, verb.past, verb.participle, (*verb.uses, Use(frame, company)))
    adjectives: dict[str, Adjective] = {}
    for frame, lemma, company in _entries(asset["adjectives"]):
        adjective = adjectives.get(lemma) or Adjective(lemma, (), ())
        suits = dict.fromkeys((*adjective.suits, *asset["suits"][frame].split()))
        adjectives[lemma] = Adjective(lemma, tuple(suits), (*adjective.uses, Use(frame, company)))
    return Vocabulary(nouns, verbs, adjectives)


def _entries(groups: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Frame, word and company: a list of words, or lines ``word ; company``."""
    for frame, text in groups.items():
        lines = text.strip().splitlines() if " ; " in text else text.split()
        for line in lines:
            word, _, company = line.partition(" ; ")
            yield frame, word, company


def plural(noun: str) -> str:
    """Plural of a noun; the noun itself where it has none (mass nouns, "pants", "sheep")."""
    known = load_vocabulary().nouns.get(noun)
    return known.plural if known else add_s(noun)


def inflect(lemma: str, form: Form) -> str:
    """A form of a verb: base, third (person singular), past, participle or gerund. Unknown verbs are regular."""
    if form == "base":
        return lemma
    for word, base, name in _odd_forms("AUX"):
        if (base, name) == (lemma, form):
            return word
    if form == "third":
        return add_third(lemma)
    if form == "gerund":
        return add_ing(lemma)
    verb = load_vocabulary().verbs.get(lemma)
    if verb is None:
        return _other_verbs().get((lemma, form)) or add_ed(lemma)
    return verb.past if form == "past" else verb.participle


def article(word: str) -> str:
    """ "a" or "an", by the sound that the word begins with."""
    small = word.lower()
    if small == "x-ray" or _SILENT_H.match(small):
        return "an"
    return "an" if small[:1] in tuple("aeiou") and not _LONG_U.match(small) else "a"


def analyses(word: str) -> tuple[Analysis, ...]:
    """What a word can be: (lemma, part of speech, form), the most usual first; empty for an unknown word.

    Forms: of nouns singular and plural; of verbs and auxiliaries base, third, past, participle and gerund; of
    adjectives base, comparative and superlative; of all else base.
    """
    return _index().get(word.lower(), ())


def wrong_number(word: str) -> str | None:
    """The form of a verb that breaks agreement ("runs" for "run"), None where the form shows no number."""
    small = word.lower()
    return _like(word, _NUMBER.get(small) or _other_number(small))


def _like(word: str, other: str | None) -> str | None:
    return other.capitalize() if other and word[0].isupper() else other


def _other_number(word: str) -> str | None:
    """Third person for a base form and the other way round; None for what may be a past, which shows no number."""
    options = [(form, lemma) for lemma, pos, form in analyses(word) if pos in ("VERB", "AUX")]
    if word in _asset("vocabulary.toml")["words"]["AUX"].split() or any(
        form == "past" for form, _ in options
    ):
        return None
    change: Mapping[str, Form] = {"third": "base", "base": "third"}
    return next((inflect(lemma, change[form]) for form, lemma in options if form in change), None)


@cache
def _other_verbs() -> Mapping[tuple[str, str], str]:
    """Past and participle of the verbs that nobody can ask for, as ``parts_of_speech.toml`` has them."""
    found: dict[tuple[str, str], str] = {}
    for entry in _asset("author/parts_of_speech.toml").get("VERB", "").split():
        lemma, *forms = entry.split(":")
        past, participle = forms or [add_ed(lemma)] * 2
        found |= {(lemma, "past"): past, (lemma, "participle"): participle}
    return found


@cache
def _odd_forms(pos: str) -> tuple[tuple[str, str, str], ...]:
    entries = _asset("vocabulary.toml")["forms"].get(pos, "").split()
    return tuple((word, base, form) for word, base, form in (entry.split(":") for entry in entries))


@cache
def _index() -> Mapping[str, tuple[Analysis, ...]]:
    """Analyses of every form of every word, the most usual first."""
    asset = _asset("vocabulary.toml")
    found: dict[str, dict[Analysis, None]] = {}
    for word, analysis in _all_forms(asset):
        found.setdefault(word.lower(), {})[analysis] = None
    usual = {word: pos for pos, text in asset["usual"].items() for word in text.split()}
    return {
        word: tuple(sorted(options, key=lambda option: option[1] != usual.get(word)))
        for word, options in found.items()
    }


def _all_forms(asset: Mapping[str, Any]) -> Iterator[tuple[str, Analysis]]:
    """Each form with what it can be: odd forms, function words, nouns, verbs, adjectives, other words."""
    for pos in asset["forms"]:
        for word, base, form in _odd_forms(pos):
            yield word, (base, pos, form)
    for pos, text in asset["words"].items():
        for word in text.split():
            yield word, (word, pos, "singular" if pos == "NOUN" else "base")
    vocabulary = load_vocabulary()
    for noun in vocabulary.nouns.values():
        yield from _noun_forms(noun.lemma, noun.plural, noun.countability)
    for verb in vocabulary.verbs.values():
        yield from _verb_forms(verb.lemma, verb.past, verb.participle)
    for lemma in vocabulary.adjectives:
        yield from _adjective_forms(lemma)
    for pos, text in _asset("author/parts_of_speech.toml").items():
        for entry in text.split():
            lemma, *forms = entry.split(":")
            if pos == "NOUN":
                yield from _noun_forms(lemma, *(forms or [add_s(lemma)]))
            elif pos == "VERB":
                yield from _verb_forms(lemma, *(forms or [add_ed(lemma)] * 2))
            elif pos == "ADJ":
                yield from _adjective_forms(lemma)
            else:
                yield lemma, (lemma, pos, "base")


def _noun_forms(
    lemma: str, plural: str, countability: Countability = "count"
) -> Iterator[tuple[str, Analysis]]:
    if countability != "plural":
        yield lemma, (lemma, "NOUN", "singular")
    if countability != "mass":
        yield plural, (lemma, "NOUN", "plural")


def _verb_forms(lemma: str, past: str, participle: str) -> Iterator[tuple[str, Analysis]]:
    yield lemma, (lemma, "VERB", "base")
    yield add_third(lemma) if lemma != "have" else "has", (lemma, "VERB", "third")
    yield past, (lemma, "VERB", "past")
    yield participle, (lemma, "VERB", "participle")
    yield add_ing(lemma), (lemma, "VERB", "gerund")


def _adjective_forms(lemma: str) -> Iterator[tuple[str, Analysis]]:
    yield lemma, (lemma, "ADJ", "base")
    if lemma in {base for _, base, _ in _odd_forms("ADJ")}:
        return
    for word, form in zip(compare(lemma), ("comparative", "superlative"), strict=False):
        yield word, (lemma, "ADJ", form)
