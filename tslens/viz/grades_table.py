"""The table of graded models: means with intervals as numbers and as marks on an axis, ages, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tslens.grading.results import TEACHER, TRUE_ENDING, GradedModel
from tslens.grading.rubric import AGE_GROUPS, CRITERIA, AgeGroup, Criterion
from tslens.grading.summary import MOST_FAILURES, Mean, Summary, summarise
from tslens.viz.page import escape, number

REFERENCES: Mapping[str, str] = {TRUE_ENDING: "not known", TEACHER: "not asked"}
"""Rows that no model of ours wrote, what a model is held against; and what they say where there are no texts."""

ABSENT = "\N{EN DASH}"
WIDTH, HEIGHT, MARGIN = 150, 16, 6  # of a drawing, in its own units
_MOST = 10.0  # a grade
_SHOWN_LETTER = 0.12  # of the texts: a narrower part of the bar has no room for its letter
_DEPTH: Mapping[AgeGroup, float] = {"A": 0.06, "B": 0.22, "C": 0.4, "D": 0.58, "E": 0.82, "F": 1.0}


def models_table(models: Sequence[GradedModel]) -> str:
    """A row for each model, in the order given; the rows to hold them against are always there."""
    reference = next((model.summary for model in models if model.label == TRUE_ENDING), None)
    heads = "".join(f"<th scope=col>{name}{_scale()}</th>" for name in CRITERIA)
    rows = [_row(model.label, model.summary, reference) for model in models]
    there = {model.label for model in models}
    rows += [_row(label, summarise(()), None) for label in REFERENCES if label not in there]
    line = " The grey line is the mean of the true endings." if reference and reference.means else ""
    return (
        '<section id="models">\n<h2>Models</h2>\n'
        '<p class="hint">Mean over prompts with its 95% interval, on an axis from 0 to 10.'
        f"{line} Ages: which share of the texts a child of that age would write, by the judge.</p>\n"
        f"{_legend()}"
        '<div class="box" tabindex=0 role=region aria-label="Table of models"><table class="plain">'
        f"<thead><tr><th scope=col>model</th>{heads}<th scope=col>ages</th><th scope=col>texts</th>"
        f"<th scope=col>no grade</th></tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n</section>\n"
    )


def _row(label: str, found: Summary, reference: Summary | None) -> str:
    head = f"<th scope=row{' class=reference' if label in REFERENCES else ''}>{escape(label)}</th>"
    if not found.n and not found.failures:
        return f'<tr>{head}<td colspan={len(CRITERIA) + 3} class="soft">{REFERENCES.get(label, "no texts")}</td></tr>\n'
    if not found.means:
        failed = (
            f"no total: {100 * found.failure_rate:.0f}% of the texts have no grade; "
            f"means are given up to {100 * MOST_FAILURES:.0f}%"
        )
        cells = f"<td colspan={len(CRITERIA) + 1}>{failed}</td>"
    else:
        others = reference.means if reference and reference is not found else {}
        cells = "".join(_mean(found.means[name], others.get(name)) for name in CRITERIA)
        cells += f"<td>{draw_ages(found.ages)}</td>"
    return f"<tr>{head}{cells}<td>{found.n:,}</td><td>{_failures(found)}</td></tr>\n"


def _mean(mean: Mean, reference: Mean | None) -> str:
    if mean.low is None or mean.high is None:
        interval = "one prompt, no interval"
    else:
        interval = f"{number(mean.low)} to {number(mean.high)}"
    drawing = draw_mean(mean, None if reference is None else reference.mean)
    return f"<td><b>{number(mean.mean)}</b> <small>{interval}</small>{drawing}</td>"


def _failures(found: Summary) -> str:
    total = sum(found.failures.values())
    if not total:
        return "none"
    reasons = sorted(found.failures.items(), key=lambda item: (-item[1], item[0]))
    if len(reasons) == 1:
        return f"{total:,} <small>{escape(reasons[0][0])}</small>"
    return f"{total:,}: <small>{escape(', '.join(f'{count} {reason}' for reason, count in reasons))}</small>"


# Drawings -------------------------------------------------------------------------------------------------


def draw_mean(mean: Mean, reference: float | None = None) -> str:
    """A mean and its interval on an axis from 0 to 10, as SVG. ``reference``: where a grey line stands."""
    parts = [_ticks((0.0, _MOST / 2, _MOST), 0.0, _MOST)]
    if reference is not None:
        x = place(reference, 0.0, _MOST)
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}"/>')
    return _drawing(parts + draw_marks(mean, 0.0, _MOST))


def draw_difference(mean: Mean, reach: float, kind: str) -> str:
    """A difference and its interval on an axis from ``-reach`` to ``reach``, as SVG. ``kind``: its class."""
    parts = [_ticks((-reach, reach), -reach, reach)]
    x = place(0.0, -reach, reach)
    parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="0" y2="{HEIGHT}"/>')
    return _drawing(parts + draw_marks(mean, -reach, reach), kind)


def draw_marks(mean: Mean, least: float, most: float) -> list[str]:
    """The whisker, where there is an interval, and the dot."""
    parts = []
    if mean.low is not None and mean.high is not None:
        left, right = place(mean.low, least, most), place(mean.high, least, most)
        y = HEIGHT // 2
        parts.append(f'<path d="M{left} {y - 4}v8M{left} {y}H{right}M{right} {y - 4}v8"/>')
    parts.append(f'<circle cx="{place(mean.mean, least, most)}" cy="{HEIGHT // 2}" r="2.6"/>')
    return parts


def place(value: float, least: float, most: float) -> float:
    """Where a value stands on the axis; what lies beyond stands at its end."""
    share = (min(max(value, least), most) - least) / (most - least)
    return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


def _ticks(values: Sequence[float], least: float, most: float) -> str:
    y = HEIGHT // 2
    marks = "".join(f"M{place(value, least, most)} {y - 2}v4" for value in values)
    return f'<path class="ticks" d="M{MARGIN} {y}H{WIDTH - MARGIN}{marks}"/>'


def _drawing(parts: Sequence[str], kind: str = "") -> str:
    """Hidden from readers aloud: the numbers beside it say the same."""
    name = f"mini {kind}".strip()
    return f'<svg class="{name}" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _scale() -> str:
    """The numbers of the axis."""
    values = ((0.0, "0"), (_MOST / 2, "5"), (_MOST, "10"))
    return _drawing(
        [
            f'<text x="{place(value, 0.0, _MOST)}" y="12" text-anchor="middle">{text}</text>'
            for value, text in values
        ]
    )


def draw_ages(ages: Mapping[AgeGroup, float]) -> str:
    """Shares of the age groups as one bar."""
    told = ", ".join(f"{AGE_GROUPS[letter]}: {_percent(share)}" for letter, share in ages.items() if share)
    parts = "".join(
        f'<span class="p" style="--x:{_DEPTH[letter]:g};width:{100 * share:.1f}%" '
        f'title="{letter}, {AGE_GROUPS[letter]}: {_percent(share)}">{letter if share >= _SHOWN_LETTER else ""}</span>'
        for letter, share in ages.items()
        if share
    )
    return f'<div class="ages" role="img" aria-label="{told}">{parts}</div>'


def _legend() -> str:
    swatches = "".join(
        f'<span class="p" style="--x:{_DEPTH[letter]:g}">{letter} {ages}</span>'
        for letter, ages in AGE_GROUPS.items()
    )
    return f'<p class="legend">Ages <span class="swatches">{swatches}</span></p>\n'


def _percent(share: float) -> str:
    return "below 1%" if 0 < share < 0.005 else f"{100 * share:.0f}%"


def highest(models: Sequence[GradedModel]) -> Mapping[Criterion, str]:
    """Of each criterion the model with the highest mean; rows to hold models against are none."""
    able = [model for model in models if model.summary.means and model.label not in REFERENCES]
    if not able:
        return {}
    return {name: max(able, key=lambda one: one.summary.means[name].mean).label for name in CRITERIA}
