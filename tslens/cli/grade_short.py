"""``tslens grade --prompts short``: shares of success, partial and failure by group of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

from tslens.cli.asking import Terms, show_estimate
from tslens.cli.console import show, show_json, show_table
from tslens.cli.grade_report import remove_side, tell_missing
from tslens.cli.grade_rows import Plan, writer_of, written_by_teacher
from tslens.cli.grade_tables import failures_cell, share_cell
from tslens.cli.grade_texts import Work
from tslens.cli.judging import LOCAL, open_asked
from tslens.files import write_results
from tslens.grading.judge import AskedJudge
from tslens.grading.prompts import Outcome, ShortPrompt
from tslens.grading.results import TEACHER, side_file
from tslens.grading.short import (
    OutcomeShares,
    ShortJudge,
    ShortOutcome,
    outcomes_by_rule,
    summarise_short,
)
from tslens.llm.calls import Call
from tslens.types import Graded, GradeFailure, Provenance

SCHEMA = "tslens.short_answers/1"
BY_RULE_ALONE = "by rule alone: what a judge would have to decide has no outcome"

Answers = Sequence[ShortOutcome | GradeFailure]


def grade_short(
    model: str | None, terms: Terms | None, work: Work, plan: Plan
) -> tuple[dict[str, Answers], dict[str, Any], float | None]:
    """Outcomes of the model's answers, and of the large model's own; who decided; what the job has spent so far."""
    prompts = prompts_of(work)
    if model is None or terms is None:
        said = {"judge": LOCAL, "judge_version": BY_RULE_ALONE}
        return {work.label: outcomes_of(work)}, said, 0.0
    with open_asked(model, terms, work.path, protocol="one_call", seed=plan.seed) as asked:
        judge = _short_judge(asked, plan)
        written = written_by_teacher(asked, prompts, plan) if plan.teacher_samples else []
        there = [one for one in written if isinstance(one, Graded)]
        texts = [*work.texts, *there]
        failures = {one.key: one for one in asked.answer(judge.calls(texts, prompts))}
        outcomes = list(judge.read(texts, prompts, asked.ledger, failures))
        said = {"judge": judge.name, "judge_version": judge.version}
        found: dict[str, Answers] = {work.label: outcomes[: len(work.texts)]}
        if written:
            theirs = iter(outcomes[len(work.texts) :])
            found[TEACHER] = [next(theirs) if isinstance(one, Graded) else one for one in written]
        return found, said, asked.ledger.spent_usd


def outcomes_of(work: Work) -> Answers:
    """Outcomes by rule, of the prompts that a rule decides."""
    return list(outcomes_by_rule(work.texts, prompts_of(work)))


def prompts_of(work: Work) -> list[ShortPrompt]:
    """The prompts, all of them short."""
    return [cast("ShortPrompt", prompt) for prompt in work.prompts]


def _short_judge(asked: AskedJudge, plan: Plan) -> ShortJudge:
    return ShortJudge(asked.teacher.model, plan.seed, asked.teacher.server)


def show_short_plan(model: str | None, terms: Terms | None, work: Work, plan: Plan, *, as_json: bool) -> None:
    """What --dry-run says."""
    if model is None or terms is None:
        _show_nothing_asked(len(work.texts), as_json)
        return
    with open_asked(model, terms, work.path, protocol="one_call", seed=plan.seed, read_only=True) as asked:
        calls = _calls_at_most(asked, work, plan)
        if calls:
            show_estimate(calls, calls[0], terms, work.path, as_json=as_json)
        else:
            _show_nothing_asked(len(work.texts), as_json)


def _calls_at_most(asked: AskedJudge, work: Work, plan: Plan) -> list[Call]:
    """All calls; an answer that the large model has not written yet is as long as it may be."""
    prompts, judge = prompts_of(work), _short_judge(asked, plan)
    calls = judge.calls(work.texts, prompts)
    if plan.teacher_samples:
        writer = writer_of(asked, plan)
        written = writer.read(prompts, asked.ledger, {})
        texts = [_longest(one.graded, plan) if isinstance(one, GradeFailure) else one for one in written]
        calls += [*writer.calls(prompts), *judge.calls(texts, prompts)]
    return calls


def _show_nothing_asked(n_texts: int, as_json: bool) -> None:
    if as_json:
        show_json({"schema": "tslens.dry_run/1", "model": LOCAL, "calls": 0, "to_ask": 0, "texts": n_texts})
    else:
        show(f"{n_texts} answers would be decided {BY_RULE_ALONE}.")


def _longest(graded: Graded, plan: Plan) -> Graded:
    text = f" {graded.sample} " + "x" * 4 * plan.teacher_tokens
    return Graded(graded.prompt, text, graded.prompt_id, graded.sample, graded.seed)


# What came of it ----------------------------------------------------------------------------------------------


def report_short(
    found: Mapping[str, Answers],
    said: Mapping[str, Any],
    work: Work,
    record: Provenance,
    *,
    spent: float | None,
    as_json: bool,
) -> None:
    """Write the rows, print the table, and end with code 3 where an answer has no outcome."""
    prompts = prompts_of(work)
    for label, outcomes in found.items():
        path = side_file(work.path, TEACHER) if label == TEACHER else work.path
        header = {**work.header, **said, "model": label}
        write_results(path, SCHEMA, header, (one.to_json() for one in outcomes), record)
    if TEACHER not in found:
        remove_side(work.path, TEACHER)
    shares = {label: summarise_short(outcomes, prompts) for label, outcomes in found.items()}
    if as_json:
        mine = found[work.label]
        show_json(
            {
                "schema": SCHEMA,
                **work.header,
                **said,
                "answers": [one.to_json() for one in mine if isinstance(one, ShortOutcome)],
                "failures": [one.to_json() for one in mine if isinstance(one, GradeFailure)],
                "groups": _json(shares[work.label]),
                "teacher": _json(shares[TEACHER]) if TEACHER in shares else "not asked",
                "spent_usd": spent,
                "files": [str(work.path)],
            }
        )
    else:
        show(f"judge: {said['judge']} ({said['judge_version']})")
        rows = [_row(label, group, one) for label, groups in shares.items() for group, one in groups.items()]
        rows += [] if TEACHER in shares else [[TEACHER, "not asked", *[""] * 5]]
        show_table(["<answers of>", "<group>", *get_args(Outcome), "answers", "<no outcome>"], rows)
        show("Shares over prompts with 95% intervals clustered by prompt. answers: those with an outcome.")
        show(f"wrote {work.path}")
    tell_missing([one for outcomes in found.values() for one in outcomes if isinstance(one, GradeFailure)])


def _json(groups: Mapping[Any, OutcomeShares]) -> dict[str, Any]:
    return {group: one.to_json() for group, one in groups.items()}


def _row(label: str, group: str, one: OutcomeShares) -> list[str]:
    shares = [share_cell(one.shares.get(name)) for name in get_args(Outcome)]
    return [label, group, *shares, str(one.n), failures_cell(one.failures)]
