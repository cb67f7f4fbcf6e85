"""``tslens data request``: stories, and summaries of stories, written by a large model."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.asking import LEDGERS, Terms, answer_all, open_client, show_estimate
from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.story_rows import check_name, write_rows

if TYPE_CHECKING:
    from tslens.corpus.requests.asking import Asking, Unanswered
    from tslens.llm.client import Client
    from tslens.types import Story

SCHEMA = "tslens.requests/1"
_UNANSWERED = "tslens.unanswered/1"


def request(
    out: Annotated[Path, typer.Option("--out", help="A .jsonl or .jsonl.gz file to write.")],
    model: Annotated[str, typer.Option("--model", help="The model's name at its server, as in gpt-4o-mini.")],
    stories: Annotated[int | None, typer.Option("--stories", help="How many stories to ask for.")] = None,
    summaries: Annotated[
        str | None, typer.Option("--summaries", help="Ask for summaries of these stories instead: SOURCE.")
    ] = None,
    seed: options.Seed = 0,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=2)] = 1.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Of one reply.")] = 1000,
    template: Annotated[
        Path | None,
        typer.Option(
            "--template", help="A text with {verb}, {noun}, {adjective}, {features}; else the paper's."
        ),
    ] = None,
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
    processes: options.Processes = None,
    as_json: options.Json = False,
) -> None:
    """Ask a large model for stories as TinyStories were asked for: a verb, a noun, an adjective, a few features.

    The key is read from $OPENAI_API_KEY. Every reply is kept at once (--ledger): stopped or killed, the same command
    goes on, and no reply that is kept is paid again. Each line holds the story, what it was asked for, model, usage,
    and "gates": what the story lacks of it. Nothing is dropped. What did not come stands in OUT.failures.jsonl (exit
    code 3).

    Example: tslens data request --stories 1000 --model gpt-4o-mini --budget 2 --out stories.jsonl

    Example: tslens data request --summaries stories.jsonl --model gpt-4o-mini --dry-run --out summarised.jsonl
    """
    from tslens.corpus.requests.asking import Asking
    from tslens.errors import UsageError
    from tslens.files import check_writable
    from tslens.llm.connect import server_name

    if (stories is None) == (summaries is None):
        raise UsageError("It is not clear what to ask for.", "Give either --stories N or --summaries SOURCE.")
    if stories is not None and stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    if summaries is not None and (template or processes):
        raise UsageError("--template and --processes are for stories.", "Leave them out with --summaries.")
    check_name(out)
    if out.name.lower().endswith((".failures.jsonl", ".failures.jsonl.gz")):
        raise UsageError(f"{out} is a name for what does not come.", "Name the file otherwise.")
    if out.is_dir():
        raise UsageError(f"{out} is a folder.", "Name a file.")
    if not dry_run:
        check_writable(out.parent)
    terms = Terms(model, base_url, budget, price, concurrency, timeout, ledger, retry_failed, batch, poll)
    asking = Asking(model, seed, server_name(base_url), temperature, max_tokens, _read_template(template))
    say(f"tslens data request: {stories or summaries} of {model} (seed {seed})")
    if stories is not None:
        _request_stories(stories, asking, terms, out, dry_run, processes, as_json)
    else:
        _request_summaries(str(summaries), asking, terms, out, dry_run, as_json)


def _read_template(path: Path | None) -> str | None:
    from tslens.corpus.requests.plans import check_template
    from tslens.errors import DataError
    from tslens.reading import read_text

    if path is None:
        return None
    try:
        text = read_text(path, at_most=1_000_000).strip()
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the template {path}: {error}.", "Give a text file in UTF-8.") from error
    check_template(text)
    return text


# Stories -----------------------------------------------------------------------------------------------------


def _request_stories(
    n_stories: int,
    asking: Asking,
    terms: Terms,
    out: Path,
    dry_run: bool,
    processes: int | None,
    as_json: bool,
) -> None:
    from tslens.corpus.requests.asking import Unanswered, read_story_replies, story_calls
    from tslens.files import refuse_links

    if dry_run:
        calls = story_calls(n_stories, asking)
        show_estimate(calls, next(story_calls(1, asking)), terms, out, as_json=as_json)
        return
    with open_client(terms, out) as client:
        failures = answer_all(client, story_calls(n_stories, asking), terms, total=n_stories)
        unanswered: list[Unanswered] = []

        def replies() -> Iterator[Story]:
            unanswered.clear()
            for found in read_story_replies(n_stories, asking, client.ledger, failures):
                if isinstance(found, Unanswered):
                    unanswered.append(found)
                else:
                    yield found

        marks: Counter[str] = Counter()
        n_written = 0
        if any(True for _ in replies()):
            index = client.ledger.path.with_suffix(".index")
            refuse_links(index, index.parent)
            marked = _marked(replies, options.count_processes(processes, n_stories), index)
            n_written = write_rows(_counted(marked, marks), out, n_stories)
        _report(out, client, n_stories, n_written, marks, unanswered, as_json)


def _marked(replies: Any, n_processes: int, folder: Path) -> Iterator[Story]:
    """The stories with what the gates found; read twice, since near-duplicates are looked up in an index of them.

    ``folder``: of that index, for this job alone; what a killed run left there is removed, and so is the index.
    """
    from tslens.corpus.annotate import open_parser
    from tslens.corpus.annotation.cache import AnnotationCache
    from tslens.corpus.diversity.story_index import StoryIndex
    from tslens.corpus.requests.gates import mark_stories
    from tslens.errors import DataError

    try:
        parser = open_parser()
    except DataError as error:
        parser = None
        say(f"warning: {error.message} The asked words are looked up in the vocabulary.")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        index = StoryIndex.build(replies(), folder, source="replies", source_sha256="")
        yield from mark_stories(
            replies(), index, parser=parser, n_processes=n_processes, cache=AnnotationCache()
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _counted(stories: Iterable[Story], marks: Counter[str]) -> Iterator[Story]:
    for story in stories:
        marks.update(story.extra["gates"]["marked"])
        yield story


# Summaries ---------------------------------------------------------------------------------------------------


def _request_summaries(
    source: str, asking: Asking, terms: Terms, out: Path, dry_run: bool, as_json: bool
) -> None:
    from tslens.corpus.requests.asking import needs_summary, read_summary_replies, summary_call
    from tslens.corpus.stories import read_stories
    from tslens.errors import DataError
    from tslens.files import refuse_replacing

    refuse_replacing(out, source)

    def calls() -> Iterator[Any]:
        return (
            summary_call(index, story, asking)
            for index, story in enumerate(read_stories(source))
            if needs_summary(story)
        )

    first = next(calls(), None)
    if first is None:
        raise DataError(
            f"All stories of {source} have a summary.",
            'To ask for others, take the field "summary" out of the file.',
        )
    if dry_run:
        show_estimate(calls(), first, terms, out, as_json=as_json)
        return
    with open_client(terms, out) as client:
        failures = answer_all(client, calls(), terms, total=None)
        unanswered: list[Unanswered] = []
        marks: Counter[str] = Counter()

        def summarised() -> Iterator[Story]:
            for story, missing in read_summary_replies(read_stories(source), asking, client.ledger, failures):
                if missing is not None:
                    unanswered.append(missing)
                elif "summary_reply" in story.extra:
                    marks.update(story.extra["summary_reply"]["marked"])
                yield story

        n_written = write_rows(summarised(), out, None)
        _report(out, client, n_written, n_written, marks, unanswered, as_json)


# What came of it ---------------------------------------------------------------------------------------------


def _report(
    out: Path,
    client: Client,
    n_asked: int,
    n_written: int,
    marks: Counter[str],
    unanswered: list[Unanswered],
    as_json: bool,
) -> None:
    """Write what did not come, print the summary, and end with code 3 where something is missing."""
    from tslens.errors import DataError, RunError
    from tslens.files import read_jsonl, write_jsonl
    from tslens.llm.calls import FINAL

    missing = _failures_of(out)
    if unanswered:
        rows = (row.to_json() for row in unanswered)
        write_jsonl(missing, _UNANSWERED, {"asked": n_asked, "out": out.name}, rows)
    else:
        with suppress(DataError):  # absent, or no file of ours
            read_jsonl(missing, _UNANSWERED)
            missing.unlink()
    reasons = dict(Counter(row.reason for row in unanswered))
    named = ", ".join(f"{reason} {n}" for reason, n in reasons.items())
    again = "The same command asks again" + (
        ", with --retry-failed also for what the model or the server refused."
        if FINAL & set(reasons)
        else "."
    )
    if "budget" in reasons:
        again = "Go on with a higher --budget."
    if not n_written:
        raise RunError(f"No reply came ({named}): {unanswered[0].detail}", f"Details: {missing}. {again}")
    spent = client.ledger.spent_usd
    facts = {
        "asked": n_asked,
        "written": n_written,
        "unanswered": len(unanswered),
        "asked_now": client.counts["replies"],
        "spent_usd": None if spent is None else round(spent, 6),
    }
    if as_json:
        show_json({"schema": SCHEMA, "out": str(out), **facts, "reasons": reasons, "marked": dict(marks)})
    else:
        names = {"spent_usd": "spent at most, USD"}
        rows_shown = [
            [names.get(name, name.replace("_", " ")), "unknown" if value is None else f"{value:,}"]
            for name, value in facts.items()
        ]
        rows_shown += [[f"marked: {name.replace('_', ' ')}", str(n)] for name, n in sorted(marks.items())]
        show_table(["<counted>", "number"], rows_shown)
        show(f"wrote {out}")
    if unanswered:
        say(f"warning: {len(unanswered)} of {n_asked} did not come ({named}); see {missing}. {again}")
        raise typer.Exit(3)


def _failures_of(out: Path) -> Path:
    """The file beside OUT for what did not come."""
    return out.with_name(re.sub(r"\.jsonl(\.gz)?$", "", out.name, flags=re.IGNORECASE) + ".failures.jsonl")
