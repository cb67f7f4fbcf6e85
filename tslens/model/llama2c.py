"""Models of llama2.c: ``.bin`` files of float32 weights behind a header of seven numbers.

Version 0 (the published TinyStories models) has only the header; its sign of the vocabulary says whether the
unembedding is the embedding. Version 1 begins with "ak42". Quantised files (version 2) are refused.

llama2.c turns pairs (0, 1), (2, 3), ... of a head by its positions, transformers' Llama pairs (0, d/2), (1, d/2 + 1),
...: the rows of query and key weights are put into that order.

Source: karpathy/llama2.c, export.py (layout) and run.c (arithmetic).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from tslens.corpus.foreign_tokenizer import ForeignTokenizer, read_llama2c_tokenizer
from tslens.errors import ModelError
from tslens.model.foreign import ForeignModel
from tslens.reading import open_regular

_MAGIC = b"24ka"  # 0x616b3432, little-endian
_V1_HEADER = 256
_MOST_LAYERS = 256  # each is built by itself, which takes time and memory whatever its size
_LARGEST = 1 << 20  # of any one number of a header


@dataclass(frozen=True)
class Header:
    """What a file says of itself. ``begin``: byte where the weights begin; ``tied``: no unembedding of its own."""

    version: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    max_seq_len: int
    tied: bool
    begin: int

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.dim // self.n_heads

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of each stretch of the file, in order; layers first."""
        layers, d, m, kv = self.n_layers, self.dim, self.hidden_dim, self.n_kv_heads * self.d_head
        embed, attn_norm, ffn_norm, norm = (
            ("embed", (self.vocab_size, d)),
            ("attention_norm", (layers, d)),
            ("ffn_norm", (layers, d)),
            ("norm", (d,)),
        )
        attention = [
            ("wq", (layers, d, d)),
            ("wk", (layers, kv, d)),
            ("wv", (layers, kv, d)),
            ("wo", (layers, d, d)),
        ]
        ffn = [("w1", (layers, m, d)), ("w2", (layers, d, m)), ("w3", (layers, m, d))]
        if self.version == 0:
            yield from [embed, attn_norm, *attention, ffn_norm, *ffn, norm]
            yield "rope", (2, self.max_seq_len, self.d_head // 2)
        else:
            yield from [attn_norm, ffn_norm, norm, embed, *attention, *ffn]
        if not self.tied:
            yield "output", (self.vocab_size, d)

    @property
    def n_bytes(self) -> int:
        """Size that the file must have."""
        return self.begin + 4 * sum(math.prod(shape) for _, shape in self.tensors())


def read_header(path: Path) -> Header:
    """The header of a file, checked against the file's size before anything else is read.

    Raises ModelError for a pickle, a quantised file, impossible numbers, or a size that does not fit.
    """
    try:
        return _read_header(path)
    except ModelError as error:
        # the low byte of a width may be that of a pickle, so this is asked only of what does not fit
        with suppress(OSError), open_regular(path) as file:
            if file.read(4).startswith((b"PK\x03\x04", b"\x80")):
                raise ModelError(
                    f"{path} is a pickle, which can run code when it is read; tslens never opens one.",
                    "Convert it to safetensors where it was made.",
                ) from error
        raise


def _read_header(path: Path) -> Header:
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(_V1_HEADER)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    version, place = 0, 0
    if start.startswith(_MAGIC) and len(start) == _V1_HEADER:
        version, place = int.from_bytes(start[4:8], "little"), 8
        if version != 1:
            raise ModelError(
                f"{path} is a llama2.c file of version {version}; versions 0 and 1 are read, which hold float32.",
                "Export it again with: python export.py --version 1",
            )
    if len(start) < 28:
        raise _broken(path, f"it has {size} bytes, fewer than a header")
    dim, hidden, layers, heads, kv_heads, vocab, context = struct.unpack_from("<7i", start, place)
    tied = vocab > 0 if version == 0 else bool(start[36])
    numbers = (dim, hidden, layers, heads, kv_heads, abs(vocab), context)
    if not all(0 < number <= _LARGEST for number in numbers):
        raise _broken(path, f"its header says {numbers}")
    if layers > _MOST_LAYERS:
        raise _broken(path, f"it has {layers} layers, over {_MOST_LAYERS}")
    if dim % heads or heads % kv_heads or (dim // heads) % 2:
        raise _broken(path, f"{heads} heads of {kv_heads} key heads do not divide a width of {dim}")
    header = Header(version, *numbers, tied=tied, begin=_V1_HEADER if version else 28)
    if header.n_bytes != size:
        raise _broken(path, f"its header asks for {header.n_bytes:,} bytes, the file has {size:,}")
    return header


def open_llama2c(path: Path) -> ForeignModel:
    """The model of a ``.bin`` file, with the tokenizer in the same folder, if one is there.

    Raises ModelError for a file that is truncated, of another kind, or holds numbers that are not finite.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    header = read_header(path)
    state = _state(path, header)
    tokenizer = _tokenizer_beside(path, header.vocab_size)
    config = LlamaConfig(
        vocab_size=header.vocab_size,
        hidden_size=header.dim,
        intermediate_size=header.hidden_dim,
        num_hidden_layers=header.n_layers,
        num_attention_heads=header.n_heads,
        num_key_value_heads=header.n_kv_heads,
        max_position_embeddings=header.max_seq_len,
        rms_norm_eps=1e-5,
        tie_word_embeddings=header.tied,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        module = LlamaForCausalLM(config)
    module.load_state_dict(state, strict=not header.tied)
    return ForeignModel(module, tokenizer, name=path.stem)


def _state(path: Path, header: Header) -> dict[str, Tensor]:
    """The weights under transformers' names."""
    data = np.fromfile(path, dtype="<f4", offset=header.begin).astype(np.float32, copy=False)
    if not np.isfinite(data).all():
        raise _broken(path, "it holds numbers that are not finite")
    found, place = {}, 0
    for name, shape in header.tensors():
        size = math.prod(shape)
        found[name] = torch.from_numpy(data[place : place + size]).view(shape)
        place += size
    state = {"model.embed_tokens.weight": found["embed"], "model.norm.weight": found["norm"]}
    if not header.tied:
        state["lm_head.weight"] = found["output"]
    theirs = {
        "input_layernorm": found["attention_norm"],
        "post_attention_layernorm": found["ffn_norm"],
        "self_attn.q_proj": _pairs_to_halves(found["wq"], header.n_heads),
        "self_attn.k_proj": _pairs_to_halves(found["wk"], header.n_kv_heads),
        "self_attn.v_proj": found["wv"],
        "self_attn.o_proj": found["wo"],
        "mlp.gate_proj": found["w1"],
        "mlp.down_proj": found["w2"],
        "mlp.up_proj": found["w3"],
    }
    for layer in range(header.n_layers):
        state |= {f"model.layers.{layer}.{name}.weight": weight[layer] for name, weight in theirs.items()}
    return state


def _pairs_to_halves(weight: Tensor, n_heads: int) -> Tensor:
    """Rows (0, 1), (2, 3), ... of each head become rows (0, d/2), (1, d/2 + 1), ..."""
    return rearrange(weight, "l (h pair two) d -> l (h two pair) d", h=n_heads, two=2)


def _tokenizer_beside(path: Path, vocab_size: int) -> ForeignTokenizer | None:
    """The tokenizer in the folder of a model: ``tok{size}.bin``, else ``tokenizer.bin``."""
    names = (f"tok{vocab_size}.bin", "tokenizer.bin")
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    return read_llama2c_tokenizer(found, n_tokens=vocab_size) if found else None


def _broken(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path} is no whole model of llama2.c: {what}.",
        "Copy it again from its source; other kinds of model are folders with safetensors.",
    )
