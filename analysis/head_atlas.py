"""What do the heads of the shipped models do, and are the heads that the paper names among them?

    .venv/bin/python analysis/head_atlas.py
    .venv/bin/python analysis/head_atlas.py --models l1_h64 --stories 40 --explain 20 --out atlas

For each model a page (``NAME.html``), its rows with provenance (``NAME.jsonl``), and for all of them ``report.md``: the
roles, counts by status and by floor, whether the paper's heads are there (previous word, subject, sentence end, topic),
and how well the order of the heads on one half of the stories is found again on the other. That is read only for scores
that tell the heads apart: those whose standard deviation over heads exceeds seven times the mean standard error.
Stories are the offline author's, of the validation side.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markdown_table import table
from scipy.stats import spearmanr

from tslens.cli.heads_scan import HeadsScan, scan_heads, write_page
from tslens.cli.opening import open_for_scan
from tslens.files import atomic_write
from tslens.model.load import find_model
from tslens.probes.base import choose_probes
from tslens.types import HeadScore
from tslens.viz.heads_words import RANK, STATUSES, by_strength, largest_null, words

MODELS = ("l1_h256", "l2_h128", "l4_h128")
PAPER = {
    "previous word": ("previous_word",),
    "subject": ("subject",),
    "sentence-end": ("sentence_end",),
    "topic": ("topic_determiner", "topic"),
}
ASKED_CORRELATION = 0.95  # between the halves
MIN_SPREAD = 7.0  # standard deviation over heads, in mean standard errors
WIDTH_IN_SE = 3.92  # of a 95% interval
MIN_HEADS = 3  # for a rank correlation


@dataclass(frozen=True)
class Halves:
    """One score on the two halves of the stories.

    ``spread``: standard deviation of the value over heads in mean standard errors; ``rank_correlation``: Spearman's
    over heads, of the value on one half and on the other; None below three heads.
    """

    probe: str
    position: str
    spread: float
    rank_correlation: float | None


def split_halves(rows: Sequence[HeadScore]) -> list[Halves]:
    """Every score of a model, the widest spread first."""
    found = []
    for probe, position in dict.fromkeys((row.probe, row.position) for row in rows):
        mine = [row for row in rows if (row.probe, row.position) == (probe, position)]
        error = float(np.mean([(row.high - row.low) / WIDTH_IN_SE for row in mine]))
        deviation = float(np.std([row.value for row in mine]))
        both = np.array([row.value_halves for row in mine if None not in row.value_halves], dtype=float)
        known = len(both) >= MIN_HEADS and bool((np.ptp(both, axis=0) > 0).all())
        correlation = float(spearmanr(both[:, 0], both[:, 1]).statistic) if known else None
        found.append(Halves(probe, position, deviation / error if error > 0 else 0.0, correlation))
    return sorted(found, key=lambda halves: -halves.spread)


def paper_kind(kind: str, probes: Sequence[str], rows: Sequence[HeadScore]) -> str:
    """One sentence: is a head of this kind there?"""
    mine = [row for row in rows if row.probe in probes]
    if not mine:
        return f"The {kind} head was not looked for."
    best = min(mine, key=by_strength)
    name, null = largest_null(best)
    figures = f"{best.head}, {_place(best)}: {best.value:.2f} against {null:.2f} ({words(name)})"
    low = f"corrected lower end of the excess {best.excess_low:+.3f}"
    if best.status == "role" and best.cause is not None:
        more = len({row.head for row in mine if row.status == "role"}) - 1
        others = f", and {more} more" if more else ""
        return (
            f"There is a {kind} head ({figures}, {low}; edge effect {best.cause['edge']:+.3f} nats, {best.basis})"
            f"{others}."
        )
    if best.status == "candidate":
        return f"There is a candidate for a {kind} head, without a cause ({figures}, {low})."
    if best.status == "unclear":
        return f"The nearest to a {kind} head is above every null, below the floor or not confirmed ({figures}, {low})."
    return f"There is no {kind} head: the nearest is {figures}."


def _place(row: HeadScore) -> str:
    return words(row.probe) + (" before" if row.position == "before" else "")


def status_counts(scans: Sequence[tuple[str, HeadsScan]]) -> str:
    """Heads of each model by status, and by floor."""
    rows = []
    for name, scan in scans:
        heads = {row.head for row in scan.report.scores}
        counts = Counter(scan.report.status_of(head) for head in heads)
        at = scan.report.counts_at_floors
        rows.append(
            [
                name, str(len(heads)), *(str(counts[status]) for status in STATUSES),
                *(str(at[floor]) for floor in ("half", "floor", "double")),
            ]
        )  # fmt: skip
    return table(["model", "heads", *STATUSES, "at half the floor", "at the floor", "at double"], rows)


def unclear(scan: tuple[str, HeadsScan]) -> str:
    """How many heads of a model are unclear, in words."""
    name, report = scan[0], scan[1].report
    heads = {row.head for row in report.scores}
    return f"{sum(report.status_of(head) == 'unclear' for head in heads)} of the {len(heads)} heads of {name}"


def roles(rows: Sequence[HeadScore]) -> str:
    """Every role of a model."""
    found = sorted((row for row in rows if row.status == "role"), key=by_strength)
    if not found:
        return "No row is a role.\n\n"
    lines = []
    for row in found:
        cause = row.cause or {}
        effects = [f"{cause[name]:+.3f}" if name in cause else "" for name in ("edge", "edge_low", "zero")]
        value = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
        figures = [value, f"{row.excess_low:+.3f}", row.basis or "", *effects]
        lines.append([words(row.probe), row.position, str(row.head), *figures])
    names = ["probe", "position", "head", "value", "excess, lower end", "basis"]
    return table([*names, "edge effect", "its lower end", "zero ablation"], lines)


def _mark(one: Halves) -> str:
    return "" if one.rank_correlation is None or one.rank_correlation >= ASKED_CORRELATION else " *"


def halves(rows: Sequence[HeadScore]) -> str:
    """Rank correlations of the scores that tell heads apart, and the names of the others."""
    found = split_halves(rows)
    wide = [one for one in found if one.spread > MIN_SPREAD and one.rank_correlation is not None]
    rest = [one for one in found if one not in wide]
    lines = [
        [words(o.probe), o.position, f"{o.spread:.1f}", f"{o.rank_correlation:.2f}{_mark(o)}"] for o in wide
    ]
    listed = ", ".join(f"{words(one.probe)} {one.position} ({one.spread:.1f})" for one in rest)
    told = table(["probe", "position", "spread", "rank correlation"], lines) if wide else ""
    below = sum(map(bool, map(_mark, wide)))
    return (
        f"{told}Of these {len(wide)}, {below} are below {ASKED_CORRELATION:g} (marked *). Not read (spread at most "
        f"{MIN_SPREAD:g} times the error, or fewer than {MIN_HEADS} heads): {listed or 'none'}.\n\n"
    )


def write_report(scans: Sequence[tuple[str, HeadsScan]]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the heads of the shipped models do\n\n"
    yield "Written by `analysis/head_atlas.py`. Terms: `docs/methods.md`. Heads by their best row:\n\n"
    yield status_counts(scans)
    yield (
        "`unclear` (above every null, but below the floor or not confirmed on either half): "
        f"{'; '.join(map(unclear, scans))}.\n\n"
    )
    for name, scan in scans:
        yield from of_model(name, scan)


def of_model(name: str, scan: HeadsScan) -> Iterator[str]:
    """One model."""
    found, loss = scan.report, scan.opened.loss
    yield f"## {name}\n\n"
    yield (
        f"{found.n_stories} stories of {scan.record.data} (sha256 {scan.record.data_sha256}), basis and causes on "
        f"{found.n_explained}, a 4-gram counted on {found.n_counted} others, seed {found.seed}. "
        f"{loss.bits_per_byte:.3f} bits per byte. Page and rows: `{name}.html`, `{name}.jsonl`.\n\n"
    )
    if found.left_out:
        yield f"Left out for want of labels: {', '.join(map(words, found.left_out))}.\n\n"
    yield f"### The paper's heads\n\n{' '.join(paper_kind(k, p, found.scores) for k, p in PAPER.items())}\n\n"
    yield f"### Roles\n\n{roles(found.scores)}"
    rows = Counter(row.status for row in found.scores)
    counted = ", ".join(f"{rows[status]} {status}" for status in sorted(STATUSES, key=RANK.__getitem__))
    yield f"Rows (a head, a probe, a position): {counted}.\n\n"
    yield f"### The same heads on the other half of the stories\n\n{halves(found.scores)}"
    if found.agreement:
        pairs = [[pair.replace("~", " and "), f"{value:.2f}"] for pair, value in found.agreement.items()]
        yield "### Do the ways to take a head away agree?\n\n" + table(["ways", "rank correlation"], pairs)


def main() -> None:
    """Scan, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--explain", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("reports/heads"))
    options = parser.parse_args()

    scans = []
    for name in options.models:
        opened = open_for_scan(find_model(name), None, options.stories, device=options.device)
        scan = scan_heads(
            opened,
            probes=choose_probes(None),
            asked=False,
            n_explain=options.explain,
            seed=options.seed,
            command=shlex.join(["python", *sys.argv]),
        )
        stem = name.replace("/", "-").replace(":", "-")
        scan.save(options.out / f"{stem}.jsonl")
        write_page(options.out / f"{stem}.html", scan)
        scans.append((stem, scan))
        sys.stderr.write(f"{name}: {scan.record.seconds:.0f} s\n")
    text = "".join(write_report(scans)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
