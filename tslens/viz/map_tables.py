"""The other tables of the page of the capability map: by measure, readouts and n-gram, ways of ablating, roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tslens.causal.replacement import Replacement
from tslens.grading.rubric import CRITERIA
from tslens.link.effects import METHODS
from tslens.link.map_report import MapReport, MapRow, MapStatus
from tslens.viz.map_words import ABSENT, STATUSES, in_order, percent, sorter, spoken, told
from tslens.viz.page import escape, number, signed

MOST_MEMBERS = 12  # of a role, that are shown unopened
Row = Mapping[str, Any]


LISTED: tuple[MapStatus, ...] = ("carries", "candidate")
"""Statuses of which a table of measures names the components; of the others it counts them."""


def measures_of(report: MapReport) -> dict[tuple[str, str], list[MapRow]]:
    """Rows by the mean of each measure: evidence, name."""
    found: dict[tuple[str, str], list[MapRow]] = {}
    for row in report.rows:
        if row.status is not None:
            found.setdefault((row.evidence, row.measure), []).append(row)
    return found


def by_measure(report: MapReport) -> str:
    """Which components carry each measure, which are candidates, how many the rest are."""
    rows = []
    for (evidence, measure), of_measure in measures_of(report).items():
        names = {
            status: in_order([row.component for row in of_measure if row.status == status])
            for status in STATUSES
        }
        listed = (", ".join(map(spoken, names[status])) or ABSENT for status in LISTED)
        cells = [escape(text) for text in (of_measure[0].capability, evidence, *listed)]
        counts = [str(len(names[status])) for status in STATUSES if status not in LISTED]
        rows.append([escape(spoken(measure)), *cells, *counts])
    heads = (
        "measure",
        "capability",
        "by",
        *(f"{mark}\N{NO-BREAK SPACE}{name}".strip() for name, (mark, _) in STATUSES.items()),
    )
    return _section(
        "measures",
        "By measure",
        "How many components have each status, and which matter.",
        _table(heads, rows, "Components of each measure", wraps=(3, 4)),
    )


# Readouts -------------------------------------------------------------------------------------------------


def readouts_section(report: MapReport) -> str:
    """Every readout with its accuracy, the n-gram's beside it where there is one, and the n-gram as a row."""
    ngram: Row | None = report.header.get("ngram")
    beside: dict[str, Row] = {one["readout"]: one for one in ngram["readouts"]} if ngram else {}
    heads = ["readout", "capability", "accuracy", "at least", "nats", "pairs", "passed"]
    heads += ["n-gram's accuracy", "n-gram passes"] if ngram else []
    rows = []
    for one in report.readouts:
        cells = [
            f"{escape(spoken(str(one['readout'])))}<small>{escape(str(one['asks']))}</small>",
            escape(str(one["capability"])),
            _accuracy(one),
            number(one["least_accuracy"]),
            f"{signed(one['difference'])} {_ends(one['difference_low'], one['difference_high'])}",
            f"{one['n_pairs']:,}",
            "yes" if one["passes"] else "no",
        ]
        if ngram:
            other = beside.get(one["readout"])
            cells += (
                [ABSENT, ABSENT] if other is None else [_accuracy(other), "yes" if other["passes"] else "no"]
            )
        rows.append(cells)
    return _section(
        "readouts",
        "Readouts",
        "Accuracy: share of pairs, each with its mirror, in which the right tokens are likelier; 0.5 by chance, with "
        "its 95% interval over stories or prompts. Passed: the lower end, corrected for all readouts, is above 0.5; "
        "of the others nothing is said. Nats: log-probability of the right minus that of the wrong.",
        _table(heads, rows, "Readouts") + (_beside(report, ngram) if ngram else ""),
    )


def _beside(report: MapReport, ngram: Row) -> str:
    """The model and the n-gram, a row each; with what the same judge gives their texts, where it was asked."""
    model: Row = report.header
    sides = (
        (str(model.get("model", "the model")), model, report.readouts, "whole"),
        (f"{ngram['order']}-gram", ngram, ngram["readouts"], "ngram"),
    )
    heads = ["of", "loss, nats per token", "bits per byte", "readouts passed"]
    means: Mapping[str, Row] = model.get("means") or {}
    heads += [f"{name}, graded" for name in CRITERIA] if means else []
    rows = []
    for name, of, scores, key in sides:
        passed = sum(bool(one["passes"]) for one in scores)
        row = [escape(name), told(of.get("loss_nats")), told(of.get("bits_per_byte")), str(passed)]
        if means:
            own: Mapping[str, Row] = means.get(key, {}).get("means", {})
            row += [_mean(own.get(criterion)) for criterion in CRITERIA]
        rows.append(row)
    counted = f'<p class="hint">Counted on {escape(str(ngram["counted_on"]))}.</p>\n'
    return f"<h3>The n-gram beside the model</h3>\n{counted}{_table(heads, rows, 'The model and the n-gram')}"


def _mean(mean: Row | None) -> str:
    """A mean grade with its interval over prompts; a dash where too many texts have none."""
    if mean is None:
        return ABSENT
    is_alone = mean["low"] is None or mean["high"] is None
    ends = "" if is_alone else f" <small>[{number(mean['low'])}, {number(mean['high'])}]</small>"
    return number(mean["mean"]) + ends


def _accuracy(one: Row) -> str:
    ends = f"<small>[{number(one['accuracy_low'])}, {number(one['accuracy_high'])}]</small>"
    return f"{number(one['accuracy'])} {ends}"


def _ends(low: float, high: float) -> str:
    return f"<small>[{signed(low)}, {signed(high)}]</small>"


