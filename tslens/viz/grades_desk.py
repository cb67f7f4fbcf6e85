"""The reading desk: for each prompt how every model went on, side by side, with the grades of each text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any

from tslens.corpus.instructions.form import Instruction, write_prompt
from tslens.grading.results import GradedModel
from tslens.grading.rubric import AGE_GROUPS, CRITERIA
from tslens.types import Grade, GradeFailure
from tslens.viz.page import embed_json, escape, visible

_BEGINNING = 64  # characters of a prompt in the list
_DETAIL = 300  # characters of what was seen of a failure


@dataclass(frozen=True)
class Prompt:
    """A prompt and what was written on it: of each model its texts as JSON, ``n`` their number of the sample."""

    id: str
    text: str
    texts: list[list[dict[str, Any]]]

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        """The texts of all models."""
        return chain.from_iterable(self.texts)


def gather(models: Sequence[GradedModel]) -> list[Prompt]:
    """All prompts in the order in which they come, with all texts. Equal ids of other prompts stay apart."""
    found: dict[tuple[str, str], Prompt] = {}
    for index, model in enumerate(models):
        again: dict[tuple[str, str, int], list[list[float]]] = {}
        for one in model.outcomes:
            if one.graded.repeat and isinstance(one, Grade):
                again.setdefault((one.graded.prompt_id, given(one), one.graded.sample), []).append(
                    _points(one)
                )
        for one in model.outcomes:
            graded = one.graded
            if graded.repeat:
                continue
            place = (graded.prompt_id, given(one))
            if place not in found:
                name = _free_name(graded.prompt_id, found)
                found[place] = Prompt(name, seen(given(one)), [[] for _ in models])
            row = _text(one)
            if (*place, graded.sample) in again:
                row["again"] = again[*place, graded.sample]
            found[place].texts[index].append(row)
    return list(found.values())


def given(one: Grade | GradeFailure) -> str:
    """What the writer of a text was given, a beginning or instructions, as text."""
    if one.graded.instructions is None:
        return one.graded.prompt
    return f"{write_prompt(Instruction.from_json(one.graded.instructions))}\n{one.graded.prompt}"


def seen(text: str) -> str:
    """Text whose lines stay lines; other characters that cannot be seen are spelled."""
    return "\n".join(line if line.isprintable() else visible(line) for line in text.split("\n"))


def samples_of(prompts: Sequence[Prompt]) -> list[int]:
    """Numbers to choose from. Where a model has one text of a prompt, that text stands beside every number."""
    several = {row["n"] for prompt in prompts for rows in prompt.texts if len(rows) > 1 for row in rows}
    return sorted(several or {row["n"] for prompt in prompts for row in prompt.rows})


def without_texts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts alone."""
    return [_holding(prompt, frozenset()) for prompt in prompts]


def that_fit(prompts: Sequence[Prompt], room: int) -> list[Prompt]:
    """Prompts with the texts that fit into so many bytes: the first samples whole, or one sample of fewer prompts."""
    cost: dict[int, int] = {}
    for prompt in prompts:
        for row in prompt.rows:
            cost[row["n"]] = cost.get(row["n"], 0) + _size(row)
    numbers = sorted(cost)
    kept = [
        n for n, total in zip(numbers, accumulate(cost[n] for n in numbers), strict=True) if total <= room
    ]
    if kept:
        return [_holding(prompt, frozenset(kept)) for prompt in prompts]
    first = [_holding(prompt, frozenset(numbers[:1])) for prompt in prompts]
    totals = accumulate(sum(map(_size, prompt.rows)) for prompt in first)
    return [prompt for prompt, total in zip(first, totals, strict=True) if total <= room]


def desk_data(models: Sequence[GradedModel], held: Sequence[Prompt]) -> dict[str, Any]:
    """What the script needs."""
    return {
        "criteria": list(CRITERIA),
        "ages": dict(AGE_GROUPS),
        "models": [visible(model.label) for model in models],
        "samples": samples_of(held),
        "prompts": [{"id": prompt.id, "text": prompt.text, "texts": prompt.texts} for prompt in held],
    }


