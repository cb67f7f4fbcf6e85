"""Find and open a model, ours or another's, by path or by name.

Order: a path that exists (run folder, checkpoint, folder of transformers or of a HookedTransformer, llama2.c
``.bin``); ``runs/NAME`` (``NAME@seed2`` for one seed); a shipped model (``shipped:NAME`` is always that one); a
model of the hub, ``owner/name``. What was taken, and what else has that name, is said in :attr:`ModelSource.note`.
"""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tslens.corpus.digest_set import DigestSet
from tslens.corpus.hub_model import fetch_model, is_hub_model
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError, TslensError
from tslens.files import read_json
from tslens.model.run_list import RUNS as RUNS
from tslens.model.shipped import Shipped, find_shipped, open_shipped, shipped_models
from tslens.model.spec import ModelSpec
from tslens.reading import read_numbers
from tslens.run_folder import RunFolder

if TYPE_CHECKING:
    from tslens.model.foreign import ForeignModel
    from tslens.model.transformer import TinyTransformer

SHIPPED = "shipped:"
Kind = Literal["checkpoint", "shipped", "transformers", "hooked-transformer", "llama2c"]


@dataclass(frozen=True)
class ModelSource:
    """Where a model was found.

    ``path``: checkpoint, folder or file. ``kind``: of what format. ``label``: a short name for tables and pages.
    ``note``: one line on what was taken and what else has that name. ``home``: where what is measured of it is
    written. ``run``: its run folder, if it has one; ``shipped``: the shipped cell, if it is one.
    """

    path: Path
    kind: Kind
    label: str
    note: str
    home: RunFolder
    run: RunFolder | None = None
    shipped: Shipped | None = None

    def validation_bits(self) -> float | None:
        """Bits per byte on the validation stories of its training, None where that is not known."""
        if self.shipped is not None:
            return self.shipped.val_bits_per_byte
        return self.run.validation_bits() if self.run else None

    def ngram_bits(self) -> float | None:
        """Bits per byte of the 4-gram on the same stories, None where it was not counted."""
        if self.shipped is not None:
            return self.shipped.ngram_bits_per_byte
        return self.run.ngram_bits() if self.run else None


def find_model(reference: str | Path, *, runs: Path = RUNS) -> ModelSource:
    """Resolve what a user wrote after ``--model``. Only a hub id, where nothing else has the name, asks the network.

    Raises ModelError if nothing has that name, with the nearest name that exists, or if the place cannot be read.
    """
    try:
        return _find(reference, runs)
    except OSError as error:
        raise ModelError(
            f'Cannot look for the model "{str(reference)[:200]}": {error.strerror or error}.',
            "Give a path that you may read, or a name like l1_h256.",
        ) from error


def _find(reference: str | Path, runs: Path) -> ModelSource:
    text, path = str(reference), Path(reference)
    name, _, seed = text.removeprefix(SHIPPED).partition("@")
    shipped = None if "/" in name else find_shipped(name, seed or None)
    if text.startswith(SHIPPED):
        if shipped is None:
            raise _no_shipped(text)
        return _from_shipped(shipped, runs, also=[])
    also = [f"{SHIPPED}{shipped.label}"] if shipped is not None else []
    folder = runs / name
    if path.exists():
        there = [str(folder)] if "/" not in text and folder.is_dir() else []
        return _from_path(path, runs, also=[*there, *also])
    runs_of_name = [] if "/" in name else [path.parent.name for path in folder.glob("seed*/config.json")]
    if runs_of_name and not (shipped is not None and seed and seed not in runs_of_name):
        return _from_runs(folder, seed, also=also)
    if shipped is not None:
        return _from_shipped(shipped, runs, also=[])
    if "/" not in name and folder.is_dir():
        return _from_runs(folder, seed, also=[])
    if is_hub_model(text) and path.suffix not in _ENDINGS and not path.parent.exists():
        found = fetch_model(text)
        return _from_folder(found, runs, label=text, note=f"model: {text} of the Hugging Face hub", also=[])
    raise _not_found(text, runs)


