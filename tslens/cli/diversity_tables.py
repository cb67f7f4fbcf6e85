"""What ``tslens data diversity`` prints on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tslens.cli.console import show, show_table

BARS = "▁▂▃▄▅▆▇█"
SHOWN_CHARACTERS = 700


def show_diversity(facts: Mapping[str, Any]) -> None:
    """Tables and histograms of one result."""
    if facts["kind"] == "comparison":
        show_differences(facts)
        return
    show_table(
        ["<measure>", "mean", "95% interval", "texts"],
        [[row["name"], *_interval(row), str(row["n"])] for row in facts["measures"]],
    )
    show("\nHistograms, each bar relative to its highest; shares from 0 to 1:")
    show_table(
        ["<measure>", "from", "<histogram>", "to", "never"],
        [
            [
                row["name"],
                f"{row['edges'][0]:g}",
                draw_bars(row["counts"]),
                f"{row['edges'][-1]:g}",
                "" if row["never"] is None else f"{row['never']:,}",
            ]
            for row in facts["histograms"]
        ],
    )
    show("\nCopying (thresholds are ours, see docs/methods.md; looser, stricter: shares moved by 0.1):")
    show_table(
        ["<against>", "<thresholds>", "exact", "simple template", "complex template", "none"],
        [
            [case if name == "looser" else "", name, *(str(n) for n in counts.values())]
            for case, rows in facts["grades"].items()
            for name, counts in rows.items()
        ],
    )
    for row in facts["shown"]:
        show_pair(row)


def show_pair(row: Mapping[str, Any]) -> None:
    """A text and its nearest story, the words they share in brackets."""
    show(f"\n{row['what']}: R_2p {row['score']:.2f} with story {row['number']}. [Shared word pairs]")
    show(f"  {_shortened(mark_shared(row['text'], row['story']))}")
    show(f"  nearest story: {_shortened(mark_shared(row['story'], row['text']))}")


def mark_shared(text: str, other: str) -> str:
    """A text with brackets around what its word pairs share with another."""
    from tslens.corpus.diversity.grams import shared_runs

    parts, last = [], 0
    for start, end in shared_runs(text, other):
        parts += [text[last:start], "[", text[start:end], "]"]
        last = end
    return "".join([*parts, text[last:]])


def draw_bars(counts: Sequence[int]) -> str:
    """One character a bin: a dot for none, else a bar of an eighth to the whole height of the highest."""
    most = max([*counts, 1])
    return "".join(BARS[(8 * n - 1) // most] if n else "·" for n in counts)


def show_differences(facts: Mapping[str, Any]) -> None:
    """Both corpora, their difference, and the differences under swapped labels."""
    arrows = {True: "up", False: "down", None: ""}
    show_table(
        [
            "<measure>",
            "<more diverse>",
            "first",
            "second",
            "difference",
            "95% interval",
            "swapped labels",
            "p",
        ],
        [
            [
                row["name"],
                arrows[row["more"]],
                _number(row["first"]["mean"]),
                _number(row["second"]["mean"]),
                *_interval(row["difference"], sign="+"),
                f"{_number(row['null_low'], '+')} {_number(row['null_high'], '+')}",
                f"{row['p']:.3f}",
            ]
            for row in facts["differences"]
        ],
    )
    show(
        f"first: {facts['first']}, second: {facts['second']}, {facts['n']} stories of each, against their own set."
        f"\nSwapped labels: the middle 95% of the differences of {facts['n_permutations']:,} random deals; p is "
        "two-sided and not corrected\nfor the number of measures. Longer stories share more: see the row of words."
    )


def _interval(row: Mapping[str, Any], sign: str = "") -> list[str]:
    if row["mean"] is None:
        return ["–", "–"]
    known = row["low"] is not None
    ends = f"{_number(row['low'], sign)} {_number(row['high'], sign)}" if known else "–"
    return [_number(row["mean"], sign), ends]


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{1 if abs(value) >= 10 else 3}f}"


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN_CHARACTERS else flat[:SHOWN_CHARACTERS] + " …"
