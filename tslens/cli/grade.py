"""``tslens grade``: completions of a model, or of a file, graded as a teacher would."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms
from tslens.cli.console import say
from tslens.cli.judging import (
    OF_ASKING,
    JudgeName,
    judge_name,
    open_judge,
    parse_judge,
    refuse_for_local,
    refuse_given,
)
from tslens.provenance import command_line, provenance, utc_now

if TYPE_CHECKING:
    from tslens.types import Provenance

TEMPERATURE = 1.0
OF_WRITING = ("prompts", "samples", "max_tokens", "temperature", "device")
"""Parameters that say how a model writes."""

ProtocolName = Annotated[
    Literal["two_turns", "one_call"] | None,
    typer.Option(
        "--protocol",
        help="two_turns (default): an assessment, then grades, as in the paper; or both in one_call.",
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        help="beginnings, instructions (default of -instruct models), short, or a .yaml, .json or .jsonl file.",
    ),
]
Samples = Annotated[int, typer.Option("--samples", min=1, help="Completions of each prompt.")]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", min=1, help="Of one completion: 300, of short prompts 40.")
]
Temperature = Annotated[float, typer.Option("--temperature", min=0, max=2, help="At which models write.")]


def grade(
    context: typer.Context,
    judge: JudgeName,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="As of other commands; this or --completions.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    completions: Annotated[
        Path | None,
        typer.Option("--completions", help='Any texts as one more model: {"prompt", "completion"} a line.'),
    ] = None,
    prompts: Prompts = None,
    samples: Samples = 10,
    max_tokens: MaxTokens = None,
    temperature: Temperature = TEMPERATURE,
    protocol: ProtocolName = None,
    again: Annotated[
        float | None,
        typer.Option(
            "--again",
            min=0,
            max=1,
            help="Share of texts graded twice, for the judge's agreement with itself: 0.1.",
        ),
    ] = None,
    teacher: Annotated[
        bool,
        typer.Option("--teacher/--no-teacher", help="Have the large model write on the prompts as well."),
    ] = True,
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
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; RUN/results/grades if absent.")
    ] = None,
    html: options.Html = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Grade what a model writes: grammar, creativity, consistency, plot (0 to 10) and the age of who would write so.

    The same judge grades how the prompts' authors ended their stories, and what the large model itself writes. A text
    without a grade is counted with its reason and is never a zero (exit code 3). The key is read from $OPENAI_API_KEY;
    every reply is kept at once: stopped or killed, the same command goes on, and what is kept is not paid again.

    Example: tslens grade --model l1_h256 --judge local

    Example: tslens grade --model l1_h256 --judge openai:gpt-4o --budget 5 --html grades.html
    """
    say(f"tslens grade: {model or completions or 'nothing'} by {judge} (seed {seed})")
    from tslens.cli.grade_report import report_grades
    from tslens.cli.grade_rows import AGAIN, Plan, grade_work, show_plan
    from tslens.cli.grade_short import grade_short, report_short, show_short_plan
    from tslens.cli.grade_texts import MAX_TOKENS, Wanted, job_of_model, work_of_file, work_of_model
    from tslens.errors import UsageError
    from tslens.files import check_page, check_writable
    from tslens.grading.judge import AskedJudge

    large = parse_judge(judge)
    if (model is None) == (completions is None):
        raise UsageError("It is not clear what to grade.", "Give either --model or --completions.")
    if completions is not None:
        refuse_given(context, OF_WRITING, "is for a model", "Leave it out with --completions.")
    if large is None:
        refuse_for_local(context, (*OF_ASKING, "again", "protocol", "teacher"))
        terms = None
    else:
        terms = Terms(large, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
    check_page(html, None if completions is None else str(completions))
    how = protocol or "two_turns"
    name = judge_name(large)
    if model is not None:
        job = job_of_model(model, Wanted(prompts, samples, max_tokens, temperature, seed), name, how, out)
        if job.prompts.kind == "short" and (html is not None or again is not None or protocol is not None):
            raise UsageError(
                "--html, --again and --protocol are for stories.", "Leave them out with short prompts."
            )
        work = work_of_model(job, device=device, keep=not dry_run)
    else:
        assert completions is not None
        work = work_of_file(completions, name, how, out)
    is_short = work.kind == "short"
    share = 0.0 if large is None or is_short else AGAIN if again is None else again
    n_teacher = min(samples, int(work.header["samples"])) if teacher and large is not None else 0
    plan = Plan(share, n_teacher, max_tokens or MAX_TOKENS[work.kind], seed)
    if dry_run:
        if is_short:
            show_short_plan(large, terms, work, plan, as_json=as_json)
        else:
            show_plan(large, terms, work, plan, how, as_json=as_json)
        return
    check_writable(work.path.parent)
    started, clock = utc_now(), time.monotonic()

    def record() -> Provenance:
        return provenance(
            command=command_line(),
            seed=seed,
            data=str(work.header["prompts"]),
            data_sha256=str(work.header["prompts_sha256"]),
            started=started,
            seconds=time.monotonic() - clock,
        )

    if is_short:
        answers, said, spent = grade_short(large, terms, work, plan)
        report_short(answers, said, work, record(), spent=spent, as_json=as_json)
        return
    with open_judge(large, terms, work.path, protocol=how, seed=seed) as opened:
        rows = grade_work(opened, work, plan)
        spent = opened.ledger.spent_usd if isinstance(opened, AskedJudge) else 0.0
    report_grades(rows, work, record(), spent=spent, html=html, as_json=as_json)