_PICKLES = {".pt", ".pth", ".pkl", ".ckpt"}
_ENDINGS = {*_PICKLES, ".bin", ".safetensors"}  # of a path that was mistyped, not of a model of the hub


def _note(text: str, also: list[str]) -> str:
    return text + (f" (also there: {', '.join(also)})" if also else "")


def _from_path(path: Path, runs: Path, *, also: list[str]) -> ModelSource:
    if path.is_file():
        return _from_file(path, runs, also=also)
    if (path / "checkpoints").is_dir():
        return _newest(RunFolder(path), _note(f"model: run {path}", also))
    if list(path.glob("seed*/config.json")):
        return _from_runs(path, "", also=also)
    if (file := _llama2c_inside(path)) is not None:
        return _from_file(file, runs, also=also)
    if (path / "config.json").exists():
        name = path.resolve().name
        return _from_folder(path, runs, label=name, note=f"model: folder {path}", also=also)
    raise ModelError(
        f"{path} holds no model.",
        "Give a run folder, a checkpoint, a folder of transformers, or a .bin file of llama2.c.",
    )


def _from_file(path: Path, runs: Path, *, also: list[str]) -> ModelSource:
    if path.suffix in _PICKLES:
        raise ModelError(
            f"{path} is a pickle, which can run code when it is read; tslens never opens one.",
            "Where it was made, write its state dict with safetensors.torch.save_file, config.json beside it.",
        )
    if path.suffix == ".bin":
        home, note = _home(runs, path.stem, "llama2c"), _note(f"model: llama2.c file {path}", also)
        return ModelSource(path, "llama2c", path.stem, note, home)
    parent, note = path.parent.parent, _note(f"model: checkpoint {path}", also)
    if (parent / "config.json").exists() and path.parent.name == "checkpoints":
        run = RunFolder(parent)
        return ModelSource(path, "checkpoint", run.label(), note, run, run)
    return ModelSource(path, "checkpoint", path.stem, note, _home(runs, path.stem, "checkpoint"))


def _llama2c_inside(folder: Path) -> Path | None:
    """The llama2.c file of a folder, as it is published beside its tokenizer; None if it holds another model."""
    files = [file for file in folder.glob("*.bin") if not file.name.startswith("tok")]
    if not files or any(folder.glob("*.safetensors")):
        return None
    from tslens.model.llama2c import read_header

    found = []
    for file in files:
        with suppress(ModelError):
            read_header(file)
            found.append(file)
    return found[0] if len(found) == 1 else None


def _from_folder(path: Path, runs: Path, *, label: str, note: str, also: list[str]) -> ModelSource:
    """A folder with a ``config.json``: of HookedTransformer, or of transformers."""
    from tslens.model.foreign_hooked import is_hooked

    kind: Kind = "hooked-transformer" if is_hooked(read_json(path / "config.json")) else "transformers"
    home = _home(runs, label, kind)
    return ModelSource(path, kind, label, _note(f"{note}, {kind}", also), home)


def _home(runs: Path, label: str, kind: Kind) -> RunFolder:
    """Where results of another model stand: no trained run has such a name."""
    name = re.sub(r"[^\w.-]", "--", label)
    return RunFolder(runs / f"{name}-{kind}")


def _from_runs(folder: Path, seed: str, *, also: list[str]) -> ModelSource:
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
    return _newest(RunFolder(chosen), _note(f"model: run {chosen}", [*others, *also]))


def _newest(run: RunFolder, note: str) -> ModelSource:
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise ModelError(
            f"{run.path} holds no checkpoint.", "Train it further with: tslens train ... --resume"
        )
    unfinished = "" if run.done.exists() else ", unfinished"
    return ModelSource(
        checkpoint, "checkpoint", run.label(), f"{note}, {checkpoint.stem}{unfinished}", run, run
    )


