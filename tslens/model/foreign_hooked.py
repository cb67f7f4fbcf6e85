"""Folders with a HookedTransformer state dict (TransformerLens 1 to 3): ``config.json`` and ``model.safetensors``.

The GPT-Neo of the paper becomes ours. Other models are put into the transformers model of the same arithmetic and
bridged: GPT-2 where attention sees everything, GPT-Neo where layers have a window. What neither can compute is
refused by name. Where LayerNorms were folded (``LNPre``), their weights are 1 and 0.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from tslens.corpus.foreign_tokenizer import open_tokenizer
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import ModelError, UsageError
from tslens.files import read_json
from tslens.model.checkpoint import model_from_state, read_tensors
from tslens.model.foreign import ForeignModel
from tslens.model.foreign_folder import check_finite, fitting_class
from tslens.model.spec import WINDOW, ModelSpec
from tslens.model.transformer import TinyTransformer

_SIZES = ("n_layers", "d_model", "n_ctx", "d_vocab", "d_head", "n_heads")
# What GPT-2 and GPT-Neo can compute: the values that a field may have; the first is HookedTransformer's default.
_ALLOWED: dict[str, tuple[Any, ...]] = {
    "normalization_type": ("LN", "LNPre"),
    "positional_embedding_type": ("standard",),
    "act_fn": ("gelu_new", "gelu", "relu", "silu"),
    "attn_only": (False, None),
    "gated_mlp": (False, None),
    "parallel_attn_mlp": (False, None),
    "final_rms": (False, None),
    "post_embedding_ln": (False, None),
    "use_normalization_before_and_after": (False, None),
    "use_qk_norm": (False, None),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "attention_dir": ("causal",),
    "n_key_value_heads": (None,),
    "num_experts": (None,),
    "attn_scores_soft_cap": (-1.0, None),
    "output_logits_soft_cap": (-1.0, None),
    "original_architecture": (None, "GPT2LMHeadModel", "GPTNeoForCausalLM"),
}


def is_hooked(config: Any) -> bool:
    """Whether a ``config.json`` is one of HookedTransformer's."""
    return isinstance(config, dict) and "model_type" not in config and all(name in config for name in _SIZES)


def open_hooked(folder: Path, *, name: str) -> TinyTransformer | ForeignModel:
    """The model of a folder with a HookedTransformer state dict.

    Raises ModelError for an architecture that neither GPT-2 nor GPT-Neo can compute, or weights that do not fit.
    """
    config = read_json(folder / "config.json")
    _, state = read_tensors(folder / "model.safetensors")
    tokenizer = open_tokenizer(folder, start_id=None, eos_id=None)
    try:
        _refuse_others(config, folder)
        spec = _papers_spec(config, state)
        if spec is not None and isinstance(tokenizer, StoryTokenizer | None):
            shape = {"d_vocab": int(config["d_vocab"]), "n_ctx": int(config["n_ctx"])}
            return model_from_state(spec, state, tokenizer=tokenizer, origin=str(folder), **shape)
        module = _module(config, state, folder)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{folder} does not hold the model of its config.json ({error}).", "Save it again."
        ) from error
    check_finite(module, folder)
    return ForeignModel(module, tokenizer, name=name)


def _refuse_others(config: dict[str, Any], folder: Path) -> None:
    for field, allowed in _ALLOWED.items():
        value = config.get(field, allowed[0])
        if value not in allowed:
            raise ModelError(
                f"{folder} is a HookedTransformer with {field} {value}; here it can be {_words(allowed)}.",
                "Open it with TransformerLens; of Llama and others, give the folder of transformers.",
            )
    if config["d_head"] * config["n_heads"] != config["d_model"]:
        raise ModelError(
            f"{folder} has {config['n_heads']} heads of {config['d_head']} in a width of {config['d_model']}.",
            "Such a HookedTransformer has no counterpart in transformers.",
        )
    scale = config.get("attn_scale", -1.0)
    if config.get("use_attn_scale", True) and not (
        scale == -1 or math.isclose(scale, math.sqrt(config["d_head"]), rel_tol=1e-6)
    ):
        raise ModelError(
            f"{folder} divides scores by {scale}, not by the root of d_head.", "Open it with TransformerLens."
        )


