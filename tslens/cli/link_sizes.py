"""``tslens link --table``: a row for each of many models, measured here or read where it was measured before."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tslens.cli.ablate_groups import newest
from tslens.cli.console import progress_bar, say
from tslens.cli.grade_report import save_rows
from tslens.cli.grade_rows import Plan, grade_work
from tslens.cli.grade_short import outcomes_of, prompts_of
from tslens.cli.grade_texts import ModelJob, Wanted, job_of_source, weights_sha256, work_of_model
from tslens.cli.judging import judge_name, open_judge
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import ModelError, TslensError, UsageError
from tslens.grading.instructed import check_texts, exchanged
from tslens.grading.results import GradedModel, load_grades, load_sides
from tslens.link.measure import read_pairs, read_pairs_by_ngram
from tslens.link.ngram_null import NgramNull, best_ngram, stories_like, write_by_ngram
from tslens.link.pairs import Readout
from tslens.link.readouts import make_readouts
from tslens.link.sizes.measured import Measured, SizeRow
from tslens.link.sizes.read_model import (
    accuracies,
    measured_losses,
    of_grades,
    of_instructions,
    of_short,
    read_losses,
    training_flops,
)
from tslens.model.load import ModelSource, find_model, open_model, read_digests
from tslens.model.spec import ModelSpec
from tslens.model.story_model import StoryModel, parameter_count
from tslens.probes.held_out import HeldOut
from tslens.probes.matching.roles import RoleHolders, head_roles, neuron_roles
from tslens.probes.neurons.results import SCHEMA as NEURONS_SCHEMA
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.results import SCHEMA as HEADS_SCHEMA
from tslens.probes.results import load_head_scores
from tslens.provenance import command_line, provenance, utc_now

OURS = "ours"
NGRAM = "n-gram"
"""Label of its row."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for. ``judge``: of ``parse_judge``; ``is_graded``: whether there is one at all."""

    is_graded: bool
    judge: str | None
    stories: str | None
    n_stories: int
    n_pairs: int
    samples: int
    seed: int
    device: str


