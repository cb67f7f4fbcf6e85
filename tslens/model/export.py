"""Our models in the formats of other libraries, and GPT-Neo folders of transformers back.

``huggingface``: a folder that ``transformers.AutoModelForCausalLM`` and version 4 of TransformerLens
(``TransformerBridge.boot_transformers``) open offline. ``hooked-transformer``: a state dict and configuration
for ``HookedTransformer`` of version 3 of TransformerLens, loaded strictly.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from safetensors.torch import save
from torch import Tensor

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError, RunError, UsageError
from tslens.files import atomic_write, write_json
from tslens.model.checkpoint import model_from_state, read_tensors
from tslens.model.spec import WINDOW, ModelSpec
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer

END = "<|endoftext|>"
Format = Literal["huggingface", "hooked-transformer"]


def export_model(model: StoryModel, to: Format, folder: Path) -> None:
    """Write a folder of the given format, whole or not at all.

    Raises ModelError if it is another library's model, RunError if the folder exists and is not empty.
    """
    if not isinstance(model, TinyTransformer):
        raise ModelError(
            f"{model.cfg.model_name} is no GPT-Neo of the paper, so tslens has no other format for it.",
            "Use the files that it was read from.",
        )
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty.", "Export to a new folder.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise RunError(
            f"Cannot write {folder}: {error.strerror}.", "Choose a folder you may write to."
        ) from error
    try:
        _WRITERS[to](model, unfinished)
        if model.tokenizer is not None:
            model.tokenizer.save(unfinished / "tokenizer.json")
        unfinished.chmod(0o755)
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path, "wb") as file:
        file.write(data)


# transformers ---------------------------------------------------------------------------------------------


def _write_huggingface(model: TinyTransformer, folder: Path) -> None:
    spec, cfg = model.spec, model.cfg
    eos = model.tokenizer.eos_id if model.tokenizer else 0
    config = {
        "architectures": ["GPTNeoForCausalLM"],
        "model_type": "gpt_neo",
        "vocab_size": cfg.d_vocab,
        "max_position_embeddings": cfg.n_ctx,
        "hidden_size": spec.d_model,
        "num_layers": spec.n_layers,
        "num_heads": spec.n_heads,
        "intermediate_size": spec.d_mlp,
        "attention_types": _attention_types(spec),
        "window_size": WINDOW,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": cfg.eps,
        "resid_dropout": 0.0,
        "embed_dropout": 0.0,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "bos_token_id": eos,
        "eos_token_id": eos,
        "dtype": "float32",
    }
    weights = save(to_huggingface_state(model), metadata={"format": "pt"})
    _write(folder / "model.safetensors", weights)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", {"bos_token_id": eos, "eos_token_id": eos})
    if model.tokenizer is not None:
        special = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END}
        tokenizer_config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": cfg.n_ctx,
            **special,
        }
        write_json(folder / "tokenizer_config.json", tokenizer_config)


def _attention_types(spec: ModelSpec) -> list[Any]:
    """transformers writes ``[[kinds, times], ...]``; the times of one list must make up all layers."""
    pairs, rest = divmod(spec.n_layers, 2)
    return [[["global", "local"], pairs]] * bool(pairs) + [[["global"], 1]] * rest


# Our name, transformers' name, and how our axes become theirs (its linear layers hold output x input).
_TOP = [
    ("embed.W_E", "transformer.wte.weight", "v d -> v d"),
    ("pos_embed.W_pos", "transformer.wpe.weight", "p d -> p d"),
    ("ln_final.w", "transformer.ln_f.weight", "d -> d"),
    ("ln_final.b", "transformer.ln_f.bias", "d -> d"),
]
_BLOCK = [
    ("ln1.w", "ln_1.weight", "d -> d"),
    ("ln1.b", "ln_1.bias", "d -> d"),
    ("attn.W_Q", "attn.attention.q_proj.weight", "h d e -> (h e) d"),
    ("attn.W_K", "attn.attention.k_proj.weight", "h d e -> (h e) d"),
    ("attn.W_V", "attn.attention.v_proj.weight", "h d e -> (h e) d"),
    ("attn.W_O", "attn.attention.out_proj.weight", "h e d -> d (h e)"),
    ("attn.b_O", "attn.attention.out_proj.bias", "d -> d"),
    ("ln2.w", "ln_2.weight", "d -> d"),
    ("ln2.b", "ln_2.bias", "d -> d"),
    ("mlp.W_in", "mlp.c_fc.weight", "d m -> m d"),
    ("mlp.b_in", "mlp.c_fc.bias", "m -> m"),
    ("mlp.W_out", "mlp.c_proj.weight", "m d -> d m"),
    ("mlp.b_out", "mlp.c_proj.bias", "d -> d"),
]


def _correspondence(n_layers: int) -> Iterator[tuple[str, str, str]]:
    """Our name, transformers' name and axes of every tensor."""
    yield from _TOP
    for layer in range(n_layers):
        for ours, theirs, axes in _BLOCK:
            yield f"blocks.{layer}.{ours}", f"transformer.h.{layer}.{theirs}", axes


