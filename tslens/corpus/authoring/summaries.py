"""The author's summaries: what the plan says, and one thing that the told story says.

A plot has lines for a good and for a bad end (``[summary]`` in its file). A slot in them that is another key of the
table ("{told}") stands for one of its fragments: something that the hero, or hero and friend, did. The first line is
taken, in the order of the file, whose fragment the story tells:

1. each of its clauses is told, by the rule of ``instructions.telling``, by a clause of problem or turn, outside direct
   speech; the words that make a clause less than true ("would", "almost", "had" of earlier days) must be in both;
2. all its nouns, verbs, adjectives, adverbs, prepositions and numbers are in the sentence of that clause;
3. the whole line is followed by that rule, by gold labels of both.

Else the last line, of the plan alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.lines import load_grammar
from tslens.corpus.authoring.markup import plain_text, read_marks
from tslens.corpus.authoring.plan import Plan
from tslens.corpus.authoring.telling import Teller
from tslens.corpus.dice import Dice
from tslens.corpus.instructions.telling import (
    GROUP,
    Telling,
    ToldClause,
    compare_tellings,
    is_told,
    read_telling,
)
from tslens.corpus.vocabulary import analyses
from tslens.corpus.words import find_sentences, find_units
from tslens.types import Labels

_EDGE = "\0"
_ENDS = ("good", "bad")
_SLOT = re.compile(r"\{(\w+)\}")
_VERB = re.compile(r"([a-z]+)_v")
_HEDGES = frozenset("would could might must should may can will almost nearly if have maybe".split())
_CONTENT = frozenset("NOUN PROPN VERB ADJ ADV NUM ADP".split())


@dataclass(frozen=True, slots=True)
class Summary:
    """One line, and its gold labels."""

    text: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a summary can be, in the notation of ``assets/author``.

    ``before``, ``told``, ``after``: up to the fragment, the fragment (may be empty), and the rest. ``verbs``: lemmas of
    the main verbs of the fragment. ``needs``: of each word of it that tells something, the lemmas that it can have.
    """

    before: str
    told: str
    after: str
    verbs: frozenset[str]
    needs: tuple[frozenset[str], ...]

    @property
    def text(self) -> str:
        """The whole line."""
        return self.before + self.told + self.after


def summarise(plan: Plan, text: str, labels: Labels) -> Summary:
    """The summary of a story: of its plan, told by its text.

    ``text``, ``labels``: of the story. Depends on nothing else: no dice are thrown.
    """
    narrated = _narrated(labels)
    story = read_telling(text, labels, among=narrated)
    evidence = _find_evidence(story, text, labels, plan.hero.name.lower())
    deeds = {clause.action for clause, _ in evidence}
    *lines, last = list_lines(plan.plot, is_bad="bad_ending" in plan.features)
    for line in lines:
        if line.verbs <= deeds and _may_be_told(line, evidence):
            summary, start, end = _tell(plan, line)
            told = read_telling(summary.text, summary.labels)
            if (
                _is_borne_out(summary, told, (start, end), evidence)
                and compare_tellings(told, story).is_followed
            ):
                return summary
    return _tell(plan, last)[0]


@cache
def list_lines(plot: str, *, is_bad: bool) -> tuple[Line, ...]:
    """The lines of a plot, the best first; the last has no fragment."""
    asset = load_grammar().summaries[plot]
    lines = []
    for text in asset[_ENDS[is_bad]]:
        slot = next((found for found in _SLOT.finditer(text) if found[1] in asset), None)
        if slot is None:
            lines.append(Line(text, "", "", frozenset(), ()))
            continue
        before, after = text[: slot.start()], text[slot.end() :]
        for told in asset[slot[1]]:
            verbs = frozenset(map(_lemma, _VERB.findall(told)))
            lines.append(Line(before, told, after, verbs, tuple(_needs(told))))
    return tuple(lines)


def _lemma(verb: str) -> str:
    return next((lemma for lemma, pos, _ in analyses(verb) if pos in ("VERB", "AUX")), verb)


def _needs(told: str) -> Iterator[frozenset[str]]:
    for word in plain_text(_SLOT.sub("", told)).split():
        found = analyses(word)
        if found and all(pos in _CONTENT and lemma not in _HEDGES for lemma, pos, _ in found):
            yield frozenset(lemma for lemma, _, _ in found)


def _may_be_told(line: Line, evidence: Sequence[tuple[ToldClause, frozenset[str]]]) -> bool:
    """Whether a sentence has the words of a fragment: most have not, and are not worth the telling."""
    return any(
        clause.action in line.verbs and all(need & words for need in line.needs) for clause, words in evidence
    )


def _tell(plan: Plan, line: Line) -> tuple[Summary, int, int]:
    """The summary that a line makes, and where its fragment starts and ends, in characters."""
    teller = Teller(plan, Dice(), (), is_full=False)
    told = teller.tell(_EDGE.join((line.before, line.told, line.after))).split(_EDGE)
    marked = read_marks([("opening", "".join(told))])
    before, fragment = (len(plain_text(part)) for part in told[:2])
    return Summary(marked.text, label_story(marked)), before, before + fragment


def _narrated(labels: Labels) -> list[int]:
    """Clauses of problem and turn that are not in direct speech, by number."""
    return [
        number
        for number, clause in enumerate(labels.clauses)
        if labels.quote[clause.action] < 0 and labels.story_part[clause.action] in ("problem", "turn")
    ]


def _find_evidence(
    story: Telling, text: str, labels: Labels, hero: str
) -> list[tuple[ToldClause, frozenset[str]]]:
    """What the hero does, alone or with others, and what nobody in particular does; with the words of the sentence."""
    starts = [sentence.start for sentence in find_sentences(text)]
    sentence_of = [bisect_right(starts, start) for start, _ in find_units(text)]
    words: dict[int, set[str]] = {}
    for unit, sentence in enumerate(sentence_of):
        words.setdefault(sentence, set()).add(labels.lemma[unit])
    return [
        (clause, frozenset(words[sentence_of[clause.unit]]))
        for clause in story.clauses
        if clause.who is None or clause.who & {hero, GROUP}
    ]


def _is_borne_out(
    summary: Summary,
    told: Telling,
    fragment: tuple[int, int],
    evidence: Sequence[tuple[ToldClause, frozenset[str]]],
) -> bool:
    """Whether the story tells each clause of a fragment, in a sentence that has all its words."""
    labels = summary.labels
    start, end = fragment
    units = [unit for unit, (first, _) in enumerate(find_units(summary.text)) if start <= first < end]
    content = {
        labels.lemma[unit]
        for unit in units
        if labels.pos[unit] in _CONTENT and labels.mention[unit] < 0 and labels.lemma[unit] not in _HEDGES
    }
    clauses = [clause for clause in told.clauses if clause.unit in units]
    n_verbs = sum(clause.action in units and clause.subject is not None for clause in labels.clauses)
    return len(clauses) == n_verbs > 0 and all(
        any(
            is_told(clause, other, told.characters)
            and content <= words
            and other.words & _HEDGES <= clause.words
            for other, words in evidence
        )
        for clause in clauses
    )
