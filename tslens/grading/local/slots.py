"""Whose name stands where, and whether "he" or "she": two small choice models over the characters of a text.

At each name of a text that has two names or more, every name is a candidate; ``NAME_CUES`` say how each stands to the
place (the last one named, already in this clause, spoken to by itself, at odds with the next pronoun ...), and a
conditional logit (McFadden 1974) fitted on real stories gives each a probability. At each "he" and "she" the cues
``PRONOUN_CUES`` do the same for the two genders. What was written is then likely or not: a swapped name is not.

Axes: candidate, cue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tslens.corpus.annotation.characters import load_lexicon
from tslens.corpus.annotation.pronouns import FORMS
from tslens.corpus.faults.reading import Reading, split_suffix

NAME_CUES = (
    "named last",
    "subject of the clause before",
    "already in this sentence",
    "in this clause, too",
    "joined to itself",
    "spoken to by itself",
    "speaks and is spoken to",
    "spoke last",
    "at odds with the pronoun after",
    "agrees with the pronoun after",
    "new, and introduced",
    "new, not introduced",
    "old, and introduced",
    "share of the names so far",
    "named in the sentence before",
    "subject here and before",
    "speaks again",
    "speaks to who spoke last",
    "joined before",
)
PRONOUN_CUES = (
    "gender of the name before",
    "gender of the subject before",
    "gender of the nearest noun for people",
    "balance of the genders so far",
    "only one gender so far",
    "pronoun before",
)
_NEAR = 12  # units after a name in which a pronoun may speak of it


@dataclass(frozen=True)
class Slot:
    """One choice. ``taken``: the candidate that was written. ``unit``: where."""

    unit: int
    cues: Float[np.ndarray, "candidate cue"]
    taken: int


@dataclass(frozen=True, eq=False)
class SlotModel:
    """Weights of both models."""

    names: Float[np.ndarray, " cue"]
    pronouns: Float[np.ndarray, " cue"]

    def surprise(self, slot: Slot) -> float:
        """How much likelier the best candidate is than what was written, in nats; 0 where that is the best."""
        weights = self.names if slot.cues.shape[1] == len(NAME_CUES) else self.pronouns
        score = slot.cues @ weights
        return float(score.max() - score[slot.taken])

    def log_odds(self, slot: Slot) -> float:
        """Log probability of what was written beside that of a blind choice."""
        weights = self.names if slot.cues.shape[1] == len(NAME_CUES) else self.pronouns
        score = slot.cues @ weights
        return float(score[slot.taken] - np.log(np.exp(score - score.max()).mean()) - score.max())


@dataclass
class _Past:
    """What a text has told before a place."""

    counts: dict[str, int]
    joined: set[frozenset[str]]
    last: str | None = None
    speaker: str | None = None


class People:
    """Names of a text, by unit. ``gender``: "m", "f" or None, from lists and from "a girl named Sue"."""

    def __init__(self, reading: Reading, names: frozenset[str]) -> None:
        self.reading = reading
        lexicon = load_lexicon()
        self.of: dict[int, str] = {}
        for unit, word in enumerate(reading.words):
            stem = split_suffix(word)[0]
            if reading.surface(unit)[0].isupper() and (stem in names or stem in lexicon.names):
                self.of[unit] = stem
        self.names = list(dict.fromkeys(self.of.values()))
        self.gender = {
            name: lexicon.names.get(name) or self._told(name, lexicon.nouns) for name in self.names
        }
        self.subject_of = {c: clause.subject for c, clause in enumerate(reading.labels.clauses)}
        self.speaker_of = {
            s: self._speaker(units) for s, units in enumerate(reading.units_of) if self._has_quote(units)
        }

    def _told(self, name: str, nouns: Mapping[str, str]) -> str | None:
        """Gender that an introduction tells: "a girl named Sue"."""
        first = next(unit for unit, other in self.of.items() if other == name)
        if first > 1 and self.reading.words[first - 1] in ("named", "called"):
            kinds = {nouns.get(lemma) for lemma in self.reading.labels.lemma[max(0, first - 4) : first - 1]}
            for gender in ("m", "f"):
                if gender in kinds:
                    return gender
        return None

    def _has_quote(self, units: Sequence[int]) -> bool:
        return any(self.reading.labels.quote[unit] >= 0 for unit in units)

    def _speaker(self, units: Sequence[int]) -> str | None:
        """The name outside the direct speech of a sentence that has some."""
        outside = [self.of[u] for u in units if u in self.of and self.reading.labels.quote[u] < 0]
        return outside[0] if outside else None

    def in_clause(self, unit: int, name: str) -> bool:
        """Whether a name stands in the clause of a unit, elsewhere."""
        clause = self.reading.labels.clause[unit]
        return clause >= 0 and any(
            other == name and where != unit and self.reading.labels.clause[where] == clause
            for where, other in self.of.items()
        )


def name_slots(people: People) -> Iterator[Slot]:
    """Every name of a text that has two or more, with the cues of each name of the text."""
    if len(people.names) < 2:
        return
    reading, past = people.reading, _Past({}, set())
    subjects = {clause.subject for clause in reading.labels.clauses}
    labels = reading.labels
    before: list[str] = []  # names of the sentence before
    now, sentence = list[str](), -1
    for unit in range(len(reading.words)):
        if reading.sentence_of[unit] != sentence:
            if sentence in people.speaker_of:
                past.speaker = people.speaker_of[sentence] or past.speaker
            before, now, sentence = now, [], reading.sentence_of[unit]
        if unit not in people.of:
            continue
        actual, in_quote = people.of[unit], labels.quote[unit] >= 0
        speaker = people.speaker_of.get(sentence)
        pronoun = _pronoun_after(people, unit)
        previous = _previous_subject(people, unit)
        introduced = unit > 0 and reading.words[unit - 1] in ("named", "called")
        joined = unit > 1 and reading.words[unit - 1] == "and" and people.of.get(unit - 2)
        spoken_to = {
            people.of[u]
            for u in reading.units_of[sentence]
            if u in people.of and labels.quote[u] >= 0 and u != unit
        }
        total = sum(past.counts.values())
        cues = np.zeros((len(people.names), len(NAME_CUES)))
        for row, name in enumerate(people.names):
            is_new = name not in past.counts
            gender = people.gender[name]
            cues[row] = (
                name == past.last,
                name == previous,
                name in now,
                people.in_clause(unit, name),
                joined == name,
                in_quote and speaker == name,
                not in_quote and speaker == actual and name in spoken_to,
                name == past.speaker,
                pronoun is not None and gender is not None and gender != pronoun,
                pronoun is not None and gender == pronoun,
                is_new and introduced,
                is_new and not introduced,
                introduced and not is_new,
                past.counts.get(name, 0) / total if total else 0.0,
                name in before,
                unit in subjects and name == previous,
                not in_quote and sentence in people.speaker_of and name == past.speaker,
                in_quote and name == past.speaker,
                bool(joined) and frozenset((joined, name)) in past.joined,
            )
        yield Slot(unit, cues, people.names.index(actual))
        past.counts[actual] = past.counts.get(actual, 0) + 1
        past.last = actual
        if joined:
            past.joined.add(frozenset((joined, actual)))
        now.append(actual)


def _pronoun_after(people: People, unit: int) -> str | None:
    """Gender of the first "he" or "she" after a name and before the next one, in its sentence or the next."""
    reading = people.reading
    for other in range(unit + 1, min(unit + 1 + _NEAR, len(reading.words))):
        if other in people.of or reading.sentence_of[other] > reading.sentence_of[unit] + 1:
            return None
        form = FORMS.get(reading.words[other])
        if form is not None and form.gender in ("m", "f"):
            return form.gender
    return None


def _previous_subject(people: People, unit: int) -> str | None:
    """The name that is subject of the last clause before that of the unit whose subject is a name."""
    clause = people.reading.labels.clause[unit]
    for other in range(clause - 1, max(-1, clause - 4), -1):
        subject = people.subject_of.get(other)
        if subject is not None and subject in people.of:
            return people.of[subject]
    return None


def pronoun_slots(people: People) -> Iterator[Slot]:
    """Every "he" and "she" in any case; candidates are male and female, in this order."""
    reading = people.reading
    nouns = load_lexicon().nouns
    seen = {"m": 0, "f": 0}
    last_name = last_noun = last_pronoun = 0.0
    for unit, word in enumerate(reading.words):
        stem = split_suffix(word)[0]
        form = FORMS.get(stem)
        if unit in people.of:
            gender = people.gender[people.of[unit]]
            last_name = _sign(gender)
            _count(seen, gender)
        elif nouns.get(reading.labels.lemma[unit]) in ("m", "f"):
            gender = nouns[reading.labels.lemma[unit]]
            last_noun = _sign(gender)
            _count(seen, gender)
        elif form is not None and form.gender in ("m", "f"):
            subject = _previous_subject(people, unit)
            total = seen["m"] + seen["f"]
            values = (
                last_name,
                _sign(people.gender[subject]) if subject else 0.0,
                last_noun,
                (seen["m"] - seen["f"]) / total if total else 0.0,
                float(seen["m"] > 0) - float(seen["f"] > 0),
                last_pronoun,
            )
            cues = np.array([values, [-value for value in values]]) / 2
            yield Slot(unit, cues, 0 if form.gender == "m" else 1)
            last_pronoun = _sign(form.gender)


def _sign(gender: str | None) -> float:
    return {"m": 1.0, "f": -1.0}.get(gender or "", 0.0)


def _count(seen: dict[str, int], gender: str | None) -> None:
    if gender in seen:
        seen[gender] += 1