def _words(allowed: tuple[Any, ...]) -> str:
    return " or ".join(str(value) for value in allowed)


def _papers_spec(config: dict[str, Any], state: dict[str, Tensor]) -> ModelSpec | None:
    """The spec of a GPT-Neo as in the paper; None for another model."""
    try:
        spec = ModelSpec(int(config["n_layers"]), int(config["d_model"]), int(config["n_heads"]))
    except UsageError:
        return None
    kinds = ["local" if spec.is_local(layer) else "global" for layer in range(spec.n_layers)]
    untied = "unembed.W_U" in state and not torch.equal(state["unembed.W_U"], state["embed.W_E"].T)
    same = (
        config.get("use_attn_scale", True) is False
        and config.get("use_local_attn", False) is True
        and config.get("window_size") == WINDOW
        and config.get("attn_types") == kinds
        and config.get("act_fn") == "gelu_new"
        and config.get("normalization_type", "LN") == "LN"
        and config.get("eps", 1e-5) == 1e-5
        and config.get("d_mlp") == spec.d_mlp
        and not untied
        and not _has_biases(state)
        and not _nonzero(state, "unembed.b_U")
    )
    return spec if same else None


def _nonzero(state: dict[str, Tensor], *names: str) -> bool:
    return any(bool(state[name].any()) for name in names if name in state)


def _has_biases(state: dict[str, Tensor]) -> bool:
    return _nonzero(state, *(name for name in state if name.endswith((".b_Q", ".b_K", ".b_V"))))


# As a model of transformers -----------------------------------------------------------------------------------


def _module(config: dict[str, Any], state: dict[str, Tensor], folder: Path) -> Any:
    """The transformers model of the same arithmetic, its weights in place."""
    windowed = bool(config.get("use_local_attn", False))
    if windowed and (config.get("use_attn_scale", True) or _has_biases(state)):
        raise ModelError(
            f"{folder} has windows together with scaled scores or biases of queries, keys, values.",
            "GPT-Neo has neither; open it with TransformerLens.",
        )
    W_U = state.get("unembed.W_U")
    tied = W_U is None or torch.equal(W_U, state["embed.W_E"].T)
    if f"blocks.{config['n_layers'] - 1}.attn.W_Q" not in state:
        raise KeyError(f"it has no {config['n_layers']} layers")
    n_stored = sum(tensor.numel() for tensor in state.values())
    try:
        shape = _gpt_neo_config(config, tied=tied) if windowed else _gpt2_config(config, tied=tied)
    except Exception as error:  # of transformers' own checks, which have no common class
        raise ValueError(str(error).replace("\n", " ")) from error
    model_class = fitting_class(shape, n_stored=n_stored + _n_norms(config), origin=folder)
    with torch.random.fork_rng(devices=[]):
        module = model_class(shape)
    weights = {
        f"transformer.{name}": tensor.float()
        for name, tensor in {**_shared(config, state), **_blocks(config, state, windowed=windowed)}.items()
    }
    weights["lm_head.weight"] = state["embed.W_E"].float() if W_U is None else W_U.T.contiguous().float()
    if _nonzero(state, "unembed.b_U"):
        module.lm_head.bias = nn.Parameter(state["unembed.b_U"].float())
    report = module.load_state_dict(weights, strict=False)
    missing = [name for name in report.missing_keys if name != "lm_head.bias"]
    if missing or report.unexpected_keys:
        raise ModelError(
            f"{folder} lacks weights or has others than its config.json says: "
            f"{[*missing, *report.unexpected_keys][0]}.",
            "Save it again.",
        )
    return module


def _n_norms(config: dict[str, Any]) -> int:
    """Numbers of folded LayerNorms and absent biases, which transformers holds and the state dict may not."""
    return int((config["n_layers"] * 10 + 2) * config["d_model"])


