"""The author's summaries: one line of the plan that the told story bears out.

A plot has lines for a good and for a bad end (``[summary]`` in its file); ``{told}`` in a line is one of the plot's
fragments ``told``. The first line is taken, in the order of the file, that has a verb of what the hero does in the
story, and that the rule of ``instructions.telling`` finds followed, by the gold labels of both; else the first of all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tslens.corpus.authoring.gold import label_story
from tslens.corpus.authoring.lines import load_grammar
from tslens.corpus.authoring.markup import read_marks
from tslens.corpus.authoring.plan import Plan
from tslens.corpus.authoring.telling import Teller
from tslens.corpus.dice import Dice
from tslens.corpus.instructions.telling import GROUP, Telling, compare_tellings, read_telling
from tslens.corpus.vocabulary import analyses
from tslens.types import Labels

_TOLD = "{told}"
_VERB = re.compile(r"([a-z]+)_v")


@dataclass(frozen=True, slots=True)
class Summary:
    """One line, and its gold labels."""

    text: str
    labels: Labels


def summarise(plan: Plan, text: str, labels: Labels) -> Summary:
    """The summary of a story: of its plan, told by its text.

    ``text``, ``labels``: of the story. Depends on nothing else: no dice are thrown.
    """
    story = read_telling(text, labels)
    deeds = _deeds(story, plan.hero.name.lower())
    lines = list_lines(plan.plot, is_bad="bad_ending" in plan.features)
    for line in lines:
        if line.verbs & deeds:
            summary = _tell(plan, line)
            if compare_tellings(read_telling(summary.text, summary.labels), story).is_followed:
                return summary
    return _tell(plan, lines[0])


@dataclass(frozen=True, slots=True)
class Line:
    """One line that a summary can be, in the notation of ``assets/author``. ``verbs``: lemmas of its main verbs."""

    text: str
    verbs: frozenset[str]


@cache
def list_lines(plot: str, *, is_bad: bool) -> tuple[Line, ...]:
    """The lines of a plot, the best first."""
    asset = load_grammar().summaries[plot]
    lines = [
        line.replace(_TOLD, told)
        for line in asset["bad" if is_bad else "good"]
        for told in (asset["told"] if _TOLD in line else ("",))
    ]
    return tuple(Line(line, frozenset(map(_lemma, _VERB.findall(line)))) for line in lines)


def _lemma(verb: str) -> str:
    return next((lemma for lemma, pos, _ in analyses(verb) if pos in ("VERB", "AUX")), verb)


def _deeds(story: Telling, hero: str) -> frozenset[str]:
    """What the hero does, alone or with others, and what is done by nobody in particular."""
    return frozenset(c.action for c in story.clauses if c.who is None or c.who & {hero, GROUP})


def _tell(plan: Plan, line: Line) -> Summary:
    marked = read_marks([("opening", Teller(plan, Dice(), (), is_full=False).tell(line.text))])
    return Summary(marked.text, label_story(marked))
