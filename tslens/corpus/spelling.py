"""Regular forms of English words by rules of spelling: doubled letters, dropped e, y to i, es."""

from __future__ import annotations

import re

_VOWEL = "aeiou"
_SIBILANT = re.compile(r"(?:s|x|z|ch|sh)$")
_DOUBLED = frozenset(
    "begin forbid forget permit admit regret prefer refer upset control unwrap unzip quit".split()
)


def add_s(word: str) -> str:
    """Regular plural of a noun; also of a verb, but for those in o."""
    if word.endswith("y") and word[-2:-1] not in _VOWEL:
        return f"{word[:-1]}ies"
    return f"{word}es" if _SIBILANT.search(word) else f"{word}s"


def add_third(verb: str) -> str:
    """Third person singular of a verb."""
    return f"{verb}es" if verb.endswith("o") and not verb.endswith("oo") else add_s(verb)


def add_ed(verb: str) -> str:
    """Past of a verb."""
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2:-1] not in _VOWEL:
        return f"{verb[:-1]}ied"
    return f"{verb}{_extra(verb)}ed"


def add_ing(verb: str) -> str:
    """Gerund of a verb."""
    if verb.endswith("ie"):
        return f"{verb[:-2]}ying"
    if verb.endswith("e") and len(verb) > 2 and not verb.endswith(("ee", "oe", "ye", "inge")):
        return f"{verb[:-1]}ing"
    return f"{verb}{_extra(verb)}ing"


def _doubles(word: str) -> bool:
    """Whether the last letter is doubled before "ed", "ing" and "er": a short last syllable that is stressed."""
    if word in _DOUBLED:
        return True
    n_syllables = len(re.findall(r"[aeiouy]+", word))
    return n_syllables == 1 and bool(re.search(r"(?:^|[^aeiou]|qu)[aeiou][bdfgklmnprstvz]$", word))


def _extra(word: str) -> str:
    if word.endswith("c"):
        return "k"  # panicked
    return word[-1] if _doubles(word) else ""


def compare(adjective: str) -> tuple[str, ...]:
    """Comparative and superlative of a short adjective; empty where "more" and "most" are used."""
    n_syllables = len(re.findall(r"[aeiouy]+", adjective.removesuffix("e")))
    if adjective.endswith("y") and adjective[-2:-1] not in _VOWEL and n_syllables < 3:
        stem = f"{adjective[:-1]}i"
    elif n_syllables == 1 or (n_syllables == 2 and adjective.endswith(("ow", "le", "er", "et"))):
        stem = adjective.removesuffix("e") + ("" if adjective.endswith("e") else _extra(adjective))
    else:
        return ()
    return f"{stem}er", f"{stem}est"
