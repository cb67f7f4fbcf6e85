"""What the options of ``tslens train`` ask for: one model, or the cells of a grid."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tslens.train.cells import Cell


def check_options(
    model: str | None,
    grid: str | None,
    plan: bool,
    gpu: str | None,
    launcher: str,
    of_ray: tuple[Any, ...],
    *,
    tensorboard: bool,
) -> None:
    """Raise UsageError for options that do not go together."""
    from tslens.errors import UsageError

    if (model is None) == (grid is None):
        raise UsageError(
            "A model and a grid were given." if model else "Neither a model nor a grid was given.",
            "Give one of them: --model l1_h256, or --grid.",
        )
    if grid is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("torchrun trains one model in several processes, not a grid.", "Use --launcher ray.")
    if launcher not in {"process", "ray"}:
        raise UsageError(f'There is no launcher "{launcher}".', "Use one of: process, ray.")
    if launcher == "ray" and grid is None:
        raise UsageError("Ray trains grids, and no grid was given.", "Leave out --launcher, or give --grid.")
    if launcher == "process" and any(value is not None for value in of_ray):
        raise UsageError("--workers, --gpu-fraction and --address are for Ray.", "Add --launcher ray.")
    if tensorboard and find_spec("tensorboard") is None:
        raise UsageError(
            "TensorBoard is not installed.", "Install it with: pip install 'tinystories-lens[tensorboard]'"
        )
    if gpu is not None and not plan:
        raise UsageError(
            "--gpu names a GPU to plan for.", "Add --plan, or choose where to train with --device."
        )


def one_cell(model: str, seed: int, out: Path | None, resume: bool, given: dict[str, Any]) -> Cell:
    """The one model that was asked for. ``given``: settings, None for those that were not."""
    from tslens.config import train_config
    from tslens.files import read_json
    from tslens.model.spec import ModelSpec
    from tslens.run_folder import RunFolder
    from tslens.train.cells import Cell

    name = ModelSpec.from_name(model).name  # an impossible shape is refused here
    run = RunFolder(out or Path("runs") / name / f"seed{seed}")
    saved = read_json(run.config) if resume and run.config.exists() else None
    return Cell(train_config(saved, model=model, seed=seed, **given), run)


def cells_of_grid(grid: str, seed: int, out: Path | None, given: dict[str, Any]) -> list[Cell]:
    """The cells of a grid. Raises UsageError if its seeds are named twice."""
    from tslens.config import train_config
    from tslens.errors import UsageError
    from tslens.train.grid import grid_cells, parse_grid

    shapes = parse_grid(grid)
    if seed and any(named is not None for _, named in shapes):
        raise UsageError("The grid names seeds, and --seed does too.", "Name them in one place.")
    base = train_config(None, model=shapes[0][0].name, seed=seed, **given)
    return grid_cells(grid, base, out or Path("runs"))
