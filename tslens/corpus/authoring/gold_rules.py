"""Rules of the gold parts of speech: the tag of one word, by its marks and the place where it stands.

Tags are universal parts of speech as spaCy's English models give them: particles of verbs ADP, "how" and "why" SCONJ,
"many" and "other" ADJ, "today" NOUN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tslens.corpus.authoring.lines import load_words
from tslens.corpus.authoring.markup import Unit
from tslens.corpus.vocabulary import analyses

BE = frozenset("am is are was were be been being 's 're 'm".split())
_AUXILIARIES = BE | frozenset(
    "have has had having do does did can could will would shall should may might must cannot".split()
)
THEM = frozenset("him her himself herself it them themselves".split())

_MODALS = frozenset("can could will would shall should may might must ca wo".split())
_NOMINAL = ("NOUN", "PRON", "PROPN", "NUM", "ADJ", "DET")
_MODIFIED = ("ADJ", "NOUN", "NUM", "PROPN")
POSSESSIVES = frozenset("his her its their my your our".split())
MAKING = frozenset("make makes made making get got put keep kept".split())
_BEFORE_CAN = POSSESSIVES | frozenset("the a tin watering trash".split())

# One tag whatever stands beside the word.
_ALWAYS = {
    **dict.fromkeys("today tomorrow tonight yesterday others ones".split(), "NOUN"),
    **dict.fromkeys("few many several other".split(), "ADJ"),
    **dict.fromkeys("how why when where".split(), "SCONJ"),
    "whose": "DET",
    "wrong": "ADJ",
    "once": "ADV",
    "done": "VERB",
}
_BEFORE_THAT = frozenset("after for of with about like by at from than before to".split())
_INDEFINITE = frozenset("something anything nothing everything".split())
_PARTICLES = frozenset("on over out up down off in by".split())
_PREDICATIVE = frozenset(
    "late alone better worse right high low long hard early enough near closer nearer loud".split()
) | {"first", "last", "best"}
_ADJECTIVAL = frozenset("open close shut faint clean dry calm".split())  # base forms of verbs, too


@cache
def character_names() -> frozenset[str]:
    """All names that a story's characters can have."""
    return frozenset(name for group in load_words().names.values() for name in group)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word stands. ``before``: the word before it in small letters, empty after a mark; ``after``: the tag of
    the next unit, ``next_word`` and ``next_roles`` the unit itself, if it is of the same stretch. ``is_start``: after
    a mark. ``opens``: first word of a clause, "and" and "just" not counted. ``has_subject``: the first noun or
    pronoun after it, in its stretch, is the subject. ``is_titled``: after "Mr." or the like. ``verb``: the marked verb
    before it in its stretch, in small letters. ``is_predicate``: only adverbs stand between such a verb and it, and
    the verb links, or makes something so. ``is_expletive``: a form of be after the "there" of its clause."""

    before: str
    after: str
    next_word: str
    next_roles: str
    is_start: bool
    opens: bool
    has_subject: bool
    is_titled: bool
    verb: str
    is_predicate: bool
    is_expletive: bool


def tag_word(word: str, unit: Unit, place: Place) -> tuple[str, str]:
    """Part of speech and lemma of one unit. Raises KeyError for a word that no list knows."""
    if not word[0].isalnum():
        return "PUNCT", word
    name = word.partition("'")[0]
    if name in character_names() and (unit.entity or not place.is_start or name != word):
        return "PROPN", name.lower()
    head, _, rest = word.lower().partition("'")
    if rest == "t":  # "didn't", "can't", "won't"
        stem = head if head == "can" else head.removesuffix("n")
        return "AUX", _lemma("will" if stem == "wo" else stem, "AUX")
    if head.isdigit():
        return "NUM", head
    if unit.pos:
        return unit.pos, _lemma(head, unit.pos)
    if word[0].isupper() and (place.is_titled or not place.is_start) and head != "i":
        return "PROPN", head
    if head == "let" and rest:
        return "VERB", "let"
    roles = set(unit.roles)
    if roles & {"v", "i"} and not roles & {"s", "o"}:
        is_auxiliary = head in _MODALS or (head in BE and not place.is_expletive)
        pos = "AUX" if is_auxiliary else "VERB"
        return pos, _lemma(head, "AUX" if head in BE else pos)
    options = tuple(dict.fromkeys(pos for _, pos, _ in analyses(head)))
    if not options:
        raise KeyError(f'no part of speech is known for "{word}"')
    pos = _choose_by_word(head, bool(roles), place) or _choose(head, options, roles, place)
    return pos, _lemma(head, pos)


def _choose_by_word(head: str, has_role: bool, place: Place) -> str | None:
    """The part of speech of a word with a rule of its own."""
    before, after, following = place.before, place.after, place.next_word
    if head in _ALWAYS:
        return _ALWAYS[head]
    if head in ("can", "might") and before in _BEFORE_CAN:
        return "NOUN"
    if head == "to":
        return "PART" if set(place.next_roles) & {"v", "i"} or after == "AUX" else "ADP"
    if head == "there":
        return "PRON" if following in BE or after in ("AUX", "VERB") or following == "once" else "ADV"
    if head == "all" and not has_role:
        if after in ("DET", "NOUN", "NUM") or following in POSSESSIVES:
            return "DET"
        if before in THEM:
            return "PRON"
        is_adverb = before in ("at", "after") or after in ("ADJ", "ADV", "SCONJ", "ADP")
        return "ADV" if is_adverb and following != "of" else "PRON"
    if head in ("much", "more", "most"):
        if head != "much" and after in ("ADJ", "ADV") and not _is_counted(before):
            return "ADV"
        is_adjective = has_role or after == "NOUN" or following == "of" or _is_counted(before)
        return "ADJ" if is_adjective or (head == "much" and before in ("how", "like")) else "ADV"
    if head == "one":
        if after != "NOUN" and _makes_noun_of_one(before):
            return "NOUN"
        return "PRON" if following in _MODALS else "NUM"
    if head == "half":
        return "DET" if after == "DET" else "NOUN" if has_role or after in ("PUNCT", "ADP", "NOUN") else "ADV"
    if head == "such":
        return "DET" if following in ("a", "an") else "ADJ"
    if head == "what" and not has_role:
        return "DET" if after in ("DET", "ADJ", "NOUN", "NUM") else "PRON"
    if head == "only":
        return "ADJ" if before == "the" or before in POSSESSIVES else "ADV"
    if head == "while" and before in ("a", "good", "little", "long", "short", "the"):
        return "NOUN"
    if head == "home":
        tags = [pos for _, pos, _ in analyses(before)]
        is_noun = has_role or before in POSSESSIVES or (tags and tags[0] in ("ADP", "DET", "ADJ"))
        return "NOUN" if is_noun else "ADV"
    if head == "well":
        if has_role or _is_determined(before):
            return "NOUN"
        return "ADJ" if place.is_predicate else "INTJ" if place.is_start and after == "PUNCT" else "ADV"
    if head == "so":
        return "SCONJ" if following == "that" and after == "SCONJ" else "ADV"
    if head == "because" and following == "of":
        return "ADP"
    if head == "dark" and after not in _MODIFIED and before in ("the", "after"):
        return "NOUN"
    if head == "back" and (after == "NOUN" or before == "right"):
        return "ADJ" if after == "NOUN" and following not in _ALWAYS else "ADV"
    if head == "very" and before == "the" and after == "NOUN":
        return "ADJ"
    if head == "next" and following == "to":
        return "ADV"
    if head == "far":
        return "ADJ" if after == "NOUN" else "ADV"
    if head == "either" and after == "PUNCT" and not has_role:
        return "ADV"
    if head in _PREDICATIVE and (head != "near" or after not in (*_MODIFIED, "DET", "PRON")):
        return _attribute_or_adverb(head, has_role, place)
    return None


def _is_counted(before: str) -> bool:
    """Whether "more" after this word tells how many: "two more", "nothing more"."""
    numbers = any(pos == "NUM" for _, pos, _ in analyses(before))
    return numbers or before in ("some", "no", "once", "nothing", "anything", "something", "on")


def _makes_noun_of_one(before: str) -> bool:
    """Whether "one" after this word stands for a thing: "the red one", "no one"."""
    tags = [pos for _, pos, _ in analyses(before)]
    return before in ("that", "first", "next", "best", "no") or bool(tags and tags[0] in ("DET", "ADJ"))


def _attribute_or_adverb(head: str, has_role: bool, place: Place) -> str:
    if place.is_start and (place.after == "PROPN" or "s" in place.next_roles):
        return "ADV"  # "First he ..."
    if head in ("late", "early") and place.next_word in ("one", "on", "in", "that"):
        return "ADV"
    if head == "long" and place.next_word == "ago":
        return "ADV"
    if head in ("first", "last", "early", "late") and place.verb in MAKING and place.after not in _MODIFIED:
        return "ADV" if place.before != "at" else "ADJ"
    is_noun_phrase = _is_determined(place.before) and place.verb in ("", *BE)
    is_noun_phrase = (is_noun_phrase and head not in ("alone", "enough")) or place.before in _INDEFINITE
    if has_role or place.is_predicate or is_noun_phrase or place.before in ("at", "with"):
        return "ADJ"
    return "ADJ" if place.after in _MODIFIED and head not in ("alone", "enough") else "ADV"


def _choose(head: str, options: Sequence[str], roles: set[str], place: Place) -> str:
    """One of the parts of speech that a word can have, by its role and the words beside it."""
    is_modifier = place.after in _MODIFIED
    if head in _AUXILIARIES and not ("NOUN" in options and (roles or _is_determined(place.before))):
        return "AUX"
    if roles & {"s", "o"}:
        pos = next((pos for pos in options if pos in (*_NOMINAL, "INTJ")), "NOUN")
        return "PRON" if pos in ("DET", "SCONJ") else pos
    if head == "as" and place.after in ("ADJ", "ADV") and not place.has_subject:
        return "ADV"
    if head == "as" and place.after == "AUX":
        return "SCONJ"
    if head == "than" and place.next_word == "to":
        return "SCONJ"
    if head == "that" and place.before in _BEFORE_THAT:
        return "DET" if is_modifier and place.after != "PROPN" and not place.has_subject else "PRON"
    if head == "that" and place.is_start and is_modifier:
        return "DET"
    if "SCONJ" in options and (place.has_subject if set(options) & {"ADP", "DET"} else place.opens):
        return "SCONJ"
    if head == "that":
        return "DET" if is_modifier else ("PRON" if place.after == "PUNCT" else "SCONJ")
    plain = [pos for pos in options if pos not in ("VERB", "SCONJ")]
    if not plain:
        return _choose_without_verb(head, options, place)
    if plain == ["INTJ"] and place.before in ("the", "a"):
        return "NOUN"
    if {"PRON", "DET"} <= set(plain) or {"PRON", "ADJ"} <= set(plain):
        kinds = [pos for pos in plain if pos != "PRON"] if is_modifier else ["PRON"]
        return kinds[0]
    if {"NOUN", "ADJ"} <= set(plain):
        return "NOUN" if not is_modifier and _is_determined(place.before) else "ADJ"
    if {"NOUN", "ADV"} <= set(plain):
        return "NOUN" if _is_determined(place.before) else "ADV"
    if {"ADJ", "ADV"} <= set(plain):
        return "ADJ" if is_modifier or place.is_predicate else "ADV"
    if {"INTJ", "DET"} <= set(plain):
        return "DET" if is_modifier else "INTJ"
    if {"ADV", "ADP"} <= set(plain):
        return _preposition_or_adverb(head, place)
    return plain[0]


def _choose_without_verb(head: str, options: Sequence[str], place: Place) -> str:
    """A word that is only known as a verb or as a conjunction, and stands for neither a verb nor a clause."""
    if "SCONJ" in options:
        return "SCONJ"
    forms = {form for _, pos, form in analyses(head) if pos == "VERB"}
    if "gerund" in forms and place.is_predicate:
        return "ADJ"
    if "gerund" in forms:
        return (
            "VERB" if place.after in _MODIFIED and head not in ("watering", "hiding", "climbing") else "NOUN"
        )
    return "NOUN" if forms & {"base", "third"} and head not in _ADJECTIVAL and "past" not in forms else "ADJ"


def _preposition_or_adverb(head: str, place: Place) -> str:
    """Particles of verbs are ADP, as prepositions are; adverbs of place ("looked around") are not."""
    if place.is_start and place.next_roles and place.next_roles[0] in "vs":
        return "ADV"  # "Out ran the goats", "Down it went"
    if head == "on" and place.before in ("then", "now", "day"):
        return "ADV"
    if place.after in (*_MODIFIED, "DET", "PRON") or place.next_roles == "i" or place.next_word == "of":
        return "ADP"
    if place.before in ("all", "far"):
        return "ADV"
    if head == "before" and place.next_word[:1].isalnum():
        return "ADP"
    return "ADP" if head in _PARTICLES and place.verb not in ("", *BE) else "ADV"


def _is_determined(before: str) -> bool:
    """Whether the word before makes a noun of what follows: "the light", "a little light"."""
    tags = {pos for _, pos, _ in analyses(before)}
    return bool(tags & {"DET", "ADJ", "NUM"}) or before in POSSESSIVES or before.endswith("'s")


def _lemma(word: str, pos: str) -> str:
    for lemma, tag, _ in analyses(word):
        if tag == pos:
            return lemma
    if pos == "NOUN":  # "covers", known as a verb alone
        return next((lemma for lemma, _, form in analyses(word) if form == "third"), word)
    return word
