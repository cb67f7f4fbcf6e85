"""A grid of models: which cells there are, what became of each, and a run of them one after the other in this process.

A cell is one shape and one seed, in a run folder of its own: ``runs/l1_h64/seed0``. A finished cell is skipped, an
unfinished one goes on where it stopped, a failing one leaves its reason and the others are trained.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import UsageError
from tslens.model.spec import ModelSpec, default_heads
from tslens.run_folder import RunFolder
from tslens.train.cells import (
    Cell,
    CellResult,
    Report,
    is_done,
    reason_of,
    result_before,
    train_cell,
    without_result,
)

PAPER = "layers=2,4,8,12 hidden=64,128,256,512,768,1024,2048"  # of the scaling study (Eldan and Li 2023, section 6)
EXAMPLE = '--grid "layers=1,2,4 hidden=64,128,256 seed=0,1,2"'
_KEYS = ("layers", "hidden", "heads", "seed")
_MOST_CELLS = 10_000

# What a grid holds ------------------------------------------------------------------------------------------


def parse_grid(text: str) -> list[tuple[ModelSpec, int | None]]:
    """Shapes and seeds of a grid, in the order that it is written in, each once; the seed is None where none is named.

    ``text``: ``layers=1,2 hidden=64,128``, with ``heads=`` and ``seed=`` where they are wanted, or ``paper``.
    Raises UsageError for a key or a value that cannot be meant, and for a shape that no model can have.
    """
    values = _values_by_key(PAPER if text.strip() == "paper" else text)
    missing = [key for key in ("layers", "hidden") if key not in values]
    if missing:
        raise UsageError(f'The grid "{text}" names no {missing[0]}.', f"Write one like {EXAMPLE}, or paper.")
    axes: list[Sequence[int | None]] = [
        values.get("seed", [None]),
        values["layers"],
        values["hidden"],
        values.get("heads", [None]),
    ]
    n_cells = 1
    for axis in axes:
        n_cells *= len(axis)
    if n_cells > _MOST_CELLS:
        raise UsageError(f"The grid has {n_cells:,} cells.", f"Give {_MOST_CELLS:,} at most.")
    cells: dict[tuple[ModelSpec, int | None], None] = {}
    for seed, layers, width, heads in product(*axes):
        assert layers is not None and width is not None
        spec = ModelSpec(layers, width, default_heads(width) if heads is None else heads)
        cells[spec, seed] = None
    return list(cells)


def _values_by_key(text: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for part in text.split():
        key, equals, numbers = part.partition("=")
        if not equals:
            is_near = difflib.get_close_matches(part.lower(), ["paper"], cutoff=0.6)
            hint = "Did you mean --grid paper?" if is_near else f"Write one like {EXAMPLE}."
            raise UsageError(f'"{part}" is no part of a grid: it has no "=".', hint)
        if key not in _KEYS:
            near = difflib.get_close_matches(key.lower(), [*_KEYS, "width"], n=1, cutoff=0.5)
            name = near[0].replace("width", "hidden") if near else None
            hint = f"Did you mean {name}={numbers}?" if name else f"Write one like {EXAMPLE}."
            raise UsageError(f'A grid has no "{key}": it has {", ".join(_KEYS)}.', hint)
        if key in found:
            raise UsageError(f"The grid names {key} twice.", f"Write all of them at once: {key}=1,2.")
        if not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", numbers):
            raise UsageError(
                f'"{part}" holds something else than whole numbers with commas between.',
                f"Write {key}=1,2,4 for example, with no blank after a comma.",
            )
        found[key] = list(dict.fromkeys(map(int, numbers.split(","))))
    return found


def grid_cells(text: str, base: TrainConfig, root: Path) -> list[Cell]:
    """The cells of a grid: ``base`` with each model and seed, in ``root/MODEL/seedS``.

    ``base`` gives the seed where the grid names none. Raises what :func:`parse_grid` raises.
    """
    cells = []
    for spec, named in parse_grid(text):
        config = replace(base, model=spec.name, seed=base.seed if named is None else named)
        cells.append(Cell(config, RunFolder(root / spec.name / f"seed{config.seed}")))
    return cells


# In this process --------------------------------------------------------------------------------------------


def run_grid(
    cells: Sequence[Cell],
    corpus: Corpus,
    *,
    device: str,
    command: str = "",
    tensorboard: bool = False,
    report: Report = lambda cell, progress: None,
    finished: Callable[[CellResult], None] = lambda result: None,
) -> list[CellResult]:
    """Train the cells one after the other; a record for each, in their order.

    Ctrl-C ends the current cell with its state saved and leaves the others waiting; the same call goes on from there.
    """
    results: list[CellResult] = []
    interrupted = False
    for cell in cells:
        if interrupted:
            results.append(without_result(cell, "waiting"))
            continue
        try:
            if is_done(cell, corpus):
                result = result_before(cell)
            else:
                report(cell, None)
                result = train_cell(
                    cell,
                    corpus,
                    device=device,
                    command=command,
                    tensorboard=tensorboard,
                    report=lambda progress, cell=cell: report(cell, progress),  # type: ignore[misc]
                )
        except KeyboardInterrupt:
            result = without_result(cell, "interrupted")
        except Exception as error:  # a finished run that cannot be read
            result = without_result(cell, "failed", reason_of(error))
        interrupted = result.state == "interrupted"
        results.append(result)
        finished(result)
    return results
