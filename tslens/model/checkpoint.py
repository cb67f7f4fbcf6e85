"""Weights on disk: safetensors in HookedTransformer's layout, the shape and tokenizer named in its metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tslens.errors import ModelError
from tslens.files import atomic_write
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.reading import BROKEN, check_regular, parse_row

if TYPE_CHECKING:
    from tslens.corpus.tokenizer import StoryTokenizer


def save_checkpoint(model: TinyTransformer, path: Path) -> None:
    """Write the weights, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {
        "model": model.spec.name,
        "d_vocab": str(model.cfg.d_vocab),
        "n_ctx": str(model.cfg.n_ctx),
        "tokenizer_sha256": model.tokenizer.sha256 if model.tokenizer else "",
    }
    data = save(tensors, metadata={"tslens": json.dumps(metadata)})
    with atomic_write(path, "wb") as file:
        file.write(data)


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata of ours (empty if none) and tensors of a safetensors file.

    Raises ModelError for a file that is truncated, is no safetensors file, or would have to be unpickled.
    """
    if path.suffix in {".pt", ".pth", ".pkl", ".ckpt"}:
        raise ModelError(
            f"{path} is a pickle, which can run code when it is read; tslens never opens one.",
            "Convert it to safetensors where it was made.",
        )
    try:
        check_regular(path)
        with safe_open(path, framework="pt") as file:
            metadata = parse_row((file.metadata() or {}).get("tslens", "{}"))
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ModelError(f"There is no checkpoint {path}.", "Check the path.") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path} is no whole safetensors file ({error}).",
            "It may be truncated, or a pickle under another name: copy it again from its source.",
        ) from error


def load_checkpoint(path: Path, tokenizer: StoryTokenizer | None) -> TinyTransformer:
    """The model of one of our checkpoints.

    Raises ModelError if the file is broken, its weights do not fit its shape, or it was trained with another
    tokenizer.
    """
    metadata, tensors = read_tensors(path)
    if "model" not in metadata:
        raise ModelError(f"{path} was not written by tslens.", "Give the folder it was exported to.")
    if tokenizer is not None and metadata.get("tokenizer_sha256", "") not in {"", tokenizer.sha256}:
        raise ModelError(
            f"{path} was trained with another tokenizer than the tokenizer.json of its run.",
            "Put the checkpoint back into its own run folder.",
        )
    try:
        spec = ModelSpec.from_name(metadata["model"])
        shape = {"d_vocab": int(metadata["d_vocab"]), "n_ctx": int(metadata["n_ctx"])}
        if min(shape.values()) < 1:
            raise ValueError(f"a vocabulary of {shape['d_vocab']}, a context of {shape['n_ctx']}")
    except BROKEN as error:
        raise ModelError(f"{path} names an impossible shape ({error}).", "Copy it again.") from error
    return model_from_state(spec, tensors, tokenizer=tokenizer, origin=str(path), **shape)


def model_from_state(
    spec: ModelSpec,
    tensors: dict[str, Tensor],
    *,
    d_vocab: int,
    n_ctx: int,
    tokenizer: StoryTokenizer | None,
    origin: str,
) -> TinyTransformer:
    """A model that holds these weights. Raises ModelError if they do not fit or are not all finite."""
    expected = shapes(spec, d_vocab, n_ctx)
    found: dict[str, Any] = {
        name: tuple(tensor.shape) for name, tensor in tensors.items() if name in expected
    }
    wrong = sorted(name for name in expected if found.get(name) != expected[name])
    if wrong:
        raise ModelError(
            f"{origin} does not hold a {spec.name}: {wrong[0]} should have shape {expected[wrong[0]]}, "
            f"found {found.get(wrong[0])}.",
            "Check that file and configuration belong together.",
        )
    odd = [name for name in expected if not tensors[name].is_floating_point()]
    if odd:
        raise ModelError(
            f"{origin} holds {tensors[odd[0]].dtype} in {odd[0]}.", "Copy it again from its source."
        )
    bad = [name for name in expected if not torch.isfinite(tensors[name].float()).all()]
    if bad:
        raise ModelError(
            f"{origin} holds numbers that are not finite in {bad[0]}.", "Take an earlier checkpoint."
        )
    model = TinyTransformer(spec, d_vocab, seed=0, tokenizer=tokenizer, n_ctx=n_ctx)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    except RuntimeError as error:  # of a tensor beyond those that were expected
        raise ModelError(
            f"{origin} holds another shape: {str(error).splitlines()[-1].strip()}", "Copy it again."
        ) from error
    return model.eval()


def shapes(spec: ModelSpec, d_vocab: int, n_ctx: int) -> dict[str, tuple[int, ...]]:
    """Shape of every trained tensor of a spec, by name, without building the model."""
    heads, d, e, mlp = spec.n_heads, spec.d_model, spec.d_head, spec.d_mlp
    norms: dict[str, tuple[int, ...]] = {"w": (d,), "b": (d,)}
    block: dict[str, tuple[int, ...]] = {
        **{f"{norm}.{leaf}": shape for norm in ("ln1", "ln2") for leaf, shape in norms.items()},
        **{f"attn.W_{part}": (heads, d, e) for part in "QKV"},
        "attn.W_O": (heads, e, d),
        "attn.b_O": (d,),
        "mlp.W_in": (d, mlp),
        "mlp.b_in": (mlp,),
        "mlp.W_out": (mlp, d),
        "mlp.b_out": (d,),
    }
    layers = {f"blocks.{i}.{name}": shape for i in range(spec.n_layers) for name, shape in block.items()}
    final = {f"ln_final.{leaf}": shape for leaf, shape in norms.items()}
    return {"embed.W_E": (d_vocab, d), "pos_embed.W_pos": (n_ctx, d), **layers, **final}
