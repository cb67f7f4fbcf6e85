"""``tslens data instruct``: stories after what they were asked for."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.story_rows import check_name, write_rows

if TYPE_CHECKING:
    from tslens.corpus.instructions.variant import Instructed
    from tslens.types import Story

SCHEMA = "tslens.instructions/1"
_PROMPTS = 50


def instruct(
    source: Annotated[str, typer.Argument(help=options.SOURCES)],
    out: Annotated[Path, typer.Option("--out", help="A .jsonl or .jsonl.gz file of training texts.")],
    stories: Annotated[
        int | None, typer.Option("--stories", help="Training texts to write. Default: all that there are.")
    ] = None,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            "--hold-out",
            help="Kinds that training texts never ask for together, as in words+features; once or more, or none. "
            "Kinds: words, sentence, features, summary. Default: words+summary.",
        ),
    ] = None,
    prompts_out: Annotated[
        Path | None,
        typer.Option(
            "--prompts-out",
            help="A .jsonl file of prompts for evaluation, which ask for what is held out, from other stories.",
        ),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option("--prompts", min=1, help="How many prompts. Default: 50.")
    ] = None,
    seed: options.Seed = 0,
    processes: options.Processes = None,
    as_json: options.Json = False,
) -> None:
    """Write each story after an instruction that it follows: words, a sentence, features, a summary.

    Each line holds text (what a model reads: instruction and story), story, instruction, source and index. Of the
    words and features that a story was asked for, those count that it has. Stories on the validation side (5%, by
    their hash) are left out: prompts are made of them. Summaries exist where the stories have a field "summary", as
    those of the author do.

    Example: tslens data instruct author:20000 --out instruct.jsonl --prompts-out prompts.jsonl
    """
    say(f"tslens data instruct: reading {source} (seed {seed})")
    from tslens.corpus.instructions.draw import HELD_OUT, read_combinations
    from tslens.corpus.instructions.form import KINDS
    from tslens.corpus.instructions.variant import instruct_stories
    from tslens.errors import DataError, UsageError
    from tslens.files import refuse_replacing

    check_name(out)
    check_name(prompts_out)
    if stories is not None and stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    for path in (out, prompts_out):
        if path is not None:
            refuse_replacing(path, source)
    if prompts is not None and prompts_out is None:
        raise UsageError("--prompts needs a file.", "Name it with --prompts-out, or leave --prompts out.")
    n_prompts = 0 if prompts_out is None else prompts or _PROMPTS
    if prompts_out is not None and prompts_out.resolve() == out.resolve():
        raise UsageError(f"{out} cannot hold both texts and prompts.", "Choose another --prompts-out.")
    held_out = HELD_OUT if hold_out is None else read_combinations(hold_out)
    started = time.perf_counter()
    found = instruct_stories(
        source, seed=seed, held_out=held_out, n_processes=options.count_processes(processes, stories)
    )
    sorter = Sorter(found, n_texts=stories, n_prompts=n_prompts)
    texts = sorter.texts()
    first = next(texts, None)
    if first is None:
        counts = sorter.counts
        raise DataError(
            f"No training text can be made of {source}: {counts['nothing to ask for']} stories offer nothing to ask "
            f"for, {counts['left out']} are kept apart for prompts (5%, by their hash).",
            "Give more stories, or longer ones.",
        )
    n_written = write_rows(chain([first], texts), out, stories)
    if prompts_out is not None and sorter.prompts:
        write_prompts(sorter.prompts, prompts_out)
    facts = {
        "out": str(out),
        "seed": seed,
        "n_stories": n_written,
        "kinds": {kind: sorter.counts[kind] for kind in KINDS},
        "held_out": ["+".join(kind for kind in KINDS if kind in kinds) for kinds in held_out],
        "n_left_out": sorter.counts["left out"],
        "n_without_instruction": sorter.counts["nothing to ask for"],
        "prompts_out": None if prompts_out is None else str(prompts_out),
        "n_prompts": len(sorter.prompts),
    }
    if as_json:
        show_json({"schema": SCHEMA, **facts, "seconds": round(time.perf_counter() - started, 1)})
    else:
        show_table(
            ["<kind>", "texts"],
            [[kind, f"{number:,}"] for kind, number in facts["kinds"].items()],  # type: ignore[attr-defined]
        )
        show(f"wrote {out}: {n_written} texts; {facts['n_left_out']} stories left out (5%, by their hash)")
        if sorter.prompts:
            show(f"wrote {prompts_out}: {len(sorter.prompts)} prompts")
    missing = [
        f"{number} of {wanted} {what}"
        for what, number, wanted in (
            ("texts", n_written, stories or n_written),
            ("prompts", len(sorter.prompts), n_prompts),
        )
        if number < wanted
    ]
    if missing:
        say(f"only {' and '.join(missing)} could be made; give more stories")
        if n_prompts and not sorter.counts["summary"] and hold_out is None:
            say(
                "Prompts ask for words and summary, and no story has a summary: add --hold-out words+features"
            )
        raise typer.Exit(3)


class Sorter:
    """Parts a stream into training texts and prompts; ends it when there are enough of both."""

    def __init__(self, found: Iterator[Instructed], *, n_texts: int | None, n_prompts: int) -> None:
        self.prompts: list[Instructed] = []
        self.counts: Counter[str] = Counter()
        self._found = found
        self._n_texts = n_texts
        self._n_prompts = n_prompts

    def texts(self) -> Iterator[Story]:
        """The training texts, as lines of a file; prompts and counts are filled on the way."""
        from tslens.types import Story

        n_texts = 0
        for made in self._found:
            self.counts["left out"] += made.is_held_out
            if made.instruction is None:
                self.counts["nothing to ask for"] += not made.is_held_out
            elif made.is_held_out:
                if len(self.prompts) < self._n_prompts:
                    self.prompts.append(made)
            elif self._n_texts is None or n_texts < self._n_texts:
                n_texts += 1
                self.counts.update(made.instruction.kinds)
                row = made.to_json()
                yield Story(row.pop("text"), row)
            if n_texts == self._n_texts and len(self.prompts) >= self._n_prompts:
                return


def write_prompts(prompts: list[Instructed], path: Path) -> None:
    """One prompt a line, whole or not at all."""
    from tslens.files import atomic_write

    with atomic_write(path) as file:
        for made in prompts:
            file.write(json.dumps(made.to_prompt(), ensure_ascii=False) + "\n")
