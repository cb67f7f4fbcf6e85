"""Stories as lines of a file, or of standard output."""

from __future__ import annotations

import gzip
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.cli.console import progress_bar, to_output

if TYPE_CHECKING:
    from tslens.corpus.corrupted import FaultName
    from tslens.corpus.tokenizer import Splitter
    from tslens.errors import TslensError
    from tslens.types import Story


def row_of(story: Story) -> dict[str, Any]:
    """A story as one line of a file."""
    return {"text": story.text, **story.extra}


def check_name(out: Path | None) -> None:
    """Raises UsageError for a name that ends in neither .jsonl nor .jsonl.gz."""
    from tslens.errors import UsageError

    if out is not None and not out.name.lower().endswith((".jsonl", ".jsonl.gz")):
        raise UsageError(
            f'"{out}" ends in neither .jsonl nor .jsonl.gz.', "Name the file, as in --out stories.jsonl"
        )


def write_rows(stories: Iterable[Story], out: Path | None, total: int | None) -> int:
    """Write stories line by line, to a file as a whole or not at all, or to standard output; how many."""
    n_written = 0
    if out is None:
        for story in stories:
            with to_output():
                print(json.dumps(row_of(story), ensure_ascii=False))
            n_written += 1
        return n_written
    started = time.perf_counter()
    with progress_bar("stories", total) as (bar, task), _open(out) as file:
        for story in stories:
            file.write(json.dumps(row_of(story), ensure_ascii=False) + "\n")
            n_written += 1
            rate = n_written / (time.perf_counter() - started)
            bar.update(task, completed=n_written, note=f"{n_written} stories, {rate:.0f} a second")
    return n_written


def count_tokens(splitters: Mapping[str, Splitter]) -> Callable[[str], int] | None:
    """Number of tokens of a text by the first tokenizer, None without one."""
    split = next(iter(splitters.values()), None)
    return None if split is None else lambda text: len(split(text))


def no_twin(fault: FaultName, counts: Counter[str]) -> TslensError:
    """What to say where no story can have a fault."""
    from tslens.errors import DataError

    hint = 'Stories need a field "words", a list of the words they were asked to use.'
    what = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
    return DataError(
        f'No story can have the fault "{fault.kind}" ({what}).',
        hint if fault.kind == "ignored_instruction" else "Give more stories, or choose another fault.",
    )


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A text file that is whole or absent, packed where its name ends in .gz; equal lines give equal bytes."""
    from tslens.files import atomic_write

    if not path.name.lower().endswith(".gz"):
        with atomic_write(path) as file:
            yield file
        return
    with (
        atomic_write(path, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text
