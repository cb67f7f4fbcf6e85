"""The fault of an object that is back: lost, broken or given away, and then used as if nothing had happened.

Events come from ``story.extra["events"]`` (records of event, object and unit) where the story carries them, else from
the clauses of the narration: somebody lost, broke or gave a thing, or a thing broke. From the event to the first sign
of its end (found, mended, back, or any verb that can mean this) a sentence can be added that contradicts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tslens.corpus.dice import Dice
from tslens.corpus.faults.entities import stands_alone
from tslens.corpus.faults.reading import Draft, Edit, Reading, split_suffix
from tslens.corpus.faults.verbs import finite_form, tells_in_past
from tslens.corpus.vocabulary import Form, analyses, inflect, load_vocabulary
from tslens.labels import MADE_BY_AUTHOR

_STARTS = {
    "lose": "lost", "break": "broken", "tear": "broken", "smash": "broken", "crack": "broken",
    "snap": "broken", "rip": "broken", "give": "given",
}  # fmt: skip
_BREAKS_BY_ITSELF = frozenset(("break", "tear", "crack", "snap", "rip"))
_ENDS = frozenset(
    ("find", "mend", "fix", "repair", "return", "get", "buy", "glue", "replace", "sew", "bring", "heal")
)
_END_WORDS = frozenset(("back", "new", "another", "whole"))
_NO_EVENT = frozenset(("not", "n't", "never", "almost", "nearly"))
_NO_OBJECT = frozenset(("heart", "rule", "promise", "record", "game", "gift", "present", "letter"))
_PORTABLE = frozenset(
    ("toy", "tool", "kitchen", "container", "clothing", "thing", "instrument", "vehicle", "writing")
)
_USES: dict[str, tuple[str, ...]] = {
    "ball balloon": ("toss_v {thing} up and catch_v {it}", "bounce_v {thing} up and down"),
    "kite plane airplane": ("fly_v {thing} over the grass", "let_v {thing} dance in the wind"),
    "doll teddy bear bunny blanket pillow puppet toy": (
        "hug_v {thing} tight",
        "take_v {thing} along to play",
        "play_v with {thing} for a while",
    ),
    "hat scarf coat shoe boot mitten glove dress ring necklace crown jacket cap sock bracelet": (
        "put_v {thing} on and look_v very proud",
        "wear_v {thing} all day",
    ),
    "bike bicycle scooter sled wagon skateboard": (
        "ride_v {thing} down the path",
        "take_v {thing} for a ride",
    ),
    "book map letter card": ("open_v {thing} and read_v for a while", "sit_v down to read {thing}"),
    "cup mug bottle glass bowl": ("drink_v some water from {thing}", "fill_v {thing} to the top and drink_v"),
    "pencil crayon pen brush chalk marker": ("draw_v a sun with {thing}", "use_v {thing} to make a picture"),
    "drum flute trumpet guitar piano whistle bell horn violin": (
        "play_v a song on {thing}",
        "make_v music with {thing}",
    ),
    "car truck train boat": ("push_v {thing} along the floor", "make_v {thing} go round and round"),
}
_ANY_USE = (
    "use_v {thing} as on any other day",
    "pick_v {thing} up and use_v {it} for a while",
    "take_v {thing} out and use_v {it} again",
    "hold_v {thing} up high and laugh_v",
    "show_v {thing} to everyone",
)
_BEGINNINGS = ("{who} ", "Then {who} ", "After that, {who} ", "A little later, {who} ")
_VERB = re.compile(r"(\w+)_v")


@dataclass(frozen=True, slots=True)
class EventSite:
    """A place after the sentence ``gap`` where ``who`` can use ``thing``, which they cannot have."""

    gap: int
    who: str
    thing: str
    is_plural: bool
    uses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that takes an object from the story: from after the sentence ``first`` to before the sentence ``end``.

    ``unit``: the verb that tells of it, None where the author recorded it: then it happened to the protagonist.
    """

    kind: str
    noun: str
    unit: int | None
    first: int
    end: int


def find_event_sites(reading: Reading) -> list[EventSite]:
    """Places between an event and its end, before the last sentence; each with a name of the story for who uses it."""
    names = _names(reading)
    last = len(reading.sentences) - 1
    sites: dict[int, EventSite] = {}
    for event in _events(reading):
        who = _user(reading, event, names)
        lemma, is_plural = _number_of(event.noun)
        uses = next((uses for nouns, uses in _USES.items() if lemma in nouns.split()), ())
        if event.kind != "given":
            uses = (*uses, *_ANY_USE)
        for gap in range(event.first, min(event.end, last) if who and uses else 0):
            if reading.gap_is_free[gap] and reading.sentences[gap].closing and gap not in sites:
                sites[gap] = EventSite(gap, who, f"the {event.noun}", is_plural, uses)
    return [sites[gap] for gap in sorted(sites)]


