"""The page of ``tslens heads``: what each attention head of a model attends to, against its nulls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tslens.types import HeadId, HeadScore
from tslens.viz.heads_table import (
    STATUSES,
    by_strength,
    heat_map,
    largest_null,
    score_table,
    words,
)
from tslens.viz.page import (
    build_page,
    definitions,
    escape,
    limits_section,
    number,
    room_left,
    signed,
    write_page,
)
from tslens.viz.patterns import CHART_TOKENS, ExamplePattern, heads_that_fit, panel, story_data, wall

_SCRIPTS = ("view.js", "table.js")
_NOTE_BYTES = 1000

# Probes whose name is no noun phrase of what is attended to; all others read "the <name>".
_TARGETS = {
    "duplicate_token": "earlier copies of the same token",
    "induction": "the token after an earlier copy",
}


def write_heads_page(
    path: Path,
    *,
    title: str,
    model: str,
    header: Mapping[str, str],
    rows: Sequence[HeadScore],
    probes: Mapping[str, str],
    floor: float,
    counts: Mapping[str, int],
    distance_profiles: Mapping[HeadId, np.ndarray],
    examples: Sequence[ExamplePattern],
    cannot_tell: Sequence[str],
) -> None:
    """Write the page of a head scan: one HTML file below 5 MB, nothing from the network.

    ``header``: facts, as name and value. ``probes``: name and one sentence, in the order of the columns.
    ``floor``: the excess that a candidate's corrected lower end must reach. ``counts``: what the count of
    candidates is for, and the count. ``distance_profiles``: mean attention ``[distance]`` of each head.
    ``examples``: stories with their patterns; heads with the least excess lose theirs where not all fit.
    Equal input gives equal bytes. Raises RunError where ``path`` cannot be written.
    """
    ranked = sorted(rows, key=by_strength)
    order = list(dict.fromkeys(row.head for row in ranked))
    heads = {
        str(head): _head_data(head, ranked, floor, distance_profiles.get(head)) for head in sorted(order)
    }

    def page(kept: Sequence[HeadId]) -> str:
        return build_page(
            title=title,
            lead=summary(ranked, model),
            header={"model": model, **header},
            main=_overview(ranked, probes, floor, _crop_note(examples, order, kept))
            + _measurements(ranked)
            + _meaning(probes, floor, counts)
            + limits_section(cannot_tell),
            data={
                "selected": str(order[0]) if order else None,
                "heads": heads,
                "stories": [story_data(example, kept, CHART_TOKENS) for example in examples],
                "chart_tokens": CHART_TOKENS,
            },
            scripts=_SCRIPTS,
        )

    room = room_left(page([])) - _NOTE_BYTES
    write_page(path, page(heads_that_fit(examples, order, room, CHART_TOKENS)))


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
    return f"{'; '.join(parts)}."


def _head_data(
    head: HeadId, ranked: Sequence[HeadScore], floor: float, profile: np.ndarray | None
) -> Mapping[str, Any]:
    own = [row for row in ranked if row.head == head]
    values = [] if profile is None else np.asarray(profile, dtype=np.float64).tolist()
    return {
        "says": [[row.status, _place(row), *_sentence(row, floor)] for row in own if row.status != "no"],
        "not": ", ".join(_place(row) for row in own if row.status == "no"),
        "profile": [round(value, 4) if np.isfinite(value) else None for value in values],
    }


def _place(row: HeadScore) -> str:
    return words(row.probe) + (" (before)" if row.position == "before" else "")


def _sentence(row: HeadScore, floor: float) -> tuple[str, str]:
    """The row in words, and why it has its status."""
    target = _TARGETS.get(row.probe, f"the {words(row.probe)}")
    null_name, null = largest_null(row)
    where = "At the token before the word, pays" if row.position == "before" else "Pays"
    found = (
        f"{where} {number(row.value)} [{number(row.low)}, {number(row.high)}] of its attention to {target}; "
        f"the largest null ({words(null_name)}) gives {number(null)}."
    )
    if row.status != "unclear":
        reason = f"Basis: {row.basis}." if row.basis else ""
    elif row.excess_low < floor:
        low = signed(row.excess_low)
        reason = f"The corrected lower end of the excess, {low}, is below the floor of {floor:g}."
    else:
        first, second = ("not known" if value is None else signed(value) for value in row.excess_halves)
        reason = f"Not confirmed: the excess is {first} and {second} on the two halves of the stories."
    return found, reason


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


def _overview(rows: Sequence[HeadScore], probes: Mapping[str, str], floor: float, note: str) -> str:
    return (
        '<section id="overview" class="split">\n<div>\n<h2>Heads by what they attend to</h2>\n'
        '<p class="hint">Choose a head to see its attention.</p>\n'
        f"{heat_map(rows, probes, floor)}</div>\n{panel('On a story', note)}"
        f"{wall('All heads on this story', '')}</section>\n"
    )


def _measurements(rows: Sequence[HeadScore]) -> str:
    return f'<section id="measurements">\n<h2>Every measurement</h2>\n{score_table(rows)}</section>\n'


def _meaning(probes: Mapping[str, str], floor: float, counts: Mapping[str, int]) -> str:
    counted = ", ".join(f"{escape(name)}: {count}" for name, count in counts.items())
    terms = {
        "value": "Mean attention that the head pays to what the probe looks for, 0 to 1, with its 95% "
        "interval from resampling whole stories.",
        "null": "The value that something simpler would give: a head that spreads its attention evenly, or "
        "only by distance, other tokens of like frequency, a random twin of the model. The largest counts.",
        "excess": "Value minus the largest null. Its lower end is corrected for the number of heads, probes "
        "and positions tested.",
        "floor": f"{floor:g}. Being above the nulls is not yet a role: the corrected lower end of the excess "
        "must reach this.",
        "p": "Chance of so large an excess if there were none, corrected likewise.",
        "mul": "The score of TransformerLens' head detector on the same tokens, where it has such a pattern.",
        "basis": "What explains the attention: distance (positional), token identities (lexical), or neither "
        "(contextual).",
        "position": "word: the query is the word itself; before: the token before it, where the model "
        "predicts it.",
    }
    statuses = {f"{mark} {status}".strip(): text for status, (mark, text) in STATUSES.items()}
    return (
        '<section id="meaning">\n<h2>How to read the numbers</h2>\n'
        f"<h3>Figures</h3>\n{definitions(terms)}"
        f'<p class="counts">Candidates by floor: {counted}.</p>\n'
        f"<h3>Status</h3>\n{definitions(statuses)}"
        f"<h3>Probes</h3>\n{definitions({words(name): text for name, text in probes.items()})}</section>\n"
    )
