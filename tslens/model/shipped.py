"""The models that come with the package, and the figures of those that ``make models`` rebuilds.

``assets/models/NAME/seedS/model.json`` describes a cell; ``model.safetensors`` beside it are its weights, rounded to
float16, the unembedding left out as it is the transpose of ``W_E``. What cells share is stored once: ``tokenizers/``,
and by corpus, under ``corpora/``, the hashes of its training stories and the losses of its 4-gram.
All losses are those of the rounded weights, computed in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tslens
from tslens.errors import DataError, ModelError, TslensError
from tslens.files import atomic_write, read_json, write_json
from tslens.model.spec import ModelSpec

if TYPE_CHECKING:
    from tslens.model.transformer import TinyTransformer

SCHEMA = "tslens.shipped/1"
NGRAM_SCHEMA = "tslens.shipped_ngram/1"
MODELS = Path(tslens.__file__).parent / "assets" / "models"
REBUILT = Path("runs/shipped")  # where ``make models`` trains, and leaves the weights that are not packaged


@dataclass(frozen=True)
class TextLoss:
    """Loss on one kind of text, a mean over its targets. ``texts``: real stories, author stories ..."""

    texts: str
    n_texts: int
    loss_nats: float
    bits_per_byte: float


@dataclass(frozen=True)
class ShippedFacts:
    """What ``model.json`` holds.

    ``corpus``, ``tokenizer_sha256``: hashes of what it was trained on and with. ``n_parameters``: the tied unembedding
    counted once. ``n_tokens``, ``seconds``: of training. ``train``: on as many training texts as there are held-out
    ones. ``held_out``: the first is the one to quote.
    """

    name: str
    seed: int
    corpus: str
    tokenizer_sha256: str
    n_parameters: int
    steps: int
    n_tokens: int
    seconds: float
    train: TextLoss
    held_out: tuple[TextLoss, ...]

    def write(self, folder: Path) -> None:
        """Write ``model.json`` into a folder."""
        write_json(folder / "model.json", {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def from_json(cls, values: Mapping[str, Any], origin: Path) -> ShippedFacts:
        """Inverse of :meth:`write`. Raises ModelError for another schema or a field that is missing."""
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f'its schema is "{values["schema"]}", not "{SCHEMA}"')
            fields = {key: value for key, value in values.items() if key != "schema"}
            fields["train"] = TextLoss(**fields["train"])
            fields["held_out"] = tuple(TextLoss(**row) for row in fields["held_out"])
            if not fields["held_out"]:
                raise ValueError("it has no held-out loss")
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(origin, str(error)) from error


@dataclass(frozen=True)
class Shipped:
    """A shipped cell. ``path``: its folder in the package. ``ngram``: the 4-gram's losses, as in ``facts.held_out``."""

    facts: ShippedFacts
    path: Path
    ngram: tuple[TextLoss, ...]

    @property
    def name(self) -> str:
        """Name of the shape, as in ``l1_h256``."""
        return self.facts.name

    @property
    def seed(self) -> int:
        """Seed of weights and data order."""
        return self.facts.seed

    @property
    def label(self) -> str:
        """Model and seed, as in ``l1_h256@seed0``."""
        return f"{self.name}@seed{self.seed}"

    @property
    def packaged(self) -> bool:
        """Whether the weights are in the package."""
        return (self.path / "model.safetensors").is_file()

    @property
    def weights(self) -> Path | None:
        """The weights: in the package, else rebuilt under ``runs/shipped``, else None."""
        rebuilt = REBUILT / self.name / f"seed{self.seed}"
        found = (folder / "model.safetensors" for folder in (self.path, rebuilt))
        return next((path for path in found if path.is_file()), None)

    @property
    def tokenizer_file(self) -> Path:
        """The tokenizer, one file for all cells that have the same."""
        return tokenizer_file(self.facts.tokenizer_sha256)

    @property
    def digests_file(self) -> Path:
        """Hashes of the training stories, one file for all cells of a corpus."""
        return corpus_folder(self.facts.corpus) / "train_digests.npy"

    @property
    def val_bits_per_byte(self) -> float:
        """Bits per byte on the held-out texts that are quoted."""
        return self.facts.held_out[0].bits_per_byte

    @property
    def ngram_bits_per_byte(self) -> float:
        """Bits per byte of the 4-gram of the same training stories on the same texts."""
        return self.ngram[0].bits_per_byte


