"""Throughput and peak memory of a large corpus: written, imported, annotated and scanned, each in its own process.

    python tests/bench/bench_load.py --keep load [--sizes 20000,60000,200000] [--renamed 2000000] [--author 200000]

Prints a table. What is finished stands in ``stages.jsonl`` of the folder, a line a stage, and is not run again.

1. The author writes the largest corpus (an hour or more for 200,000); smaller ones are its first stories. With
   ``--author N`` it writes N, and larger corpora are these again and again with their names replaced by made-up ones.
2. Each size is imported (tokenizer and shards, from the texts alone), annotated, and scanned. The author's stories have
   labels, which the annotator keeps, so their texts alone are annotated too ("parse").
3. Millions are had by replacing names, and imported.

Memory is read ten times a second, of the process and its children together: resident (with what is mapped from
files, such as token shards, which costs nothing where memory is short) and anonymous (which has to be there).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

MODEL = "shipped:l1_h64"
PROBES = ("previous_token", "sentence_end")
EVERY_S = 0.1
TENTHS = 10
TITLES = ("Mr", "Mrs", "Ms", "Dr", "St", "Miss")


@dataclass(frozen=True)
class Row:
    """One stage. ``anon_by_tenth_mb``: the most anonymous memory in each tenth of its time."""

    stage: str
    n_stories: int
    wall_s: float
    cpu_s: float
    rss_mb: float
    anon_mb: float
    anon_by_tenth_mb: list[float]
    disk_mb: float


@dataclass(frozen=True)
class Stage:
    """A command of tslens on so many stories. ``makes``: what it writes, removed after measuring unless ``kept``."""

    name: str
    n_stories: int
    command: list[str]
    makes: Path
    kept: bool = False


def main() -> None:
    """Run what is left to run, then print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", default="20000,60000,200000")
    parser.add_argument("--renamed", type=int, default=2_000_000, help="0: none")
    parser.add_argument(
        "--author", type=int, help="stories that the author writes; default: the largest size"
    )
    parser.add_argument("--keep", type=Path, required=True, help="folder of corpora and finished stages")
    parser.add_argument("--processes", default="1", help="of the author and the annotator")
    parser.add_argument("--stages", help="only these, parted by commas, as in import,scan")
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    log = options.keep / "stages.jsonl"
    options.keep.mkdir(parents=True, exist_ok=True)
    wanted = options.stages.split(",") if options.stages else None
    n_author = options.author or max(sizes)
    for stage in plan(options.keep, sizes, n_author, options.renamed, options.processes):
        done = {(row.stage, row.n_stories) for row in read_rows(log)}
        if (stage.name, stage.n_stories) in done or (wanted and stage.name not in wanted):
            continue
        prepare(options.keep, stage, n_author)
        row = measure(stage, options.keep / "cache")
        with log.open("a") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(line(row), flush=True)
    print()
    print(table(read_rows(log)))


# Stages -----------------------------------------------------------------------------------------------------


def plan(folder: Path, sizes: list[int], n_author: int, n_renamed: int, processes: str) -> list[Stage]:
    """All stages, the dear ones last."""
    several = ["--processes", processes]

    def author(n: int, *, kept: bool) -> Stage:
        out = corpus(folder, n) if kept else folder / f"again-{n}.jsonl.gz"
        command = ["data", "author", "--stories", str(n), "--out", str(out), *several]
        return Stage("author", n, command, out, kept)

    def imported(n: int) -> Stage:
        out = folder / f"imported-{n}"
        return Stage("import", n, ["data", "import", str(texts(folder, n)), "--out", str(out)], out)

    def annotated(name: str, n: int, source: Path) -> Stage:
        out = folder / f"{name}-{n}.jsonl.gz"
        return Stage(name, n, ["data", "annotate", str(source), "--out", str(out), *several], out)

    def scanned(n: int) -> Stage:
        asked = [word for probe in PROBES for word in ("--probe", probe)]
        out = folder / f"heads-{n}"
        command = [
            "heads",
            "--model",
            MODEL,
            "--stories",
            str(corpus(folder, n)),
            "--n-stories",
            str(n),
            *asked,
        ]
        return Stage("scan", n, [*command, "--out", str(out)], out)

    return [
        author(n_author, kept=True),
        *(imported(n) for n in [*sizes, *([n_renamed] if n_renamed else [])]),
        annotated("parse", sizes[0], texts(folder, sizes[0])),
        *(scanned(n) for n in sizes[:-1]),
        *(annotated("annotate", n, corpus(folder, n)) for n in sizes),
        scanned(sizes[-1]),
        *(author(n, kept=False) for n in sizes if n < n_author),
        *(annotated("parse", n, texts(folder, n)) for n in sizes[1:]),
    ]