@dataclass
class Gathering:
    """Rows of the models so far. Readouts are made once for each tokenizer; sides and the n-gram come once.

    ``exclude``: digests of the training stories of all models, so that all read the same stories.
    """

    asked: Asked
    exclude: Set[int] = frozenset()
    rows: list[SizeRow] = field(default_factory=list)
    sides: dict[str, SizeRow] = field(default_factory=dict)
    _readouts: dict[tuple[str, int, bool], list[Readout]] = field(default_factory=dict)
    _data: tuple[str, str] | None = None

    def add(self, reference: str) -> None:
        """Measure a model. Raises what loading, reading and grading raise."""
        source = find_model(reference)
        say(source.note)
        if any(row.label == source.label for row in self.rows):
            raise UsageError(
                f"{source.label} is named twice.", "Name each model, and one checkpoint of it, once."
            )
        model = open_model(source, device=self.asked.device)
        if model.tokenizer is None:
            raise ModelError(
                "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
            )
        exclude = self.exclude | model.train_digests
        held_out = HeldOut(model, self.asked.stories, self.asked.n_stories, exclude=exclude)
        stories = list(held_out)
        self._data = held_out.source, held_out.sha256
        spec = _spec_of(source)
        is_instruct = spec is not None and spec.instruct
        measured = dict(read_losses(model, stories))
        readouts = self.readouts(model, model.tokenizer, is_instruct=is_instruct)
        measured |= accuracies(readouts, read_pairs(model, readouts))
        if self.asked.is_graded:
            measured |= self._graded(reference, source, is_instruct=is_instruct)
        n_tokens = _n_tokens(source)
        flops = None
        if spec is not None and n_tokens is not None:
            flops = training_flops(spec, model.cfg.d_vocab, n_tokens, [measured["loss"]])
        self.rows.append(
            SizeRow(
                label=source.label,
                cell=source.label.removeprefix("shipped:").partition("@")[0],
                source=OURS,
                n_layers=model.cfg.n_layers,
                d_model=model.cfg.d_model,
                n_heads=model.cfg.n_heads,
                instruct=is_instruct,
                n_parameters=parameter_count(model),
                n_tokens=n_tokens,
                flops=flops,
                measured=measured,
                roles=_roles(source),
                weights_sha256=weights_sha256(source.path),
                validation_bits=source.validation_bits(),
            )
        )
        if self.null is None and not is_instruct:
            self._add_ngram(model, source, stories)

    @property
    def null(self) -> SizeRow | None:
        """The row of the n-gram, once there is one."""
        return self.sides.get(NGRAM)

    def readouts(self, model: StoryModel, tokenizer: TextTokenizer, *, is_instruct: bool) -> list[Readout]:
        """The readouts of a tokenizer."""
        key = tokenizer.sha256, model.cfg.n_ctx, is_instruct
        if key not in self._readouts:
            say("making minimal pairs")
            self._readouts[key] = make_readouts(
                tokenizer,
                n_ctx=model.cfg.n_ctx,
                instruct=is_instruct,
                seed=self.asked.seed,
                n_pairs=self.asked.n_pairs,
            )
        return self._readouts[key]

    @property
    def data(self) -> tuple[str, str]:
        """The stories, and their hash."""
        assert self._data is not None
        return self._data

    # Grades ---------------------------------------------------------------------------------------------------

    def _graded(self, reference: str, source: ModelSource, *, is_instruct: bool) -> Mapping[str, Measured]:
        asked = self.asked
        wanted = Wanted(None, asked.samples, None, 1.0, asked.seed)
        job = job_of_source(source, wanted, judge_name(asked.judge), "two_turns", None)
        graded, sides = self._grades_of(job, reference)
        found = dict(of_grades(graded))
        if is_instruct:
            texts = [one.graded for one in graded.outcomes if not one.graded.repeat]
            found |= of_instructions(
                check_texts(texts, label=_no_labels), check_texts(exchanged(texts), label=_no_labels)
            )
            return found
        for side in sides:
            self.sides.setdefault(side.label, _side_row(side.label, of_grades(side)))
        short = job_of_source(
            source, replace(wanted, prompts="short"), judge_name(asked.judge), "two_turns", None
        )
        work = work_of_model(short, device=asked.device, keep=True)
        found |= of_short(outcomes_of(work), prompts_of(work))
        return found

    def _grades_of(self, job: ModelJob, reference: str) -> tuple[GradedModel, Sequence[GradedModel]]:
        """Grades that are kept, or made by the local judge; a large model's are made by ``tslens grade``."""
        if job.path.exists():
            found = load_grades(job.path)
            if found.header.get("weights_sha256") == weights_sha256(job.source.path):
                return found, load_sides(job.path)
        if self.asked.judge is not None:
            raise UsageError(
                f"{job.source.label} has no grades by {judge_name(self.asked.judge)}.",
                f"Run: tslens grade --model {shlex.quote(reference)} --judge {judge_name(self.asked.judge)} "
                f"--samples {self.asked.samples}",
            )
        started, clock = utc_now(), time.monotonic()
        work = work_of_model(job, device=self.asked.device, keep=True)
        plan = Plan(again=0.0, teacher_samples=0, teacher_tokens=0, seed=self.asked.seed)
        with open_judge(None, None, work.path) as judge:
            rows = grade_work(judge, work, plan)
        record = provenance(
            command=command_line(),
            seed=self.asked.seed,
            data=str(work.header["prompts"]),
            data_sha256=str(work.header["prompts_sha256"]),
            started=started,
            seconds=time.monotonic() - clock,
        )
        save_rows(rows, work.path, record)
        return rows.model, [] if rows.ending is None else [rows.ending]

    # The n-gram -----------------------------------------------------------------------------------------------

    def _add_ngram(self, model: StoryModel, source: ModelSource, stories: Sequence[Any]) -> None:
        """The best n-gram of what the first model was trained on."""
        tokenizer = model.tokenizer
        assert tokenizer is not None
        say("counting n-grams of the same data")
        null = best_ngram(stories_like(model, tokenizer, source), vocab_size=tokenizer.vocab_size)
        n_ctx = model.cfg.n_ctx
        losses = null.ngram.losses(tokenizer.encode_story(story.text, context=n_ctx) for story in stories)
        n_bytes = [tokenizer.story_bytes(story.text, context=n_ctx) for story in stories]
        readouts = self.readouts(model, tokenizer, is_instruct=False)
        measured = dict(measured_losses(stories, losses, n_bytes))
        measured |= accuracies(readouts, read_pairs_by_ngram(null.ngram, readouts))
        if self.asked.is_graded and self.asked.judge is None:
            measured |= self._ngram_grades(null, tokenizer, source)
        self.sides[NGRAM] = _side_row(f"{null.ngram.order}-gram", measured)

    def _ngram_grades(
        self, null: NgramNull, tokenizer: TextTokenizer, source: ModelSource
    ) -> Mapping[str, Measured]:
        """By the local judge; nothing of a large one is spent on it."""
        job = job_of_source(
            source,
            Wanted(None, self.asked.samples, None, 1.0, self.asked.seed),
            "local",
            "two_turns",
            None,
        )
        drawing, prompts = job.drawing, job.prompts.prompts
        total = len(prompts) * drawing.samples
        with progress_bar("the n-gram writes", total) as (bar, task):
            texts = write_by_ngram(
                null.ngram,
                tokenizer,
                prompts,
                **drawing.to_json(),
                progress=lambda n: bar.update(task, completed=n, note=f"{n} of {total}"),
            )
        with open_judge(None, None, job.path) as judge, progress_bar("grading", total) as (bar, task):
            outcomes = judge.grade(texts, lambda n: bar.update(task, completed=n, note=f"{n} of {total}"))
        return of_grades(GradedModel(NGRAM, {"prompts": job.prompts.name}, outcomes))