def to_huggingface_state(model: TinyTransformer) -> dict[str, Tensor]:
    """The weights under transformers' GPT-Neo names."""
    own = {name: tensor.detach().cpu().float() for name, tensor in model.state_dict().items()}
    return {
        theirs: rearrange(own[ours], axes).contiguous()
        for ours, theirs, axes in _correspondence(model.spec.n_layers)
    }


def _from_huggingface_state(state: dict[str, Tensor], spec: ModelSpec) -> dict[str, Tensor]:
    """Inverse of :func:`to_huggingface_state`."""
    own = {}
    for ours, theirs, axes in _correspondence(spec.n_layers):
        left, right = axes.split(" -> ")
        sizes = {"h": spec.n_heads} if "h" in left else {}
        own[ours] = rearrange(state[theirs], f"{right} -> {left}", **sizes)
    return own


def is_papers_gpt_neo(config: dict[str, Any]) -> bool:
    """Whether a ``config.json`` of transformers describes a GPT-Neo as the paper has it, of any context."""
    try:
        spec = _spec_of(config)
        return (
            config["model_type"] == "gpt_neo"
            and config.get("window_size", 256) == WINDOW
            and config.get("activation_function", "gelu_new") == "gelu_new"
            and float(config.get("layer_norm_epsilon", 1e-5)) == 1e-5
            and config.get("tie_word_embeddings", True) is True
            and (config.get("intermediate_size") or spec.d_mlp) == spec.d_mlp
            and _expand(config["attention_types"]) == _expand(_attention_types(spec))
        )
    except (KeyError, TypeError, ValueError, UsageError):
        return False


def _spec_of(config: dict[str, Any]) -> ModelSpec:
    return ModelSpec(int(config["num_layers"]), int(config["hidden_size"]), int(config["num_heads"]))


def import_gpt_neo(folder: Path, config: dict[str, Any], tokenizer: StoryTokenizer | None) -> TinyTransformer:
    """A GPT-Neo folder of transformers that :func:`is_papers_gpt_neo` as our model.

    Raises ModelError if its weights are not whole.
    """
    spec = _spec_of(config)
    _, tensors = read_tensors(folder / "model.safetensors")
    try:
        state = _from_huggingface_state(tensors, spec)
        shape = {"d_vocab": int(config["vocab_size"]), "n_ctx": int(config["max_position_embeddings"])}
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder} does not hold a whole GPT-Neo ({error}).", "Export the model again."
        ) from error
    return model_from_state(spec, state, tokenizer=tokenizer, origin=str(folder), **shape)


def _expand(attention_types: list[Any]) -> list[str]:
    return [kind for kinds, times in attention_types for _ in range(times) for kind in kinds]


# TransformerLens 3 ------------------------------------------------------------------------------------------


def _write_hooked_transformer(model: TinyTransformer, folder: Path) -> None:
    spec, cfg = model.spec, model.cfg
    config = {
        "n_layers": spec.n_layers,
        "d_model": spec.d_model,
        "d_head": spec.d_head,
        "n_heads": spec.n_heads,
        "d_mlp": spec.d_mlp,
        "n_ctx": cfg.n_ctx,
        "d_vocab": cfg.d_vocab,
        "act_fn": "gelu_new",
        "eps": cfg.eps,
        "normalization_type": "LN",
        "use_attn_scale": False,
        "use_local_attn": True,
        "window_size": WINDOW,
        "attn_types": cfg.attn_types,
        "model_name": spec.name,
        "tie_word_embeddings": True,
    }
    _write(folder / "model.safetensors", save(to_hooked_transformer_state(model)))
    write_json(folder / "config.json", config)


def to_hooked_transformer_state(model: TinyTransformer) -> dict[str, Tensor]:
    """Our state dict with the ``mask`` and ``IGNORE`` buffers that version 3 registers, for strict loading."""
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in model.state_dict().items()}
    pos = torch.arange(model.cfg.n_ctx)
    for layer, block in enumerate(model.blocks):
        state[f"blocks.{layer}.attn.mask"] = block.attn.allowed(pos, pos)
        state[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(float("-inf"))
    return state


_WRITERS = {"huggingface": _write_huggingface, "hooked-transformer": _write_hooked_transformer}
