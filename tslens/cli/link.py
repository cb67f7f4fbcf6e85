"""``tslens link``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms
from tslens.cli.console import counted, say, show, show_json
from tslens.cli.judging import OF_ASKING, judge_name, open_judge, parse_judge, refuse_for_local, refuse_given
from tslens.provenance import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tslens.types import GradeFailure, Provenance

JSON_SCHEMA = "tslens.link/1"
OF_GRADES = ("samples", "max_tokens", "most_graded", "prompts")
"""Parameters that say what is graded."""
GRADES, TABLE = "With --judge", "Several models"
"""Panels of the help."""


def link(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(help="With --table: the models of the table.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="The model that is mapped, as of other commands.",
            autocompletion=options.complete_model,
        ),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            rich_help_panel=TABLE,
            help="Instead of a map: what each of several models can do, by width and depth, with intervals.",
        ),
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Grade what is written without the components that readouts point at: local, or openai:MODEL. "
            "Without it readouts only.",
        ),
    ] = None,
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", min=2, help="Stories on which total loss and means are read.")
    ] = 150,
    pairs: Annotated[int, typer.Option("--pairs", min=20, help="Minimal pairs of each readout.")] = 300,
    roles: Annotated[
        list[Path] | None,
        typer.Option(
            "--roles",
            help="Results of tslens heads or neurons; may be repeated. Default: the newest of the model.",
        ),
    ] = None,
    most_graded: Annotated[
        int,
        typer.Option(
            "--most-graded",
            min=1,
            rich_help_panel=GRADES,
            help="Components that are graded, those that take most first.",
        ),
    ] = 12,
    foreign: Annotated[
        bool,
        typer.Option(
            "--foreign",
            rich_help_panel=TABLE,
            help="With --table: other people's models, by grades in $TSLENS_DATA/grades.",
        ),
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            rich_help_panel=GRADES,
            help="beginnings, instructions (default of -instruct models), or a file.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", min=1, rich_help_panel=GRADES, help="Texts of each prompt: 5, with --table 10."
        ),
    ] = None,
    max_tokens: Annotated[
        int,
        typer.Option(
            "--max-tokens",
            min=1,
            rich_help_panel=GRADES,
            help="Of one text; tslens grade writes 300, so that its grades differ a little.",
        ),
    ] = 200,
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
        Path | None, typer.Option("--out", help="Results folder; RUN/results/link if absent.")
    ] = None,
    html: options.Html = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Map which heads, layers and roles each capability depends on: by readouts, and with --judge by grades.

    Every component is ablated and beside it random ones that cost as much loss. Readouts are kept once all are read,
    texts and grades as they come: stopped while it grades, the same command goes on.
    Texts that a large model gave no grade are counted by reason (exit code 3).

    Example: tslens link --model l1_h256

    Example: tslens link --model l1_h256 --judge local --html map.html

    With --table: loss, grades and readouts of several models by width and depth, and how they grow. Grades of the local
    judge are made where there are none; those of a large model are made before, by tslens grade.

    Example: tslens link --table l1_h64 l1_h128 l1_h256 l2_h128 l4_h128 --judge local
    """
    if table:
        _link_table(
            context, models, judge, stories, n_stories, pairs, samples, out, seed, device, foreign, as_json
        )
        return
    if model is None or models or foreign:
        from tslens.errors import UsageError

        if foreign:
            raise UsageError("--foreign is for a table.", "Add --table, or leave it out.")
        named = f" Did you mean --model {models[0]}?" if models else ""
        raise UsageError(
            "It is not clear what to link.",
            f"Say --model MODEL for a map, or --table MODEL MODEL ... for a table.{named}",
        )
    say(f"tslens link: loading {model} (seed {seed})")
    from tslens.cli.grade_report import tell_missing
    from tslens.cli.link_plan import map_of_grades, prompts_to_grade, say_plan
    from tslens.cli.link_run import Wanted, map_of_readouts
    from tslens.cli.link_table import show_map
    from tslens.cli.opening import file_name, open_for_scan, record_of, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.files import check_page, check_writable
    from tslens.grading.judge import folder_of
    from tslens.link.map_report import save_map
    from tslens.model.load import find_model

    large = None if judge is None else parse_judge(judge)
    if judge is None:
        refuse_given(context, (*OF_GRADES, *OF_ASKING), "is for grades", "Add --judge, or leave it out.")
    elif large is None:
        refuse_for_local(context, OF_ASKING)
    if dry_run and large is None:
        raise UsageError("--dry-run is for a large model.", "Add --judge openai:MODEL.")
    if dry_run:
        say("What grading costs depends on the texts: readouts are read and texts written first, and kept.")
    check_page(html)
    terms = (
        Terms(large, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
        if large
        else None
    )
    source = find_model(model)
    say(source.note)
    if judge is not None:
        prompts_to_grade(prompts, source)  # what cannot be meant is said before readouts are read
    folder = out or source.home.results("link")
    check_writable(folder)
    opened = open_for_scan(source, stories, n_stories, device=options.resolve_device(device))
    say_loss(opened)
    n_samples = 5 if samples is None else samples
    wanted = Wanted(pairs, tuple(roles or ()), most_graded, prompts, n_samples, max_tokens, seed)

    def record() -> Provenance:
        return record_of(opened, command=command_line(), seed=seed)

    stem = file_name(opened, n_stories, seed, f"_pairs{pairs}", named=out is not None).removesuffix(".jsonl")
    made = map_of_readouts(opened, wanted, folder / f"{stem}.jsonl", record)
    say_stories(opened, made.stories.n_stories)
    report, path = made.report, folder / f"{stem}.jsonl"
    failures: Sequence[GradeFailure] = ()
    if judge is not None:
        path = folder / f"{stem}_{folder_of(judge_name(large))}.jsonl"
        if dry_run:
            assert large is not None and terms is not None
            say_plan(opened, made, wanted, large, terms, path, as_json=as_json)
            return
        with open_judge(large, terms, path, seed=seed) as opened_judge:
            graded = map_of_grades(opened, made, wanted, opened_judge, path, record, at_once=batch)
        report, failures = graded.report, graded.failures
        save_map(report, path, record())
    if html is not None:
        from tslens.viz.map_page import write_map_page

        write_map_page(report, html)
    if as_json:
        rows = [row.to_json() for row in report.rows]
        header = {"readouts": list(report.readouts), "members": dict(report.members), **report.header}
        show_json({"schema": JSON_SCHEMA, **header, "rows": rows})
    else:
        show_map(report)
        show("".join(f"wrote {one}\n" for one in (path, html) if one is not None).strip())
    if large is not None:
        tell_missing(failures)
    elif failures:
        say(f"{counted(len(failures), 'text')} too short for a grade, by the local judge")


OF_MAPS = ("model", "roles", "most_graded", "prompts", "max_tokens", "dry_run", "html", *OF_ASKING)
"""Parameters that a table has no use for."""


def _link_table(
    context: typer.Context,
    models: list[str] | None,
    judge: str | None,
    stories: str | None,
    n_stories: int,
    pairs: int,
    samples: int | None,
    out: Path | None,
    seed: int,
    device: str,
    foreign: bool,
    as_json: bool,
) -> None:
    refuse_given(context, OF_MAPS, "is for a map", "Leave it out with --table.")
    if judge is None:
        refuse_given(context, ("samples",), "is for grades", "Add --judge, or leave it out.")
    say(f"tslens link --table: {counted(len(models or ()), 'model')} (seed {seed})")
    from tslens.cli.link_sizes import Asked
    from tslens.cli.link_sizes_table import link_table

    asked = Asked(
        is_graded=judge is not None,
        judge=None if judge is None else parse_judge(judge),
        stories=stories,
        n_stories=n_stories,
        n_pairs=pairs,
        samples=10 if samples is None else samples,
        seed=seed,
        device=options.resolve_device(device),
    )
    link_table(models or [], asked, out, foreign=foreign, as_json=as_json)
