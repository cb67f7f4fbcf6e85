"""What ``tslens link`` grades: which sets of components, what is written without them, the map by grades."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import typer

from tslens.causal.ablation import Component
from tslens.causal.ablator import Ablator, Intervention
from tslens.cli.asking import Terms, show_estimate
from tslens.cli.console import progress_bar, say, show
from tslens.cli.grade_prompts import PromptSet, open_prompts
from tslens.cli.judging import open_asked
from tslens.cli.link_grades import DOSES, NGRAM, WHOLE, GradeFolder, failures_of
from tslens.cli.link_run import Made, Wanted, ngram_of
from tslens.cli.opening import Opened
from tslens.errors import UsageError
from tslens.grading.completions import Drawing
from tslens.grading.judge import AskedJudge, Judge
from tslens.grading.planted import PlantedPair
from tslens.grading.summary import summarise
from tslens.link.grade_map import dose_pairs, dose_texts, doses_of, map_grades
from tslens.link.groups import Group
from tslens.link.map_report import STATUSES, MapReport
from tslens.link.ngram_null import write_by_ngram
from tslens.link.random_sets import Rung, random_rungs
from tslens.link.readouts import author_stories
from tslens.model.load import ModelSource
from tslens.types import Graded, GradeFailure, Provenance

DOSE_STORIES = 40  # of the author, into which faults are planted for the unit of grades
PASSING = STATUSES[: STATUSES.index("unclear")]
"""Statuses of components that are graded: something is lost for sure, and it reaches the floor."""


@dataclass(frozen=True, eq=False)
class GradedMap:
    """The map with grades. ``failures``: texts without a grade."""

    report: MapReport
    failures: Sequence[GradeFailure]


def prompts_to_grade(name: str | None, source: ModelSource) -> PromptSet:
    """The prompts on which the model writes. Raises UsageError for short ones, and what ``open_prompts`` raises."""
    prompts = open_prompts(name, source)
    if prompts.kind == "short":
        raise UsageError("Short prompts are not graded as stories.", "Give beginnings or instructions.")
    return prompts


def map_of_grades(
    opened: Opened,
    made: Made,
    wanted: Wanted,
    judge: Judge,
    path: Path,
    record: Callable[[], Provenance],
    *,
    at_once: bool,
) -> GradedMap:
    """The map with grades of what is written without the components that pass. Ctrl-C exits with 3.

    ``at_once``: the judge is given everything together.
    """
    plan = _Plan.of(opened, made, wanted, path, record)
    try:
        texts = plan.write(opened, made, wanted)
        outcomes = plan.folder.grade(judge, texts, plan.sets, wanted.drawing, at_once=at_once)
    except KeyboardInterrupt:
        say("Stopped: sets that were written and graded are kept; the same command goes on from here.")
        raise typer.Exit(3) from None
    doses = doses_of(plan.dose_pairs, outcomes[DOSES]) if DOSES in outcomes else {}
    rows = map_grades(
        outcomes[WHOLE],
        {group.name: outcomes[group.name] for group in plan.graded},
        [outcomes[rung.name] for rung in plan.rungs],
        plan.graded,
        plan.rungs,
        plan.costs(opened, made),
        doses,
        opened.model,
        seed=wanted.seed,
    )
    graded = {
        "judge": judge.name,
        "judge_version": judge.version,
        "prompts": plan.prompts.name,
        "prompts_sha256": plan.prompts.sha256,
        "n_prompts": len(plan.prompts.prompts),
        "drawing": wanted.drawing.to_json(),
        "doses": doses,
        "means": {name: summarise(outcomes[name]).to_json() for name in (WHOLE, NGRAM)},
        "not_graded": plan.left_out,
        "failures": failures_of(outcomes),
    }
    report = replace(made.report, rows=(*made.report.rows, *rows), header={**made.report.header, **graded})
    failures = [one for of_set in outcomes.values() for one in of_set if isinstance(one, GradeFailure)]
    return GradedMap(report, failures)


def say_plan(
    opened: Opened,
    made: Made,
    wanted: Wanted,
    large: str,
    terms: Terms,
    path: Path,
    *,
    as_json: bool,
) -> None:
    """What --dry-run says: what grading would cost. The texts are written for it, and kept."""
    plan = _Plan.of(opened, made, wanted, path, _no_record)
    texts = plan.write(opened, made, wanted)
    every = [one for of_set in texts.values() for one in of_set]
    with open_asked(large, terms, path, protocol="two_turns", seed=wanted.seed, read_only=True) as judge:
        assert isinstance(judge, AskedJudge)
        calls = list(judge.teacher.calls_at_most(every, judge.ledger))
        show_estimate(calls, judge.teacher.assess_call(every[0]), terms, path, as_json=as_json)
    if not as_json:
        n_doses = len(texts.get(DOSES, ()))
        show(
            f"Texts: {len(every) - n_doses:,} by the whole model, without {len(plan.sets) - 1} sets of components, and "
            f"by the n-gram; {n_doses:,} stories and twins with one fault, for the unit."
        )


# Which sets -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which sets of components are written and graded without."""

    graded: list[Group]
    left_out: list[str]
    rungs: list[Rung]
    prompts: PromptSet
    folder: GradeFolder
    seed: int

    @classmethod
    def of(
        cls, opened: Opened, made: Made, wanted: Wanted, path: Path, record: Callable[[], Provenance]
    ) -> _Plan:
        prompts = prompts_to_grade(wanted.prompts, opened.source)
        best: dict[str, tuple[int, float]] = {}  # the strongest status, then the largest share
        for row in made.report.rows:
            if row.status is not None and row.status in PASSING:
                own = (STATUSES.index(row.status), -row.share.value)
                best[row.component] = min(best.get(row.component, own), own)
        passing = sorted(best, key=lambda name: best[name])
        chosen, left_out = passing[: wanted.most_graded], passing[wanted.most_graded :]
        if left_out:
            say(f"{len(left_out)} components that pass are not graded; --most-graded takes more")
        header = {
            "of": opened.source.label,
            "weights_sha256": made.report.header["weights_sha256"],
            "data_sha256": made.report.header["data_sha256"],
            "n_stories": made.stories.n_stories,  # the means are of these
            "prompts": prompts.name,
            "prompts_sha256": prompts.sha256,
        }
        name = re.sub(r"[^\w.@-]", "-", opened.source.label)
        folder = GradeFolder(path.with_name(f"{name}_texts"), header, record)
        by_name = {group.name: group for group in made.groups}
        rungs = random_rungs(opened.model, seed=wanted.seed) if chosen else []
        return cls([by_name[name] for name in chosen], left_out, rungs, prompts, folder, wanted.seed)

    @property
    def sets(self) -> dict[str, Sequence[Component]]:
        """Components of each set by its name, the untouched model first."""
        return {
            WHOLE: (),
            **{group.name: group.draws[0] for group in self.graded},
            **{rung.name: rung.components for rung in self.rungs},
        }

    @cached_property
    def dose_pairs(self) -> list[PlantedPair]:
        """Stories of the author and their twins with one fault."""
        return dose_pairs(islice(author_stories(), DOSE_STORIES), seed=self.seed)

    def write(self, opened: Opened, made: Made, wanted: Wanted) -> dict[str, list[Graded]]:
        """All texts that are graded, by the name of the set; doses first, as they are the unit of the others."""
        found = {DOSES: dose_texts(self.dose_pairs)} if self.graded else {}
        prompts = self.prompts.prompts
        found |= self.folder.write(opened.model, prompts, made.stories.means, self.sets, wanted.drawing)
        found[NGRAM] = self.folder.written(
            NGRAM,
            (),
            wanted.drawing,
            len(prompts) * wanted.samples,
            lambda: _written_by_ngram(opened, self.prompts, wanted.drawing),
        )
        return found

    def costs(self, opened: Opened, made: Made) -> dict[str, float]:
        """What each set costs on stories, ablated as the writing model is."""
        if not self.graded:
            return {}
        names, sets = zip(*((name, tuple(some)) for name, some in self.sets.items() if some), strict=True)
        ablator = Ablator(opened.model, made.stories.means.everywhere())
        interventions = [Intervention(some, "mean") for some in sets]
        with progress_bar("costs", made.stories.n_stories) as (bar, task):
            found = made.stories.costs(
                ablator, interventions, seed=0, progress=lambda n: bar.update(task, completed=n, note="loss")
            )
        return dict(zip(names, found.mean, strict=True))


def _written_by_ngram(opened: Opened, prompts: PromptSet, drawing: Drawing) -> list[Graded]:
    """What that n-gram writes on the prompts."""
    tokenizer = opened.model.tokenizer
    assert tokenizer is not None
    total = len(prompts.prompts) * drawing.samples
    with progress_bar("writing", total) as (bar, task):
        return write_by_ngram(
            ngram_of(opened, tokenizer).ngram,
            tokenizer,
            prompts.prompts,
            **drawing.to_json(),
            progress=lambda n: bar.update(task, completed=n, note="by the n-gram"),
        )


def _no_record() -> Provenance:
    raise AssertionError("nothing is graded in a dry run")
