"""Heads as cards: a small one for each in the overview, and the data of the large one that ``rows.js`` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tslens.types import HeadId, HeadScore
from tslens.viz.heads_words import (
    STATUSES,
    ScanFacts,
    basis,
    by_strength,
    cause,
    found,
    next_noun,
    place,
    reason,
    words,
)
from tslens.viz.page import escape, signed

SPARK_WIDTH, SPARK_HEIGHT = 64, 20


def small_cards(rows: Sequence[HeadScore], profiles: Mapping[HeadId, np.ndarray]) -> str:
    """All heads, each with its best row and how far back it looks; a click selects one."""
    best: dict[HeadId, HeadScore] = {}
    for row in sorted(rows, key=by_strength):
        best.setdefault(row.head, row)
    cards = "".join(_small_card(best[head], profiles.get(head)) for head in sorted(best))
    return f'<nav id="heads" aria-label="All heads">\n{cards}</nav>\n'


def _small_card(row: HeadScore, profile: np.ndarray | None) -> str:
    mark = STATUSES[row.status][0]
    says = f"{mark} {place(row)}" if mark else "nothing beyond its nulls"
    return (
        f'<a href="#{row.head}" class="{row.status}"><b>{row.head}</b> '
        f'<span title="{row.status}, excess {signed(row.excess)}">{escape(says)}</span>'
        f"{'' if profile is None else sparkline(profile)}</a>\n"
    )


def sparkline(profile: np.ndarray) -> str:
    """Mean attention by distance, the token itself at the left, as a tiny filled line; its top is the largest value."""
    values = np.nan_to_num(np.asarray(profile, dtype=np.float64))
    if not len(values) or values.max() <= 0:
        return ""
    heights = np.rint(SPARK_HEIGHT * (1 - values / values.max())).astype(int).tolist()
    width = SPARK_WIDTH / len(heights)
    steps = "".join(f"V{y}h{width:g}" for y in heights)
    return (
        f'<svg viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="M0 {SPARK_HEIGHT}{steps}V{SPARK_HEIGHT}z"/></svg>'
    )


def card_data(
    head: HeadId, ranked: Sequence[HeadScore], facts: ScanFacts, profile: np.ndarray | None
) -> Mapping[str, Any]:
    """A head for ``rows.js``: what it says above ``no``, best first, what it does not do, its distance profile."""
    own = [row for row in ranked if row.head == head]
    values = [] if profile is None else np.asarray(profile, dtype=np.float64).tolist()
    return {
        "says": [_row_data(row, facts) for row in own if row.status != "no"],
        "not": ", ".join(place(row) for row in own if row.status == "no"),
        "profile": [round(value, 4) if np.isfinite(value) else None for value in values],
    }


def _row_data(row: HeadScore, facts: ScanFacts) -> Mapping[str, Any]:
    """One row: words, and the figures of its drawings."""
    nulls = sorted(row.nulls.items(), key=lambda item: -item[1])
    data: dict[str, Any] = {
        "status": row.status,
        "place": words(row.probe),
        "at": "" if row.position == "word" else "at the token before",
        "found": found(row),
        "why": [text for text in (reason(row, facts), basis(row), next_noun(row), cause(row, facts)) if text],
        "value": _rounded(row.value, row.low, row.high),
        "nulls": [[words(name), *_rounded(value)] for name, value in nulls],
        "excess_low": _rounded(row.excess_low)[0],
    }
    if row.lexical is not None and row.head.layer > 0:
        data["lexical"] = _rounded(row.lexical)[0]
    if row.cause:
        data["cause"] = {name: _rounded(value)[0] for name, value in row.cause.items()}
    return data


def _rounded(*values: float) -> list[float | None]:
    return [round(value, 4) if np.isfinite(value) else None for value in values]
