"""The cast of a story: entities of its names and nouns, and of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tslens.corpus.annotation.characters import (
    TITLES,
    Reading,
    determiner,
    load_lexicon,
    name_links,
    name_runs,
)
from tslens.corpus.annotation.pronouns import SPEECH, find_speakers

NEW = frozenset(("a", "an", "another", "some"))
"""Articles of what was not there before."""
_BOTH = frozenset(("fish", "sheep", "deer"))  # one form for one and for several


@dataclass(slots=True)
class Entity:
    """``kind``: "name", "character", "thing" or "group"; ``gender``: "f", "m" or "" (unknown)."""

    kind: str
    gender: str = ""
    settled: bool = False  # the gender: by a word or a pronoun, not by a list of names
    is_animal: bool = False
    plural: bool = False
    members: frozenset[int] = frozenset()
    nominals: list[int] = field(default_factory=list)
    last: int = -1
    weight: int = 0
    n_pronouns: int = 0
    was_it: bool = False
    subject_in: int = -1  # sentence


class Cast:
    """Entities of a story, filled in from its start. ``entity``: per unit, -1 for none."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.lexicon = load_lexicon()
        self.runs = dict(name_runs(reading))
        self.links = name_links(reading, list(self.runs.items()))
        self.entities: list[Entity] = []
        self.of_key: dict[str, int] = {}  # names and noun lemmas
        self.entity: list[int] = [-1] * len(reading.words)
        self.speakers = find_speakers(reading)
        self.topic = -1  # subject of the last main clause outside quotations
        self.talking = {
            reading.lemma[c.subject]
            for c in reading.clauses
            if c.subject is not None
            and reading.lemma[c.action] in SPEECH
            and reading.pos[c.subject] == "NOUN"
        }

    # Names and nouns --------------------------------------------------------------------------------------------

    def _new(self, entity: Entity, *keys: str) -> int:
        self.entities.append(entity)
        for key in keys:
            self.of_key[key] = len(self.entities) - 1
        return len(self.entities) - 1

    def note(self, unit: int, number: int, *, nominal: bool = True) -> None:
        """Note that a unit mentions an entity."""
        entity = self.entities[number]
        self.entity[unit] = number
        entity.last = unit
        entity.weight += 1
        if self.reading.is_subject(unit):
            entity.subject_in = self.reading.sentence[unit]
            if self.reading.dep[self.reading.head[unit]] in ("ROOT", "conj") and self.reading.quote[unit] < 0:
                self.topic = number
        if nominal:
            entity.nominals.append(unit)

    def read_name(self, first: int, last: int) -> None:
        """Give the units of a name their entity."""
        number = self._entity_of_name(first, last)
        renamed = self._renamed(first)
        if renamed is not None and not self.entities[number].nominals:
            self._rename(renamed, first, last)
            number = renamed
        for unit in range(first, last + 1):
            if self.reading.pos[unit] != "PUNCT":
                self.note(unit, number)

    def _rename(self, number: int, first: int, last: int) -> None:
        """Give a name to an entity that had none."""
        self.of_key[self.name_key(first, last)] = number
        self.entities[number].kind = "name"
        self.entities[number].gender = self.entities[number].gender or self._gender_of_name(
            self._name_words(first, last)
        )

    def _name_words(self, first: int, last: int) -> list[str]:
        return [
            self.reading.word(unit) for unit in range(first, last + 1) if self.reading.pos[unit] != "PUNCT"
        ]

    def _gender_of_name(self, words: Sequence[str]) -> str:
        kin = self.lexicon.nouns.get(words[-1], "")
        listed = self.lexicon.titles.get(words[0]) or self.lexicon.names.get(words[0], "")
        return listed or (kin if kin in ("f", "m") else "")

    def name_key(self, first: int, last: int) -> str:
        """Key of a name; "Mom" and "Bear" have that of the noun."""
        words = self._name_words(first, last)
        if len(words) == 1:
            return self.noun_key(words[0], False) if words[0] in self.lexicon.nouns else "name " + words[0]
        return "name " + " ".join(words)

    def _entity_of_name(self, first: int, last: int) -> int:
        key = self.name_key(first, last)
        if key in self.of_key:
            return self.of_key[key]
        words = self._name_words(first, last)
        if words[0] not in TITLES:  # "Tommy" after "Tommy Turtle", and the reverse
            for other, number in self.of_key.items():
                known = other.removeprefix("name ").split()
                if other.startswith("name ") and known[0] == words[0] and 1 in (len(known), len(words)):
                    self.of_key[key] = number
                    return number
        gender, kin = self._gender_of_name(words), self.lexicon.nouns.get(words[-1], "")
        animal = not gender and "animal" in (kin, self.lexicon.nouns.get(words[0], ""))
        return self._new(Entity("name", gender, settled=bool(kin), is_animal=animal), key)

    def _renamed(self, first: int) -> int | None:
        """Entity that the sentence gives this name: "Her name was X", "named him X", "I'm X," said the cat."""
        reading = self.reading
        before = list(reading.before(first))[:4]
        if not before:
            return None
        nearest = before[0]
        is_self = reading.word(nearest) == "i'm" or (
            reading.word(nearest) == "am" and reading.word(nearest - 1) == "i"
        )
        if is_self and reading.quote[first] >= 0:
            speaker = self.speaker(reading.quote[first])
            return speaker if speaker is not None and self.entities[speaker].kind != "name" else None
        if reading.word(nearest) in ("him", "her", "it") and any(
            reading.lemma[unit] in ("name", "call") for unit in before[1:3]
        ):
            return self.entity[nearest] if self.entity[nearest] >= 0 else None
        name = next((unit for unit in before if reading.lemma[unit] == "name"), None)
        if name is not None and name > 0 and reading.lemma[nearest] == "be":
            owner = name - 1
            if reading.word(owner) in ("his", "her", "its") and self.entity[owner] >= 0:
                return self.entity[owner]
            if reading.word(owner) == "my" and reading.quote[first] >= 0:
                return self.speaker(reading.quote[first])
        return None

    def noun_key(self, lemma: str, plural: bool) -> str:
        """Key of a noun by lemma and number."""
        lemma = self.lexicon.same.get(lemma, lemma)
        plural &= lemma not in _BOTH
        return f"nouns {lemma}" if plural else f"noun {lemma}"

    def read_noun(self, unit: int) -> None:
        """Give a noun its entity: that of its name, of an earlier noun, or a new one."""
        reading, lemma = self.reading, self.reading.lemma[unit]
        if (
            reading.dep[unit] == "compound"
            and unit + 1 < len(reading.words)
            and reading.pos[unit + 1] == "NOUN"
        ):
            return
        plural = reading.plural[unit] or lemma in self.lexicon.plural
        key = self.noun_key(lemma, plural)
        kind = self.lexicon.nouns.get(lemma, "")
        is_character = bool(kind) or lemma in self.talking
        known = self.of_key.get(key)
        if is_character and self._says_it_of_itself(unit):
            return
        name_before = self.links.get(unit, unit)
        if name_before < unit and self._predicate_subject(unit) >= 0:  # "Tom was a boy"
            self.of_key[key] = self.entity[name_before]
            return
        if unit in self.links:
            run = self._run_that_ends(self.links[unit])
            name = self.name_key(*run)
            if known is not None and name not in self.of_key and determiner(reading, unit) not in NEW:
                self._rename(known, *run)
            number = self._entity_of_name(*run)
            self.of_key[key] = number
        elif is_character and (subject := self._predicate_subject(unit)) >= 0:
            if self.entities[subject].plural == plural and not plural:  # "Spot was a dog" names nobody anew
                self.of_key.setdefault(key, subject)
            return
        elif is_character and known is None and self._is_apposed(unit):
            number = self.entity[reading.head[unit]]
            self.of_key[key] = number
        elif known is not None and not (is_character and not plural and determiner(reading, unit) in NEW):
            number = known
        else:
            unnamed = self._unnamed(lemma, kind, determiner(reading, unit)) if not plural else None
            number = self._new(Entity("thing"), key) if unnamed is None else unnamed
            self.of_key[key] = number
        entity = self.entities[number]
        entity.plural |= plural and not entity.nominals
        is_generic = plural and not determiner(reading, unit) and not reading.is_subject(unit)
        if is_character and entity.kind == "thing" and not is_generic:
            entity.kind = "character"
        if kind in ("f", "m") and not plural and (not entity.settled or not entity.gender):
            entity.gender, entity.settled = kind, True
        entity.is_animal |= kind == "animal" or (not kind and entity.kind == "character")
        self.note(unit, number)

    def _run_that_ends(self, last: int) -> tuple[int, int]:
        return next((first, end) for first, end in self.runs.items() if end == last)

    def _is_apposed(self, unit: int) -> bool:
        """Whether a noun explains a character just named: "its friend, the cat"."""
        head = self.reading.head[unit]
        if self.reading.dep[unit] != "appos" or not 0 < unit - head <= 5 or self.entity[head] < 0:
            return False
        known = self.entities[self.entity[head]]
        return known.kind in ("name", "character") and known.plural == self.reading.plural[unit]

    def _predicate_subject(self, unit: int) -> int:
        """Entity of the subject of which a noun is said: "Spot was a dog"; -1 where it is said of none."""
        reading = self.reading
        is_said = reading.dep[unit] == "attr" and reading.lemma[reading.head[unit]] in ("be", "become")
        subject = (
            reading.clauses[reading.clause[unit]].subject if is_said and reading.clause[unit] >= 0 else None
        )
        return -1 if subject is None or subject >= unit else self.entity[subject]

    def _says_it_of_itself(self, unit: int) -> bool:
        """Whether a speaker or a listener is called so: "I am a magic cat", "You are a good dog"."""
        reading = self.reading
        is_said = reading.dep[unit] == "attr" and reading.clause[unit] >= 0
        subject = reading.clauses[reading.clause[unit]].subject if is_said else None
        return subject is not None and reading.word(subject).partition("'")[0] in ("i", "you")

    def _unnamed(self, lemma: str, kind: str, article: str) -> int | None:
        """The named character that "the girl", "the boy" or "the child" stands for where no such noun was used."""
        if lemma not in ("girl", "boy", "child", "kid") or article != "the":
            return None
        names = [
            (entity.weight, number)
            for number, entity in enumerate(self.entities)
            if entity.kind == "name" and not entity.is_animal and kind in (entity.gender, "person")
        ]
        return max(names)[1] if names else None

    def read_coordination(self, unit: int) -> None:
        """Make a group of nouns and names joined by "and"."""
        reading, number = self.reading, self.entity[unit]
        if number < 0 or reading.pos[unit] not in ("NOUN", "PROPN"):
            return
        chain = [unit]
        while reading.dep[chain[-1]] == "conj" and reading.head[chain[-1]] < chain[-1] and len(chain) < 6:
            chain.append(reading.head[chain[-1]])
        if len(chain) == 1 and reading.word(unit - 1) == "and" and reading.pos[unit - 2] == "PROPN":
            chain.append(unit - 2)
        members = frozenset(self.entity[other] for other in chain)
        if len(members) < 2 or -1 in members or any(self.entities[m].kind == "group" for m in members):
            return
        self.entities[self.group(members)].last = unit

    def group(self, members: frozenset[int]) -> int:
        """The entity that stands for several."""
        found = next((n for n, entity in enumerate(self.entities) if entity.members == members), None)
        return self._new(Entity("group", plural=True, members=members)) if found is None else found

    def speaker(self, quote: int) -> int | None:
        """Entity of who speaks a quotation; where the tag comes later, by its noun or name."""
        speaker = self.speakers.get(quote)
        if speaker is None:
            return None
        if self.entity[speaker] >= 0:
            return self.entity[speaker]
        reading = self.reading
        if reading.pos[speaker] == "PROPN":
            return self.of_key.get(self.name_key(speaker, speaker))
        return self.of_key.get(self.noun_key(reading.lemma[speaker], reading.plural[speaker]))
