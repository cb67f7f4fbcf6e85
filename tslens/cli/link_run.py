"""What ``tslens link`` does between two prints: the map by readouts, what is graded, the map by grades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tslens.causal.ablation import Component
from tslens.causal.ablator import Ablator, Intervention
from tslens.cli.asking import Terms, show_estimate
from tslens.cli.console import progress_bar, say, show
from tslens.cli.grade_prompts import PromptSet, open_prompts
from tslens.cli.grade_texts import weights_sha256
from tslens.cli.judging import open_asked
from tslens.cli.link_grades import NGRAM, WHOLE, GradeFolder
from tslens.cli.link_groups import map_groups
from tslens.cli.opening import Opened
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import DataError, ModelError, UsageError
from tslens.grading.judge import AskedJudge, Judge
from tslens.grading.summary import summarise
from tslens.link.capability_map import map_readouts
from tslens.link.grade_map import Drawing, judge_doses, map_grades
from tslens.link.groups import Group
from tslens.link.map_report import STATUSES, MapReport, load_map, save_map
from tslens.link.map_status import FLOOR
from tslens.link.ngram_null import NgramNull, best_ngram, ngram_row, stories_like, write_by_ngram
from tslens.link.random_sets import random_rungs
from tslens.link.readouts import author_stories, make_readouts
from tslens.link.story_costs import CostStories
from tslens.types import Graded, Provenance

DOSE_STORIES = 40  # of the author, into which faults are planted for the unit of grades
TEMPERATURE = 1.0
PASSING = STATUSES[: STATUSES.index("unclear")]
"""Statuses of components that are graded: something is lost for sure, and it reaches the floor."""


@dataclass(frozen=True)
class Wanted:
    """What the options ask for."""

    n_pairs: int
    roles: tuple[Path, ...]
    most_graded: int
    prompts: str | None
    samples: int
    max_tokens: int
    seed: int

    @property
    def drawing(self) -> Drawing:
        """How texts are drawn."""
        return Drawing(self.samples, self.max_tokens, TEMPERATURE, self.seed)


@dataclass(frozen=True, eq=False)
class Made:
    """The map by readouts, and what it was made of."""

    report: MapReport
    stories: CostStories
    groups: Sequence[Group]


def map_of_readouts(opened: Opened, wanted: Wanted, path: Path, record: Callable[[], Provenance]) -> Made:
    """The map by readouts: made and saved, or read where an equal one was made before."""
    model, tokenizer = opened.model, opened.model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    groups, members = map_groups(model, opened.source, wanted.roles, seed=wanted.seed)
    costs = CostStories(model, opened.held_out)
    header: dict[str, Any] = {
        "model": opened.source.label,
        "checkpoint": opened.source.path.name,
        "weights_sha256": weights_sha256(opened.source.path),
        "stories": opened.held_out.source,
        "data_sha256": opened.held_out.sha256,
        "n_stories": costs.n_stories,
        "n_pairs": wanted.n_pairs,
        "seed": wanted.seed,
        "floor": FLOOR,
    }
    kept = _kept(path, header, members)
    if kept is not None:
        say(f"readouts: kept in {path}")
        return Made(kept, costs, groups)
    say("making minimal pairs")
    is_instruct = opened.source.label.partition("@")[0].endswith("-instruct")
    readouts = make_readouts(
        tokenizer, n_ctx=model.cfg.n_ctx, instruct=is_instruct, seed=wanted.seed, n_pairs=wanted.n_pairs
    )
    say(
        f"{sum(len(one.pairs) for one in readouts):,} pairs in {len(readouts)} readouts; {len(groups)} components"
    )
    with progress_bar("ablating", 1) as (bar, task):
        found = map_readouts(
            model,
            readouts,
            costs,
            groups,
            seed=wanted.seed,
            progress=lambda step, n, total: bar.update(task, completed=n, total=total, note=step),
        )
    say("counting n-grams of the same data")
    ngram = ngram_row(
        _ngram_of(opened, tokenizer),
        list(opened.held_out),
        readouts,
        tokenizer=tokenizer,
        n_ctx=model.cfg.n_ctx,
        seed=wanted.seed,
    )
    report = MapReport(
        found.rows,
        [score.to_json() for score in found.scores],
        members,
        {
            **header,
            "loss_nats": found.loss_nats,
            "agreement": [asdict(one) for one in found.agreement],
            "ngram": ngram.to_json(),
        },
    )
    save_map(report, path, record())
    return Made(report, costs, groups)


def map_of_grades(
    opened: Opened,
    made: Made,
    wanted: Wanted,
    judge: Judge,
    path: Path,
    record: Callable[[], Provenance],
) -> MapReport:
    """The map with grades of what is written without the components that pass."""
    plan = _Plan.of(opened, made, wanted, path, record)
    texts = plan.folder.write(
        opened.model, plan.prompts.prompts, made.stories.means, plan.sets, wanted.drawing
    )
    texts[NGRAM] = plan.folder.written(
        NGRAM, (), wanted.drawing, lambda: _written_by_ngram(opened, plan.prompts, wanted.drawing)
    )
    doses = judge_doses(judge, islice(author_stories(), DOSE_STORIES), seed=wanted.seed)
    outcomes = plan.folder.grade(judge, texts, {**plan.sets, NGRAM: ()}, wanted.drawing)
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
        "drawing": asdict(wanted.drawing),
        "doses": doses,
        "means": {name: summarise(outcomes[name]).to_json() for name in (WHOLE, NGRAM)},
        "not_graded": plan.left_out,
    }
    return replace(made.report, rows=(*made.report.rows, *rows), header={**made.report.header, **graded})


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
    plan = _Plan.of(opened, made, wanted, path, lambda: _no_record())
    texts = plan.folder.write(
        opened.model, plan.prompts.prompts, made.stories.means, plan.sets, wanted.drawing
    )
    every = [one for of_set in texts.values() for one in of_set]
    with open_asked(large, terms, path, protocol="two_turns", seed=wanted.seed, read_only=True) as judge:
        assert isinstance(judge, AskedJudge)
        calls = list(judge.teacher.calls_at_most(every, judge.ledger))
        show_estimate(calls, judge.teacher.assess_call(every[0]), terms, path, as_json=as_json)
    if not as_json:
        show(f"Texts: {len(every):,} without {len(plan.sets) - 1} sets of components and by the whole model.")


# What is graded -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Plan:
    """Which sets of components are written and graded without."""

    graded: list[Group]
    left_out: list[str]
    rungs: list[Any]
    prompts: PromptSet
    folder: GradeFolder

    @classmethod
    def of(
        cls, opened: Opened, made: Made, wanted: Wanted, path: Path, record: Callable[[], Provenance]
    ) -> _Plan:
        prompts = open_prompts(wanted.prompts, opened.source)
        if prompts.kind == "short":
            raise UsageError("Short prompts are not graded as stories.", "Give beginnings or instructions.")
        share: dict[str, float] = {}
        for row in made.report.rows:
            if row.status in PASSING:
                share[row.component] = max(share.get(row.component, 0.0), row.share.value)
        passing = sorted(share, key=lambda name: -share[name])
        chosen, left_out = passing[: wanted.most_graded], passing[wanted.most_graded :]
        if left_out:
            say(f"{len(left_out)} components that pass are not graded; --most-graded takes more")
        header = {
            "of": opened.source.label,
            "weights_sha256": made.report.header["weights_sha256"],
            "data_sha256": made.report.header["data_sha256"],
            "prompts": prompts.name,
            "prompts_sha256": prompts.sha256,
        }
        folder = GradeFolder(path.with_name(f"{opened.source.label}_texts"), header, record)
        by_name = {group.name: group for group in made.groups}
        rungs = random_rungs(opened.model, seed=wanted.seed)
        return cls([by_name[name] for name in chosen], left_out, rungs, prompts, folder)

    @property
    def sets(self) -> dict[str, Sequence[Component]]:
        """Components of each set by its name, the untouched model first."""
        return {
            WHOLE: (),
            **{group.name: group.draws[0] for group in self.graded},
            **{rung.name: rung.components for rung in self.rungs},
        }

    def costs(self, opened: Opened, made: Made) -> dict[str, float]:
        """What each set costs on stories, ablated as the writing model is."""
        names, sets = zip(*((name, tuple(some)) for name, some in self.sets.items() if some), strict=True)
        ablator = Ablator(opened.model, made.stories.means.everywhere())
        interventions = [Intervention(some, "mean") for some in sets]
        with progress_bar("costs", made.stories.n_stories) as (bar, task):
            found = made.stories.costs(
                ablator, interventions, seed=0, progress=lambda n: bar.update(task, completed=n, note="loss")
            )
        return dict(zip(names, found.mean, strict=True))


def _ngram_of(opened: Opened, tokenizer: TextTokenizer) -> NgramNull:
    """The best n-gram of what the model was trained on."""
    return best_ngram(stories_like(opened.model, tokenizer, opened.source), vocab_size=tokenizer.vocab_size)


def _written_by_ngram(opened: Opened, prompts: PromptSet, drawing: Drawing) -> list[Graded]:
    """What that n-gram writes on the prompts."""
    tokenizer = opened.model.tokenizer
    assert tokenizer is not None
    total = len(prompts.prompts) * drawing.samples
    with progress_bar("writing", total) as (bar, task):
        return write_by_ngram(
            _ngram_of(opened, tokenizer).ngram,
            tokenizer,
            prompts.prompts,
            **asdict(drawing),
            progress=lambda n: bar.update(task, completed=n, note="by the n-gram"),
        )


def _kept(path: Path, header: dict[str, Any], members: dict[str, list[str]]) -> MapReport | None:
    """The map of a file that was made of the same things, None where there is none."""
    if not path.exists():
        return None
    try:
        found = load_map(path)
    except DataError:
        return None
    is_same = all(found.header.get(name) == value for name, value in header.items())
    return found if is_same and dict(found.members) == members else None


def _no_record() -> Provenance:
    raise AssertionError("nothing is graded in a dry run")
