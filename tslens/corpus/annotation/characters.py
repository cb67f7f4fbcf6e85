"""Who a word may name: first names, words for people and animals, and where a text ties a name to a noun."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from tslens.types import Clause

TITLES = frozenset(
    ("mr", "mrs", "ms", "miss", "dr", "aunt", "auntie", "uncle", "king", "queen", "prince", "princess")
)
NAMING = frozenset(("named", "called"))


@dataclass(frozen=True)
class Reading:
    """What is known of each unit of a story before its characters are: words and a parse, in plain lists.

    ``head``, ``dep``: of the unit as a whole; a root is its own head. ``plural``: nouns. ``clause``: index in
    ``clauses``, -1 none. ``sentence``; ``quote``: stretch of direct speech, -1 none.
    """

    words: Sequence[str]
    pos: Sequence[str]
    lemma: Sequence[str]
    plural: Sequence[bool]
    dep: Sequence[str]
    head: Sequence[int]
    clause: Sequence[int]
    clauses: Sequence[Clause]
    sentence: Sequence[int]
    quote: Sequence[int]

    def before(self, unit: int) -> Iterator[int]:
        """Units before one, nearest first, in its sentence."""
        for other in range(unit - 1, -1, -1):
            if self.sentence[other] != self.sentence[unit]:
                return
            yield other

    def word(self, unit: int) -> str:
        """Small letters of a unit without a possessive ending; empty outside the story."""
        if not 0 <= unit < len(self.words):
            return ""
        return strip_possessive(self.words[unit]).lower().replace("’", "'")

    def is_possessive(self, unit: int) -> bool:
        """Whether a unit ends in "'s"."""
        return strip_possessive(self.words[unit]) != self.words[unit]

    def is_subject(self, unit: int) -> bool:
        """Whether a unit is the subject of its clause or joined to it."""
        for _ in range(4):
            if self.dep[unit] in ("nsubj", "nsubjpass"):
                return True
            if self.dep[unit] != "conj" or self.pos[self.head[unit]] not in ("NOUN", "PROPN", "PRON"):
                return False
            unit = self.head[unit]
        return False


def strip_possessive(word: str) -> str:
    """ "Tom" of "Tom's"; other words as they are."""
    return word[:-2] if len(word) > 2 and word[-2:].lower() in ("'s", "’s") else word


@dataclass(frozen=True, slots=True)
class Lexicon:
    """``names``, ``titles``: gender ("f", "m") by word. ``nouns``: "f", "m", "person" or "animal" by lemma.

    ``plural``: lemmas that name several. ``no_it``: lemmas that "it" seldom stands for. ``nobody``: capital words
    that name no character. ``same``: the word that stands for others ("mummy": "mom").
    """

    names: Mapping[str, str]
    titles: Mapping[str, str]
    nouns: Mapping[str, str]
    plural: frozenset[str]
    no_it: frozenset[str]
    nobody: frozenset[str]
    same: Mapping[str, str]


@cache
def load_lexicon() -> Lexicon:
    """The lists of ``assets/characters.toml`` and the names of the offline author."""
    folder = resources.files("tslens") / "assets"
    asset = tomllib.loads((folder / "characters.toml").read_text(encoding="utf-8"))
    author = tomllib.loads((folder / "author" / "words.toml").read_text(encoding="utf-8"))["names"]
    names, nouns = asset["names"], asset["nouns"]
    listed = [(names["boy"], "m"), (names["girl"], "f")]
    listed += [(author[key], "f" if key.startswith("girl") else "m") for key in author]
    titles = (("m", names["title_boy"]), ("f", names["title_girl"]))
    kinds = (("person", "person"), ("animal", "animal"), ("boy", "m"), ("girl", "f"))
    return Lexicon(
        names={name.lower(): gender for text, gender in listed for name in text.split()},
        titles={name.lower(): key[0] for key, text in titles for name in text.split()},
        nouns={noun: kind for key, kind in kinds for noun in nouns[key].split()},
        plural=frozenset(nouns["plural"].split()),
        no_it=frozenset(nouns["no_it"].split()),
        nobody=frozenset(names["no_character"].lower().split()),
        same={word: base for base, words in asset["same"].items() for word in words.split()},
    )


def is_name(reading: Reading, unit: int) -> bool:
    """Whether a unit may name a character: a proper noun with a capital letter, no gerund ("Sharing is good")."""
    word = reading.words[unit]
    plain = reading.word(unit)
    if reading.pos[unit] != "PROPN" or not word[0].isupper() or plain in load_lexicon().nobody:
        return False
    return not plain.endswith("ing") or plain in load_lexicon().nouns or plain in load_lexicon().titles


def name_runs(reading: Reading) -> list[tuple[int, int]]:
    """First and last unit of each name: "Tom", "Mr. Brown", "Tommy Turtle"."""
    runs: list[tuple[int, int]] = []
    unit = 0
    while unit < len(reading.words):
        if not is_name(reading, unit):
            unit += 1
            continue
        last = unit
        while not reading.is_possessive(last):
            following = last + 1
            if (
                reading.word(last) in TITLES
                and following < len(reading.words)
                and reading.words[following] == "."
            ):
                following += 1
            if following >= len(reading.words) or not is_name(reading, following):
                break
            if reading.sentence[following] != reading.sentence[unit]:
                break
            last = following
        runs.append((unit, last))
        unit = last + 1
    return runs


def name_links(reading: Reading, runs: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Nouns that a text ties to a name, each with the last unit of that name.

    "a girl named Lily", "his friend(,) Lily", "Tom(,) the fox", "Tom was a boy", "The dog's name was Max".
    """
    links: dict[int, int] = {}
    for first, last in runs:
        noun = _noun_before(reading, first)
        if noun is not None:
            links[noun] = last
            friend = _apposed(reading, noun)
            if friend is not None:
                links[friend] = last
        noun = _noun_after(reading, first, last)
        if noun is not None:
            links[noun] = last
    return links