def desk_section(models: Sequence[GradedModel], prompts: Sequence[Prompt], held: Sequence[Prompt]) -> str:
    """The desk, empty until the script fills it. ``held``: those of the prompts, and of their texts, that fit."""
    if not prompts:
        return ""
    head = '<section id="desk">\n<h2>Reading desk</h2>\n'
    note = _crop_note(prompts, held)
    if not held:
        return f"{head}{note}</section>\n"
    options = "".join(f"<option value={i}>{_option(prompt)}</option>" for i, prompt in enumerate(held))
    buttons = "".join(
        f'<button type=button data-sample={n} aria-pressed=false aria-label="sample {n}">{n}</button>'
        for n in samples_of(held)
    )
    boxes = "".join(
        f"<label><input type=checkbox value={i} checked> {escape(model.label)}</label>"
        for i, model in enumerate(models)
        if model.outcomes
    )
    return (
        f'{head}<p class="hint">One prompt, and how every model went on from it. Colour of a grade: blue above 5, '
        "orange below; under it, where the judge gives one, the 95% prediction interval of this one grade. In the desk "
        "the arrow keys left and right go to the previous and the next prompt, digits choose the sample.</p>\n"
        f"{note}<noscript><p>Scripts are off. The tables on this page are complete without them; only the "
        'completions are missing.</p></noscript>\n<form id="asked" hidden>\n<p class="bar">\n<span class="layers">'
        '<button type=button id=before aria-label="previous prompt">\N{LEFTWARDS ARROW}</button>'
        '<button type=button id=after aria-label="next prompt">\N{RIGHTWARDS ARROW}</button></span>'
        f"<label>prompt <select id=prompt>{options}</select></label>\n"
        f'<span class="layers" id=samples role=group aria-label="sample"><span>sample</span>{buttons}</span>\n'
        f'<output id=where></output></p>\n<p class="beside layers" role=group aria-label="models shown">'
        f"<button type=button id=every>all or none</button>{boxes}</p>\n</form>\n"
        '<div id="texts" tabindex=0 role=region aria-label="The prompt, and completions side by side" hidden>\n'
        '<p class="text" id="given"></p>\n<div id="columns"></div>\n</div>\n</section>\n'
    )


def _crop_note(prompts: Sequence[Prompt], held: Sequence[Prompt]) -> str:
    n_all, n_held = (sum(1 for prompt in some for _ in prompt.rows) for some in (prompts, held))
    if n_all == n_held:
        return ""
    return (
        f'<p class="says">To stay below 8 MB the page holds {n_held:,} of {n_all:,} texts, the first samples; the '
        "tables are of all.</p>\n"
    )


def _holding(prompt: Prompt, numbers: frozenset[int]) -> Prompt:
    """The prompt with its texts of these numbers of the sample."""
    return replace(prompt, texts=[[row for row in rows if row["n"] in numbers] for rows in prompt.texts])


def _size(row: Mapping[str, Any]) -> int:
    return len(embed_json(row)) + 1


def _option(prompt: Prompt) -> str:
    text = " ".join(prompt.text.split())
    short = text if len(text) <= _BEGINNING else f"{text[:_BEGINNING].rsplit(' ', 1)[0]} …"
    return f"{escape(prompt.id)} {escape(short)}"


def _free_name(name: str, taken: Mapping[tuple[str, str], Prompt]) -> str:
    n = sum(1 for id_, _ in taken if id_ == name)
    return f"{visible(name)} ({n + 1})" if n else visible(name)


def _points(one: Grade) -> list[float]:
    return [round(float(getattr(one, name)), 1) for name in CRITERIA]


def _text(one: Grade | GradeFailure) -> dict[str, Any]:
    """A text with its grades; what there is not is left out."""
    row: dict[str, Any] = {"n": one.graded.sample, "text": seen(one.graded.completion)}
    if one.graded.ended is False:
        row["cut"] = True
    if isinstance(one, GradeFailure):
        return {**row, "failed": visible(one.reason), "detail": visible(one.detail[:_DETAIL])}
    row |= {"grades": _points(one), "age": visible(one.age_group)}
    if one.intervals:
        row["intervals"] = [_interval(one.intervals.get(name)) for name in CRITERIA]
    if one.flags:
        row["flags"] = [visible(flag) for flag in one.flags]
    if one.assessment:
        row["says"] = seen(one.assessment)
    return row


def _interval(ends: tuple[float, float] | None) -> list[float] | None:
    return None if ends is None else [round(float(end), 1) for end in ends]