def bring_object_back(reading: Reading, sites: Sequence[EventSite], dice: Dice) -> Draft:
    """A sentence at each place, in the tense of the story; no use is told twice."""
    edits, told = [], set()
    form: Form = "past" if tells_in_past(reading) else "third"
    for site in sites:
        use = dice.one_of([use for use in site.uses if use not in told] or site.uses)
        told.add(use)
        beginning = dice.one_of(_BEGINNINGS).format(who=site.who)
        words = _VERB.sub(lambda found: inflect(found[1], form), use)
        it = "them" if site.is_plural else "it"
        end = reading.sentences[site.gap].end
        edits.append(Edit(end, end, f" {beginning}{words.format(thing=site.thing, it=it)}."))
    return Draft(tuple(edits), len(edits))


def _events(reading: Reading) -> Iterator[_Event]:
    recorded = reading.story.extra.get("events")
    if reading.labels.made_by == MADE_BY_AUTHOR and isinstance(recorded, list):
        for number, row in enumerate(recorded):
            if row["event"] in ("lost", "broken", "given"):
                ends = [
                    reading.sentence_of[max(0, later["unit"] - 1)]
                    for later in recorded[number + 1 :]
                    if later["object"] == row["object"] and later["event"] in ("found", "mended", "back")
                ]
                first = reading.sentence_of[max(0, row["unit"] - 1)]
                end = min(ends, default=len(reading.sentences))
                yield _Event(row["event"], row["object"], None, first, end)
    else:
        yield from _events_of_clauses(reading)


def _events_of_clauses(reading: Reading) -> Iterator[_Event]:
    labels = reading.labels
    for clause in labels.clauses:
        kind = _STARTS.get(labels.lemma[clause.action])
        thing = clause.object
        if thing is None and labels.lemma[clause.action] in _BREAKS_BY_ITSELF:
            thing = clause.subject
        if kind and thing is not None and _happens(reading, clause.action) and _is_thing(reading, thing):
            first = reading.sentence_of[clause.action]
            end = next((i for i in range(first + 1, len(reading.sentences)) if _ends(reading, i)), None)
            yield _Event(kind, reading.words[thing], clause.action, first, end or len(reading.sentences))


def _happens(reading: Reading, action: int) -> bool:
    """Whether a clause of the narration says that something happened, not that it could, or did not."""
    labels = reading.labels
    same = [i for i, clause in enumerate(labels.clause) if clause == labels.clause[action] or i == action]
    denied = any(reading.words[i] in _NO_EVENT or reading.words[i].endswith(("n't", "n’t")) for i in same)
    helped = any(reading.words[i] in ("had", "has") for i in same if i < action)
    return (
        labels.quote[action] < 0
        and not denied
        and (helped or finite_form(reading, action) in ("past", "third"))
    )


def _is_thing(reading: Reading, unit: int) -> bool:
    """Whether a noun is a thing that can be used; what the vocabulary does not know is none."""
    lemma = reading.labels.lemma[unit]
    noun = load_vocabulary().nouns.get(lemma)
    can_be_held = noun is not None and any(use.frame in _PORTABLE for use in noun.uses)
    return reading.labels.pos[unit] == "NOUN" and can_be_held and lemma not in _NO_OBJECT


def _ends(reading: Reading, sentence: int) -> bool:
    units = reading.units_of[sentence]
    return any(reading.labels.lemma[i] in _ENDS or reading.words[i] in _END_WORDS for i in units)


def _names(reading: Reading) -> dict[int, str]:
    """First name of each entity that has one."""
    names: dict[int, str] = {}
    for unit, entity in enumerate(reading.labels.mention):
        if entity >= 0 and reading.labels.pos[unit] == "PROPN" and stands_alone(reading, unit):
            names.setdefault(entity, split_suffix(reading.surface(unit))[0])
    return names


def _user(reading: Reading, event: _Event, names: dict[int, str]) -> str:
    """Who uses the object: the giver of what was given, else the protagonist or the first who is named."""
    clause = None if event.unit is None else reading.clause_of(event.unit)
    subject = clause.subject if clause else None
    owner = names.get(reading.labels.mention[subject], "") if subject is not None else ""
    if owner or (event.kind == "given" and event.unit is not None):
        return owner
    protagonist = names.get(reading.labels.protagonist, "") if reading.labels.protagonist is not None else ""
    return protagonist or next(iter(names.values()), "")


def _number_of(noun: str) -> tuple[str, bool]:
    """Lemma of a noun, and whether it is plural."""
    found = next(((lemma, form) for lemma, pos, form in analyses(noun) if pos == "NOUN"), (noun, "singular"))
    return found[0], found[1] == "plural"
