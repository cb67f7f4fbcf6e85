"""Are author stories more diverse with a plan than without? A check of the tool, no evidence on the paper's claim.

    .venv/bin/python analysis/author_diversity.py [--stories 1000] [--seed 0] [--out reports/author_diversity]

The paper claims that a random word triple and random features in each request make a large model's stories more
diverse. Here the offline author writes with them (words and features drawn anew for each story) and without (none),
and ``tslens data diversity A B`` compares the two. The author is a grammar that draws its plots either way, so what
comes out says whether the tool sees a difference that is there by construction, and nothing about language models.

A plan makes stories longer, so the comparison is made again with every story cut to the length of its partner in the
other set. Two controls: with a plan against with a plan (other stories: no difference is there to see), and 50
stories told over and over with other names of characters (much less diverse).
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tslens.corpus.author import NO_WISHES, Wishes, write_stories
from tslens.corpus.dice import Dice
from tslens.corpus.diversity.comparison import Difference, compare_stories
from tslens.corpus.diversity.names import find_names
from tslens.corpus.stories import describe_source
from tslens.corpus.words import find_words
from tslens.files import atomic_write, write_json
from tslens.provenance import provenance, utc_now
from tslens.types import Story

N_TOLD_OVER = 50
SWAPPED = ["Zara", "Hugo", "Nell", "Otto", "Ines", "Karl", "Vera", "Emil", "Olga", "Finn"]


def write(n_stories: int, seed: int, start: int, wishes: Wishes) -> list[str]:
    """Texts of the author."""
    stories = write_stories(n_stories, seed=seed, start=start, wishes=wishes, text_only=True, n_processes=2)
    return [story.text for story in stories]


def told_over(texts: Sequence[str], n_stories: int, seed: int) -> list[str]:
    """The first stories again and again, their names swapped for others in each copy: simple templates."""
    names = {name.capitalize() for name in find_names(map(Story, texts)) if not name.endswith("'s")}
    told = []
    for index in range(n_stories):
        text = texts[index % N_TOLD_OVER]
        dice = Dice(seed, "told over", index)
        for name in sorted(name for name in names if name in text):
            text = text.replace(name, dice.one_of(SWAPPED))
        told.append(text)
    return told


def cut_alike(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both texts of each pair cut after as many words as the shorter one has."""
    cut: tuple[list[str], list[str]] = ([], [])
    for pair in zip(first, second, strict=True):
        spans = [find_words(text) for text in pair]
        n_words = min(map(len, spans))
        for side, text, found in zip(cut, pair, spans, strict=True):
            side.append(text[: found[n_words - 1][1]])
    return cut


def table(rows: Sequence[Difference], first: str, second: str) -> str:
    """One comparison as a table of Markdown."""
    lines = [
        f"| measure | more diverse | {first} | {second} | difference | 95% interval | swapped labels | p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        more = {True: "higher", False: "lower", None: ""}[row.more]
        lines.append(
            f"| {row.name} | {more} | {row.first.mean:.3f} | {row.second.mean:.3f} | {row.difference.mean:+.3f} | "
            f"{row.difference.low:+.3f} to {row.difference.high:+.3f} | {row.null_low:+.3f} to {row.null_high:+.3f} | "
            f"{row.p:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write, compare, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("reports/author_diversity"))
    options = parser.parse_args()
    started, clock = utc_now(), time.monotonic()
    n, seed = options.stories, options.seed
    none = replace(NO_WISHES, words=(), features=frozenset())
    sets = {
        "plan": write(n, seed, 0, NO_WISHES),
        "no plan": write(n, seed, n, none),  # other indices: no story is told with and without
        "plan again": write(n, seed, 2 * n, NO_WISHES),
    }
    sets["told over"] = told_over(sets["plan again"], n, seed)
    sets["plan, cut"], sets["no plan, cut"] = cut_alike(sets["plan"], sets["no plan"])
    pairs = [
        ("plan", "no plan"),
        ("plan, cut", "no plan, cut"),
        ("plan", "plan again"),
        ("plan", "told over"),
    ]
    found = {}
    for first, second in pairs:
        found[first, second] = compare_stories(
            sets[first], sets[second], seed=seed, n_permutations=options.permutations
        )
        print(table(found[first, second], first, second), end="\n\n", flush=True)
    write_report(options.out, found, n, seed, options.permutations)
    source, sha256 = describe_source(f"author:{3 * n}:{seed}")
    record = provenance(
        command=shlex.join(["analysis/author_diversity.py", *sys.argv[1:]]),
        seed=seed,
        data=source,
        data_sha256=sha256,
        started=started,
        seconds=time.monotonic() - clock,
    )
    write_json(options.out / "provenance.json", record.to_json())


def write_report(
    out: Path,
    found: dict[tuple[str, str], list[Difference]],
    n: int,
    seed: int,
    n_permutations: int,
) -> None:
    """The tables as a report, the figures as data."""
    rows = {f"{first} - {second}": [row.to_json() for row in some] for (first, second), some in found.items()}
    facts = {"n_stories": n, "seed": seed, "n_permutations": n_permutations, "comparisons": rows}
    write_json(out / "differences.json", facts)
    with atomic_write(out / "report.md") as file:
        file.write(report(found, n, seed, n_permutations))
    print(json.dumps({"wrote": str(out)}))


def verdict(rows: Sequence[Difference]) -> str:
    """How many measures call which set more diverse."""
    judged = [row for row in rows if row.more is not None]
    clear = [row for row in judged if row.p <= 0.05]
    first = sum((row.first.mean > row.second.mean) == row.more for row in clear)
    return (
        f"of {len(judged)} measures, at p 0.05, {first} call the first set more diverse, {len(clear) - first} the "
        f"second, {len(judged) - len(clear)} see no difference."
    )


def report(found: dict[tuple[str, str], list[Difference]], n: int, seed: int, n_permutations: int) -> str:
    """The report as text."""
    titles = {
        ("plan", "no plan"): "With a plan and without",
        ("plan, cut", "no plan, cut"): "The same, stories cut to equal lengths",
        ("plan", "plan again"): "Control: with a plan, twice",
        ("plan", "told over"): f"Control: {N_TOLD_OVER} stories told over and over, other names in each",
    }
    parts = [
        "# Are author stories more diverse with a plan than without?",
        f"A check of `tslens data diversity A B`, no evidence on the paper's claim: the author is a grammar, not a "
        f"language model. {n:,} stories each, seed {seed}, {n_permutations:,} permutations; "
        "`analysis/author_diversity.py` makes this page. *Plan*: three words and features drawn anew for each story; "
        "*no plan*: none of either.",
        *(f"{title}: {verdict(found[key])}" for key, title in titles.items()),
    ]
    for key, some in found.items():
        parts += [f"## {titles[key]}", table(some, *key)]
    parts.append(
        "Difference: first minus second. Interval: studentised Poisson bootstrap over stories (distinct-k: halves "
        "drawn without repetition). Swapped labels: the middle 95% of the differences when stories are dealt anew to "
        "two sets; p is two-sided, not corrected for the number of measures. `docs/methods.md` defines the measures."
    )
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