def _side_row(label: str, measured: Mapping[str, Measured]) -> SizeRow:
    return SizeRow(label, label, OURS, None, None, None, False, None, None, None, measured)


def _no_labels(texts: Sequence[str]) -> Any:
    """Whether summaries are followed needs a parser and is no column of the table."""
    return [None] * len(texts)


# Facts of a model ---------------------------------------------------------------------------------------------


def _spec_of(source: ModelSource) -> ModelSpec | None:
    """Shape by its name; None of other people's models."""
    name = source.shipped.name if source.shipped else source.label.partition("@")[0]
    try:
        return ModelSpec.from_name(name)
    except TslensError:
        return None


def _n_tokens(source: ModelSource) -> int | None:
    """Tokens that it was trained on; None where not known."""
    if source.shipped is not None:
        return source.shipped.facts.n_tokens
    step = source.path.stem.removeprefix("step_")
    return source.run.tokens_at(int(step)) if source.run is not None and step.isdigit() else None


def digests_of(references: Sequence[str]) -> Set[int]:
    """Digests of what any of some models was trained on, as far as it is known."""
    found: Set[int] = frozenset()
    for reference in references:
        source = find_model(reference)
        file = source.run.train_digests if source.run else source.shipped and source.shipped.digests_file
        if isinstance(file, Path) and file.exists():
            found |= read_digests(file)
    return found


def _roles(source: ModelSource) -> tuple[RoleHolders, ...]:
    """Of the newest results of the model."""
    found: list[RoleHolders] = []
    checkpoint = source.path.name
    heads = newest(source.home.results("heads"), HEADS_SCHEMA, checkpoint)
    if heads is not None:
        found += head_roles(source.label, load_head_scores(heads)[1])
    neurons = newest(source.home.results("neurons"), NEURONS_SCHEMA, checkpoint)
    if neurons is not None:
        found += neuron_roles(source.label, load_neuron_roles(neurons)[1])
    return tuple(found)
