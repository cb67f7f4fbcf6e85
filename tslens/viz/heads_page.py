"""The page of ``tslens heads``: what each attention head of a model attends to, against its nulls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tslens.types import HeadId, HeadScore
from tslens.viz.heads_cards import card_data, small_cards
from tslens.viz.heads_table import score_table
from tslens.viz.heads_words import STATUSES, ScanFacts, by_strength, words
from tslens.viz.heat_map import heat_map
from tslens.viz.page import build_page, definitions, escape, limits_section, number, room_left, write_page
from tslens.viz.paper_figure import paper_figure
from tslens.viz.paragraph import Paragraph
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, panel, story_data

_SCRIPTS = ("figures.js", "rows.js", "view.js", "table.js")
_NOTE_BYTES = 1000
_WAYS = {
    "edge": "the role's attention",
    "zero": "the whole head, zeros for it",
    "mean": "the whole head, its mean for it",
    "resample": "the whole head, another story's for it",
}


def write_heads_page(
    path: Path,
    *,
    title: str,
    model: str,
    header: Mapping[str, str],
    rows: Sequence[HeadScore],
    probes: Mapping[str, str],
    facts: ScanFacts,
    counts: Mapping[str, int],
    distance_profiles: Mapping[HeadId, np.ndarray],
    examples: Sequence[ExamplePattern],
    cannot_tell: Sequence[str],
    paragraph: Paragraph | None = None,
    agreement: Mapping[str, float] | None = None,
) -> None:
    """Write the page of a head scan: one HTML file below 5 MB, nothing from the network.

    ``header``: facts, as name and value. ``probes``: name and one sentence of each. ``facts``: floor, served
    predictions, stories of the causal test. ``counts``: what the count of candidates is for, and the count.
    ``distance_profiles``: mean attention ``[distance]`` of each head.
    ``examples``: stories with their patterns; heads with the least excess lose theirs where not all fit.
    ``paragraph``: that of the paper's figure, shown before the other examples. ``agreement``: rank correlations of the
    ways to take a head away, as ``edge~zero``. Equal input gives equal bytes.
    Raises RunError where ``path`` cannot be written.
    """
    ranked = sorted(rows, key=by_strength)
    order = list(dict.fromkeys(row.head for row in ranked))
    heads = {str(head): card_data(head, ranked, facts, distance_profiles.get(head)) for head in sorted(order)}
    shown = [*([paragraph.example] if paragraph else []), *examples]

    def page(kept: Sequence[HeadId]) -> str:
        return build_page(
            title=title,
            lead=summary(ranked, model),
            header={"model": model, **header},
            main=_overview(ranked, probes, facts.floor)
            + _heads(ranked, distance_profiles, _crop_note(shown, order, kept))
            + (paper_figure(paragraph, ranked) if paragraph else "")
            + _measurements(ranked)
            + _meaning(probes, facts, counts, agreement or {})
            + limits_section(cannot_tell),
            data={
                "selected": str(order[0]) if order else None,
                "heads": heads,
                "stories": [story_data(example, kept, CHART_TOKENS) for example in shown],
                "chart_tokens": CHART_TOKENS,
                "floor": facts.floor,
            },
            scripts=_SCRIPTS,
        )

    room = room_left(page([])) - _NOTE_BYTES
    write_page(path, page(heads_that_fit(shown, order, room, CHART_TOKENS)))


def summary(rows: Sequence[HeadScore], model: str) -> str:
    """What was found, in one sentence: how many heads have a role of which kind."""
    best: dict[HeadId, HeadScore] = {}
    for row in sorted(rows, key=by_strength):
        best.setdefault(row.head, row)
    parts = []
    for status, phrase in (("role", "a tested role"), ("candidate", "a candidate role")):
        kinds = Counter(words(row.probe) for row in best.values() if row.status == status)
        if kinds:
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
            verb = "has" if kinds.total() == 1 else "have"
            parts.append(f"{kinds.total()} of {len(best)} heads {verb} {phrase}: {listed}")
    if not parts:
        return (
            f"None of the {len(best)} heads of {model} has a candidate role: no excess over the nulls is "
            "large enough and confirmed."
        )
    return f"{'; '.join(parts)}. Each head counts once, by its strongest row."


def _crop_note(examples: Sequence[ExamplePattern], order: Sequence[HeadId], kept: Sequence[HeadId]) -> str:
    notes = []
    if any(len(example.tokens) > CHART_TOKENS for example in examples):
        notes.append(f"Stories are shown up to their first {CHART_TOKENS} tokens.")
    drawn = [head for head in order if any(head in example.patterns for example in examples)]
    held = len(set(drawn) & set(kept))
    if held < len(drawn):
        notes.append(
            f"To stay below 5 MB the page holds the patterns of {held} of {len(drawn)} heads; the others are "
            "those with the least excess."
        )
    return " ".join(notes)


def _overview(rows: Sequence[HeadScore], probes: Mapping[str, str], floor: float) -> str:
    return (
        '<section id="overview">\n<h2>Heads by what they attend to</h2>\n'
        '<p class="hint">A row for each head, a column for each question. Choose a head to see its card. Of a '
        "relation between words, the left column asks at the word itself, the right one at the token before it, where "
        "the model predicts the word.</p>\n"
        f"{heat_map(rows, probes, floor)}</section>\n"
    )


def _heads(rows: Sequence[HeadScore], profiles: Mapping[HeadId, np.ndarray], note: str) -> str:
    return (
        '<section id="cards" class="split">\n<div>\n<h2>All heads</h2>\n'
        '<p class="hint">What each does best. The line: mean attention by distance, the token itself at the left.</p>\n'
        f"{small_cards(rows, profiles)}</div>\n{panel('On a story', note)}</section>\n"
    )


def _measurements(rows: Sequence[HeadScore]) -> str:
    return f'<section id="measurements">\n<h2>Every measurement</h2>\n{score_table(rows)}</section>\n'


def _meaning(
    probes: Mapping[str, str], facts: ScanFacts, counts: Mapping[str, int], agreement: Mapping[str, float]
) -> str:
    counted = ", ".join(f"{escape(name)}: {count}" for name, count in counts.items())
    terms = {
        "value": "Mean attention that the head pays to what the probe looks for, 0 to 1, with its 95% "
        "interval from resampling whole stories.",
        "null": "The value that something simpler would give: a head that spreads its attention evenly, or "
        "only by distance, other tokens of like frequency, other words of the same part of speech, random twins of "
        "the model. The largest counts.",
        "excess": "Value minus the largest null. Its lower end is corrected for the number of heads, probes "
        "and positions tested.",
        "floor": f"{facts.floor:g}. Being above the nulls is not yet a role: the corrected lower end of the excess "
        "must reach this.",
        "p": "Chance of so large an excess if there were none, corrected likewise.",
        "mul": "The score of TransformerLens' head detector on the same tokens, where it has such a pattern.",
        "basis": "What explains the attention: distance (positional), token identities with distance (lexical), or "
        "neither (contextual).",
        "position": "word: the query is the word itself; before: the token before it, where the model "
        "predicts it.",
        "cause": "Change of the loss, in nats a token, where the role should help. First: the attention to what the "
        "role looks for is moved to the start of the story, less what it costs to move as much attention from like "
        "tokens; with the lower end of its interval, corrected for all rows tested. Then: all of it moved. Then: the "
        "whole head replaced by zeros, by its mean at that place, by what it does in another story; a hollow mark is "
        "that cost beyond the cost at like tokens, which the role does not serve.",
    }
    statuses = {f"{mark} {status}".strip(): text for status, (mark, text) in STATUSES.items()}
    return (
        '<section id="meaning">\n<h2>How to read the numbers</h2>\n'
        f"<h3>Figures</h3>\n{definitions(terms)}"
        f'<p class="counts">Candidates by floor: {counted}.</p>\n'
        f"<h3>Status</h3>\n{definitions(statuses)}{_agreement(agreement)}"
        f"<h3>Probes</h3>\n{definitions({words(name): text for name, text in probes.items()})}</section>\n"
    )


def _agreement(agreement: Mapping[str, float]) -> str:
    """How far the ways to take a head away give the same order of rows."""
    if not agreement:
        return ""
    pairs = {
        " and ".join(_WAYS.get(way, way) for way in name.split("~")): value
        for name, value in agreement.items()
    }
    items = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td>{number(value)}</td></tr>\n"
        for name, value in pairs.items()
    )
    return (
        "<h3>Do the ways to take a head away agree?</h3>\n"
        '<p class="hint">Rank correlation of what two ways cost, over all rows that were tested (1: the same order, '
        "0: none).</p>\n"
        f'<div class="box fit"><table class="plain"><tbody>\n{items}</tbody></table></div>\n'
    )
