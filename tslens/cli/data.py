"""``tslens data``: stories in, stories made, stories labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tslens.cli import options
from tslens.cli.annotate import annotate
from tslens.cli.author import author
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.cli.diversity import diversity
from tslens.cli.download import download
from tslens.cli.instruct import instruct
from tslens.cli.request import request

app = typer.Typer(
    help="Stories: import a file, label it, or let the offline author write some.", no_args_is_help=True
)


@app.command("import")
def import_stories(
    source: Annotated[str, typer.Argument(help=options.SOURCES)],
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


app.command("author")(author)
app.command("annotate")(annotate)
app.command("request")(request)
app.command("instruct")(instruct)
app.command("diversity")(diversity)
app.command("download")(download)
