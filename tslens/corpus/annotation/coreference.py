"""Who is who in a story, by rule: mentions, antecedents of pronouns, protagonist and its introduction.

1. Names, nouns that name a character and all other nouns get an entity: one for a name, one for a noun lemma. A
   noun that the text ties to a name ("a girl named Lily") is the same entity. "a dog" after another dog is a new one.
2. A third-person pronoun takes, of the entities named before it that agree (gender, number, animacy), the one of the
   highest score: near, subject of its clause, not inside a quotation while the pronoun is outside, often
   mentioned. Nobody speaks of himself as "he": the speaker of a quotation is left out inside it. An object
   is not the subject of its own clause, unless it is reflexive.
3. "they" takes a plural noun, names joined by "and", the group it stood for before, or the two characters that were
   mentioned last.
4. A pronoun settles the gender of an entity that had none. "it was raining" and "it was fun to play" stand for nobody.
5. Mentions are names, nouns that name a character, and what a pronoun stands for. The protagonist is the character
   that is the subject of most clauses; its introduction is the noun phrase of its first mention.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tslens.corpus.annotation.cast import NEW, Cast
from tslens.corpus.annotation.characters import Reading, determiner, noun_phrase
from tslens.corpus.annotation.pronouns import FORMS, Form, is_empty_it, places

_AIMED = frozenset(("of", "to", "for", "at"))
_MINDED = frozenset(
    ("want", "know", "feel", "think", "say", "like", "love", "decide", "try", "see", "smile", "wonder")
)
_APART = frozenset((",", ".", "!", "?", '"', "“", "”"))
_FAR_IT = 3
_LEAST_IT = -2.5
_FAR = 8


@dataclass(frozen=True, slots=True)
class Coreference:
    """As in ``types.Labels``: ``mention`` and ``antecedent`` per unit; ``introduction``: units."""

    mention: tuple[int, ...]
    antecedent: tuple[int, ...]
    protagonist: int | None
    introduction: tuple[int, ...]


def resolve(reading: Reading) -> Coreference:
    """Mentions, antecedents, protagonist and introduction of a story."""
    return _Resolver(reading).run()


class _Resolver(Cast):
    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self.antecedent: list[int] = [-1] * len(reading.words)
        self.place = places(reading)

    def run(self) -> Coreference:
        reading = self.reading
        unit = 0
        while unit < len(reading.words):
            if unit in self.runs:
                self.read_name(unit, self.runs[unit])
                unit = self.runs[unit]
            elif reading.pos[unit] == "NOUN" and reading.words[unit][0].isalpha():
                self.read_noun(unit)
            elif reading.word(unit) in FORMS and reading.pos[unit] in ("PRON", "DET"):
                self._read_pronoun(unit)
            self.read_coordination(unit)
            unit += 1
        return self._result()

    # Pronouns ---------------------------------------------------------------------------------------------------

    def _form(self, unit: int) -> Form:
        """What a pronoun says; "her" is possessive only before a noun."""
        form = FORMS[self.reading.word(unit)]
        if self.reading.word(unit) == "her" and self.reading.dep[unit] != "poss":
            return Form("f")
        return form

    def _read_pronoun(self, unit: int) -> None:
        form = self._form(unit)
        if form.gender == "it" and is_empty_it(self.reading, unit):
            return
        fits = [number for number in range(len(self.entities)) if self._agrees(number, form.gender)]
        scores = {number: self._score(number, unit) for number in fits}
        if form.gender == "they":
            pair = self._last_pair(unit)
            if pair is not None:
                score = self._pair_score(pair, unit)
                if score > max((s for s in scores.values() if s is not None), default=-99.0):
                    number = self.group(pair)
                    scores = {number: score}
        if form.is_reflexive:
            scores = {n: 0.0 for n in fits if n == self._subject_before(unit)} or scores
        best = max(
            (
                (score, self.entities[number].last, number)
                for number, score in scores.items()
                if score is not None
            ),
            default=None,
        )
        if best is None and form.gender in ("m", "f"):
            best = self._against_the_list(unit)
        if best is None:
            return
        number = best[2]
        entity = self.entities[number]
        if form.gender in ("m", "f"):
            entity.gender, entity.settled = form.gender, True
            if entity.kind == "thing":
                entity.kind = "character"
        entity.n_pronouns += 1
        entity.was_it |= form.gender == "it"
        self.note(unit, number, nominal=False)
        self.antecedent[unit] = self._nearest(number, unit)
        if self.antecedent[unit] < 0:
            self.entity[unit] = -1

    def _subject_before(self, unit: int) -> int:
        """Entity of the nearest subject before a unit in its sentence, -1 for none."""
        subjects = (other for other in self.reading.before(unit) if self.reading.is_subject(other))
        return next((self.entity[other] for other in subjects), -1)

    def _nearest(self, number: int, unit: int) -> int:
        entity = self.entities[number]
        numbers = (number, *entity.members)
        return max((n for other in numbers for n in self.entities[other].nominals if n < unit), default=-1)

    def _agrees(self, number: int, gender: str) -> bool:
        entity = self.entities[number]
        if gender == "they":
            return entity.plural
        if entity.plural:
            return False
        if gender == "it":
            return not entity.gender and (entity.kind == "thing" or entity.is_animal)
        return entity.kind != "thing" and entity.gender in ("", gender)

    def _score(self, number: int, unit: int) -> float | None:
        """How well an entity suits a pronoun, None where it cannot."""
        reading, entity = self.reading, self.entities[number]
        form = self._form(unit)
        if entity.last < 0:
            return None
        distance = self._distance(unit, entity.last)
        if distance > (_FAR_IT if form.gender == "it" else _FAR) or self._is_barred(number, unit):
            return None
        is_subject = reading.dep[unit] in ("nsubj", "nsubjpass")
        was_subject = entity.subject_in == reading.sentence[entity.last]
        score = -distance + 0.1 * min(entity.weight, 8)
        if reading.quote[entity.last] >= 0 and reading.quote[unit] != reading.quote[entity.last]:
            score -= 1.0
        if reading.quote[unit] >= 0 and self.speaker(reading.quote[unit] - 1) == number:
            score -= 1.5  # who is spoken to
        if form.gender == "it":
            score += (
                0.8 * (reading.dep[entity.last] == "dobj")
                + 0.4 * was_subject
                + 0.5 * (was_subject and is_subject)
            )
            score += 1.0 * (form.is_possessive and self._is_own_subject(number, unit))
            score -= 2.5 * (reading.lemma[entity.nominals[-1]] in self.lexicon.no_it)
            score += (0.3 if is_subject else -0.6) * (entity.kind != "thing")
            score -= 0.6 * (reading.dep[entity.last] == "pobj")
            if is_subject and reading.lemma[reading.head[unit]] in _MINDED:
                score += 1.5 * entity.is_animal
            return score if score > _LEAST_IT else None
        score += (
            1.0 * was_subject
            + 0.5 * (was_subject and is_subject)
            + 0.6 * (is_subject and number == self.topic)
        )
        if form.gender == "they":
            animate = entity.kind != "thing" and all(self.entities[m].kind != "thing" for m in entity.members)
            return score + (1.0 if is_subject else 0.3) * animate
        if is_subject and distance <= 1 and entity.weight <= 2 and reading.dep[entity.nominals[0]] == "dobj":
            score += 0.8  # "She saw a man. He was old."
        score -= 0.3 * (not entity.gender) + 0.8 * entity.was_it
        return score + 1.0 * (form.is_possessive and self._is_own_subject(number, unit))

    def _distance(self, unit: int, earlier: int) -> float:
        """Sentences between two units; outside a quotation, one of several sentences counts little more than one."""
        sentences = self.reading.sentence[unit] - self.reading.sentence[earlier]
        if self.reading.quote[unit] >= 0:
            return sentences
        return 0.9 * (self.place[unit] - self.place[earlier]) + 0.1 * sentences

    def _is_own_subject(self, number: int, unit: int) -> bool:
        reading = self.reading
        subject = reading.clauses[reading.clause[unit]].subject if reading.clause[unit] >= 0 else None
        return subject is not None and subject != unit and self.entity[subject] == number

    def _is_own_object(self, number: int, unit: int) -> bool:
        """Whether the clause of a subject has an entity as its object: "it could not lift the ball"."""
        reading = self.reading
        found = reading.clauses[reading.clause[unit]].object if reading.clause[unit] >= 0 else None
        if found is None or found == unit or reading.pos[found] not in ("NOUN", "PROPN"):
            return False
        if found < unit:
            return self.entity[found] == number
        if determiner(reading, found) in NEW:
            return False
        if reading.pos[found] == "PROPN":
            return self.of_key.get(self.name_key(found, found)) == number
        return self.of_key.get(self.noun_key(reading.lemma[found], reading.plural[found])) == number

    def _is_addressed(self, number: int, unit: int) -> bool:
        """Whether a pronoun that tells who spoke stands after words to this entity: '"Look, Tom!" he said.'"""
        reading = self.reading
        for other in range(unit - 1, 0, -1):
            if reading.quote[other] < 0 or reading.quote[other] != reading.quote[unit - 1]:
                break
            apart = reading.words[other - 1] in _APART and reading.words[other + 1] in _APART
            if apart and self.entity[other] == number and self.speakers.get(reading.quote[other]) == unit:
                return True
        return False

    def _is_barred(self, number: int, unit: int) -> bool:
        reading = self.reading
        form = self._form(unit)
        quote = reading.quote[unit]
        if quote >= 0 and self.speaker(quote) == number:
            return True
        if self._is_addressed(number, unit):
            return True
        if reading.dep[unit] in ("nsubj", "pobj") and self._is_own_object(number, unit):
            return True
        is_object = reading.dep[unit] in ("dobj", "dative", "pobj") and not form.is_possessive
        if not is_object or form.is_reflexive:
            return False
        if reading.dep[unit] == "pobj" and reading.lemma[reading.head[unit]] not in _AIMED:
            return False  # "she looked around her"
        numbers = (number, *self.entities[number].members)
        return any(self._is_own_subject(other, unit) for other in numbers)

    def _last_pair(self, unit: int) -> frozenset[int] | None:
        """The two characters mentioned last, in this or the two sentences before."""
        recent = sorted(
            (
                (entity.last, number)
                for number, entity in enumerate(self.entities)
                if entity.kind in ("name", "character") and not entity.plural and entity.last >= 0
                if self._distance(unit, entity.last) <= 3
            ),
            reverse=True,
        )
        return frozenset(number for _, number in recent[:2]) if len(recent) >= 2 else None

    def _pair_score(self, pair: Iterable[int], unit: int) -> float:
        reading = self.reading
        if any(self._is_barred(number, unit) for number in pair):
            return -99.0
        distances = [self._distance(unit, self.entities[number].last) for number in pair]
        return 0.6 - 1.0 * max(distances) + 0.5 * (reading.dep[unit] == "nsubj")

    def _against_the_list(self, unit: int) -> tuple[float, int, int] | None:
        """A name whose listed gender the story does not share: the nearest that no other pronoun has settled."""
        found = [
            (score, entity.last, number)
            for number, entity in enumerate(self.entities)
            if entity.kind in ("name", "character") and not entity.settled and not entity.plural
            if (score := self._score(number, unit)) is not None
        ]
        return max(found, default=None)

    # Result -----------------------------------------------------------------------------------------------------

    def _result(self) -> Coreference:
        needed = {n for n, e in enumerate(self.entities) if e.kind in ("name", "character") or e.n_pronouns}
        needed |= {member for n in needed for member in self.entities[n].members}
        order: dict[int, int] = {}
        for number in self.entity:
            if number in needed:
                order.setdefault(number, len(order))
        mention = tuple(order.get(number, -1) for number in self.entity)
        hero = self._protagonist()
        return Coreference(
            mention,
            tuple(self.antecedent),
            None if hero is None else order[hero],
            () if hero is None else self._introduction(self.entities[hero].nominals[0]),
        )

    def _protagonist(self) -> int | None:
        counts: dict[int, int] = {}
        for clause in self.reading.clauses:
            number = -1 if clause.subject is None else self.entity[clause.subject]
            if number >= 0 and self.entities[number].kind in ("name", "character"):
                counts[number] = counts.get(number, 0) + 1
        return max(counts, key=lambda n: (counts[n], -self.entities[n].nominals[0]), default=None)

    def _introduction(self, first: int) -> tuple[int, ...]:
        return noun_phrase(
            self.reading, first, max(self.links.get(first, first), self.runs.get(first, first))
        )