# Ways of ablating -----------------------------------------------------------------------------------------


def ways_section(report: MapReport) -> str:
    """What components take by the mean, by zero and by another story's, and how far the ways agree."""
    read = _in_all_ways(report)
    if not read:
        return ""
    measures = list(dict.fromkeys(measure for _, measure in read))
    options = "".join(f'<option value="{escape(name)}">{escape(spoken(name))}</option>' for name in measures)
    order = {name: place for place, name in enumerate(in_order(report.components))}
    rows = "".join(
        _way_row(order[component], read[component, measure])
        for component, measure in sorted(
            read, key=lambda key: (measures.index(key[1]), order.get(key[0], len(order)))
        )
    )
    heads = sorter("component", order="ascending") + sorter("readout", order="ascending")
    heads += "".join(sorter(f"share by {way}", "lost") + sorter(f"loss by {way}", "nats") for way in METHODS)
    return (
        '<section id="ways">\n<h2>Three ways of ablating</h2>\n'
        '<p class="hint">Components of which surely something is lost by the mean, and ten random others. Zero: '
        "nothing in their place; resample: what another story gives. Shares with 95% intervals, not corrected; loss: "
        "total loss, nats per token.</p>\n"
        '<form class="fields" hidden><label>readout <select class="shows" data-rows="ways-table">'
        f'{options}<option value="">all</option></select></label></form>\n'
        '<div class="box tall" tabindex=0 role=region aria-label="Three ways of ablating">'
        f'<table id="ways-table" class="sorts lined"><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table>'
        f"</div>\n{_agreement(report.header.get('agreement') or ())}</section>\n"
    )


def _in_all_ways(report: MapReport) -> dict[tuple[str, str], dict[Replacement, MapRow]]:
    """Rows of each component and readout that was read in all ways."""
    found: dict[tuple[str, str], dict[Replacement, MapRow]] = {}
    for row in report.rows:
        if row.evidence == "readout":
            found.setdefault((row.component, row.measure), {})[row.method] = row
    return {key: ways for key, ways in found.items() if all(way in ways for way in METHODS)}


def _way_row(place: int, ways: Mapping[Replacement, MapRow]) -> str:
    mean = ways["mean"]
    cells = "".join(
        f"<td data-v={row.share.value:.4f}>{percent(row.share.value)} "
        f"<small>[{percent(row.share.low)}, {percent(row.share.high)}]</small></td>"
        f"<td>{signed(row.delta_loss_nats, 3)}</td>"
        for row in (ways[way] for way in METHODS)
    )
    mark = "" if mean.status is None else STATUSES[mean.status][0]
    return (
        f'<tr data-measure="{escape(mean.measure)}"><th scope=row data-v={place}>{escape(spoken(mean.component))} '
        f"{mark}</th><td>{escape(spoken(mean.measure))}</td>{cells}</tr>\n"
    )


def _agreement(rows: Iterable[Row]) -> str:
    """Rank correlations, a row for each measure, a column for each two ways."""
    by_place = {(row["measure"], tuple(row["methods"])): row for row in rows}
    if not by_place:
        return '<p class="counts">Too few components were read in all ways for a rank correlation.</p>\n'
    pairs = list(dict.fromkeys(ways for _, ways in by_place))
    measures = list(dict.fromkeys(measure for measure, _ in by_place))
    body = []
    for measure in measures:
        found = [by_place.get((measure, ways)) for ways in pairs]
        figures = [told(None if one is None else one["spearman"]) for one in found]
        n = max(one["n_components"] for one in found if one is not None)
        name = "total loss" if measure == "loss" else spoken(measure)
        body.append([escape(name), *figures, str(n)])
    heads = ("of", *(f"{one} and {other}" for one, other in pairs), "components")
    table = _table(heads, body, "Rank correlations of the ways")
    return f'<h3>Do the ways agree</h3>\n<p class="hint">Spearman\'s rank correlation over the components.</p>\n{table}'


# Roles ----------------------------------------------------------------------------------------------------


def members_section(report: MapReport) -> str:
    """The components of each role."""
    if not report.members:
        return ""
    rows = []
    for name, members in report.members.items():
        listed = escape(", ".join(members))
        if len(members) > MOST_MEMBERS:
            first = escape(", ".join(members[:MOST_MEMBERS]))
            listed = f"<details><summary>{first}, …</summary>{listed}</details>"
        rows.append([escape(spoken(name)), str(len(members)), listed])
    return _section(
        "members",
        "Members of the roles",
        "What is ablated at once under the name of a role: all components that are role or candidate of it, by tslens "
        "heads and tslens neurons. Roles with the same members are one.",
        _table(("role", "components", "which"), rows, "Members of the roles", wraps=(2,)),
    )


def _section(name: str, title: str, hint: str, inside: str) -> str:
    return f'<section id="{name}">\n<h2>{title}</h2>\n<p class="hint">{hint}</p>\n{inside}</section>\n'


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], label: str, *, wraps: Sequence[int] = ()
) -> str:
    """A table that sorts. ``rows``: cells as HTML, the first a heading. ``wraps``: columns of long text."""
    top = "".join(sorter(head, order="ascending" if i < 2 else "descending") for i, head in enumerate(heads))
    body = "".join(
        f"<tr><th scope=row>{first}</th>"
        + "".join(f"<td{' class=wraps' if i in wraps else ''}>{text}</td>" for i, text in enumerate(rest, 1))
        + "</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<div class="box fit" tabindex=0 role=region aria-label="{escape(label)}"><table class="sorts lined"><thead>'
        f"<tr>{top}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )
