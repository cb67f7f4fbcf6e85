"""Evidence on who and what: names and pronouns where they can stand, characters kept, new ones introduced.

Values are rates over the completion; names of the beginning count as known.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tslens.corpus.annotation.pronouns import FORMS
from tslens.corpus.faults.reading import split_suffix
from tslens.grading.local.read import GradedReading
from tslens.grading.local.slots import People, SlotModel, name_slots, pronoun_slots

_INTRODUCES = frozenset(
    ("named", "called", "friend", "brother", "sister", "dog", "cat", "neighbor", "teacher", "name")
)
ODD = 1.5  # nats by which another candidate is likelier


def persons(reading: GradedReading, slots: SlotModel) -> Mapping[str, float]:
    """How well names and pronouns of the completion fit what was told before."""
    people = People(reading, reading.table.names)
    names = [slot for slot in name_slots(people) if slot.unit >= reading.first]
    pronouns = [slot for slot in pronoun_slots(people) if slot.unit >= reading.first]
    name_surprise = [slots.surprise(slot) for slot in names]
    pronoun_surprise = [slots.surprise(slot) for slot in pronouns]
    told = {people.of[unit] for unit in people.of if unit < reading.first}
    own = [unit for unit in people.of if unit >= reading.first]
    new = list(dict.fromkeys(people.of[unit] for unit in own if people.of[unit] not in told))
    first = {name: next(unit for unit in own if people.of[unit] == name) for name in new}
    clauses = _own_clauses(reading)
    third = [
        unit
        for unit in reading.own
        if (form := FORMS.get(split_suffix(reading.words[unit])[0])) is not None and form.gender != "it"
    ]
    return {
        "surprise of the names": _mean(name_surprise),
        "surprise of the oddest name": max(name_surprise, default=0.0),
        "surprise of the oddest pronoun": max(pronoun_surprise, default=0.0),
        "odd names": float(np.mean([one > ODD for one in name_surprise])) if names else 0.0,
        "odd names, a sentence": sum(one > ODD for one in name_surprise) / max(len(reading.own_sentences), 1),
        "log odds of the names": float(np.mean([slots.log_odds(one) for one in names])) if names else 0.0,
        "surprise of the pronouns": _mean(pronoun_surprise),
        "odd pronouns": float(np.mean([one > ODD for one in pronoun_surprise])) if pronouns else 0.0,
        "odd pronouns, a sentence": sum(one > ODD for one in pronoun_surprise)
        / max(len(reading.own_sentences), 1),
        "pronouns of nobody": float(np.mean([reading.labels.antecedent[unit] < 0 for unit in third]))
        if third
        else 0.0,
        "names out of nowhere": sum(not _is_introduced(reading, unit) for unit in first.values())
        / max(len(reading.own_sentences), 1),
        "new names, a sentence": len(new) / max(len(reading.own_sentences), 1),
        "names of the beginning kept": len(told & {people.of[u] for u in own}) / len(told) if told else 0.0,
        "names of the beginning lost": float(bool(told) and not told & {people.of[u] for u in own}),
        "subject and object the same": _mean([float(_acts_on_itself(reading, people, c)) for c in clauses]),
        "protagonist in the last third": _protagonist_late(reading),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _is_introduced(reading: GradedReading, unit: int) -> bool:
    """Whether a word that introduces somebody stands near a new name, or the story has just begun."""
    sentence = reading.sentence_of[unit]
    near = range(max(0, unit - 4), min(unit + 3, len(reading.units)))
    told = {reading.labels.lemma[other] for other in near} | {reading.words[other] for other in near}
    return sentence <= 1 or bool(_INTRODUCES & told)


def _own_clauses(reading: GradedReading) -> list[int]:
    return [index for index, clause in enumerate(reading.labels.clauses) if clause.action >= reading.first]


def _acts_on_itself(reading: GradedReading, people: People, index: int) -> bool:
    clause = reading.labels.clauses[index]
    if clause.subject is None or clause.object is None:
        return False
    subject, thing = people.of.get(clause.subject), people.of.get(clause.object)
    owns = reading.words[clause.object].endswith(("'s", "’s"))
    return subject is not None and subject == thing and not owns


def _protagonist_late(reading: GradedReading) -> float:
    """Whether the protagonist is still there in the last third."""
    if reading.labels.protagonist is None:
        return 0.0
    late = reading.labels.mention[-max(1, len(reading.units) // 3) :]
    return float(reading.labels.protagonist in late)