def _noun_before(reading: Reading, first: int) -> int | None:
    before = reading.word(first - 1)
    same_sentence = first > 0 and reading.sentence[first - 1] == reading.sentence[first]
    if not same_sentence:
        return None
    if before in NAMING:
        near = list(reading.before(first - 1))[:5]
        noun = next((unit for unit in near if reading.pos[unit] == "NOUN"), None)
        return None if noun is None or reading.plural[noun] else noun
    if _names_character(reading, first - 1):
        return first - 1
    if before == "," and _names_character(reading, first - 2):
        after = _past(reading, first)
        after += reading.word(after) == ","
        in_list = reading.word(after) == "and" and reading.pos[after + 1 : after + 2] not in (
            ["VERB"],
            ("VERB",),
        )
        article = determiner(reading, first - 2)
        if not in_list and (article in _POSSESSIVE or article in ("a", "an")):
            return first - 2
    if before in _BE_FORMS:  # "The dog's name was Max"
        name = next((unit for unit in reading.before(first - 1) if reading.lemma[unit] == "name"), None)
        if (
            name is not None
            and name > 0
            and reading.pos[name - 1] == "NOUN"
            and reading.is_possessive(name - 1)
        ):
            return name - 1
    return None


def _apposed(reading: Reading, noun: int) -> int | None:
    """ "friend" in "his friend, a dog named Max", given "dog"."""
    comma = next((unit for unit in reading.before(noun) if reading.words[unit] == ","), None)
    if comma is None or comma == 0 or determiner(reading, noun) not in ("a", "an"):
        return None
    between = range(comma + 2, noun)
    is_phrase = all(reading.pos[unit] in ("ADJ", "NOUN", "NUM") for unit in between)
    friend = comma - 1
    named = _names_character(reading, friend) and determiner(reading, friend) in _POSSESSIVE
    return friend if is_phrase and named and reading.word(comma + 1) in ("a", "an") else None


