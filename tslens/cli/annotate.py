"""``tslens data annotate``: give stories the labels that probes need."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.story_rows import check_name, count_tokens, no_twin, write_rows

if TYPE_CHECKING:
    from tslens.corpus.tokenizer import Splitter
    from tslens.types import Story


def annotate(
    source: Annotated[str, typer.Argument(help=options.SOURCES)],
    out: Annotated[Path, typer.Option("--out", help="A .jsonl or .jsonl.gz file to write.")],
    stories: Annotated[int | None, typer.Option("--stories", help="The first N only.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="A per-word list of your own to check and keep.")
    ] = None,
    tokenizer: Annotated[
        list[Path] | None,
        typer.Option(
            "--tokenizer", help="A tokenizer.json or a folder with one: adds its tokens with their labels."
        ),
    ] = None,
    corrupt: options.Corrupt = None,
    seed: options.Seed = 0,
    processes: options.Processes = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Parse all stories anew and keep nothing.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Label each word of each story: part of speech, clause, mention, quote, topic.

    Gold labels of the offline author are kept. What was parsed is kept in $TSLENS_CACHE (default ~/.cache/tslens).
    With --tokenizer (once or more) each line has "tokenized": the tokens, and every label for each of them.
    With --corrupt the lines are corrupted twins, made by these labels; the field "original" holds the story. A twin
    that was changed in one place has as many tokens as the story, where there is such a place.

    Example: tslens data annotate stories.jsonl.gz --out labelled.jsonl.gz

    Example: tslens data annotate mine.jsonl --label mood --tokenizer tokenizer.json --out labelled.jsonl
    """
    say(f"tslens data annotate: reading {source}")
    from tslens.corpus.annotate import annotate as annotate_stories
    from tslens.corpus.annotate import open_parser
    from tslens.corpus.annotation.cache import AnnotationCache
    from tslens.corpus.corrupted import corrupt_stories, read_fault
    from tslens.corpus.stories import read_stories
    from tslens.corpus.tokenizer import read_splitter
    from tslens.errors import UsageError
    from tslens.files import refuse_replacing
    from tslens.labels import LABELS

    check_name(out)
    if stories is not None and stories < 1:
        raise UsageError(f"{stories} stories are none.", "Ask for one or more.")
    for name in label or ():
        if name in {"labels", "tokenized", *(known.name for known in LABELS)}:
            raise UsageError(f'"{name}" is a name that tslens gives.', "Give your column another name.")
    refuse_replacing(out, source)
    splitters = {str(path): read_splitter(path) for path in tokenizer or ()}
    fault = None if corrupt is None else read_fault(corrupt)
    found = _checked(read_stories(source, limit=stories), source, label or [])
    parser = open_parser()
    say(f"tslens data annotate: {parser.version}")
    counts = Counts()
    twins: Counter[str] = Counter()
    started = time.perf_counter()
    written: Iterable[Story] = counts.counted(
        annotate_stories(
            found,
            parser=parser,
            n_processes=options.count_processes(processes, stories),
            cache=None if no_cache else AnnotationCache(),
        )
    )
    if fault:
        written = corrupt_stories(
            written,
            fault,
            seed=seed,
            n_tokens=count_tokens(splitters),
            counts=twins,
            leave_out=label or (),
        )
    elif splitters:
        written = _tokenized(written, splitters, label or [])
    n_written = write_rows(written, out, stories)
    if fault and not n_written:
        out.unlink(missing_ok=True)
        raise no_twin(fault, twins)
    facts = counts.facts(time.perf_counter() - started)
    if as_json:
        extra = {"corruption": dict(twins)} if fault else {}
        show_json({"out": str(out), "parser": parser.version, **facts, **extra})
        return
    show_table(
        ["<counted>", "number"], [[name.replace("_", " "), _shown(value)] for name, value in facts.items()]
    )
    if fault:
        show(", ".join(f"{number} {what}" for what, number in sorted(twins.items())))
    show(f"wrote {out}")


class Counts:
    """What was annotated so far."""

    def __init__(self) -> None:
        self.n_stories = self.n_words = self.n_sentences = self.n_clauses = self.n_units = self.n_heroes = 0

    def counted(self, stories: Iterable[Story]) -> Iterator[Story]:
        """The stories themselves, counted as they pass."""
        for story in stories:
            self.add(story)
            yield story

    def add(self, story: Story) -> None:
        """Count a story with labels."""
        from tslens.corpus.words import find_sentences, find_words

        labels = story.extra["labels"]
        self.n_stories += 1
        self.n_words += len(find_words(story.text))
        self.n_sentences += len(find_sentences(story.text))
        self.n_clauses += len(labels["clauses"])
        self.n_units += len(labels["pos"])
        self.n_heroes += labels["protagonist"] is not None

    def facts(self, seconds: float) -> dict[str, float]:
        """The summary; words and marks are counted as tokens."""
        return {
            "stories": self.n_stories,
            "words": self.n_words,
            "sentences": self.n_sentences,
            "clauses": self.n_clauses,
            "words_and_marks_per_second": self.n_units / seconds,
            "share_with_protagonist": self.n_heroes / self.n_stories if self.n_stories else 0.0,
        }


def _shown(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if value <= 1 else f"{value:,.0f}"


def _checked(stories: Iterable[Story], source: str, names: list[str]) -> Iterator[Story]:
    """The stories themselves. Raises DataError for one whose column of labels fits neither words nor units."""
    from tslens.corpus.labelled import user_label
    from tslens.errors import DataError

    for number, story in enumerate(stories, start=1):
        for name in names:
            try:
                user_label(story, name)
            except DataError as error:
                raise DataError(f"{source}, story {number}: {error.message}", error.hint) from error
        yield story


def _tokenized(
    stories: Iterable[Story], splitters: Mapping[str, Splitter], names: list[str]
) -> Iterator[Story]:
    """Stories with a field ``tokenized``: for each tokenizer, by its path, tokens and their labels."""
    from dataclasses import replace

    from tslens.corpus.labelled import tokenized

    for story in stories:
        found = {name: tokenized(story, split, names) for name, split in splitters.items()}
        yield replace(story, extra={**story.extra, "tokenized": found})
