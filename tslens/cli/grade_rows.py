"""What ``tslens grade`` does between two prints: rows for a model, true endings, the teacher; what that would cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import typer

from tslens.cli.asking import Terms, show_estimate
from tslens.cli.console import counted, progress_bar, say, show, show_json
from tslens.cli.grade_texts import Work
from tslens.cli.judging import NOT_GPT4, open_asked
from tslens.grading.completions import Prompt, given_again, graded_text
from tslens.grading.judge import AskedJudge, Judge, Outcome
from tslens.grading.results import TEACHER, TRUE_ENDING, GradedModel
from tslens.grading.rubric import Protocol
from tslens.grading.teacher_texts import VERSION, TeacherWriter
from tslens.llm.calls import Call, CallFailure
from tslens.types import Graded, GradeFailure

AGAIN = 0.1  # share of the texts that a large model is given again; the local judge gives equal texts equal grades


@dataclass(frozen=True)
class Plan:
    """How the texts are graded.

    ``again``: share of the model's texts that is given a second time. ``teacher_samples``: texts of each prompt that
    the large model writes itself, 0 for none. ``teacher_tokens``: of one of them. ``seed``: of what is drawn.
    """

    again: float
    teacher_samples: int
    teacher_tokens: int
    seed: int


@dataclass(frozen=True)
class GradedRows:
    """The rows of a table. ``ending``: None where no ending is known. ``teacher``: None where it was not asked."""

    model: GradedModel
    ending: GradedModel | None
    teacher: GradedModel | None

    @property
    def all(self) -> list[GradedModel]:
        """The rows that are there."""
        return [one for one in (self.model, self.ending, self.teacher) if one is not None]


def grade_work(judge: Judge, work: Work, plan: Plan) -> GradedRows:
    """Have all texts of a table graded, those of the large model written first."""
    again = given_again(work.texts, plan.again, seed=plan.seed)
    written: list[Graded | GradeFailure] = []
    if isinstance(judge, AskedJudge) and plan.teacher_samples:
        written = written_by_teacher(judge, work.prompts, plan)
    parts = [
        [*work.texts, *again],
        work.endings,
        [one for one in written if isinstance(one, Graded)],
    ]
    texts = [one for part in parts for one in part]
    outcomes = iter(_graded(judge, texts))
    mine, endings, theirs = ([next(outcomes) for _ in part] for part in parts)
    of_written = iter(theirs)
    teacher = [next(of_written) if isinstance(one, Graded) else one for one in written]

    said: dict[str, Any] = {"judge": judge.name, "judge_version": judge.version}
    if isinstance(judge, AskedJudge):
        said |= {"answered_by": judge.answered_by(texts), "judge_seed": judge.teacher.seed}
    prompts = {name: work.header[name] for name in ("prompts", "prompts_sha256")}
    return GradedRows(
        GradedModel(work.label, {**work.header, "given_again": plan.again, **said}, mine),
        GradedModel(TRUE_ENDING, {**prompts, **said}, endings) if endings else None,
        GradedModel(TEACHER, {**prompts, **_writer_header(judge, plan), **said}, teacher)
        if teacher
        else None,
    )


def _graded(judge: Judge, texts: Sequence[Graded]) -> list[Outcome]:
    if isinstance(judge, AskedJudge):
        return judge.grade(texts)  # each of its rounds shows a bar
    with progress_bar("grading", len(texts)) as (bar, task):
        try:
            return judge.grade(
                texts, lambda n: bar.update(task, completed=n, note=f"{n} of {len(texts)} texts")
            )
        except KeyboardInterrupt:
            say("Stopped: the completions are kept; the same command grades them anew, from the first.")
            raise typer.Exit(3) from None


# The teacher's texts ------------------------------------------------------------------------------------------


def written_by_teacher(
    judge: AskedJudge, prompts: Sequence[Prompt], plan: Plan
) -> list[Graded | GradeFailure]:
    """Have the large model write on the prompts itself."""
    writer = writer_of(judge, plan)
    failures = judge.answer(list(writer.calls(prompts)))
    return writer.read(prompts, judge.ledger, {failure.key: failure for failure in failures})


def writer_of(judge: AskedJudge, plan: Plan) -> TeacherWriter:
    """The large model as one who writes."""
    teacher = judge.teacher
    return TeacherWriter(teacher.model, plan.teacher_samples, plan.teacher_tokens, plan.seed, teacher.server)


def _writer_header(judge: Judge, plan: Plan) -> dict[str, Any]:
    return {
        "written_by": judge.name,
        "writing_words": VERSION,
        "samples": plan.teacher_samples,
        "max_tokens": plan.teacher_tokens,
        "seed": plan.seed,
    }


# What it would cost -------------------------------------------------------------------------------------------


def show_plan(
    model: str | None, terms: Terms | None, work: Work, plan: Plan, protocol: Protocol, *, as_json: bool
) -> None:
    """What --dry-run says."""
    n_texts = len(work.texts) + len(work.endings)
    if model is None or terms is None:
        if as_json:
            show_json(
                {"schema": "tslens.dry_run/1", "model": "local", "calls": 0, "to_ask": 0, "texts": n_texts}
            )
        else:
            show(f"{n_texts} texts would be graded here; nothing is asked of a server. {NOT_GPT4}")
        return
    with open_asked(model, terms, work.path, protocol=protocol, seed=plan.seed, read_only=True) as judge:
        first = judge.teacher.whole_call if protocol == "one_call" else judge.teacher.assess_call
        calls = list(_calls_at_most(judge, work, plan))
        show_estimate(calls, first(work.texts[0]), terms, work.path, as_json=as_json)
    if not as_json:
        show(_breakdown(work, plan, model, protocol))


def _breakdown(work: Work, plan: Plan, model: str, protocol: Protocol) -> str:
    """Which calls there are."""
    n_again = len(given_again(work.texts, plan.again, seed=plan.seed))
    n_written = len(work.prompts) * plan.teacher_samples
    of = [(len(work.texts), f"by {work.label}"), (n_again, "of these given again")]
    of += [(len(work.endings), "true endings"), (n_written, f"by {model}")]
    named = ", ".join(f"{n:,} {what}" for n, what in of if n)
    each = "1" if protocol == "one_call" else "2 (an assessment, then grades)"
    writing = f", and {n_written:,} in which {model} writes" if n_written else ""
    return f"Calls: {each} for each of {counted(sum(n for n, _ in of), 'text')} ({named}){writing}."


def _calls_at_most(judge: AskedJudge, work: Work, plan: Plan) -> Iterator[Call]:
    """All calls; a text that the large model has not written yet is as long as it may be."""
    again = given_again(work.texts, plan.again, seed=plan.seed)
    texts = [*work.texts, *again, *work.endings]
    if plan.teacher_samples:
        writer = writer_of(judge, plan)
        yield from writer.calls(work.prompts)
        nothing: dict[str, CallFailure] = {}
        of_prompt = [prompt for prompt in work.prompts for _ in range(plan.teacher_samples)]
        for prompt, one in zip(of_prompt, writer.read(work.prompts, judge.ledger, nothing), strict=True):
            if isinstance(one, GradeFailure):
                sample = one.graded.sample
                one = graded_text(prompt, f"{sample} " + "?" * 4 * plan.teacher_tokens, sample, None, None)
            texts.append(one)
    yield from judge.teacher.calls_at_most(texts, judge.ledger)
