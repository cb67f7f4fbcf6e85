"""``tslens data``: stories in, stories made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table

app = typer.Typer(help="Stories: import a file, or let the offline author write some.", no_args_is_help=True)


@app.command("import")
def import_stories(
    source: Annotated[str, typer.Argument(help=".jsonl, .jsonl.gz, .txt with <|endoftext|>, or author:N.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for tokenizer and token shards.")],
    vocab_size: Annotated[int, typer.Option("--vocab-size", help="Tokens of the byte-level BPE.")] = 4096,
    as_json: options.Json = False,
) -> None:
    """Train a tokenizer on stories and write them as token shards.

    Example: tslens data import stories.jsonl.gz --out corpora/stories
    """
    say(f"tslens data import: reading {source}")
    from tslens.corpus.shards import import_corpus
    from tslens.errors import RunError
    from tslens.files import locked

    if (out / "corpus.json").exists():
        raise RunError(f"{out} holds an imported corpus already.", "Choose a new --out.")
    with locked(out), progress_bar("importing", None) as (bar, task):
        corpus = import_corpus(
            source, out, vocab_size=vocab_size, progress=lambda n: bar.update(task, note=f"{n} stories")
        )
    facts = [
        {"split": name, "stories": len(split), "tokens": split.n_tokens, "bytes": split.n_bytes}
        for name, split in (("train", corpus.train), ("validation", corpus.validation))
    ]
    if as_json:
        show_json({"folder": str(out), "vocab_size": corpus.tokenizer.vocab_size, "splits": facts})
        return
    show_table(
        ["<split>", "stories", "tokens", "bytes"], [[f"{value}" for value in fact.values()] for fact in facts]
    )
    show(f"wrote {out}")


@app.command("author")
def author(
    stories: Annotated[int, typer.Option("--stories", help="How many.")] = 20_000,
    seed: options.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="A .jsonl file; standard output if absent.")
    ] = None,
) -> None:
    """Write stories with the offline author: no network, no key, no data.

    Example: tslens data author --stories 20000 --out stories.jsonl
    """
    import json

    from tslens.corpus.author import write_stories
    from tslens.errors import UsageError
    from tslens.files import atomic_write

    if stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    say(f"tslens data author: {stories} stories (seed {seed})")
    lines = (
        json.dumps({"text": story.text, **story.extra}, ensure_ascii=False)
        for story in write_stories(stories, seed=seed)
    )
    if out is None:
        for line in lines:
            print(line)
        return
    with progress_bar("writing", stories) as (bar, task), atomic_write(out) as file:
        for line in lines:
            file.write(line + "\n")
            bar.advance(task)
    show(f"wrote {out}")
