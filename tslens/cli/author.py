"""``tslens data author``."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json
from tslens.cli.story_rows import check_name, count_tokens, no_twin, row_of, write_rows

SCHEMA = "tslens.stories/1"


def author(
    stories: Annotated[int, typer.Option("--stories", help="How many.")] = 20_000,
    seed: options.Seed = 0,
    words: Annotated[
        str | None,
        typer.Option(
            "--words",
            help="Words that each story uses, as in swim,frog,sad or swim:verb. "
            "Default: a verb, a noun and an adjective drawn for each story.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="Of dialogue, bad_ending, happy_ending, moral_value, twist, "
            "foreshadowing, conflict, parted by commas. Default: drawn for each story.",
        ),
    ] = None,
    corrupt: options.Corrupt = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            help="With --corrupt at strength one: twins have as many of its tokens as the story.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A .jsonl or .jsonl.gz file; standard output if absent.")
    ] = None,
    processes: options.Processes = None,
    as_json: options.Json = False,
) -> None:
    """Write stories with gold labels: no network, no key, no data.

    Each line holds text, words, features, summary, events and labels; with --corrupt the text is the corrupted
    twin, and the field "original" holds the story that it was made from.

    Example: tslens data author --stories 20000 --features twist,moral_value --out stories.jsonl

    Example: tslens data author --stories 100 --words swim,frog,sad --corrupt tense:low --out twins.jsonl
    """
    from tslens.corpus.author import read_wishes, write_stories
    from tslens.corpus.corrupted import corrupt_stories, read_fault
    from tslens.corpus.tokenizer import read_splitter
    from tslens.errors import UsageError

    if stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    check_name(out)
    wishes = read_wishes(words, features)
    fault = None if corrupt is None else read_fault(corrupt)
    splitters = {} if tokenizer is None else {str(tokenizer): read_splitter(tokenizer)}
    say(f"tslens data author: {stories} stories (seed {seed})")
    started = time.perf_counter()
    counts: Counter[str] = Counter()
    written = write_stories(
        stories, seed=seed, wishes=wishes, n_processes=options.count_processes(processes, stories)
    )
    if fault:
        written = corrupt_stories(written, fault, seed=seed, n_tokens=count_tokens(splitters), counts=counts)
    if as_json and out is None:
        show_json({"schema": SCHEMA, "seed": seed, "stories": [row_of(story) for story in written]})
        return
    n_written = write_rows(written, out, stories)
    if fault and not n_written:
        if out is not None:
            out.unlink(missing_ok=True)
        raise no_twin(fault, counts)
    if out is None:
        if fault:
            say(", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
        return
    seconds = time.perf_counter() - started
    if as_json:
        facts = {"out": str(out), "seed": seed, "n_stories": n_written, "seconds": round(seconds, 1)}
        show_json({"schema": SCHEMA, **facts, "corruption": dict(counts) if fault else None})
        return
    if fault:
        show(", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    show(f"wrote {out}: {n_written} stories in {seconds:.1f} s")
