"""``tslens audit judge``: does a judge see what it claims to see?"""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms, show_estimate
from tslens.cli.console import progress_bar, say, show, show_json
from tslens.cli.judging import (
    NOT_GPT4,
    OF_ASKING,
    JudgeName,
    judge_name,
    open_asked,
    open_judge,
    parse_judge,
    refuse_for_local,
)
from tslens.provenance import command_line, provenance, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tslens.audit.judge_people import Scored
    from tslens.audit.judge_report import JudgeAudit
    from tslens.audit.judges import JudgeAuditSize, JudgePlan
    from tslens.grading.judge import Judge
    from tslens.types import Story

SCHEMA = "tslens.audit_judge/1"
TEXT_SCHEMA = "tslens.audit_judge_text/1"
FOLDER = Path("runs/audit")
REAL = "tinystories.jsonl.gz"  # in the data folder
MISSING_CODE, FAILED_CODE = 3, 1


class JudgePartName(StrEnum):
    """Parts of the audit of judges."""

    PLANTED = "planted"
    LENGTH = "length"
    POSITION = "position"
    ITSELF = "itself"
    PEOPLE = "people"
    INJECTION = "injection"


def judge(
    context: typer.Context,
    judge: JudgeName,
    quick: Annotated[bool, typer.Option("--quick", help="40 stories of each source, not 200.")] = False,
    only: Annotated[
        list[JudgePartName] | None, typer.Option("--only", help="One part; may be repeated. All if absent.")
    ] = None,
    stories: Annotated[
        str | None,
        typer.Option(
            "--stories",
            help=f"Real stories, beside the author's; 5% of them are held out and taken. Default: {REAL} "
            "in $TSLENS_DATA.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A .jsonl file of all texts and grades; in runs/audit if absent."),
    ] = None,
    seed: options.Seed = 0,
    base_url: options.BaseUrl = None,
    budget: options.Budget = None,
    price: options.Price = None,
    dry_run: options.DryRun = False,
    batch: options.Batch = False,
    poll: options.Poll = None,
    concurrency: options.Concurrency = 32,
    timeout: options.Timeout = 120.0,
    ledger: options.LedgerFolder = LEDGERS,
    retry_failed: options.RetryFailed = False,
    as_json: options.Json = False,
) -> None:
    """Audit a judge: planted faults, length, position, itself, people, words to the judge inside a text.

    Exit code 0 if every check holds, 1 if one fails, 3 if none fails but something could not be run or graded.

    Example: tslens audit judge --judge local --quick

    Example: tslens audit judge --judge openai:gpt-4o-mini --quick --only planted --budget 5
    """
    say(f"tslens audit judge: planting faults for {judge} (seed {seed})")
    from tslens.audit.judges import FULL, PARTS, QUICK, plan_audit
    from tslens.cli.audit_judge_tables import show_audit
    from tslens.cli.story_rows import check_name
    from tslens.errors import UsageError
    from tslens.files import check_writable, refuse_replacing
    from tslens.grading.judge import folder_of

    model = parse_judge(judge)
    if model is None:
        refuse_for_local(context, OF_ASKING)
    name = judge_name(model)
    out = out or FOLDER / f"judge_{folder_of(name)}.jsonl"
    check_name(out)
    if out.name.endswith(".gz"):
        raise UsageError(f"{out} would be packed.", "Name a .jsonl file.")
    refuse_replacing(out, stories)
    terms = None
    if model is not None:
        terms = Terms(model, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
    started, clock = utc_now(), time.monotonic()
    asked = {part.value for part in only or JudgePartName}
    real, source, reason = None, "", ""
    if asked != {JudgePartName.PEOPLE}:
        real, source, reason = _real_stories(stories, QUICK if quick else FULL)
    plan = plan_audit(
        name,
        seed=seed,
        size=QUICK if quick else FULL,
        parts=[part for part in PARTS if part in asked],
        real=real,
        real_source=source,
        no_real=reason,
        people=_people() if JudgePartName.PEOPLE in asked and model is not None else None,
    )
    if dry_run:
        _show_plan(model, terms, plan, out, as_json=as_json)
        return
    check_writable(out.parent)
    with open_judge(model, terms, out, seed=seed) as opened:
        report = _graded(opened, plan, is_shown=model is None)
    _write(report, plan, out, started, time.monotonic() - clock)
    if as_json:
        show_json({"schema": SCHEMA, **report.header()})
    else:
        show_audit(report)
        show(f"wrote {out}")
    if not report.passed:
        raise typer.Exit(FAILED_CODE)
    if report.missing or report.failures:
        raise typer.Exit(MISSING_CODE)


def _graded(judge: Judge, plan: JudgePlan, *, is_shown: bool) -> JudgeAudit:
    """``is_shown``: with a bar; a judge that is asked shows its own."""
    from tslens.audit.judges import audit_judge

    if not is_shown:
        return audit_judge(judge, plan)
    total = len(plan.texts)
    with progress_bar("grading", total) as (bar, task):
        return audit_judge(judge, plan, lambda n: bar.update(task, completed=n, note=f"{n} of {total} texts"))


def _real_stories(stories: str | None, size: JudgeAuditSize) -> tuple[Sequence[Story] | None, str, str]:
    """Labelled held-out stories, their source, and why there are none.

    Raises what reading raises for a source that was given; the default one may be absent.
    """
    from tslens.audit.judges import held_out_stories
    from tslens.corpus.annotate import annotate, open_parser
    from tslens.corpus.annotation.cache import AnnotationCache
    from tslens.errors import DataError
    from tslens.files import data_dir

    source = stories or str(data_dir() / REAL)
    if stories is None and not Path(source).exists():
        return None, "", f"there is no {source}; give a source with --stories"
    found = held_out_stories(source, size.n_stories)
    if not found:
        raise DataError(f"No story of {source} is held out.", "5% are, by their hash: give more stories.")
    try:
        parser = open_parser()
    except DataError as error:
        return None, "", error.message
    return list(annotate(found, parser=parser, cache=AnnotationCache())), source, ""


def _people() -> Sequence[Scored] | None:
    """What a person scored, None where the file is absent."""
    from tslens.audit.judge_people import FILE, read_scores
    from tslens.files import data_dir

    path = data_dir() / FILE
    return read_scores(path) if path.exists() else None


def _show_plan(model: str | None, terms: Terms | None, plan: JudgePlan, out: Path, *, as_json: bool) -> None:
    """What --dry-run says."""
    texts = [text.graded for text in plan.texts]
    if model is not None and terms is not None:
        with open_asked(model, terms, out, protocol="two_turns", seed=plan.seed, read_only=True) as judge:
            calls = list(judge.teacher.calls_at_most(texts, judge.ledger))
            show_estimate(calls, calls[0], terms, out, as_json=as_json)
    elif as_json:
        facts: dict[str, Any] = {"model": "local", "calls": 0, "to_ask": 0, "texts": len(texts)}
        show_json({"schema": "tslens.dry_run/1", **facts})
    else:
        show(f"{len(texts)} texts would be graded here; nothing is asked of a server. {NOT_GPT4}")


def _write(report: JudgeAudit, plan: JudgePlan, out: Path, started: str, seconds: float) -> None:
    """The texts with their grades, and their provenance beside them."""
    from tslens.corpus.sources import describe_sources
    from tslens.files import write_results

    name, sha256 = describe_sources(plan.sources)
    record = provenance(
        command=command_line(),
        seed=report.seed,
        data=name,
        data_sha256=sha256,
        started=started,
        seconds=seconds,
    )
    write_results(out, TEXT_SCHEMA, report.header(), report.rows(), record)
