"""The first sight of a report: all models in one table, which parts carry what, how many heads have which role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tslens.grading.rubric import CRITERIA
from tslens.grading.summary import Mean
from tslens.link.joined.model_part import ModelPart
from tslens.link.map_report import MapRow
from tslens.types import HeadScore
from tslens.viz.heads_words import by_strength, words
from tslens.viz.map_words import spoken
from tslens.viz.page import escape, number

ABSENT = "\N{EN DASH}"
_SHOWN = frozenset({"role", "candidate"})


def address(part: ModelPart, *places: object) -> str:
    """Where a model, or a part of it, is on the page."""
    return "#" + "/".join(["m", part.name, *map(str, places)])


def from_part(part: ModelPart, what: str) -> str:
    """Attribute of a cell: of which part of a model its figure is, so that the page can say where it comes from."""
    return f' data-from="{escape(part.name)}/{what}"'


def link_to(part: ModelPart, text: str, *places: object) -> str:
    """A link to a model, or a part of it."""
    return f'<a href="{escape(address(part, *places))}">{escape(text)}</a>'


# Models -----------------------------------------------------------------------------------------------------


def models_section(parts: Sequence[ModelPart]) -> str:
    """A row for each model: shape, loss, grades, what was found."""
    graded = any(part.grades is not None and part.grades.summary.means for part in parts)
    names = ["model", "layers", "width", "heads", "parameters", "bits per byte", "4-gram"]
    names += [*CRITERIA, "texts graded"] if graded else []
    names += ["heads with a role", "neurons with a role", "carry something"]
    heads = "".join(_heading(name) for name in names)
    rows = "".join(_model_row(part, graded=graded) for part in parts)
    return (
        '<section id="models">\n<h2>Models</h2>\n'
        '<p class="hint">Bits per byte: on the validation stories of its training; beside it a 4-gram of the same '
        "stories. Grades from 0 to 10 with 95% intervals over prompts. Headings sort; names and counts open.</p>\n"
        '<div class="box" tabindex=0 role=region aria-label="Table of models">'
        f'<table id="all-models" class="sorts plain"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>\n{_lacking(parts)}"
        "</section>\n"
    )


def _lacking(parts: Sequence[ModelPart]) -> str:
    """What was not measured, with the commands that measure it."""
    if not any(part.lacks for part in parts):
        return ""
    lines = "".join(
        f"<li>{escape(part.name)}: "
        + ", ".join(f"{what} (<code>{escape(command)}</code>)" for what, command in part.lacks.items())
        + "</li>\n"
        for part in parts
        if part.lacks
    )
    return f'<details id="lacking"><summary>Not measured yet</summary>\n<ul>\n{lines}</ul></details>\n'


def _heading(name: str) -> str:
    first = "ascending" if name in ("model", "layers", "width", "heads") else "descending"
    return f'<th scope=col aria-sort="none" data-first="{first}"><button type=button>{escape(name)}</button></th>'


def _model_row(part: ModelPart, *, graded: bool) -> str:
    bits = [ABSENT if one is None else number(one, 3) for one in (part.validation_bits, part.ngram_bits)]
    facts = [str(part.n_layers), str(part.d_model), str(part.n_heads), f"{part.n_parameters:,}", *bits]
    cells = [(fact, "model") for fact in facts]
    if graded:
        means = {} if part.grades is None else part.grades.summary.means
        for name in CRITERIA:
            mean = means.get(name) if means else None
            cells.append((ABSENT if mean is None else f"{number(mean.mean, 1)}{_ends(mean)}", "grades"))
        n_graded = 0 if part.grades is None else len(part.grades.grades)
        cells.append((link_to(part, f"{n_graded:,}", "texts") if n_graded else ABSENT, "grades"))
    carrying = {row.component for row in _carrying(part)}
    cells += [
        (_counted(part, "heads", _heads_with_role(part), part.heads is not None), "heads"),
        (_counted(part, "neurons", _neurons_with_role(part), part.neurons is not None), "neurons"),
        (_counted(part, "map", len(carrying), part.map is not None), "map"),
    ]
    inside = "".join(f"<td{from_part(part, what)}>{cell}</td>" for cell, what in cells)
    return f"<tr><th scope=row>{link_to(part, part.name)}</th>{inside}</tr>\n"


def _ends(mean: Mean) -> str:
    if mean.low is None or mean.high is None:
        return ""
    return f" <small>{number(mean.low, 1)} to {number(mean.high, 1)}</small>"


def _counted(part: ModelPart, tab: str, count: int, is_known: bool) -> str:
    return link_to(part, str(count), tab) if is_known else ABSENT


def _heads_with_role(part: ModelPart) -> int:
    return len({row.head for row in part.heads[1] if row.status == "role"}) if part.heads else 0


def _neurons_with_role(part: ModelPart) -> int:
    return sum(one.status == "role" for one in part.neurons[1]) if part.neurons else 0


def _carrying(part: ModelPart) -> list[MapRow]:
    return [] if part.map is None else [row for row in part.map.rows if row.status == "carries"]


# Which parts carry what ---------------------------------------------------------------------------------------


def carriers_section(parts: Sequence[ModelPart]) -> str:
    """A row for each readout or graded criterion, a column for each mapped model: who carries it, and how much."""
    mapped = [part for part in parts if part.map is not None]
    if not mapped:
        return ""
    measures: dict[tuple[str, str], str] = {}
    for part in mapped:
        for row in part.map.rows if part.map else ():
            if row.status is not None:
                measures.setdefault((row.evidence, row.measure), row.capability)
    heads = "".join(f"<th scope=col>{link_to(part, part.name, 'map')}</th>" for part in mapped)
    rows = "".join(
        f"<tr><th scope=row>{escape(spoken(measure))} <small>{escape(spoken(capability))}, {evidence}</small></th>"
        f"{''.join(_carriers(part, evidence, measure) for part in mapped)}</tr>\n"
        for (evidence, measure), capability in measures.items()
    )
    return (
        '<section id="carriers">\n<h2>Which parts carry which capability</h2>\n'
        '<p class="hint">Share of the capability that is lost without the part, most first: surely more than random '
        "parts that cost as much loss lose, on both halves of the items. None: every part was asked, and none is "
        "shown to carry it. Not passed: the model cannot do it, so that nothing is said of its parts.</p>\n"
        '<div class="box" tabindex=0 role=region aria-label="Which parts carry which capability">'
        f'<table class="plain"><thead><tr><th scope=col>what is asked</th>{heads}</tr></thead>\n<tbody>\n{rows}'
        "</tbody></table></div>\n</section>\n"
    )


def _carriers(part: ModelPart, evidence: str, measure: str) -> str:
    assert part.map is not None
    own = [row for row in part.map.rows if (row.evidence, row.measure) == (evidence, measure) and row.status]
    if not own:
        said = "not passed" if evidence == "readout" else "not graded"
        return f"<td{from_part(part, 'map')}><small>{said}</small></td>"
    found = sorted((row for row in own if row.status == "carries"), key=lambda row: -row.share.value)
    if not found:
        return f"<td{from_part(part, 'map')}><small>none</small></td>"
    told = ", ".join(
        f"{link_to(part, spoken(row.component), 'map', row.component)} <small>{_share(row)}</small>"
        for row in found
    )
    return f"<td{from_part(part, 'map')}>{told}</td>"


def _share(row: MapRow) -> str:
    return f"{100 * row.share.value:.0f}%" if row.evidence == "readout" else number(row.share.value, 2)


# Roles of heads -----------------------------------------------------------------------------------------------


def roles_section(parts: Sequence[ModelPart]) -> str:
    """A row for each probe, a column for each model: its best head, and how many have the role."""
    scanned = [part for part in parts if part.heads is not None]
    if not scanned:
        return ""
    best: dict[str, dict[str, list[HeadScore]]] = {}
    for part in scanned:
        for row in sorted(part.heads[1] if part.heads else (), key=by_strength):
            if row.status in _SHOWN:
                best.setdefault(row.probe, {}).setdefault(part.label, []).append(row)
    order = sorted(best, key=lambda probe: (-len(best[probe]), probe))
    heads = "".join(f"<th scope=col>{link_to(part, part.name, 'heads')}</th>" for part in scanned)
    rows = "".join(
        f"<tr><th scope=row>{escape(words(probe))}</th>"
        + "".join(_best_head(part, best[probe].get(part.label, [])) for part in scanned)
        + "</tr>\n"
        for probe in order
    )
    return (
        '<section id="roles">\n<h2>What heads attend to</h2>\n'
        '<p class="hint">Of each probe the strongest head (◆ a tested role, ● a candidate), by how much more it '
        "attends to this than the largest null would give; then how many heads more.</p>\n"
        '<div class="box" tabindex=0 role=region aria-label="Roles of heads by model">'
        f'<table class="plain"><thead><tr><th scope=col>looks at</th>{heads}</tr></thead>\n<tbody>\n{rows}'
        "</tbody></table></div>\n</section>\n"
    )


def _best_head(part: ModelPart, rows: Sequence[HeadScore]) -> str:
    if not rows:
        return f"<td><small>{ABSENT}</small></td>"
    heads = list(dict.fromkeys(row.head for row in rows))
    first = rows[0]
    mark = "◆" if first.status == "role" else "●"
    more = f" <small>and {len(heads) - 1}</small>" if len(heads) > 1 else ""
    told = f"{mark} {link_to(part, str(first.head), 'heads', first.head)} {number(first.excess)}{more}"
    return f"<td{from_part(part, 'heads')}>{told}</td>"


# In one sentence ------------------------------------------------------------------------------------------------


def summary(parts: Sequence[ModelPart]) -> str:
    """What was found, in one or two sentences."""
    mapped = [part for part in parts if part.map is not None and part.map.rows]
    n = len(parts)
    first = f"{n} model{'' if n == 1 else 's'}"
    if mapped:
        alone: Counter[str] = Counter()
        for part in mapped:
            alone.update(
                {row.measure for row in _carrying(part) if _is_head(row) and row.evidence == "readout"}
            )
        found = [f"{spoken(name)} in {count}" for name, count in sorted(alone.items(), key=_most_first)[:3]]
        of = "" if n == 1 else f", {len(mapped)} of them with a map of capabilities"
        said = f"single heads carry {', '.join(found)}" if found else "no single head carries a capability"
        first += f"{of}: {said}"
    told = [first]
    with_roles = [part for part in parts if part.heads is not None]
    if with_roles:
        total = sum(map(_heads_with_role, with_roles))
        n_heads = sum(part.n_layers * part.n_heads for part in with_roles)
        told.append(f"{total} of {n_heads} heads have a tested role")
    return ". ".join(told) + "."


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _is_head(row: MapRow) -> bool:
    return row.n_components == 1 and "H" in row.component
