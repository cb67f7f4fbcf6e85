"""Faults of who is meant: the name of another character, a pronoun of another gender or number."""

from __future__ import annotations

from collections.abc import Sequence

from tslens.corpus.dice import Dice
from tslens.corpus.faults.reading import Draft, Reading, split_suffix
from tslens.corpus.faults.verbs import finite_form
from tslens.corpus.vocabulary import load_vocabulary

Site = tuple[int, tuple[str, ...]]  # unit, the words that can stand there instead

_SUBJECT = {"he": "he", "she": "she", "it": "it", "they": "they"}
_OBJECT = {"he": "him", "she": "her", "it": "it", "they": "them"}
_OWNER = {"he": "his", "she": "her", "it": "its", "they": "their"}
_OWNED = {"he": "his", "she": "hers", "they": "theirs"}
_SELF = {"he": "himself", "she": "herself", "it": "itself", "they": "themselves"}
_CASES = (_SUBJECT, _OBJECT, _OWNER, _OWNED, _SELF)
_WHO = {form: who for case in _CASES for who, form in case.items()}
_WRONG_FOR = {"he": {"she"}, "she": {"he"}, "it": {"he", "she"}, "they": {"it"}}
_LIVING = frozenset("pet wild bug sea bird imaginary person people family character group".split())
_WITH_OBJECT_CASE = frozenset(("let", "make", "help", "watch", "see", "hear"))
_OWNED_THING = {"NOUN", "ADJ", "NUM", "PROPN"}


def find_name_sites(reading: Reading) -> list[Site]:
    """Names of characters, each with the names of the others. A title or a second name rules a name out."""
    names: dict[int, dict[str, None]] = {}
    found = []
    for unit, (pos, entity) in enumerate(zip(reading.labels.pos, reading.labels.mention, strict=True)):
        if pos == "PROPN" and entity >= 0 and stands_alone(reading, unit):
            stem, _ = split_suffix(reading.surface(unit))
            names.setdefault(entity, {})[stem] = None
            found.append(unit)
    sites = []
    for unit in found:
        stem, suffix = split_suffix(reading.surface(unit))
        mine = names[reading.labels.mention[unit]]
        others = [name for theirs in names.values() for name in theirs if name not in mine]
        if others:
            sites.append((unit, tuple(name + suffix for name in dict.fromkeys(others))))
    return sites


def find_pronoun_sites(reading: Reading) -> list[Site]:
    """Third-person pronouns that stand for somebody or something, with pronouns of the same case.

    "He" and "she" change into each other, "it" of a thing into one of them, "they" into "it". What the story itself
    calls the same entity is no fault. Where the verb shows number, only the gender changes.
    """
    used: dict[int, set[str]] = {}
    for unit, entity in enumerate(reading.labels.mention):
        who = _WHO.get(split_suffix(reading.words[unit])[0])
        if who and entity >= 0:
            used.setdefault(entity, set()).add(who)
    sites = []
    for unit, entity in enumerate(reading.labels.mention):
        stem, suffix = split_suffix(reading.words[unit])
        who = _WHO.get(stem)
        if who and entity >= 0 and not (who == "it" and _is_living(reading, entity)):
            case = _case_of(reading, unit, stem)
            options = [o for o in case if o not in used[entity] and o in _WRONG_FOR[who]]
            if _shows_number(reading, unit, suffix, case):
                options = [other for other in options if (other == "they") == (who == "they")]
            if options:
                sites.append((unit, tuple(case[other] + suffix for other in options)))
    return sites


def _is_living(reading: Reading, entity: int) -> bool:
    """Whether an entity is called an animal or a person, of which "he" and "she" can be said as well."""
    nouns = load_vocabulary().nouns
    lemmas = [
        lemma
        for lemma, other in zip(reading.labels.lemma, reading.labels.mention, strict=True)
        if other == entity
    ]
    return any(use.frame in _LIVING for lemma in lemmas if lemma in nouns for use in nouns[lemma].uses)


def change_words(reading: Reading, sites: Sequence[Site], dice: Dice) -> Draft:
    """Each word replaced by one that can stand there."""
    return Draft(tuple(reading.replace(unit, dice.one_of(options)) for unit, options in sites), len(sites))


def stands_alone(reading: Reading, unit: int) -> bool:
    """Whether a name has no title, second name, determiner or owner ("Mr. Brown", "the Queen", "his Mom")."""
    pos = reading.labels.pos
    before, after = unit - 1, unit + 1
    if (
        after < len(pos)
        and pos[after] == "PROPN"
        and reading.labels.mention[after] == reading.labels.mention[unit]
    ):
        return False
    if before < 0 or reading.sentence_of[before] != reading.sentence_of[unit]:
        return True
    owner = _WHO.get(split_suffix(reading.words[before])[0]) and reading.words[before] in (
        "his",
        "her",
        "its",
        "their",
    )
    is_title = reading.words[before] == "." or pos[before] in ("PROPN", "ADJ", "DET")
    return not (
        owner or is_title or reading.words[before] in ("my", "your", "our") or "-" in reading.words[unit]
    )


def _case_of(reading: Reading, unit: int, stem: str) -> dict[str, str]:
    """The row of forms that a pronoun belongs to; "her", "his" and "it" are told apart by what stands around."""
    if stem == "it":
        return _SUBJECT if _is_nominative(reading, unit) else _OBJECT
    if stem in ("her", "his"):
        follower = unit + 1
        inside = follower < len(reading.units) and reading.sentence_of[follower] == reading.sentence_of[unit]
        owns = inside and reading.labels.pos[follower] in _OWNED_THING
        if stem == "her":
            return _OWNER if owns else _OBJECT
        return _OWNER if owns or (inside and reading.labels.pos[follower] in ("ADV", "VERB")) else _OWNED
    return next(case for case in _CASES if stem in case.values())


def _is_nominative(reading: Reading, unit: int) -> bool:
    before = reading.labels.lemma[max(0, unit - 1) : unit]
    is_subject = any(clause.subject == unit for clause in reading.labels.clauses)
    return is_subject and not _WITH_OBJECT_CASE.intersection(before)


def _shows_number(reading: Reading, unit: int, suffix: str, case: dict[str, str]) -> bool:
    """Whether a verb of the pronoun would no longer agree if its number changed."""
    if suffix:
        return True
    if case is not _SUBJECT:
        return False
    for clause in reading.labels.clauses:
        if clause.subject == unit:
            index = reading.labels.clause[clause.action]
            words = [i for i, c in enumerate(reading.labels.clause) if c == index and i >= unit] or [
                clause.action
            ]
            for verb in {*words, clause.action}:
                form = finite_form(reading, verb)
                if form in ("third", "base") or reading.words[verb].removesuffix("n't") in ("was", "were"):
                    return True
    return False
