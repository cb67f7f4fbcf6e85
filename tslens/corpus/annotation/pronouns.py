"""Third-person pronouns, who speaks a quotation, and the "it" that stands for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tslens.corpus.annotation.characters import Reading


@dataclass(frozen=True, slots=True)
class Form:
    """``gender``: "m", "f", "it" or "they"."""

    gender: str
    is_possessive: bool = False
    is_reflexive: bool = False


FORMS = {
    "he": Form("m"),
    "him": Form("m"),
    "his": Form("m", is_possessive=True),
    "himself": Form("m", is_reflexive=True),
    "she": Form("f"),
    "her": Form("f", is_possessive=True),
    "hers": Form("f", is_possessive=True),
    "herself": Form("f", is_reflexive=True),
    "it": Form("it"),
    "its": Form("it", is_possessive=True),
    "itself": Form("it", is_reflexive=True),
    "they": Form("they"),
    "them": Form("they"),
    "their": Form("they", is_possessive=True),
    "theirs": Form("they", is_possessive=True),
    "themselves": Form("they", is_reflexive=True),
}

SPEECH = frozenset(
    """
    say ask reply answer shout yell cry whisper exclaim call tell explain add scream respond mumble
    mutter agree beg laugh giggle smile sigh squeak bark growl roar chirp croak hiss meow think announce
    suggest warn continue cheer wonder sing admit declare promise grumble plead insist greet gasp sob
    gush squeal
    """.split()
)
"""Verbs that go with direct speech, by lemma."""

_NEAR = 8
_WEATHER = frozenset("rain snow thunder pour hail drizzle".split())
_TIME = frozenset(
    """
    time day night morning afternoon evening winter summer spring autumn fall bedtime lunchtime
    dinnertime noon midnight monday tuesday wednesday thursday friday saturday sunday late early dark
    sunny rainy cloudy windy stormy snowy foggy
    """.split()
)
_JUDGED = frozenset(
    """
    fun hard easy good well nice important better best okay ok great bad wrong right safe dangerous
    difficult possible impossible clear true wonderful lovely strange sad
    """.split()
)
_DEED = frozenset(("fun", "hard", "easy", "difficult"))
_OPENS_CLAUSE = frozenset(("to", "that", "when", "if", "how"))


def find_speakers(reading: Reading) -> dict[int, int]:
    """The unit that names who speaks, for each quotation with a tag: '"..." said Tom', 'Tom said, "..."'."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for unit, quote in enumerate(reading.quote):
        if quote >= 0:
            first.setdefault(quote, unit)
            last[quote] = unit
    tags = [
        clause
        for clause in reading.clauses
        if clause.subject is not None
        and reading.quote[clause.action] < 0
        and reading.lemma[clause.action] in SPEECH
    ]
    found: dict[int, int] = {}
    for quote in first:
        after = [
            tag
            for tag in tags
            if 0 < tag.action - last[quote] <= _NEAR and _follows(reading, last[quote], tag.action)
        ]
        before = [tag for tag in tags if 0 < first[quote] - tag.action <= _NEAR]
        tag = after[0] if after else before[-1] if before else None
        if tag is not None and tag.subject is not None and reading.quote[tag.subject] < 0:
            found[quote] = tag.subject
    return found


def _follows(reading: Reading, end: int, action: int) -> bool:
    """Whether a tag stands right after a quotation: no other quotation or paragraph of its own between."""
    return reading.sentence[action] - reading.sentence[end] <= 1 and all(
        reading.quote[unit] < 0 for unit in range(end + 1, action)
    )


def _follows_something(reading: Reading, unit: int) -> bool:
    """Whether the sentence or the one before says "something": "He saw something. It was a box." """
    for other in range(unit - 1, -1, -1):
        if reading.sentence[unit] - reading.sentence[other] > 1:
            return False
        if reading.word(other) == "something":
            return True
    return False


def is_empty_it(reading: Reading, unit: int) -> bool:
    """Whether "it" stands for weather, time or what comes after: "it was raining", "it was fun to play"."""
    if reading.dep[unit] == "expl":
        return True
    if reading.word(unit) != "it":
        return False
    if reading.dep[unit] == "dobj" and reading.lemma[reading.head[unit]] in ("do", "believe"):
        return True  # "could do it", "could not believe it"
    if reading.dep[unit] not in ("nsubj", "nsubjpass"):
        return False
    sentence = reading.sentence[unit]
    rest = []
    for other in range(unit + 1, min(unit + 9, len(reading.words))):
        if reading.sentence[other] != sentence or reading.words[other] in '.,!?;"':
            break
        rest.append(other)
    lemmas = [reading.lemma[other] for other in rest]
    if lemmas[:1] == ["be"] and "a" in lemmas[1:3] and _follows_something(reading, unit):
        return True
    if any(lemma in _WEATHER for lemma in lemmas[:4]):
        return True
    be = next(
        (i for i, lemma in enumerate(lemmas[:3]) if lemma in ("be", "get", "become", "'s", "seem")), None
    )
    if be is None and "'" not in reading.words[unit].replace("’", "'"):
        return bool(lemmas) and lemmas[0] in ("turn",) and "out" in lemmas[:2]
    after = lemmas[(be + 1 if be is not None else 0) :]
    if any(lemma in _TIME for lemma in after[:4]):
        return True
    for place, lemma in enumerate(after[:4]):
        if lemma in _JUDGED:
            following = after[place + 1 : place + 4]
            return bool(_OPENS_CLAUSE.intersection(following)) or lemma in _DEED
    return False


def places(reading: Reading) -> list[int]:
    """Sentences counted so that a quotation is one, however many it holds."""
    found: list[int] = []
    for unit, sentence in enumerate(reading.sentence):
        if not found:
            found.append(0)
            continue
        goes_on = reading.quote[unit] >= 0 and reading.quote[unit] == reading.quote[unit - 1]
        found.append(found[-1] + (sentence != reading.sentence[unit - 1] and not goes_on))
    return found