def _noun_after(reading: Reading, first: int, last: int) -> int | None:
    lexicon = load_lexicon()
    unit = last + 1
    commas = reading.word(unit) == ","
    unit += commas
    start = unit
    be = reading.word(unit) in _BE_FORMS and reading.dep[last] in ("nsubj", "nsubjpass")
    unit += be
    if reading.word(unit) not in ("the", "a", "an") or (
        not commas and not be and reading.word(unit) != "the"
    ):
        return None
    unit += 1
    while unit < len(reading.words) and reading.pos[unit] in ("ADJ", "ADV", "NUM"):
        unit += 1
    if unit < len(reading.words) - 1 and reading.pos[unit + 1] == "NOUN":
        unit += 1  # "a puppy dog"
    if unit >= len(reading.words) or reading.sentence[unit] != reading.sentence[first] or start == unit:
        return None
    is_character = reading.pos[unit] in ("NOUN", "PROPN") and reading.word(unit) in lexicon.nouns
    if not is_character or reading.is_possessive(last) or reading.is_possessive(unit):
        return None
    if commas and not (reading.dep[unit] == "appos" and reading.word(unit + 1) in (",", ".", "!", "who")):
        return None
    return None if be and reading.quote[unit] >= 0 else unit


_POSSESSIVE = frozenset(("his", "her", "their", "my", "our", "your", "its"))
_BE_FORMS = frozenset(("is", "was", "are", "were"))


def _names_character(reading: Reading, unit: int) -> bool:
    """Whether a unit is a noun for one character, in no possessive form."""
    return (
        unit >= 0
        and reading.pos[unit] in ("NOUN", "PROPN")
        and reading.words[unit][0].islower()
        and not reading.plural[unit]
        and not reading.is_possessive(unit)
        and reading.lemma[unit] in load_lexicon().nouns
    )


def determiner(reading: Reading, noun: int) -> str:
    """Article or possessive of a noun, in small letters; "" where it has none. A name's "'s" counts as "his"."""
    for unit in reading.before(noun):
        if reading.pos[unit] == "DET" or reading.word(unit) in _POSSESSIVE:
            return reading.word(unit)
        if reading.pos[unit] in ("PROPN", "NOUN") and reading.is_possessive(unit):
            return "his"
        if reading.pos[unit] not in ("ADJ", "NOUN", "NUM", "ADV", "VERB") and reading.words[unit] != ",":
            return ""
    return ""


def _past(reading: Reading, unit: int) -> int:
    """The first unit after a name that begins at ``unit``."""
    return next(
        (other for other in range(unit, len(reading.words)) if not is_name(reading, other)),
        len(reading.words),
    )


def noun_phrase(reading: Reading, first: int, last: int) -> tuple[int, ...]:
    """Words of the noun phrase with the head ``first``, up to the name at ``last`` that belongs to it."""
    begin = first
    for unit in reading.before(first):
        if reading.words[unit] == "," and reading.pos[unit - 1] == "ADJ":
            continue
        if not _is_below(reading, unit, first):
            break
        begin = unit
    is_near = 0 <= last - first <= _NAME_REACH and reading.sentence[last] == reading.sentence[first]
    end = last if is_near else first
    return tuple(unit for unit in range(begin, end + 1) if reading.pos[unit] != "PUNCT")


def _is_below(reading: Reading, unit: int, head: int) -> bool:
    for _ in range(6):
        if unit == head:
            return True
        if reading.dep[unit] not in _MODIFIERS or reading.head[unit] == unit:
            return False
        unit = reading.head[unit]
    return False


_NAME_REACH = 6
_MODIFIERS = frozenset(
    ("det", "amod", "compound", "poss", "nummod", "advmod", "nmod", "quantmod", "npadvmod", "conj", "cc")
)
