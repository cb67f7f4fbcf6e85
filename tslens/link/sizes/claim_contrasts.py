"""The contrasts of the paper's claims: which cells, which measures, which sign (``docs/methods.md``, The claims).

Every contrast is above zero where the claim is right. One that cannot be formed says why.

Axes: cell, quantity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from tslens.errors import ProbeInputError
from tslens.grading.results import TEACHER, TRUE_ENDING
from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.claims import Evidence
from tslens.link.sizes.contrasts import Estimate, Quantity, linear, slope_coefficients, smooth
from tslens.link.sizes.grid import WIDTHS, Grid, slope_terms
from tslens.link.sizes.measured import SizeRow
from tslens.model.spec import ModelSpec

NEAR = 0.5  # points: what counts as near in claim 6
CONSISTENCY_READOUTS = ("swapped_names", "changed_pronoun", "lost_object")
WIDTH_DOUBLED = 2.0  # doublings of a block's weights when the width is doubled; one when the depth is

Order = Callable[[Mapping[str, tuple[SizeRow, ...]]], dict[str, float]]
"""From cells to a number of each that grows with what a model can do."""


def find_evidence(rows: Sequence[SizeRow], *, judge: str) -> list[Evidence]:
    """Evidence of all sources of a table on claims 1 to 8. ``judge``: of the grades of our models."""
    mine = [row for row in rows if row.source == "ours"]
    found = [*_by_judge(mine, f"ours, {judge}"), *_by_readouts(mine)]
    for source in dict.fromkeys(row.source for row in rows if row.source != "ours"):
        found += _of_others([row for row in rows if row.source == source], source)
    return found


def _told(claim: int, aspect: str, part: str, source: str, find: Callable[[], Estimate]) -> Evidence:
    """What a contrast says, or why it cannot be formed."""
    try:
        return Evidence(claim, aspect, part, source, find())
    except ProbeInputError as error:
        return Evidence(claim, aspect, part, source, None, error.message)


def puts_people_first(rows: Sequence[SizeRow], name: str) -> bool:
    """Whether the judge of our models puts true endings surely above an n-gram; true where it was not asked of both."""
    sides = [row for row in rows if row.source == "ours" and row.n_layers is None and name in row.measured]
    endings = [row for row in sides if row.label == TRUE_ENDING]
    ngram = [row for row in sides if row.label.endswith("-gram")]
    both = [Quantity((row,), name) for row in (*endings, *ngram)]
    return len(both) < 2 or linear(both, [1, -1]).low > 0


def _check_judge(grid: Grid, *names: str) -> None:
    """Raise ProbeInputError where a judge does not order texts of which it is known which are better."""
    for name in names:
        if not puts_people_first(grid.rows, name):
            raise ProbeInputError(
                f"The judge does not put true endings above an n-gram in {name}.", "Ask another judge."
            )


# Ours, by grades --------------------------------------------------------------------------------------------


def _by_judge(rows: Sequence[SizeRow], source: str) -> Iterator[Evidence]:
    grid = Grid(rows)
    for name in CRITERIA:
        yield _told(1, name, f"{name} per bit a byte", source, partial(_on_loss, grid, name))
    yield from _plateaus(grid, source, _by_loss)
    yield _told(
        3,
        "consistency",
        "consistency, 64 to 128 less 128 to 256",
        source,
        lambda: _jump(grid, ("consistency",)),
    )
    yield from _instructions(grid, source, "words")
    yield _told(
        4,
        "plot",
        "plot, width less depth, a doubling of weights",
        source,
        lambda: grid.slopes("plot", [-1.0, 1 / WIDTH_DOUBLED]),
    )
    yield from _knowledge(grid, source, " written")
    yield from _near_teacher(grid, source)
    for name in ("grammar", "consistency"):
        yield _told(7, name, f"{name} per doubling of heads", source, partial(_on_heads, grid, name, 1.0))
    yield _told(
        8,
        "consistency",
        _DEPTH,
        source,
        lambda: _depth_for_consistency(grid, grid.grid("grammar", "consistency")),
    )


def _bits(rows: Sequence[SizeRow]) -> float:
    return float(np.mean([row.measured["bits"].mean for row in rows]))


def _by_loss(cells: Mapping[str, tuple[SizeRow, ...]]) -> dict[str, float]:
    return {cell: -_bits(rows) for cell, rows in cells.items()}


def _on_loss(grid: Grid, name: str) -> Estimate:
    """Points for a bit per byte less."""
    _check_judge(grid, name)
    cells = grid.cells(name, "bits")
    bits = np.array([[_bits(rows)] for rows in cells.values()])
    quantities = [Quantity(rows, name) for rows in cells.values()]
    return linear(quantities, -slope_coefficients(bits, 0), grid.seeded(name))


def _plateaus(grid: Grid, source: str, order: Order) -> Iterator[Evidence]:
    """Share of the whole gain that is there half-way: of grammar, less of another criterion."""
    for other in ("consistency", "creativity"):
        if not grid.cells("grammar", other):
            continue

        def find(other: str = other) -> Estimate:
            _check_judge(grid, "grammar", other)
            cells = grid.cells("grammar", other)
            if len(cells) < 3:
                raise ProbeInputError(f"There are {len(cells)} sizes.", "Three are needed.")
            sizes = order(cells)
            ordered = sorted(sizes, key=sizes.__getitem__)
            ends = ordered[0], ordered[-1]
            half = (sizes[ends[0]] + sizes[ends[1]]) / 2
            middle = min(sizes.keys() - set(ends), key=lambda cell: abs(sizes[cell] - half))
            for name in ("grammar", other):
                if grid.difference(ends[1], ends[0], name).low <= 0:
                    raise ProbeInputError(
                        f"{name} does not rise for sure, so it has no half-way.", "Add models."
                    )
            chosen = (ends[0], middle, ends[1])
            quantities = [Quantity(cells[cell], name) for name in ("grammar", other) for cell in chosen]
            return smooth(quantities, _half_way, grid.seeded("grammar", other))

        yield _told(2, other, f"grammar's share half-way less {other}'s", source, find)


def _half_way(means: Float[np.ndarray, " quantity"]) -> float:
    low, middle, high = means.reshape(2, 3).T
    first, second = (middle - low) / (high - low)
    return float(first - second)


def _jump(grid: Grid, measures: Sequence[str]) -> Estimate:
    """Width 64 to 128 less 128 to 256, mean over the depths that have all three widths, and over the measures."""
    cells = {(rows[0].n_layers or 0, rows[0].d_model): rows for rows in grid.grid(*measures).values()}
    depths = sorted({depth for depth, _ in cells if all((depth, width) in cells for width in WIDTHS)})
    if not depths:
        raise ProbeInputError("No depth has all three widths.", "Add models.")
    quantities, coefficients = [], []
    for depth in depths:
        for measure in measures:
            quantities += [Quantity(cells[depth, width], measure) for width in WIDTHS]
            coefficients += [one / len(depths) / len(measures) for one in (-1.0, 2.0, -1.0)]
    return linear(quantities, coefficients, grid.seeded(*measures))


def _instructions(grid: Grid, source: str, measure: str) -> Iterator[Evidence]:
    yield _told(
        4,
        "layers",
        f"{measure}, two layers less one",
        source,
        lambda: grid.difference("l2_h128-instruct", "l1_h128-instruct", measure),
    )
    yield _told(
        4,
        "instructions",
        f"{measure}, depth less width, a doubling of weights",
        source,
        lambda: grid.slopes(measure, [1.0, -1 / WIDTH_DOUBLED], instruct=True),
    )


def _knowledge(grid: Grid, source: str, ending: str) -> Iterator[Evidence]:
    for name, sign in (("factual", 1.0), ("context", -1.0)):
        which = "width less depth" if sign > 0 else "depth less width"
        yield _told(
            5,
            "facts" if name == "factual" else name,
            f"{name}{ending}, {which}, a doubling of weights",
            source,
            partial(grid.slopes, name + ending, [-sign, sign / WIDTH_DOUBLED]),
        )


def _near_teacher(grid: Grid, source: str) -> Iterator[Evidence]:
    """Against the teacher's texts, or how the prompts' authors went on."""
    there = {row.label: row for row in grid.rows if row.label in (TEACHER, TRUE_ENDING)}
    above = there.get(TEACHER, there.get(TRUE_ENDING))
    for name, sign in (("grammar", -1.0), ("consistency", -1.0), ("creativity", 1.0)):

        def find(name: str = name, sign: float = sign) -> Estimate:
            _check_judge(grid, name)
            cells = grid.cells(name, "bits")
            if above is None or name not in above.measured or not cells:
                raise ProbeInputError("The teacher was not graded.", "Grade it with the same judge.")
            best = min(cells.values(), key=_bits)
            found = linear([Quantity((above,), name), Quantity(best, name)], [sign, -sign], grid.seeded(name))
            return _moved(found, -sign * NEAR)

        within = "within" if sign < 0 else "beyond"
        yield _told(
            6, name, f"{name} {within} {NEAR} of the {above.label if above else 'teacher'}", source, find
        )


def _moved(found: Estimate, by: float) -> Estimate:
    ends = {name: getattr(found, name) + by for name in ("value", "low", "high")}
    return Estimate(**{**found.to_json(), **ends})


def _on_heads(grid: Grid, measure: str, sign: float) -> Estimate:
    """For a doubling of heads, one layer of width 256 with 2, 4 and 8."""
    names = [name for name in grid.cells(measure) if re.fullmatch(r"l1_h256_a\d+", name)]
    heads = np.log2([[ModelSpec.from_name(name).n_heads] for name in names])
    if len(names) < 2:
        raise ProbeInputError(
            "Models that differ in heads alone were not measured.", "make models, then again."
        )
    coefficients = sign * slope_coefficients(heads, 0)
    return linear([grid.of(name, measure) for name in names], coefficients, grid.seeded(measure))


_DEPTH = "a doubling of depth, in gains of the grid: consistency less grammar"


def _depth_for_consistency(grid: Grid, cells: Mapping[str, tuple[SizeRow, ...]]) -> Estimate:
    """Slopes on depth, each in units of what the criterion gains from the smallest model to the largest."""
    order = sorted(cells, key=lambda name: cells[name][0].n_parameters or 0)
    if len(order) < 4:
        raise ProbeInputError(f"{len(order)} shapes do not tell depth from width.", "Add models.")
    for name in ("grammar", "consistency"):
        if grid.difference(order[-1], order[0], name).low <= 0:
            raise ProbeInputError(f"{name} does not rise for sure over these models.", "Add models.")
    quantities, coefficients = slope_terms(("grammar", "consistency"), cells, [1.0, 0.0])
    ends = [list(cells).index(order[0]), list(cells).index(order[-1])]

    def value(means: Float[np.ndarray, " quantity"]) -> float:
        of = means.reshape(2, len(cells))
        slopes = (of * np.reshape(coefficients, of.shape)).sum(1) / (of[:, ends[1]] - of[:, ends[0]])
        return float(slopes[1] - slopes[0])

    return smooth(quantities, value, grid.seeded("grammar", "consistency"))


# Ours, by readouts ------------------------------------------------------------------------------------------


def _by_readouts(rows: Sequence[SizeRow]) -> Iterator[Evidence]:
    grid, source = Grid(rows), "ours, readouts"
    yield _told(
        3,
        "consistency",
        "accuracy, 64 to 128 less 128 to 256",
        source,
        lambda: _jump(grid, CONSISTENCY_READOUTS),
    )
    yield from _instructions(grid, source, "instructed_word")
    yield from _knowledge(grid, source, "")
    yield _told(7, "loss", "nats per doubling of heads", source, lambda: _on_heads(grid, "loss", -1.0))


# Other people's ---------------------------------------------------------------------------------------------


def _of_others(rows: Sequence[SizeRow], source: str) -> Iterator[Evidence]:
    grid = Grid(rows)
    for name in CRITERIA:
        if grid.cells(name):
            yield _told(1, name, f"{name} per doubling of parameters", source, partial(_on_size, grid, name))
    yield from _plateaus(grid, source, _by_size)
    cells = grid.cells("grammar", "consistency")
    if cells:
        yield _told(8, "consistency", _DEPTH, source, lambda: _depth_for_consistency(grid, cells))


def _log_size(rows: Sequence[SizeRow]) -> float:
    return float(np.log2(rows[0].n_parameters or 1))


def _by_size(cells: Mapping[str, tuple[SizeRow, ...]]) -> dict[str, float]:
    return {cell: _log_size(rows) for cell, rows in cells.items()}


def _on_size(grid: Grid, name: str) -> Estimate:
    cells = grid.cells(name)
    sizes = np.array([[_log_size(rows)] for rows in cells.values()])
    return linear([Quantity(rows, name) for rows in cells.values()], slope_coefficients(sizes, 0))