def tokenizer_file(sha256: str) -> Path:
    """Where a tokenizer is stored."""
    return MODELS / "tokenizers" / f"{sha256[:12]}.json"


def corpus_folder(sha256: str) -> Path:
    """Where what all cells of a corpus share is stored."""
    return MODELS / "corpora" / sha256[:12]


def shipped_models() -> list[Shipped]:
    """All cells, by layers, width, heads and seed, story models first.

    Raises ModelError or DataError for a folder that is broken, which it names.
    """
    return sorted((_read(file.parent) for file in MODELS.glob("l*/seed*/model.json")), key=_order)


def find_shipped(name: str, seed: str | None) -> Shipped | None:
    """The cell of that name; None if there is none.

    ``seed``: as in ``seed2``; None takes the only seed, else seed 0. Raises as :func:`shipped_models`.
    """
    folders = (
        sorted(file.parent for file in (MODELS / name).glob("seed*/model.json")) if _is_name(name) else []
    )
    if seed is None and len(folders) == 1:
        return _read(folders[0])
    chosen = MODELS / name / (seed or "seed0")
    return _read(chosen) if chosen in folders else None


def open_shipped(shipped: Shipped, *, device: str = "cpu") -> TinyTransformer:
    """The model in float32 and evaluation mode, its tokenizer and the hashes of its training stories attached.

    Raises ModelError if its weights are not there, or a file is broken or belongs to another cell.
    """
    import numpy as np

    from tslens.corpus.digest_set import DigestSet
    from tslens.corpus.tokenizer import StoryTokenizer
    from tslens.model.checkpoint import load_checkpoint

    if shipped.weights is None:
        raise ModelError(
            f"The weights of {shipped.label} are not in the package, only its figures.",
            f"Train it again: make models, or python training/make_models.py --only {shipped.label}",
        )
    model = load_checkpoint(shipped.weights, StoryTokenizer.load(shipped.tokenizer_file))
    if model.spec.name != shipped.name:
        raise _broken(shipped.weights, f"it holds {model.spec.name}, not {shipped.name}")
    try:
        digests = np.load(shipped.digests_file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _broken(shipped.digests_file, str(error)) from error
    model.train_digests = DigestSet(digests)
    return model.to(device)


def write_rounded(checkpoint: Path, path: Path) -> None:
    """Write the weights of a checkpoint as they are shipped: in float16, without what follows from the rest.

    Raises ModelError if the checkpoint cannot be read, or if a weight is too large for float16.
    """
    import torch
    from safetensors.torch import save

    from tslens.model.checkpoint import read_tensors, shapes

    metadata, tensors = read_tensors(checkpoint)
    names = shapes(ModelSpec.from_name(metadata["model"]), int(metadata["d_vocab"]), int(metadata["n_ctx"]))
    rounded = {name: tensors[name].half().contiguous() for name in names}
    for name, tensor in rounded.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name} of {checkpoint} does not fit float16.", "Train with a smaller rate.")
    with atomic_write(path, "wb") as file:
        file.write(save(rounded, metadata={"tslens": json.dumps(metadata)}))


def _is_name(name: str) -> bool:
    try:
        return ModelSpec.from_name(name).name == name
    except TslensError:
        return False


def _read(folder: Path) -> Shipped:
    facts = ShippedFacts.from_json(read_json(folder / "model.json"), folder / "model.json")
    if (facts.name, f"seed{facts.seed}") != (folder.parent.name, folder.name):
        raise _broken(folder / "model.json", f"it describes {facts.name}, seed {facts.seed}")
    file = corpus_folder(facts.corpus) / "ngram4.json"
    try:
        found = read_json(file)
        if found["schema"] != NGRAM_SCHEMA:
            raise ValueError(f'its schema is "{found["schema"]}", not "{NGRAM_SCHEMA}"')
        by_texts = {row["texts"]: TextLoss(**row) for row in found["held_out"]}
        return Shipped(facts, folder, tuple(by_texts[row.texts] for row in facts.held_out))
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise _broken(file, str(error)) from error


def _order(shipped: Shipped) -> tuple[bool, int, int, int, int]:
    spec = ModelSpec.from_name(shipped.name)
    return spec.instruct, spec.n_layers, spec.d_model, spec.n_heads, shipped.seed


def _broken(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path} is not as it was shipped: {what}.",
        "Install tslens again, or make the model again: make models.",
    )
