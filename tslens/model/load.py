"""Find and open a model: a run folder, a checkpoint, a run by name, a transformers GPT-Neo folder.

Order: a path that exists; then ``runs/NAME`` (``NAME@seed2`` for one seed). What was taken, and what else has
that name, is said in :attr:`ModelSource.note`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError, TslensError
from tslens.files import RunFolder
from tslens.model.spec import ModelSpec

if TYPE_CHECKING:
    from tslens.model.transformer import TinyTransformer

RUNS = Path("runs")


@dataclass(frozen=True)
class ModelSource:
    """Where a model was found. ``path``: checkpoint or folder; ``run``: its run folder, if it has one."""

    path: Path
    run: RunFolder | None
    note: str

    @property
    def label(self) -> str:
        """A short name for tables and pages."""
        return self.run.label() if self.run else self.path.stem


def find_model(reference: str | Path, *, runs: Path = RUNS) -> ModelSource:
    """Resolve what a user wrote after ``--model``.

    Raises ModelError if nothing has that name, with the nearest name that exists.
    """
    path = Path(reference)
    if path.exists():
        return _from_path(path)
    name, _, seed = str(reference).partition("@")
    folder = runs / name
    if "/" not in name and folder.is_dir():
        return _from_runs(folder, seed)
    raise _not_found(str(reference), runs)


def _from_path(path: Path) -> ModelSource:
    if path.is_file():
        parent = path.parent.parent
        run = (
            RunFolder(parent)
            if (parent / "config.json").exists() and path.parent.name == "checkpoints"
            else None
        )
        return ModelSource(path, run, f"model: checkpoint {path}")
    if (path / "checkpoints").is_dir():
        return _newest(RunFolder(path), f"model: run {path}")
    if list(path.glob("seed*/config.json")):
        return _from_runs(path, "")
    if (path / "config.json").exists() and (path / "model.safetensors").exists():
        return ModelSource(path, None, f"model: transformers folder {path}")
    raise ModelError(f"{path} holds no model.", "Give a run folder, a checkpoint, or an exported folder.")


def _from_runs(folder: Path, seed: str) -> ModelSource:
    seeds = sorted(path.parent for path in folder.glob("seed*/config.json"))
    if not seeds:
        raise ModelError(f"{folder} holds no run.", f"Train one with: tslens train --model {folder.name}")
    chosen = folder / seed if seed else (seeds[0] if len(seeds) == 1 else folder / "seed0")
    if chosen not in seeds:
        known = ", ".join(path.name for path in seeds)
        raise ModelError(
            f"There is no run {chosen}; there are {known}.", f"Say {folder.name}@{seeds[0].name}."
        )
    others = [f"{folder.name}@{path.name}" for path in seeds if path != chosen]
    also = f" (also there: {', '.join(others)})" if others else ""
    return _newest(RunFolder(chosen), f"model: run {chosen}{also}")


def _newest(run: RunFolder, note: str) -> ModelSource:
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise ModelError(
            f"{run.path} holds no checkpoint.", "Train it further with: tslens train ... --resume"
        )
    unfinished = "" if run.done.exists() else ", unfinished"
    return ModelSource(checkpoint, run, f"{note}, {checkpoint.stem}{unfinished}")


def _not_found(reference: str, runs: Path) -> ModelError:
    name = reference.partition("@")[0]
    known = (
        [path.name for path in runs.glob("*") if path.is_dir() and re.match(r"l\d", path.name)]
        if runs.is_dir()
        else []
    )
    near = difflib.get_close_matches(name, known, n=1)
    try:
        train = f"Train one with: tslens train --model {ModelSpec.from_name(name).name} --data SOURCE"
    except TslensError as error:
        train = f"Give a path, or a name like l1_h256. {error.hint}"
    hint = f"Did you mean {near[0]}? {train}" if near else train
    return ModelError(f'No trained model "{reference}" in {runs}/, nor a file or folder of that name.', hint)


def load_model(reference: str | Path, *, device: str = "cpu", runs: Path = RUNS) -> TinyTransformer:
    """The model that ``reference`` names, in float32 and evaluation mode, its tokenizer attached.

    ``reference``: run folder, checkpoint, name of a run (``l1_h256``, ``l1_h256@seed2``), or the folder of a
    GPT-Neo model of transformers. Returns a :class:`TinyTransformer`.
    Raises ModelError if there is none, or if it cannot be opened.
    """
    return open_model(find_model(reference, runs=runs), device=device)


def open_model(source: ModelSource, *, device: str = "cpu") -> TinyTransformer:
    """The model at a place that :func:`find_model` found."""
    from tslens.model.checkpoint import load_checkpoint
    from tslens.model.export import import_huggingface

    if source.path.is_dir():
        return import_huggingface(source.path).to(device)
    beside = source.run.tokenizer if source.run else source.path.with_name("tokenizer.json")
    tokenizer = StoryTokenizer.load(beside) if beside.exists() else None
    model = load_checkpoint(source.path, tokenizer).to(device)
    if source.run is not None and source.run.train_digests.exists():
        model.train_digests = frozenset(np.load(source.run.train_digests, allow_pickle=False).tolist())
    return model
