"""Faults of verbs: number that does not agree, and the other tense.

Only finite verbs can carry them: a verb form that shows tense, with no auxiliary and no "to" before it in its clause.
Forms that are both present and past ("put", "let") are left alone, and so are contractions other than those in "n't".
The other tense is wrong in narration alone ("I was sorry" is fine in direct speech), where the verb is in the tense of
the story: a general truth at the end may stand in another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from tslens.corpus.dice import Dice
from tslens.corpus.faults.reading import Draft, Reading
from tslens.corpus.vocabulary import analyses, inflect, wrong_number

Form = Literal["past", "third", "base"]
Site = tuple[int, str]  # unit, its new word

_NEGATED = re.compile(r"(?P<stem>.+)(?P<suffix>n['’]t)")
_AUXILIARY: dict[str, Form] = {
    "was": "past", "were": "past", "is": "third", "are": "base", "am": "base",
    "has": "third", "have": "base", "had": "past", "does": "third", "do": "base", "did": "past",
}  # fmt: skip
_ALWAYS_FINITE = {"was", "were", "is", "are", "am", "has", "does", "did"}
_HELPS = re.compile(r"['’](?:ll|d|ve)$")  # "I'll help"
_WISHES = frozenset(("if", "wish", "wished"))  # "as if it were"
_MODALS = frozenset("can could will would shall should may might must cannot to let let's".split())
_PLURAL_PRONOUNS = frozenset("i you we they these those both all many some few others".split())
_ACCUSATIVE = frozenset(("me", "him", "her", "us", "them", "it"))  # "let it go": no subject of a finite form
_WITH_BARE_VERB = frozenset(("let", "make", "help", "see", "hear", "watch", "feel", "have"))


def find_agreement_sites(reading: Reading) -> list[Site]:
    """Finite verbs and auxiliaries that show number, with the form of the other number."""
    sites = []
    for unit in range(len(reading.units)):
        form = finite_form(reading, unit)
        stem, suffix = _split(reading.words[unit])
        if form and (form != "past" or stem in ("was", "were")):
            new = None if stem in ("was", "were") and _is_wished(reading, unit) else wrong_number(stem)
            if new and new != stem:
                sites.append((unit, new + suffix))
    return sites


def find_tense_sites(reading: Reading) -> list[Site]:
    """Finite verbs of the narration in the tense of the story, with the form of the other tense."""
    forms = {unit: finite_form(reading, unit) for unit in _narration(reading)}
    is_past = tells_in_past(reading)
    sites = []
    for unit, form in forms.items():
        if form and (form == "past") == is_past:
            stem, suffix = _split(reading.words[unit])
            new = _other_tense(reading, unit, stem, form)
            if new and new != stem:
                sites.append((unit, new + suffix))
    return sites


def change_verbs(reading: Reading, sites: Sequence[Site], dice: Dice) -> Draft:
    """Each verb in its new form."""
    return Draft(tuple(reading.replace(unit, new) for unit, new in sites), len(sites))


def tells_in_past(reading: Reading) -> bool:
    """Whether the narration is in the past: most of its finite verbs are, or it has none."""
    forms = [finite_form(reading, unit) for unit in _narration(reading)]
    return forms.count("past") >= forms.count("third") + forms.count("base")


def finite_form(reading: Reading, unit: int) -> Form | None:
    """Form of a finite verb or auxiliary, None for any other word and for forms that could be two."""
    if reading.labels.pos[unit] not in ("VERB", "AUX"):
        return None
    stem, _ = _split(reading.words[unit])
    if stem in _MODALS or not stem.isalpha():
        return None
    if stem in _ALWAYS_FINITE:
        return _AUXILIARY[stem]
    if _has_helper(reading, unit):
        return None
    if stem in _AUXILIARY:
        form: Form | None = _AUXILIARY[stem]
    else:
        form = _lexical_form(stem)
    clause = reading.clause_of(unit)
    is_action = clause is not None and clause.action == unit
    if form == "base":
        return "base" if _can_be_present(reading, unit) else None
    if form is None or stem in _AUXILIARY:
        return form
    return form if is_action and clause is not None and clause.subject is not None else None


def _lexical_form(word: str) -> Form | None:
    forms = {form for _, pos, form in analyses(word) if pos in ("VERB", "AUX")}
    if "third" in forms:
        return "third"
    if "past" in forms:
        return None if "base" in forms else "past"
    return "base" if "base" in forms else None


def _narration(reading: Reading) -> list[int]:
    return [unit for unit, quote in enumerate(reading.labels.quote) if quote < 0]


def _split(word: str) -> tuple[str, str]:
    """Word without "n't", and "n't"."""
    found = _NEGATED.fullmatch(word)
    return (found["stem"], found["suffix"]) if found else (word, "")


def _has_helper(reading: Reading, unit: int) -> bool:
    """Whether an auxiliary or "to" stands before a verb in its clause, or right before it."""
    clause = reading.labels.clause[unit]
    sentence = reading.sentence_of[unit]
    for earlier in range(unit - 1, -1, -1):
        if reading.sentence_of[earlier] != sentence:
            return False
        word, pos = reading.words[earlier], reading.labels.pos[earlier]
        same = clause >= 0 and reading.labels.clause[earlier] == clause
        if (same or earlier == unit - 1) and (pos == "AUX" or word in _MODALS or _HELPS.search(word)):
            return True
    return False


def _is_wished(reading: Reading, unit: int) -> bool:
    """Whether "were" would be right for "was": after "if" or "wish" in the sentence."""
    sentence = reading.sentence_of[unit]
    before = [w for w, s in zip(reading.words[:unit], reading.sentence_of, strict=False) if s == sentence]
    return not _WISHES.isdisjoint(before)


def _can_be_present(reading: Reading, unit: int) -> bool:
    """Whether a base form is a finite present: it has a subject of its own that is no object of another verb."""
    clause = reading.clause_of(unit)
    if clause is None or clause.subject is None:
        return False
    if reading.labels.quote[unit] < 0 and reading.words[unit] not in _AUXILIARY:
        told = [_AUXILIARY.get(reading.words[other]) for other in _narration(reading)]
        if told.count("past") >= told.count("third"):
            return False
    subject = clause.subject
    if reading.sentence_of[subject] != reading.sentence_of[unit] or reading.words[subject] in _ACCUSATIVE:
        return False
    before = reading.labels.lemma[max(0, subject - 3) : subject]
    return not _WITH_BARE_VERB.intersection(before)


def _other_tense(reading: Reading, unit: int, stem: str, form: Form) -> str | None:
    """The same verb in the other tense, its number kept."""
    is_plural = _is_plural(reading, unit)
    if stem in ("was", "were"):
        clause = reading.clause_of(unit)
        if clause and clause.subject is not None and reading.words[clause.subject] == "i":
            return "am"
        return "is" if stem == "was" else "are"
    if stem in ("is", "am", "are"):
        return "were" if stem == "are" else "was"
    if form == "past":
        lemma = _lemma(stem, "past")
        return inflect(lemma, "base" if is_plural else "third") if lemma else None
    lemma = _lemma(stem, form)
    return inflect(lemma, "past") if lemma else None


def _lemma(word: str, form: Form) -> str | None:
    options = (lemma for lemma, pos, other in analyses(word) if pos in ("VERB", "AUX") and other == form)
    return next(options, None)


def _is_plural(reading: Reading, unit: int) -> bool:
    """Whether the subject of a verb takes the bare form in the present."""
    clause = reading.clause_of(unit)
    if clause is None or clause.subject is None:
        return False
    subject = clause.subject
    word, pos = reading.words[subject], reading.labels.pos[subject]
    if word in _PLURAL_PRONOUNS:
        return True
    if pos == "NOUN" and any(p == "NOUN" and form == "plural" for _, p, form in analyses(word)):
        return True
    between = range(subject + 1, min(unit, subject + 5))
    own = (-1, reading.labels.clause[unit])
    return any(
        reading.words[i] == "and" and i + 1 < unit and reading.labels.clause[i + 1] in own for i in between
    )
