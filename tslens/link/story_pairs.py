"""Pairs from labelled stories: a story and its twin with one fault of the kinds of ``corpus.corrupt``, at one site.

Stories are told in the past, so for the tense each is read in the present as well: every finite verb of its narration
is put there first, by the same rules, and one is put back for the twin. Names are many, so a pair of names seldom finds
its mirror (``balance``) in another story; it is made of the story itself, in which two characters of the same pronouns
exchange their names.

Sites count only where what stands before can tell: a verb of the narration behind two others, a name where both names
have been said, a pronoun of whom the same was said before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tslens.corpus.corrupt import FAULTS
from tslens.corpus.dice import Dice
from tslens.corpus.faults.check import find_fault
from tslens.corpus.faults.reading import Reading, apply_edits, split_suffix
from tslens.corpus.faults.verbs import change_verbs, find_tense_sites, finite_form, tells_in_past
from tslens.corpus.labelled import read_labels
from tslens.errors import DataError
from tslens.link.pairs import Capability, Encode, Pair, after_one_beginning
from tslens.types import Labels, Story

FaultKind = Literal["agreement", "tense", "word_order", "swapped_names", "changed_pronoun"]
_TENSED_BEFORE = 2  # verbs of the narration
_GENDER = {"him": "he", "his": "he", "himself": "he", "her": "she", "hers": "she", "herself": "she"}


@dataclass(frozen=True)
class Asked:
    """What a readout is read for. ``n_sites``: that are tried in a story; few shuffled sentences keep their length."""

    capability: Capability
    asks: str
    n_sites: int


FAULTS_READ: dict[FaultKind, Asked] = {
    "agreement": Asked("grammar", "a verb of its subject's number, not of the other", 12),
    "tense": Asked("grammar", "a verb in the tense of the narration, not in the other", 4),
    "word_order": Asked("grammar", "the words of a sentence in their order, not shuffled", 16),
    "swapped_names": Asked(
        "consistency", "the name of who does it, not of another character of the story", 6
    ),
    "changed_pronoun": Asked("consistency", "a pronoun of its entity's gender, not of the other", 6),
}
"""Faults whose twin has other words in the same place, and what each is read for."""


@dataclass(frozen=True)
class _Twin:
    """A text with one fault. ``was``, ``now``: what stands at its place."""

    text: str
    was: str
    now: str


def fault_pairs(story: Story, kind: FaultKind, encode: Encode, *, n_ctx: int, seed: int) -> Iterator[Pair]:
    """Pairs of a labelled story with one fault, all of one cluster, at sites in a drawn order.

    A twin counts only if ``faults.check`` finds the fault again. Raises DataError for a story without labels.
    """
    labels = labels_of(story)
    dice = Dice(seed, "readout", kind, story.digest)
    told = [story.text]
    if kind == "tense":
        other = in_other_tense(story)
        told += [] if other is None else [other.text]
    for text in told:
        reading = Reading(Story(text), labels)
        for twin in _twins(reading, kind, dice):
            both = [(text, twin.text)]
            if kind == "swapped_names":
                both += _with_names_exchanged(reading, twin)
            for right, wrong in both:
                pair = after_one_beginning(story.digest, encode(right), encode(wrong), n_ctx)
                if pair is not None:
                    yield pair


def _twins(reading: Reading, kind: FaultKind, dice: Dice) -> Iterator[_Twin]:
    for site in dice.shuffled(_told_sites(reading, kind))[: FAULTS_READ[kind].n_sites]:
        draft = FAULTS[kind].change(reading, [site], dice)
        if draft is None:
            continue
        text, spans, was = apply_edits(reading.text, draft.edits)
        if len(find_fault(kind, reading.text, text, reading.labels)) == draft.n_sites == 1:
            yield _Twin(text, was[0], text[spans[0][0] : spans[0][1]])


def _told_sites(reading: Reading, kind: FaultKind) -> list[Any]:
    """Sites of a fault, as its maker finds them, of which what stands before tells what is right."""
    sites = list(FAULTS[kind].find_sites(reading))
    if kind == "tense":
        return sites[_TENSED_BEFORE:]
    if kind == "swapped_names":
        return [(unit, told) for unit, others in sites if (told := _names_before(reading, unit, others))]
    if kind == "changed_pronoun":
        return [(unit, others) for unit, others in sites if _is_said_before(reading, unit)]
    return sites


def _names_before(reading: Reading, unit: int, others: Sequence[str]) -> tuple[str, ...]:
    """Of the other names those that were said before, none where the right one was not."""
    said = {split_suffix(reading.surface(earlier))[0] for earlier in range(unit)}
    if split_suffix(reading.surface(unit))[0] not in said:
        return ()
    return tuple(name for name in others if split_suffix(name)[0] in said)


def _is_said_before(reading: Reading, unit: int) -> bool:
    """Whether a pronoun of the same gender stood for the same entity before."""
    entity, word = reading.labels.mention[unit], split_suffix(reading.words[unit])[0]
    earlier = (reading.words[i] for i in range(unit) if reading.labels.mention[i] == entity)
    return _GENDER.get(word, word) in {_GENDER.get(one, one) for one in earlier}


def labels_of(story: Story) -> Labels:
    """The labels of a story. Raises DataError if it has none."""
    labels = read_labels(story)
    if labels is None:
        raise DataError(
            f"A story has no labels: {story.text[:40]!r}.",
            "Give them with: tslens data annotate STORIES --out FILE",
        )
    return labels


# The present ------------------------------------------------------------------------------------------------


def in_other_tense(story: Story) -> Story | None:
    """The story with all finite verbs of its narration in the other tense, None where some cannot be put there.

    Labels stay: units and lemmas are the same. Direct speech stays as it is. Raises DataError for a story without
    labels.
    """
    labels = labels_of(story)
    reading = Reading(story, labels)
    draft = change_verbs(reading, find_tense_sites(reading), Dice(0))
    text, _, _ = apply_edits(story.text, draft.edits)
    was_past = tells_in_past(reading)
    left = [form for form in _narrated_forms(Reading(Story(text), labels)) if (form == "past") == was_past]
    return None if not draft.edits or left else Story(text, {"labels": labels.to_json()})


def _narrated_forms(reading: Reading) -> list[str]:
    """Forms of the finite verbs of the narration."""
    found = (finite_form(reading, unit) for unit, quote in enumerate(reading.labels.quote) if quote < 0)
    return [form for form in found if form is not None]


# Names ------------------------------------------------------------------------------------------------------


def _with_names_exchanged(reading: Reading, twin: _Twin) -> list[tuple[str, str]]:
    """Story and twin in which the right and the wrong name change places throughout; none where pronouns forbid it."""
    names = [split_suffix(name)[0] for name in (twin.was, twin.now)]
    if _pronouns(reading, names[0]) != _pronouns(reading, names[1]):
        return []
    other = dict(zip(names, reversed(names), strict=True))
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b")
    right, wrong = (pattern.sub(lambda found: other[found[0]], text) for text in (reading.text, twin.text))
    return [(right, wrong)]


def _pronouns(reading: Reading, name: str) -> set[str]:
    """What is said for the entities of a name: "he" and "she" in all their cases, other pronouns as they stand."""
    labels = reading.labels
    named = [split_suffix(reading.surface(unit))[0] == name for unit in range(len(reading.units))]
    owners = {
        entity for entity, is_name in zip(labels.mention, named, strict=True) if is_name and entity >= 0
    }
    said = (
        reading.words[unit]
        for unit, entity in enumerate(labels.mention)
        if entity in owners and labels.pos[unit] in ("PRON", "DET")
    )
    return {_GENDER.get(word, word) for word in said}
