"""Do distance heads carry grammar and semantic heads consistency, as the paper guesses?

    .venv/bin/python analysis/conjecture.py --no-grades
    .venv/bin/python analysis/conjecture.py
    .venv/bin/python analysis/conjecture.py --models l1_h64@seed0 --pairs 40 --stories 20 --permutations 5 --samples 1 \
        --out conjecture

Groups, matching, exclusions, numbers and verdict were written before anything was run (``docs/methods.md``, The
authors' conjecture). Each model's results are saved when they are there (``NAME.readouts.json``, ``NAME.grades.json``),
and a file that is there, of the same sizes, is not made again: ``--no-grades`` leaves out writing and grading, another
run adds them. From all files of the models asked: ``report.md``, with the verdict. Kinds of heads are those of
``reports/kinds``; a model without a file there is measured first. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from conjecture_report import SHAPES, Saved, write_report
from head_kinds import Study as KindsStudy
from head_kinds import stem

from tslens.causal.ablator import Ablator
from tslens.cli.grade_texts import weights_sha256
from tslens.cli.opening import Opened, open_for_scan, record_of
from tslens.files import atomic_write, read_json
from tslens.grading.completions import Drawing
from tslens.grading.local.judge import LocalJudge
from tslens.grading.prompts import load_beginnings
from tslens.link.conjecture.figures import Measure, Permutation, contrast_of
from tslens.link.conjecture.grades import grade_measures, write_all
from tslens.link.conjecture.labels import (
    LEAST_LABELLINGS,
    Labelling,
    draw_labellings,
    groups_of,
    is_in_one_layer,
    n_labellings,
    why_not,
)
from tslens.link.conjecture.matching import (
    Matched,
    Readings,
    costs_on,
    counted,
    first_pairs,
    match_groups,
    permute_labels,
)
from tslens.link.conjecture.results import (
    ByGrades,
    ByReadouts,
    Found,
    load_by_grades,
    load_by_readouts,
    save_conjecture,
)
from tslens.link.grade_map import judge_doses
from tslens.link.measure import read_readouts
from tslens.link.pairs import Readout
from tslens.link.readouts import N_PAIRS, author_stories, make_readouts
from tslens.link.story_costs import CostStories
from tslens.model.load import find_model
from tslens.probes.kinds.report import HeadKind, load_head_kinds
from tslens.provenance import utc_now

SEEDS = (0, 1, 2)
KINDS = Path("reports/kinds")
KINDS_STORIES = 160
DOSE_STORIES = 40
PERMUTED_PAIRS = 40  # a readout
PERMUTED_STORIES = 20
MAX_TOKENS = 300
BY_NGRAM = ("agreement", "word_order")  # passed by the 4-gram as well
NO_READOUT = "no readout of grammar or none of consistency counts"


@dataclass(frozen=True)
class Sizes:
    """How much is read. Results of other sizes are made again."""

    pairs: int
    stories: int
    permutations: int
    samples: int
    seed: int

    @property
    def by_readouts(self) -> dict[str, int]:
        """What the part by readouts depends on."""
        names = ("pairs", "stories", "permutations", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def by_grades(self) -> dict[str, int]:
        """What the part by grades depends on."""
        return {name: getattr(self, name) for name in ("stories", "samples", "seed")}

    @property
    def drawing(self) -> Drawing:
        """How texts are drawn."""
        return Drawing(self.samples, MAX_TOKENS, 1.0, self.seed)


class Model:
    """One model with its groups, and stories on which costs are read."""

    def __init__(self, label: str, kinds: Sequence[HeadKind], sizes: Sizes) -> None:
        self.label, self.kinds, self.sizes = label, kinds, sizes
        self.opened: Opened = open_for_scan(find_model(f"shipped:{label}"), None, sizes.stories, device="cpu")
        self.model = self.opened.model
        self._stories = list(self.opened.held_out)
        self.stories = CostStories(self.model, self._stories)
        self.ablator = Ablator(self.model, self.stories.means)
        self.labelling = groups_of(kinds)
        self.left_out = why_not(kinds, self.labelling)

    @cached_property
    def few_stories(self) -> CostStories:
        """Those of the permutation."""
        return CostStories(self.model, self._stories[:PERMUTED_STORIES])

    def match(self, labelling: Labelling) -> Matched | str:
        """For readouts: by the mean at each position."""
        return match_groups(costs_on(self.stories, self.ablator), labelling)

    def by_readouts(self, readouts: Sequence[Readout]) -> ByReadouts:
        """All that is read without writing."""
        scores = read_readouts(self.model, readouts, seed=self.sizes.seed)
        counting = counted(readouts, scores)
        readings = Readings(self.ablator, counting)
        found, measures = self._found(readings, self.labelling, self.left_out)
        rest = [one for one in measures if one.name not in BY_NGRAM]
        permuted: Permutation | str = found.left_out
        within: Permutation | str = found.left_out
        if found.contrast is not None:
            whole = [float(one.there.mean()) for one in measures]
            few = Readings(self.ablator, [first_pairs(one, PERMUTED_PAIRS) for one in counting])
            permuted = self._permuted(few, whole, within_layers=False)
            same = is_in_one_layer(self.labelling)
            within = permuted if same else self._permuted(few, whole, within_layers=True)
        strict = groups_of(self.kinds, strict=True)
        of_strict = found
        if strict != self.labelling:
            of_strict, _ = self._found(readings, strict, why_not(self.kinds, strict))
        return ByReadouts(
            found,
            [one.to_json() for one in scores],
            [one.name for one in counting],
            contrast_of(rest, seed=self.sizes.seed),
            of_strict,
            permuted,
            within,
        )

    def _found(self, readings: Readings, labelling: Labelling, left_out: str) -> tuple[Found, list[Measure]]:
        if left_out:
            return Found(labelling, left_out), []
        matched = self.match(labelling)
        if isinstance(matched, str):
            return Found(labelling, matched), []
        measures = readings.measures(matched.interventions(labelling))
        contrast = contrast_of(measures, seed=self.sizes.seed)
        return Found(labelling, "" if contrast else NO_READOUT, matched, contrast), measures

    def _permuted(self, few: Readings, whole: Sequence[float], *, within_layers: bool) -> Permutation | str:
        n_possible = n_labellings(self.labelling, within_layers=within_layers)
        if n_possible < LEAST_LABELLINGS:
            return f"{n_possible} labellings, fewer than {LEAST_LABELLINGS}"
        drawn = draw_labellings(
            self.labelling, self.sizes.permutations, within_layers=within_layers, seed=self.sizes.seed
        )
        return permute_labels(few, costs_on(self.few_stories, self.ablator), drawn, whole, n_possible)

    def by_grades(self, judge: LocalJudge, doses: dict[Any, float]) -> ByGrades:
        """Texts written whole and without either group, graded."""
        left_out = self.left_out
        matched: Matched | str = left_out
        if not left_out:
            everywhere = Ablator(self.model, self.stories.means.everywhere())
            matched = match_groups(costs_on(self.stories, everywhere), self.labelling)
        if isinstance(matched, str):
            return ByGrades(Found(self.labelling, matched), 0, 0, doses)
        texts = write_all(
            self.model, load_beginnings(), self.labelling, matched, self.stories.means, self.sizes.drawing
        )
        graded = grade_measures(*(judge.grade(of_set) for of_set in texts), doses)
        counts = graded.n_graded, graded.n_texts
        if not graded.is_enough:
            why = f"{graded.n_graded} of {graded.n_texts} texts have all grades"
            return ByGrades(Found(self.labelling, why, matched), *counts, doses)
        contrast = contrast_of(graded.measures, seed=self.sizes.seed)
        return ByGrades(Found(self.labelling, "", matched, contrast), *counts, doses)


class Study:
    """What all models share: readouts, the judge and its doses, the folder."""

    def __init__(self, sizes: Sizes, out: Path) -> None:
        self.sizes, self.out = sizes, out
        self._readouts: list[Readout] | None = None

    def run(self, label: str, *, grades: bool) -> None:
        """Make what is not there of one model."""
        names = [("readouts", self.sizes.by_readouts)] + [("grades", self.sizes.by_grades)] * grades
        missing = [(name, header) for name, header in names if not self._is_done(label, name, header)]
        if not missing:
            return
        model = Model(label, kinds_of(label), self.sizes)
        for name, sizes in missing:
            opened = replace(model.opened, started=utc_now(), clock=time.monotonic())
            found: ByReadouts | ByGrades
            if name == "readouts":
                found = model.by_readouts(self.readouts(model))
            else:
                found = model.by_grades(self.judge, dict(self.doses))
            header = {
                "model": label,
                "weights_sha256": weights_sha256(opened.source.path),
                "sizes": sizes,
                **({} if name == "readouts" else {"judge": self.judge.version}),
            }
            record = record_of(opened, command=shlex.join(["python", *sys.argv]), seed=self.sizes.seed)
            save_conjecture(found, self._path(label, name), header, record)
            sys.stderr.write(f"{label}, {name}: {record.seconds:.0f} s\n")

    def readouts(self, model: Model) -> list[Readout]:
        """The same for all models: they have one tokenizer and one length of context."""
        tokenizer = model.model.tokenizer
        assert tokenizer is not None  # CostStories asks for it
        if self._readouts is None:
            self._readouts = make_readouts(
                tokenizer,
                n_ctx=model.model.cfg.n_ctx,
                instruct=False,
                seed=self.sizes.seed,
                n_pairs=self.sizes.pairs,
            )
        return self._readouts

    @cached_property
    def judge(self) -> LocalJudge:
        """The judge of all texts."""
        return LocalJudge()

    @cached_property
    def doses(self) -> dict[Any, float]:
        """What one planted fault costs with the judge, by criterion."""
        return judge_doses(self.judge, islice(author_stories(), DOSE_STORIES), seed=self.sizes.seed)

    def load(self, label: str) -> Saved:
        """What the folder holds of one model."""
        readouts, grades = (self._path(label, name) for name in ("readouts", "grades"))
        return Saved(
            label,
            load_by_readouts(readouts)[1] if readouts.exists() else None,
            load_by_grades(grades)[1] if grades.exists() else None,
        )

    def _path(self, label: str, name: str) -> Path:
        return self.out / f"{stem(label)}.{name}.json"

    def _is_done(self, label: str, name: str, sizes: dict[str, int]) -> bool:
        path = self._path(label, name)
        return path.exists() and read_json(path).get("header", {}).get("sizes") == sizes


def kinds_of(label: str) -> list[HeadKind]:
    """Kinds of all heads of a model, measured where they were not."""
    path = KINDS / f"{stem(label)}.jsonl"
    if not path.exists():
        KindsStudy(label, KINDS_STORIES, seed=0, device="cpu").measure(label, path)
    return load_head_kinds(path)[1]


def main() -> None:
    """Match, ablate, write, grade, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [f"{shape}@seed{seed}" for shape in SHAPES for seed in SEEDS]
    parser.add_argument("--models", nargs="+", default=every)
    parser.add_argument("--pairs", type=int, default=N_PAIRS)
    parser.add_argument("--stories", type=int, default=100)
    parser.add_argument("--permutations", type=int, default=40)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-grades", action="store_true", help="leave out writing and grading")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/conjecture"))
    options = parser.parse_args()
    sizes = Sizes(options.pairs, options.stories, options.permutations, options.samples, options.seed)
    study = Study(sizes, options.out)
    for label in () if options.report_only else options.models:
        study.run(label, grades=not options.no_grades)
    saved = [study.load(label) for label in options.models]
    text = "".join(write_report(saved, seed=options.seed)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
