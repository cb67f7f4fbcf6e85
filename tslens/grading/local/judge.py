"""The local judge: grades from measured evidence, for work without a key. It is not GPT-4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tslens.corpus.annotate import Parser, annotate, open_parser
from tslens.grading.expected import EXPECTED
from tslens.grading.local.addressed import FLAG
from tslens.grading.local.evidence import FEWEST_WORDS, Tables, has_enough, hear, load_tables, measure
from tslens.grading.local.heads import HIGHEST, LOWEST, Heads, load_heads
from tslens.grading.rubric import CRITERIA
from tslens.types import Grade, Graded, GradeFailure

TOO_SHORT = "too short"


@dataclass(frozen=True)
class LocalJudge:
    """Grades texts by evidence that it measures: the same text has the same grades always, on any machine.

    Its grades lie on the scale of GPT-4o's as far as 200 graded completions tell; ``reports/judge`` says how far.
    """

    tables: Tables = field(default_factory=load_tables, repr=False)
    heads: Heads = field(default_factory=load_heads, repr=False)
    parser: Parser = field(default_factory=open_parser, repr=False)

    @property
    def name(self) -> str:
        """Its name in files and tables."""
        return "local"

    @property
    def version(self) -> str:
        """Version and parser; both change grades."""
        return f"tslens local judge {self.heads.version} (not GPT-4), {self.parser.version}"

    def grade(
        self, texts: Sequence[Graded], progress: Callable[[int], None] = lambda n_done: None
    ) -> list[Grade | GradeFailure]:
        """A grade for each text, in order; a completion of fewer words than ``FEWEST_WORDS`` has none."""
        found: list[Grade | GradeFailure] = []
        for text in texts:
            found.append(self._one(text))
            progress(len(found))
        return found

    def evidence(self, graded: Graded) -> Mapping[str, float] | None:
        """What is measured of a text, by name; None of one that is too short."""
        heard = hear(graded)
        if not has_enough(heard):
            return None
        (labelled,) = annotate([heard.story], parser=self.parser)
        return measure(heard, labelled, self.tables)

    def faults(self, graded: Graded) -> dict[str, float]:
        """How likely each kind of fault is in a text, the likeliest first; nothing for a short text."""
        row = self.evidence(graded)
        if row is None:
            return {}
        rows = self.heads.standardised([row])
        found = {kind: float(one.probability(rows)[0]) for kind, one in self.heads.detectors.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def reasons(self, graded: Graded, criterion: str, n: int = 5) -> list[tuple[str, float]]:
        """What moves a grade most, in points beside a text in the middle of whole stories; nothing for a short text.

        The likeliest fault counts as one, as "fault: tense"; the rest is evidence by its weight in the base.
        """
        row = self.evidence(graded)
        if row is None:
            return []
        rows = self.heads.standardised([row])
        parts = dict(zip(self.heads.evidence, rows[0] * self.heads.bases[criterion].weights, strict=True))
        moved = {name: float(points) for name, points in parts.items()}
        kinds = [kind for kind in self.heads.detectors if EXPECTED[kind].criterion == criterion]
        if kinds:
            likely = {kind: float(self.heads.detectors[kind].probability(rows)[0]) for kind in kinds}
            kind = max(likely, key=lambda one: likely[one])
            moved[f"fault: {kind}"] = -self.heads.points * likely[kind]
        return sorted(moved.items(), key=lambda item: -abs(item[1]))[:n]

    def _one(self, graded: Graded) -> Grade | GradeFailure:
        row = self.evidence(graded)
        if row is None:
            return GradeFailure(graded, TOO_SHORT, f"the completion has fewer than {FEWEST_WORDS} words")
        rows = self.heads.standardised([row])
        given = {name: float(round(self.heads.grades(name, rows)[0], 2)) for name in CRITERIA}
        reach = self.heads.reach
        intervals: dict[str, tuple[float, float]] = {
            name: (
                round(max(LOWEST, given[name] - reach[name]), 2),
                round(min(HIGHEST, given[name] + reach[name]), 2),
            )
            for name in CRITERIA
        }
        return Grade(
            graded,
            grammar=given["grammar"],
            creativity=given["creativity"],
            consistency=given["consistency"],
            plot=given["plot"],
            age_group=self.heads.ages(rows)[0],
            intervals=intervals,
            flags=(FLAG,) if hear(graded).addressed else (),
        )
