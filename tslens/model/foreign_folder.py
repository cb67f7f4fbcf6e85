"""Folders of transformers: GPT-Neo as in the paper becomes ours, other GPT-Neo, GPT-2 and Llama are bridged.

Only ``config.json``, safetensors and tokenizer files are read. The sizes that a configuration asks for are held
against what the weight files hold before memory is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from tslens.corpus.foreign_tokenizer import open_tokenizer
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError
from tslens.files import read_json
from tslens.model.export import import_gpt_neo, is_papers_gpt_neo
from tslens.model.foreign import ARCHITECTURES, ForeignModel
from tslens.model.transformer import TinyTransformer
from tslens.reading import check_regular


def open_folder(folder: Path, *, name: str) -> TinyTransformer | ForeignModel:
    """The model of a folder of transformers.

    Raises ModelError for another architecture, a folder without safetensors, or weights that are not whole.
    """
    raw = read_json(folder / "config.json")
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise ModelError(
            f'{folder} holds a model of type "{kind}".', f"tslens opens: {', '.join(ARCHITECTURES)}."
        )
    odd = [name for name, value in raw.items() if isinstance(value, float) and not math.isfinite(value)]
    if odd:
        raise ModelError(f"{folder}/config.json says {odd[0]} {raw[odd[0]]}.", "Restore it from its source.")
    n_stored = _n_stored(folder)
    config = _config(folder, kind)
    tokenizer = open_tokenizer(folder, **_ends(config))
    if tokenizer is not None and tokenizer.vocab_size > config.vocab_size:
        raise ModelError(
            f"{folder} has a tokenizer of {tokenizer.vocab_size} tokens and a model of {config.vocab_size}.",
            "Put the tokenizer there that the model was trained with.",
        )
    single = (folder / "model.safetensors").exists()
    values = config.to_dict()  # with transformers' defaults, which config.json leaves out
    if single and isinstance(tokenizer, StoryTokenizer | None) and is_papers_gpt_neo(values):
        return import_gpt_neo(folder, values, tokenizer)
    module = _load(folder, config, n_stored)
    try:
        return ForeignModel(module, tokenizer, name=name)
    except Exception as error:  # of the bridge, on a configuration that transformers takes
        raise ModelError(
            f"{folder}/config.json cannot be bridged: {_first_line(error)}.", "Restore it."
        ) from error


def _ends(config: Any) -> dict[str, int | None]:
    """The tokens before and after a text that a configuration names, where it names one."""
    found = {"start_id": config.bos_token_id, "eos_id": config.eos_token_id}
    return {
        key: value if isinstance(value, int) and value < config.vocab_size else None
        for key, value in found.items()
    }


def _n_stored(folder: Path) -> int:
    """Numbers that the safetensors files of a folder hold."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [path.name for path in (*folder.glob("*.bin"), *folder.glob("*.pt"))]
        beside = f", only {pickles[0]}: a pickle, which can run code when it is read" if pickles else ""
        raise ModelError(
            f"{folder} holds no safetensors{beside}.",
            "Save it again where it was made: model.save_pretrained(FOLDER, safe_serialization=True)",
        )
    total = 0
    for file in files:
        try:
            check_regular(file)
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118
                    n = 1
                    for size in tensors.get_slice(key).get_shape():
                        n *= size
                    total += n
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(
                f"{file} is no whole safetensors file ({error}).", "Copy it again from its source."
            ) from error
    return total


def _config(folder: Path, kind: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
        )
    except Exception as error:  # of transformers' own checks, which have no common class
        raise ModelError(
            f"{folder}/config.json does not describe a {kind} model: {_first_line(error)}.",
            "Restore it from its source.",
        ) from error


def fitting_class(config: Any, *, n_stored: int, origin: Path) -> Any:
    """The class of a model. Raises ModelError if it would hold more than the ``n_stored`` numbers that there are."""
    import transformers

    model_class = getattr(transformers, ARCHITECTURES[config.model_type])
    try:
        if config.num_hidden_layers * config.hidden_size > n_stored:
            raise ValueError(f"{config.num_hidden_layers:,} layers of width {config.hidden_size:,}")
        with torch.device("meta"):
            n_wanted = sum(parameter.numel() for parameter in model_class(config).parameters())
    except Exception as error:  # impossible shapes raise what torch or transformers happen to raise
        raise ModelError(
            f"{origin}/config.json has an impossible shape: {_first_line(error)}.", "Restore it."
        ) from error
    if n_wanted > n_stored:
        raise ModelError(
            f"{origin}/config.json asks for {n_wanted:,} numbers; the weights hold {n_stored:,}.",
            "Check that configuration and weights belong together.",
        )
    return model_class


def _load(folder: Path, config: Any, n_stored: int) -> Any:
    """The model of transformers, whole, in float32."""
    model_class = fitting_class(config, n_stored=n_stored, origin=folder)
    try:
        module, report = model_class.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            local_files_only=True,
            attn_implementation="eager",
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:  # of transformers or safetensors
        raise ModelError(
            f"Cannot open {folder}: {_first_line(error)}.", "Copy it again from its source."
        ) from error
    _check_whole(module, report, folder)
    return module


def _check_whole(module: Any, report: Mapping[str, Any], origin: Path) -> None:
    """Raise ModelError if a weight was missing, had another shape, or is not finite."""
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    if wrong:
        raise ModelError(
            f"{origin} does not hold a whole model: {wrong[0]} is missing or has another shape.",
            "Copy it again from its source.",
        )
    check_finite(module, origin)


def check_finite(module: Any, origin: Path) -> None:
    """Raise ModelError if a weight is not finite."""
    bad = [name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise ModelError(
            f"{origin} holds numbers that are not finite in {bad[0]}.", "Take an earlier checkpoint."
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