def _gpt2_config(config: dict[str, Any], *, tied: bool) -> Any:
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=config["d_vocab"],
        n_positions=config["n_ctx"],
        n_embd=config["d_model"],
        n_layer=config["n_layers"],
        n_head=config["n_heads"],
        n_inner=config.get("d_mlp"),
        activation_function=config["act_fn"],
        layer_norm_epsilon=config.get("eps", 1e-5),
        scale_attn_weights=bool(config.get("use_attn_scale", True)),
        tie_word_embeddings=tied,
        attn_implementation="eager",
    )


def _gpt_neo_config(config: dict[str, Any], *, tied: bool) -> Any:
    from transformers import GPTNeoConfig

    return GPTNeoConfig(
        vocab_size=config["d_vocab"],
        max_position_embeddings=config["n_ctx"],
        hidden_size=config["d_model"],
        num_layers=config["n_layers"],
        num_heads=config["n_heads"],
        intermediate_size=config.get("d_mlp"),
        attention_types=[[list(config["attn_types"]), 1]],
        window_size=config["window_size"],
        activation_function=config["act_fn"],
        layer_norm_epsilon=config.get("eps", 1e-5),
        tie_word_embeddings=tied,
    )


def _norm(state: dict[str, Tensor], ours: str, theirs: str, d_model: int) -> dict[str, Tensor]:
    return {
        f"{theirs}.weight": state.get(f"{ours}.w", torch.ones(d_model)),
        f"{theirs}.bias": state.get(f"{ours}.b", torch.zeros(d_model)),
    }


def _shared(config: dict[str, Any], state: dict[str, Tensor]) -> dict[str, Tensor]:
    norm = _norm(state, "ln_final", "ln_f", config["d_model"])
    return {"wte.weight": state["embed.W_E"], "wpe.weight": state["pos_embed.W_pos"], **norm}


def _blocks(config: dict[str, Any], state: dict[str, Tensor], *, windowed: bool) -> dict[str, Tensor]:
    """Weights of all blocks; GPT-2 keeps them as [in out] and joins query, key and value, GPT-Neo has [out in]."""
    found: dict[str, Tensor] = {}
    heads, d_model = config["n_heads"], config["d_model"]
    for layer in range(config["n_layers"]):
        own = f"blocks.{layer}"
        block: dict[str, Tensor] = {}
        W = {part: rearrange(state[f"{own}.attn.W_{part}"], "h d e -> d (h e)") for part in "QKV"}
        W_O = rearrange(state[f"{own}.attn.W_O"], "h e d -> (h e) d", h=heads)
        W_in, W_out = state[f"{own}.mlp.W_in"], state[f"{own}.mlp.W_out"]
        b_O = state.get(f"{own}.attn.b_O", torch.zeros(d_model))
        if windowed:
            names = {"Q": "q_proj", "K": "k_proj", "V": "v_proj"}
            block |= {f"attn.attention.{names[part]}.weight": W[part].T for part in "QKV"}
            block |= {"attn.attention.out_proj.weight": W_O.T, "attn.attention.out_proj.bias": b_O}
            W_in, W_out = W_in.T, W_out.T
        else:
            zero = torch.zeros(heads, d_model // heads)
            biases = [state.get(f"{own}.attn.b_{part}", zero).flatten() for part in "QKV"]
            block |= {
                "attn.c_attn.weight": torch.cat(list(W.values()), 1),
                "attn.c_attn.bias": torch.cat(biases),
            }
            block |= {"attn.c_proj.weight": W_O, "attn.c_proj.bias": b_O}
        block |= {"mlp.c_fc.weight": W_in, "mlp.c_fc.bias": state[f"{own}.mlp.b_in"]}
        block |= {"mlp.c_proj.weight": W_out, "mlp.c_proj.bias": state[f"{own}.mlp.b_out"]}
        for number in (1, 2):
            block |= _norm(state, f"{own}.ln{number}", f"ln_{number}", d_model)
        found |= {f"h.{layer}.{name}": tensor.contiguous() for name, tensor in block.items()}
    return found
