"""Does a story tell what a one-line summary says? A rule on labels: who, what they do, to what, and the rest.

1. Both texts are read as clauses: who (the words that the subject stands for, by its entity and its antecedent, and
   those joined to it by "and"), the action (lemma of the main verb), what (the words that the direct object stands
   for), the rest (its other nouns, names, adjectives, adverbs, particles, participles, and pronouns of known meaning;
   no adjectives of the object), and whether it is denied. An infinitive or gerund right after a clause is part of its
   rest ("wanted to find a dog": find, dog). Of a passive ("was found") the subject is what, and who is not known.
2. A clause of the summary is told if the story has a clause with the same action, denied like it, by the same doer and,
   where the summary names them, the same object, and with all of the rest among the words of that clause. A passive
   clause asks for no doer, and answers to none.
3. "They" after a single character stands for a group, and so for each character of the summary. What a group or two
   characters do is told by a group, or by the same two, only.
4. Forms of be tell no action. ``_LIGHT`` verbs (have, do, want, try, stop, learn, think ...) tell one only with an
   object or a rest. The verb of a quotation ('"Oh no," he cried') tells none. Clauses without a subject do not count.
5. The summary is followed if every character it names is in the story, every noun that is a direct object in it is a
   noun of the story, and at least one of its clauses is told.

What the rule cannot see: other words for the same thing; adjectives of an object (a red ball, a blue ball); roles in
the rest ("from the tree to the house"); whether it is meant ("he would find it"); order and outcome; who speaks as "I";
a second clause that the story denies; all that is in no clause with a subject.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tslens.corpus.annotation.pronouns import SPEECH
from tslens.corpus.words import find_units
from tslens.labels import THIRD_PERSON
from tslens.types import Clause, Labels

GROUP = "*"
"""In ``ToldClause.who``: a plural pronoun whose members the labels do not tell."""

_PLURAL = frozenset("they them themselves".split())
_DENIALS = frozenset("not never no nobody nothing none cannot neither nor hardly".split())
_LIGHT = frozenset(
    """
    have do say make get want try start stop begin learn help know think see hear hope decide feel ask need like love
    wish keep go come let use seem look become
    """.split()
)
"""Verbs that tell little without an object or a rest."""
_INDEFINITE = frozenset("everything everyone everybody something someone somebody anything anyone".split())
_CONTENT = frozenset("NOUN PROPN ADJ ADV VERB".split())
_PARTICLES = frozenset("up down out off away back over on in".split())
_EMPTY = frozenset(
    """
    then again too also just only so very still now soon there here once even at first last finally end always ever
    suddenly when how why where all as well really quite more most
    """.split()
)
"""Words that add to a clause nothing that a story must repeat."""


@dataclass(frozen=True, slots=True)
class ToldClause:
    """One clause as the rule sees it: lemmas that its words stand for.

    ``who``: None of a passive. ``others``: joined to the subject by "and". ``what``: None without an object, empty
    where it is a pronoun that stands for nothing known. ``rest``: of each other word that tells something. ``words``:
    of all. ``unit``: its action.
    """

    who: frozenset[str] | None
    others: tuple[frozenset[str], ...]
    action: str
    what: frozenset[str] | None
    rest: tuple[frozenset[str], ...]
    is_denied: bool
    words: frozenset[str]
    unit: int


@dataclass(frozen=True, slots=True)
class Telling:
    """What a text tells.

    ``characters``: names of characters; without any, nouns that are subjects. ``objects``: nouns that are direct
    objects. ``lemmas``: of all its words. ``nouns``: of its nouns and names.
    """

    clauses: tuple[ToldClause, ...]
    characters: frozenset[str]
    objects: frozenset[str]
    lemmas: frozenset[str]
    nouns: frozenset[str]


@dataclass(frozen=True, slots=True)
class SummaryCheck:
    """How much of a summary a story tells: characters, objects and clauses that it has, and those that were looked for.

    ``is_followed``: None where the summary has no clause that can be looked for.
    """

    n_characters: tuple[int, int]
    n_objects: tuple[int, int]
    n_clauses: tuple[int, int]
    is_followed: bool | None


def read_telling(text: str, labels: Labels, *, among: Sequence[int] | None = None) -> Telling:
    """What a text tells, by its labels. ``among``: numbers of the clauses to read; None: all."""
    pairs = list(zip(labels.lemma, labels.pos, strict=True))
    names = {
        lemma
        for (lemma, pos), entity in zip(pairs, labels.mention, strict=True)
        if pos == "PROPN" and entity >= 0
    }
    heads = {clause.subject for clause in labels.clauses if clause.subject is not None}
    objects = {clause.object for clause in labels.clauses if clause.object is not None}
    return Telling(
        clauses=tuple(_Reader(text, labels).clauses(range(len(labels.clauses)) if among is None else among)),
        characters=frozenset(names or {labels.lemma[i] for i in heads if labels.pos[i] == "NOUN"}),
        objects=frozenset(labels.lemma[i] for i in objects if labels.pos[i] == "NOUN"),
        lemmas=frozenset(labels.lemma),
        nouns=frozenset(lemma for lemma, pos in pairs if pos in ("NOUN", "PROPN")),
    )


def compare_tellings(summary: Telling, story: Telling) -> SummaryCheck:
    """How much of a summary a story tells, by the rule of this module."""
    characters = len(summary.characters & story.lemmas), len(summary.characters)
    objects = len(summary.objects & story.nouns), len(summary.objects)
    by_action: dict[tuple[str, bool], list[ToldClause]] = defaultdict(list)
    for clause in story.clauses:
        by_action[clause.action, clause.is_denied].append(clause)
    n_told = sum(
        any(
            is_told(clause, other, summary.characters) for other in by_action[clause.action, clause.is_denied]
        )
        for clause in summary.clauses
    )
    is_followed = characters[0] == characters[1] and objects[0] == objects[1] and n_told > 0
    return SummaryCheck(
        characters, objects, (n_told, len(summary.clauses)), is_followed if summary.clauses else None
    )


def is_told(clause: ToldClause, other: ToldClause, characters: frozenset[str]) -> bool:
    """Whether a clause of a summary is told by one of a story. ``characters``: of the summary."""
    if (clause.action, clause.is_denied) != (other.action, other.is_denied):
        return False
    if clause.what and not (other.what and clause.what & other.what):
        return False
    if not all(wanted & other.words for wanted in clause.rest):
        return False
    if clause.who is None or other.who is None:
        return clause.who is None
    doers = (other.who, *other.others)
    is_group = any(GROUP in doer for doer in doers)
    if (GROUP in clause.who or clause.others) and not (is_group or other.others):
        return False
    return all(_is_among(doer, doers, characters) for doer in (clause.who, *clause.others))


def _is_among(doer: frozenset[str], doers: Sequence[frozenset[str]], characters: frozenset[str]) -> bool:
    if any(doer & other for other in doers):
        return True
    group = (
        doer
        if any(GROUP in other for other in doers)
        else frozenset().union(*doers)
        if GROUP in doer
        else None
    )
    return bool(group and group & characters)


class _Reader:
    """The clauses of one text."""

    def __init__(self, text: str, labels: Labels) -> None:
        self._labels = labels
        self._words = [text[start:end].lower().replace("’", "'") for start, end in find_units(text)]
        self._meaning = _Meanings(self._words, labels)
        self._units: list[list[int]] = [[] for _ in labels.clauses]
        for unit, number in enumerate(labels.clause):
            if number >= 0:
                self._units[number].append(unit)
        starts = {units[0]: number for number, units in enumerate(self._units) if units}
        self._next = [starts.get(units[-1] + 1, -1) if units else -1 for units in self._units]

    def clauses(self, numbers: Sequence[int]) -> list[ToldClause]:
        found = []
        for number in numbers:
            clause = self._labels.clauses[number]
            if clause.subject is None or self._is_frame(number, clause):
                continue
            told = self._read(number, clause, clause.subject)
            if told.action != "be" and (told.what or told.rest or told.action not in _LIGHT):
                found.append(told)
        return found

    def _read(self, number: int, clause: Clause, subject: int) -> ToldClause:
        labels = self._labels
        units = self._units[number]
        who: frozenset[str] | None = self._meaning(subject)
        what = None if clause.object is None else self._meaning(clause.object) - {GROUP}
        before = [unit for unit in units if unit < clause.action]
        others: tuple[frozenset[str], ...] = tuple(
            self._meaning(unit)
            for unit in before
            if unit > subject + 1
            and labels.pos[unit] in ("NOUN", "PROPN")
            and "and" in self._words[subject + 1 : unit]
        )
        if any(labels.lemma[unit] == "be" for unit in before) and self._is_participle(clause):
            who, what, others = None, who, ()
        quote = labels.quote[clause.action]
        is_denied = any(
            labels.quote[unit] == quote
            and (self._words[unit] in _DENIALS or self._words[unit].endswith("n't"))
            for unit in units
        )
        rest = self._rest(number, clause)
        words = {labels.lemma[unit] for unit in units}.union(*map(self._meaning, units), *rest)
        return ToldClause(
            who, others, labels.lemma[clause.action], what, rest, is_denied, frozenset(words), clause.action
        )

    def _rest(self, number: int, clause: Clause) -> tuple[frozenset[str], ...]:
        """What each word of a clause stands for that is no part of its subject, action or object."""
        labels, units = self._labels, self._units[number]
        of_object = self._object_phrase(clause)
        found = [
            self._meaning(unit) - {GROUP}
            for unit in units
            if unit not in of_object and self._tells(unit, clause)
        ]
        follower = self._next[number]
        if follower >= 0 and labels.clauses[follower].subject is None:
            after = labels.clauses[follower]
            if labels.lemma[after.action] != "be":
                found.append(frozenset((labels.lemma[after.action],)))
            if after.object is not None:
                found.append(self._meaning(after.object) - {GROUP})
            found += self._rest(follower, after)
        return tuple(meaning for meaning in found if meaning)

    def _tells(self, unit: int, clause: Clause) -> bool:
        word, pos = self._words[unit], self._labels.pos[unit]
        if word in _EMPTY or word in _DENIALS or unit == clause.action:
            return False
        if unit < clause.action:
            return pos == "ADV"
        if pos == "PRON":  # not "his ball", not "himself"
            after = self._labels.pos[unit + 1] if unit + 1 < len(self._words) else ""
            return not (
                word.endswith(("self", "selves")) or (after in ("NOUN", "ADJ") and word not in _PLURAL)
            )
        if word in _PARTICLES and pos == "ADP":
            return self._is_particle(unit, clause)
        return pos in _CONTENT

    def _is_particle(self, unit: int, clause: Clause) -> bool:
        """Whether "up" belongs to the verb: "gave up", "picked up a stone", not "ran up the hill"."""
        if clause.object is not None and clause.action + 1 == unit < clause.object:
            return True
        is_last = unit + 1 == len(self._words) or self._labels.clause[unit + 1] != self._labels.clause[unit]
        return is_last or self._labels.pos[unit + 1] == "ADP"

    def _object_phrase(self, clause: Clause) -> range:
        """Units of a direct object from its article or first adjective on."""
        if clause.object is None or clause.object < clause.action:
            return range(0)
        start = clause.object
        while start - 1 > clause.action and self._labels.pos[start - 1] in ("ADJ", "NUM", "NOUN"):
            start -= 1
        return range(start, clause.object + 1)

    def _is_participle(self, clause: Clause) -> bool:
        """Whether a verb that a form of be helps is passive: "was found", not "was finding"."""
        return self._labels.pos[clause.action] == "VERB" and not self._words[clause.action].endswith("ing")

    def _is_frame(self, number: int, clause: Clause) -> bool:
        """Whether a clause is that of a quotation: a verb of speech without an object, right beside a quote."""
        labels = self._labels
        if labels.lemma[clause.action] not in SPEECH or clause.object is not None:
            return False
        if labels.quote[clause.action] >= 0:
            return False
        units = [unit for unit in self._units[number] if labels.quote[unit] < 0]
        first, last = units[0] - 1, units[-1] + 1
        if last < len(self._words) and self._words[last] in (",", ":"):
            last += 1
        return any(0 <= unit < len(labels.quote) and labels.quote[unit] >= 0 for unit in (first, last))


class _Meanings:
    """What each unit stands for: its own lemma, and those of the other mentions of its entity; no pronouns."""

    def __init__(self, words: list[str], labels: Labels) -> None:
        self._words = words
        self._labels = labels
        self._lemmas: dict[int, set[str]] = defaultdict(set)
        self._found: dict[int, frozenset[str]] = {}
        for word, lemma, entity in zip(words, labels.lemma, labels.mention, strict=True):
            if entity >= 0 and word.partition("'")[0] not in THIRD_PERSON:
                self._lemmas[entity].add(lemma)

    def __call__(self, unit: int) -> frozenset[str]:
        if unit not in self._found:
            self._found[unit] = self._find(unit)
        return self._found[unit]

    def _find(self, unit: int) -> frozenset[str]:
        labels, word = self._labels, self._words[unit]
        antecedent = labels.antecedent[unit]
        found = set(self._lemmas.get(labels.mention[unit], ()))
        if antecedent >= 0:
            found |= {labels.lemma[antecedent], *self._lemmas.get(labels.mention[antecedent], ())}
        if labels.pos[unit] != "PRON" or word in _INDEFINITE:
            found.add(labels.lemma[unit])
        if word in _PLURAL and (antecedent < 0 or self._words[antecedent] == labels.lemma[antecedent]):
            found.add(GROUP)
        return frozenset(found)
