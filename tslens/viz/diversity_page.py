"""Diversity as one page: histograms, grades of copying, nearest stories side by side; or two corpora compared.

The page is complete without scripts. Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tslens.corpus.diversity.copying import GRADES, THRESHOLDS
from tslens.corpus.diversity.grams import shared_runs
from tslens.viz.page import build_page, definitions, escape, limits_section, number, signed, write_page

BAR, GAP, HEIGHT, TOP, FOOT = 18, 2, 92, 14, 18  # of a histogram, in its own units
_MEANINGS = {
    "R_2p": "share of a text's different pairs of neighbouring words that another text has too: 0 to 1",
    "R_2": "harmonic mean of R_2p in both directions, symmetric: 0 to 1",
    "longest verbatim run": "the longest run of words that a story has too; punctuation and capitals may differ",
    "exact": f"one verbatim run of at least {THRESHOLDS.min_run_words} words is at least "
    f"{THRESHOLDS.min_run_share:g} of the text",
    "simple template": f"so with names masked, or R_2p with names masked at least {THRESHOLDS.min_simple_precision:g}",
    "complex template": f"R_2p with names masked is at least {THRESHOLDS.min_complex_precision:g}",
    "looser, stricter": "the same with all shares moved by 0.1",
}
_MEANINGS_COMPARED = {
    "R_2p": _MEANINGS["R_2p"],
    "R_2": _MEANINGS["R_2"],
    "more diverse": "whether a higher or a lower figure speaks for more diversity",
    "distinct-k": "different runs of k words of the corpus over all its runs of k words",
    "2-grams that no other story has": "share of a story's different pairs of words that are its alone",
}
_LIMITS = {
    "completions": (
        "Whether a model understands what it does not copy: new runs of words can be nonsense.",
        "Whether a phrase was copied or is simply common: compare with the true endings, their own story left out.",
        "Ideas that are told in other words: all measures compare words.",
    ),
    "corpus": (
        "Ideas that are told in other words: all measures compare words.",
        "How diverse another corpus is: shares depend on the size of the corpus. Compare two at the same size with: "
        "tslens data diversity A B",
    ),
    "comparison": (
        "Why one is more diverse: longer stories share more (see the row of words), and more of them on one topic, or "
        "another hand, show as well.",
        "Ideas that are told in other words: all measures compare words.",
        "Which of several measures to believe: p is not corrected for their number.",
    ),
}


def write_diversity_page(path: Path, *, facts: Mapping[str, Any], header: Mapping[str, str]) -> None:
    """Write the page of one result of schema ``tslens.diversity/1``, with its texts in ``shown``.

    Raises RunError where ``path`` cannot be written.
    """
    kind = facts["kind"]
    if kind == "comparison":
        main = _differences(facts)
    else:
        main = (
            _grades(facts["grades"])
            + _pairs(facts["shown"])
            + _histograms(facts)
            + _measures(facts["measures"])
        )
    warnings = "".join(f'<p class="says">{escape(warning)}</p>\n' for warning in facts["warnings"])
    terms = definitions(_MEANINGS_COMPARED if kind == "comparison" else _MEANINGS)
    meaning = f'<section id="meaning">\n<h2>What the words mean</h2>\n{terms}</section>\n'
    write_page(
        path,
        build_page(
            title=f"Diversity of {_subject(facts)}",
            lead=summarise_diversity(facts),
            header={"texts": f"{facts['n']:,}", **header},
            main=warnings + main + meaning + limits_section(_LIMITS[kind]),
            data={},
            scripts=(),
            has_patterns=False,
        ),
    )


def _subject(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "comparison":
        return f"{facts['first']} and {facts['second']}"
    source = facts["sources"][0]["name"]
    return f"{facts['completions_of']}, completing {source}" if facts["kind"] == "completions" else source


def summarise_diversity(facts: Mapping[str, Any]) -> str:
    """What was found, in one or two sentences."""
    if facts["kind"] == "comparison":
        rows = [row for row in facts["differences"] if row["more"] is not None]
        clear = [row for row in rows if row["p"] <= 0.05]
        first = sum((row["difference"]["mean"] > 0) == row["more"] for row in clear)
        return (
            f"Of {len(rows)} measures, {first} call {facts['first']} more diverse, {len(clear) - first} "
            f"{facts['second']}, and {len(rows) - len(clear)} see no difference at p 0.05."
        )
    means = {row["name"]: row["mean"] for row in facts["measures"]}
    if facts["kind"] == "corpus":
        return (
            f"{_percent(means['largest R_2p with another story'])} of a story's word pairs stand in the nearest other "
            f"story; {_percent(means['3-grams that no other story has'])} of its runs of three words are in no other."
        )
    counts = facts["grades"]["own story left out"]["as defined"]
    copied = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in GRADES[:3])
    return (
        f"{_percent(means['largest R_2p, own story left out'])} of a completion's word pairs stand in the nearest "
        f"other training story. Copies among {facts['n']}: {copied}."
    )


def draw_histogram(row: Mapping[str, Any]) -> str:
    """A histogram as SVG; values that have no place stand beside it as a bar of their own."""
    counts = list(row["counts"])
    bars = counts if row["never"] is None else [row["never"], *counts]
    offset = 0 if row["never"] is None else 1
    most = max([*bars, 1])
    step = BAR + GAP
    shift = offset * step  # a gap between "never" and the rest
    width = len(bars) * step + shift
    parts = []
    for i, n in enumerate(bars):
        left = i * step + (shift if i >= offset else 0)
        height = max(round(HEIGHT * n / most, 1), 1.5) if n else 0
        name = "never" if i < offset else _bin(row["edges"], i - offset)
        if n:
            kind = ' class="never"' if i < offset else ""
            parts.append(
                f'<rect{kind} x="{left}" y="{TOP + HEIGHT - height}" width="{BAR}" height="{height}">'
                f"<title>{escape(name)}: {n:,}</title></rect>"
            )
    base = TOP + HEIGHT
    tallest = max(range(len(bars)), key=lambda i: bars[i])
    x = tallest * step + (shift if tallest >= offset else 0) + BAR / 2
    anchor = "start" if tallest < 2 else "end" if tallest > len(bars) - 3 else "middle"
    x += {"start": -BAR / 2, "middle": 0, "end": BAR / 2}[anchor]
    parts.append(f'<text x="{x}" y="{TOP - 4}" text-anchor="{anchor}">{most:,}</text>')
    start = offset * step + shift
    edges = row["edges"]
    places = [(start, edges[0], "start"), ((start + width) / 2, (edges[0] + edges[-1]) / 2, "middle")]
    for x, value, anchor in [*places, (width - GAP, edges[-1], "end")]:
        parts.append(f'<text x="{x}" y="{base + FOOT - 4}" text-anchor="{anchor}">{_edge(value)}</text>')
    if offset:
        parts.append(f'<text x="0" y="{base + FOOT - 4}">never</text>')
    parts.append(f'<line x1="{start}" x2="{width}" y1="{base + 0.5}" y2="{base + 0.5}"/>')
    label = escape(f"{row['name']}: histogram of {sum(bars):,} values")
    return f'<svg viewBox="0 0 {width} {base + FOOT}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _bin(edges: Sequence[float], i: int) -> str:
    return f"{_edge(edges[i])} to {_edge(edges[i + 1])}"


def _edge(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def _histograms(facts: Mapping[str, Any]) -> str:
    figures = "".join(
        f"<figure>\n<figcaption>{escape(row['name'])}</figcaption>\n{draw_histogram(row)}\n</figure>\n"
        for row in facts["histograms"]
    )
    return (
        '<section id="histograms">\n<h2>Histograms</h2>\n'
        '<p class="hint">The number is that of the highest bar. Shares run from 0 to 1; relative frequencies in the '
        "corpus are powers of ten, over the different k-grams of every text.</p>\n"
        f'<div class="figures">\n{figures}</div>\n</section>\n'
    )


def _grades(grades: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    rows = "".join(
        f"<tr><th>{escape(case)}</th><td>{escape(name)}</td>"
        + "".join(f'<td class="figure">{counts[grade]}</td>' for grade in GRADES)
        + "</tr>\n"
        for case, by_threshold in grades.items()
        for name, counts in by_threshold.items()
    )
    heads = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in GRADES)
    return (
        '<section id="grades">\n<h2>Copying</h2>\n'
        '<p class="hint">How many texts have each grade. The grades are the paper\'s; thresholds are ours.</p>\n'
        f'<div class="box plain"><table><thead><tr><th>against</th><th>thresholds</th>{heads}</tr></thead>'
        f"<tbody>\n{rows}</tbody></table></div>\n</section>\n"
    )


def _measures(measures: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f'<tr><th>{escape(row["name"])}</th><td class="figure">{_value(row["mean"])}</td>'
        f'<td class="figure">{_value(row["low"])} to {_value(row["high"])}</td>'
        f'<td class="figure">{row["n"]}</td></tr>\n'
        for row in measures
    )
    return (
        '<section id="measures">\n<h2>Means</h2>\n<div class="box plain"><table><thead><tr><th>measure</th>'
        "<th>mean</th><th>95% interval</th><th>texts</th></tr></thead>"
        f"<tbody>\n{rows}</tbody></table></div>\n</section>\n"
    )


def _pairs(shown: Sequence[Mapping[str, Any]]) -> str:
    if not shown:
        return ""
    pairs = "".join(
        f'<h3>{escape(row["what"].replace("_", " "))}: R_2p {number(row["score"])}</h3>\n<div class="pair">\n'
        f'<div><p class="legend">{"its completion" if row["prompt"] else "the story"}</p>'
        f'<p class="text">{_prompt(row["prompt"])}{mark_shared(row["text"], row["story"])}</p></div>\n'
        f'<div><p class="legend">the nearest story, number {row["number"]}</p>'
        f'<p class="text">{mark_shared(row["story"], row["text"])}</p></div>\n</div>\n'
        for row in shown
    )
    prompts = " The prompt is grey and not compared." if any(row["prompt"] for row in shown) else ""
    return (
        '<section id="nearest">\n<h2>The closest to another story</h2>\n'
        '<p class="hint">Marked: the pairs of neighbouring words that both have. Stories are numbered from 0.'
        f"{prompts}</p>\n{pairs}</section>\n"
    )


def mark_shared(text: str, other: str) -> str:
    """A text as HTML with marks on what its word pairs share with another."""
    parts, last = [], 0
    for start, end in shared_runs(text, other):
        parts += [_lines(text[last:start]), f"<mark>{_lines(text[start:end])}</mark>"]
        last = end
    return "".join([*parts, _lines(text[last:])])


def _prompt(text: str) -> str:
    return f'<span class="soft">{_lines(text)}</span>' if text else ""


def _lines(text: str) -> str:
    return "<br>".join(escape(line) for line in text.split("\n"))


def _differences(facts: Mapping[str, Any]) -> str:
    better = {True: "higher", False: "lower", None: ""}
    rows = "".join(
        f"<tr><th>{escape(row['name'])}</th><td>{better[row['more']]}</td>"
        f'<td class="figure">{_value(row["first"]["mean"])}</td><td class="figure">{_value(row["second"]["mean"])}</td>'
        f'<td class="figure">{signed(row["difference"]["mean"], 3)}</td>'
        f'<td class="figure">{_span(row["difference"]["low"], row["difference"]["high"])}</td>'
        f'<td class="figure">{_span(row["null_low"], row["null_high"])}</td>'
        f'<td class="figure">{row["p"]:.3f}</td></tr>\n'
        for row in facts["differences"]
    )
    return (
        '<section id="differences">\n<h2>Both corpora</h2>\n'
        f'<p class="hint">{facts["n"]:,} stories of each, every one compared with the others of its own corpus. '
        f"Difference: {escape(facts['first'])} minus {escape(facts['second'])}. Swapped labels: the middle 95% of the "
        f"differences when the stories are dealt anew ({facts['n_permutations']:,} times).</p>\n"
        '<div class="box plain"><table><thead><tr><th>measure</th><th>more diverse</th>'
        f"<th>{escape(facts['first'])}</th><th>{escape(facts['second'])}</th><th>difference</th><th>95% interval</th>"
        f"<th>swapped labels</th><th>p</th></tr></thead><tbody>\n{rows}</tbody></table></div>\n</section>\n"
    )


def _value(value: float | None) -> str:
    return "–" if value is None else number(value, 1 if abs(value) >= 10 else 3)


def _span(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"{signed(low, 3)} to {signed(high, 3)}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f}%"