def _from_shipped(shipped: Shipped, runs: Path, *, also: list[str]) -> ModelSource:
    home = RunFolder(runs / f"{shipped.name}-shipped" / f"seed{shipped.seed}")
    label, path = f"{SHIPPED}{shipped.label}", shipped.weights or shipped.path
    note = _note(f"model: shipped {shipped.label}", also)
    return ModelSource(path, "shipped", label, note, home, shipped=shipped)


def _no_shipped(reference: str) -> ModelError:
    known = [model.label for model in shipped_models()]
    near = difflib.get_close_matches(reference.removeprefix(SHIPPED), known, n=1, cutoff=0.3)
    return ModelError(
        f'There is no shipped model "{reference.removeprefix(SHIPPED)}".',
        f"Did you mean {SHIPPED}{near[0]}? " * bool(near) + "All of them: tslens models",
    )


def _not_found(reference: str, runs: Path) -> ModelError:
    name = reference.partition("@")[0]
    known = {model.name for model in shipped_models()}
    known |= {path.parent.parent.name for path in runs.glob("*/seed*/config.json")}
    near = difflib.get_close_matches(name, sorted(known), n=1)
    try:
        train = f"Train one with: tslens train --model {ModelSpec.from_name(name).name} --data SOURCE"
    except TslensError:  # no model can have that name
        train = "Give a path, or a name like l1_h256. All that are shipped: tslens models"
    hint = f"Did you mean {near[0]}? {train}" if near else train
    return ModelError(
        f'No trained model "{reference}" in {runs}/, no shipped one, nor a file or folder of that name.', hint
    )


def load_model(
    reference: str | Path, *, device: str = "cpu", runs: Path = RUNS
) -> TinyTransformer | ForeignModel:
    """The model that ``reference`` names, in float32 and evaluation mode, its tokenizer attached.

    ``reference``: what ``--model`` takes: a run folder, checkpoint, folder of transformers (GPT-Neo, GPT-2, Llama)
    or of a HookedTransformer, llama2.c ``.bin`` file; the name of a run or shipped model (``l1_h256``,
    ``l1_h256@seed2``, ``shipped:l1_h256``); a hub id. A GPT-Neo as in the TinyStories paper comes as a
    :class:`TinyTransformer`, any other model as a :class:`tslens.model.foreign.ForeignModel`.
    Raises ModelError if there is none, or if it cannot be opened.
    """
    return open_model(find_model(reference, runs=runs), device=device)


def open_model(source: ModelSource, *, device: str = "cpu") -> TinyTransformer | ForeignModel:
    """The model at a place that :func:`find_model` found."""
    from tslens.model.checkpoint import load_checkpoint

    if source.shipped is not None:
        return open_shipped(source.shipped, device=device)
    if source.kind != "checkpoint":
        return _open_foreign(source).to(device)
    beside = source.run.tokenizer if source.run else source.path.with_name("tokenizer.json")
    tokenizer = StoryTokenizer.load(beside) if beside.exists() else None
    model = load_checkpoint(source.path, tokenizer).to(device)
    if source.run is not None and source.run.train_digests.exists():
        model.train_digests = read_digests(source.run.train_digests)
    return model


def read_digests(file: Path) -> DigestSet:
    """The hashes of training stories in a ``train_digests.npy``. Raises ModelError for a broken file."""
    try:
        return DigestSet(read_numbers(file, "u"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} holds no hashes of training stories: {error}.", "Restore it from its source."
        ) from error


def _open_foreign(source: ModelSource) -> TinyTransformer | ForeignModel:
    if source.kind == "llama2c":
        from tslens.model.llama2c import open_llama2c

        return open_llama2c(source.path)
    if source.kind == "hooked-transformer":
        from tslens.model.foreign_hooked import open_hooked

        return open_hooked(source.path, name=source.label)
    from tslens.model.foreign_folder import open_folder

    return open_folder(source.path, name=source.label)
