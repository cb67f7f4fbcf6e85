"""Does a story tell what a one-line summary says? A rule on labels: who, what they do, and to what.

1. Both texts are read as clauses: who (the words that the subject stands for, by its entity and its antecedent), the
   action (lemma of the main verb), what (the words that the direct object stands for), and whether it is denied. Of a
   passive ("was found") the subject is what, and who is not known.
2. A clause of the summary is told if the story has a clause with the same action, denied like it, one of the same doers
   and, where the summary names an object, the same object. A passive clause asks for no doer, and answers to none.
   "They" after a single character stands for a group, and so for each character of the summary.
3. Forms of be tell no action; have, do, say, make and get only with their object. A clause without a subject is not
   counted ("she wants to run": run).
4. The summary is followed if every character it names is in the story, every noun that is a direct object in it is a
   noun of the story, and at least one of its clauses is told.

What the rule cannot see: other words for the same thing, whether it is meant ("he would find it"), order and outcome,
who speaks as "I", and all that is in no clause with a subject.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tslens.corpus.words import find_units
from tslens.labels import THIRD_PERSON
from tslens.types import Clause, Labels

GROUP = "*"
"""In ``ToldClause.who``: a plural pronoun whose members the labels do not tell."""

_PLURAL = frozenset("they them themselves".split())
_DENIALS = frozenset("not never no nobody nothing none cannot neither nor hardly".split())
_LIGHT = frozenset("have do say make get".split())  # tell little without an object


@dataclass(frozen=True, slots=True)
class ToldClause:
    """One clause as the rule sees it: lemmas that its subject and its object stand for.

    ``who``: None of a passive. ``what``: None without an object, empty where it is a pronoun that stands for nothing
    known.
    """

    who: frozenset[str] | None
    action: str
    what: frozenset[str] | None
    is_denied: bool


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


def read_telling(text: str, labels: Labels) -> Telling:
    """What a text tells, by its labels."""
    words = [text[start:end].lower().replace("’", "'") for start, end in find_units(text)]
    meaning = _Meanings(words, labels)
    denied: set[tuple[int, int]] = set()  # clause and quote: "No!" she cried
    helper: dict[int, int] = {}  # of each clause the first form of be
    for unit, (word, lemma, number) in enumerate(zip(words, labels.lemma, labels.clause, strict=True)):
        if word in _DENIALS or word.endswith("n't"):
            denied.add((number, labels.quote[unit]))
        if lemma == "be":
            helper.setdefault(number, unit)
    clauses = []
    for number, clause in enumerate(labels.clauses):
        if clause.subject is None:
            continue
        action = labels.lemma[clause.action]
        who: frozenset[str] | None = meaning(clause.subject)
        what = None if clause.object is None else meaning(clause.object) - {GROUP}
        if helper.get(number, clause.action) < clause.action and _is_participle(clause, words, labels):
            who, what = None, who
        is_denied = (number, labels.quote[clause.action]) in denied
        if action != "be" and (what or action not in _LIGHT):
            clauses.append(ToldClause(who, action, what, is_denied))
    pairs = list(zip(labels.lemma, labels.pos, strict=True))
    names = {
        lemma
        for (lemma, pos), entity in zip(pairs, labels.mention, strict=True)
        if pos == "PROPN" and entity >= 0
    }
    heads = {clause.subject for clause in labels.clauses if clause.subject is not None}
    objects = {clause.object for clause in labels.clauses if clause.object is not None}
    return Telling(
        clauses=tuple(clauses),
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
        any(_is_told(clause, other, summary) for other in by_action[clause.action, clause.is_denied])
        for clause in summary.clauses
    )
    is_followed = characters[0] == characters[1] and objects[0] == objects[1] and n_told > 0
    return SummaryCheck(
        characters, objects, (n_told, len(summary.clauses)), is_followed if summary.clauses else None
    )


def _is_told(clause: ToldClause, other: ToldClause, summary: Telling) -> bool:
    if clause.what and not (other.what and clause.what & other.what):
        return False
    if clause.who is None or other.who is None:
        return clause.who is None
    if clause.who & other.who:
        return True
    group = clause.who if GROUP in other.who else other.who if GROUP in clause.who else frozenset()
    return bool(group & summary.characters)


def _is_participle(clause: Clause, words: list[str], labels: Labels) -> bool:
    """Whether a verb that a form of be helps is passive: "was found", not "was finding"."""
    return labels.pos[clause.action] == "VERB" and not words[clause.action].endswith("ing")


class _Meanings:
    """What each unit stands for: its own lemma, and those of the other mentions of its entity; no pronouns."""

    def __init__(self, words: list[str], labels: Labels) -> None:
        self._words = words
        self._labels = labels
        self._lemmas: dict[int, set[str]] = defaultdict(set)
        for word, lemma, entity in zip(words, labels.lemma, labels.mention, strict=True):
            if entity >= 0 and word.partition("'")[0] not in THIRD_PERSON:
                self._lemmas[entity].add(lemma)

    def __call__(self, unit: int) -> frozenset[str]:
        labels, word = self._labels, self._words[unit]
        antecedent = labels.antecedent[unit]
        found = set(self._lemmas.get(labels.mention[unit], ()))
        if antecedent >= 0:
            found |= {labels.lemma[antecedent], *self._lemmas.get(labels.mention[antecedent], ())}
        if labels.pos[unit] != "PRON":
            found.add(labels.lemma[unit])
        if word in _PLURAL and (antecedent < 0 or self._words[antecedent] == labels.lemma[antecedent]):
            found.add(GROUP)
        return frozenset(found)