def corpus(folder: Path, n_stories: int) -> Path:
    """The author's first stories."""
    return folder / f"author-{n_stories}.jsonl.gz"


def texts(folder: Path, n_stories: int) -> Path:
    """Stories without labels or anything else."""
    return folder / f"texts-{n_stories}.jsonl.gz"


def prepare(folder: Path, stage: Stage, n_author: int) -> None:
    """Make the corpus that a stage reads, from what the author wrote; remove the texts that another read."""
    whole, n = corpus(folder, n_author), stage.n_stories
    for path in folder.glob("texts-*"):
        if str(path) not in stage.command:
            path.unlink()
    for path, rows in ((corpus(folder, n), again_and_again), (texts(folder, n), copies)):
        if str(path) in stage.command and path != stage.makes and not path.exists():
            unfinished = path.with_suffix(".unfinished")
            with gzip.open(unfinished, "wt", encoding="utf-8", compresslevel=1) as file:
                for row in islice(rows(whole, -(-n // n_author)), n):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            unfinished.rename(path)


def again_and_again(path: Path, times: int) -> Iterator[dict[str, Any]]:
    """The stories of a file, then all of them again with other names, so many times in all."""
    names = made_up_names()
    for time_read in range(times):
        draw = random.Random(time_read)
        for row in stories_of(path):
            if time_read:
                parts, lemmas = cut_at_names(row)
                new = other_names(parts, names, draw)
                row["labels"]["lemma"] = [new.get(word, lemma).lower() for word, lemma in lemmas]
                row["text"] = "".join(new.get(part, part) for part in parts)
            yield row


def copies(path: Path, times: int) -> Iterator[dict[str, Any]]:
    """Each story and then copies of it with other names, so many in all, one behind the other: the texts alone."""
    names, draw = made_up_names(), random.Random(0)
    for row in stories_of(path):
        yield {"text": row["text"]}
        parts, _ = cut_at_names(row)
        for _ in range(times - 1):
            new = other_names(parts, names, draw)
            yield {"text": "".join(new.get(part, part) for part in parts)}


def stories_of(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


class Name(str):
    """A word that is marked PROPN and is no title; it is equal to no other word."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and str.__eq__(self, other)


def cut_at_names(row: dict[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """The text in parts, each name one; and each unit with its lemma."""
    from tslens.corpus.words import find_units

    text, parts, units, end = row["text"], list[str](), list[str](), 0
    labels = row["labels"]
    for (start, stop), pos in zip(find_units(text), labels["pos"], strict=True):
        word = text[start:stop]
        is_name = pos == "PROPN" and word not in TITLES
        units.append(Name(word) if is_name else word)
        if is_name:
            parts += [text[end:start], units[-1]]
            end = stop
    return [*parts, text[end:]], list(zip(units, labels["lemma"], strict=True))


def other_names(parts: list[str], names: list[str], draw: random.Random) -> dict[str, str]:
    """A new name for each name among the parts."""
    return {part: draw.choice(names) for part in dict.fromkeys(parts) if isinstance(part, Name)}


def made_up_names(n_names: int = 20_000) -> list[str]:
    """Different names of two or three syllables."""
    draw, names = random.Random(0), dict[str, None]()
    while len(names) < n_names:
        syllables = (
            draw.choice("bdfghjklmnprstvwz") + draw.choice("aeiou") for _ in range(draw.choice((2, 3)))
        )
        names["".join(syllables).capitalize() + draw.choice(("", "n", "l", "s"))] = None
    return list(names)


# Measuring --------------------------------------------------------------------------------------------------


def measure(stage: Stage, cache: Path) -> Row:
    """Run a stage in a process and watch it. Raises CalledProcessError where it fails."""
    shutil.rmtree(cache, ignore_errors=True)
    remove(stage.makes)
    command = [sys.executable, "-m", "tslens", *stage.command]
    environment = {
        **os.environ,
        "TSLENS_CACHE": str(cache),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    seen = list[tuple[float, float, float]]()
    started = time.perf_counter()
    before = os.times()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            seen.append((time.perf_counter() - started, *memory_mb(process.pid)))
            time.sleep(EVERY_S)
    wall, after = time.perf_counter() - started, os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    by_tenth = [0.0] * TENTHS
    for moment, _, anon in seen:
        tenth = min(int(moment / wall * TENTHS), TENTHS - 1)
        by_tenth[tenth] = max(by_tenth[tenth], round(anon, 1))
    disk = (
        sum(path.stat().st_size for path in [stage.makes, *stage.makes.rglob("*")] if path.is_file()) / 2**20
    )
    if not stage.kept:
        remove(stage.makes)
    return Row(
        stage.name,
        stage.n_stories,
        round(wall, 1),
        round(cpu, 1),
        round(max(rss for _, rss, _ in seen), 1),
        max(by_tenth),
        by_tenth,
        round(disk, 1),
    )


def memory_mb(root: int) -> tuple[float, float]:
    """Resident and anonymous memory of a process and all below it, in MiB."""
    rss = anon = 0
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        try:
            fields = dict(row.split(":", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines())
            waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (OSError, ValueError):  # it has just ended
            continue
        rss += int(fields.get("VmRSS", "0 kB").split()[0])
        anon += int(fields.get("RssAnon", "0 kB").split()[0])
    return rss / 1024, anon / 1024


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


# Table ------------------------------------------------------------------------------------------------------


def read_rows(log: Path) -> list[Row]:
    """Finished stages; the last line may have been cut by a kill."""
    rows = []
    for text in log.read_text().splitlines() if log.exists() else []:
        try:
            rows.append(Row(**json.loads(text)))
        except (ValueError, TypeError):
            continue
    return rows


def line(row: Row) -> str:
    """One stage in words."""
    return (
        f"{row.stage} {row.n_stories:,}: {row.n_stories / row.wall_s:,.0f} stories/s, {row.wall_s:,.0f} s "
        f"({row.cpu_s:,.0f} s of CPU), peak {row.rss_mb:,.0f} MB resident, {row.anon_mb:,.0f} MB anonymous, "
        f"{row.disk_mb:,.0f} MB on disk"
    )


def table(rows: list[Row]) -> str:
    """All stages by name and size, in Markdown; growth is against the smallest size of the stage."""
    heads = "stage|stories|wall s|CPU s|stories a CPU s|resident MB|anonymous MB|bytes a story more|disk MB".split(
        "|"
    )
    found = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in dict.fromkeys(row.stage for row in rows):
        same = sorted((row for row in rows if row.stage == name), key=lambda row: row.n_stories)
        for row in same:
            more = row.n_stories - same[0].n_stories
            growth = f"{(row.anon_mb - same[0].anon_mb) * 2**20 / more:+,.0f}" if more else ""
            numbers = (
                row.n_stories,
                row.wall_s,
                row.cpu_s,
                row.n_stories / row.cpu_s,
                row.rss_mb,
                row.anon_mb,
            )
            cells = [name, *(f"{number:,.0f}" for number in numbers), growth, f"{row.disk_mb:,.0f}"]
            found.append(f"| {' | '.join(cells)} |")
    return "\n".join(found)


if __name__ == "__main__":
    main()
