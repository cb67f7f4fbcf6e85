"""Gold parts of speech and lemmas: where each word of the offline author stands, and by that what it is."""

from __future__ import annotations

from collections.abc import Sequence

from tslens.corpus.authoring.gold_rules import BE, MAKING, POSSESSIVES, THEM, Place, character_names, tag_word
from tslens.corpus.authoring.markup import Unit
from tslens.corpus.vocabulary import analyses

_BEFORE_CLAUSES = frozenset("and but or just even only ever long soon right not so".split())
_TITLES = frozenset("mr mrs miss".split())
_LINKING = BE | frozenset(
    "look looks looked feel feels felt seem seemed become became get got grow grew sound sounded stay stayed".split()
)
_LINKING_FORMS = frozenset(entry.strip("'") for entry in _LINKING)
_BEFORE_NAMES = frozenset("friend neighbor cousin teacher".split())
_PLACES = frozenset("up out back down home away here there".split())


def tag_words(words: Sequence[str], units: Sequence[Unit]) -> list[tuple[str, str]]:
    """Part of speech and lemma of each unit; from the end, so that the tag of the next word is known."""
    verbs = {unit.stretch: index for index, unit in enumerate(units) if set(unit.roles) & {"v", "i"}}
    opening = _opening(words, units)
    there = {unit.stretch for word, unit in zip(words, units, strict=True) if word.lower() == "there"}
    tags: list[tuple[str, str]] = []
    for index in reversed(range(len(words))):
        unit = units[index]
        before = words[index - 1].lower() if index and words[index - 1][0].isalnum() else ""
        is_followed = index + 1 < len(units) and units[index + 1].stretch == unit.stretch
        verb = verbs.get(unit.stretch, len(words))
        place = Place(
            before=before,
            after=tags[-1][0] if tags else "PUNCT",
            next_word=words[index + 1].lower() if is_followed else "",
            next_roles=units[index + 1].roles if index + 1 < len(units) else "",
            is_start=not before or units[index - 1].sentence != unit.sentence,
            opens=index in opening and unit.stretch in verbs,
            has_subject=index in opening and _subject_follows(index, words, units),
            is_titled=before == "miss"
            or (index > 1 and words[index - 1] == "." and words[index - 2].lower() in _TITLES),
            verb=words[verb].lower() if verb < index else "",
            is_predicate=verb < index and _is_predicate(words[verb : index + 1], units[verb : index + 1]),
            is_expletive=before == "there" or (unit.stretch in there and "i" in unit.roles),
        )
        tags.append(tag_word(words[index], unit, place))
    return tags[::-1]


def _is_predicate(words: Sequence[str], units: Sequence[Unit]) -> bool:
    """Whether the last word tells what the first, a verb, links its subject or its object with."""
    verb = words[0].lower().removesuffix("n't")
    between = [word.lower() for word in words[1:-1]]
    followers = [*between, ""][1:]
    if verb in MAKING and "o" in units[1].roles and words[1].lower() in THEM:
        return len(between) == 1
    if verb.rpartition("'")[2] not in _LINKING_FORMS:
        return False
    for word, after in zip(between, followers, strict=True):
        tags = {pos for _, pos, _ in analyses(word)}
        is_light = (
            tags & {"ADV", "CCONJ", "PART"} or word in ("as", "not") or (after == "and" and "ADJ" in tags)
        )
        if word in _PLACES or not is_light:
            return False
    return True


def _subject_follows(index: int, words: Sequence[str], units: Sequence[Unit]) -> bool:
    is_noun = False
    for place in range(index + 1, len(words)):
        word, unit = words[place], units[place]
        if word == "." and words[place - 1].lower() in _TITLES:
            continue
        if unit.stretch != units[index].stretch or not word[0].isalnum() or set(unit.roles) & {"v", "i"}:
            return False
        tags = [pos for _, pos, _ in analyses(word)]
        was_noun, is_noun = is_noun, bool(tags) and "NOUN" in tags
        if was_noun and not is_noun and words[place - 1].lower() not in _BEFORE_NAMES:
            return False
        if "s" in unit.roles:
            return True
        if word in character_names() or word.lower() in ("that", "this"):
            return False
        if tags and tags[0] == "PRON" and word.lower() not in POSSESSIVES:
            return False
    return False


def _opening(words: Sequence[str], units: Sequence[Unit]) -> set[int]:
    """First words of stretches, and those that only "and", "just" and the like precede."""
    opening = set()
    begun = -1
    for index, (word, unit) in enumerate(zip(words, units, strict=True)):
        if word[0].isalnum() and unit.stretch != begun:
            opening.add(index)
            if word.lower() not in _BEFORE_CLAUSES:
                begun = unit.stretch
    return opening
