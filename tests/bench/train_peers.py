"""The peers of bench_train.py: GPT-Neo of transformers and TransformerLens' native model, by AdamW on full rows.

Rows: the stories of our own order of an epoch, end to end with ``<|endoftext|>`` between them, cut into rows of 512
tokens, as such models are usually trained. Cross-entropy on all logits, as both libraries compute it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge.sources.native import NativeModel, initialize_native_model
from transformers import GPTNeoConfig, GPTNeoForCausalLM

from tslens.config import TrainConfig
from tslens.corpus.shards import Corpus, Split
from tslens.model.checkpoint import model_from_state
from tslens.model.export import _attention_types, _from_huggingface_state
from tslens.model.spec import N_CTX, WINDOW, ModelSpec
from tslens.model.transformer import TinyTransformer

BETAS, DECAY, CLIP, WARMUP = (0.9, 0.95), 0.1, 1.0, TrainConfig.warmup


# Models ---------------------------------------------------------------------------------------------------


def gpt_neo(spec: ModelSpec, d_vocab: int, seed: int) -> GPTNeoForCausalLM:
    """GPT-Neo of transformers, without dropout, initialised by transformers."""
    torch.manual_seed(seed)
    config = GPTNeoConfig(
        vocab_size=d_vocab,
        max_position_embeddings=N_CTX,
        hidden_size=spec.d_model,
        num_layers=spec.n_layers,
        num_heads=spec.n_heads,
        intermediate_size=spec.d_mlp,
        attention_types=_attention_types(spec),
        window_size=WINDOW,
        activation_function="gelu_new",
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
        use_cache=False,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPTNeoForCausalLM(config)


def native(spec: ModelSpec, d_vocab: int, seed: int) -> NativeModel:
    """The model that ``TransformerBridge.boot_native`` wraps, without the bridge, which only makes it slower.

    It has no local layers, scales its scores and does not tie its unembedding; the shape is the same.
    """
    config = TransformerBridgeConfig(
        d_model=spec.d_model,
        d_head=spec.d_head,
        n_heads=spec.n_heads,
        n_layers=spec.n_layers,
        n_ctx=N_CTX,
        d_vocab=d_vocab,
        d_mlp=spec.d_mlp,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=1e-5,
        seed=seed,
    )
    model = NativeModel(config)
    initialize_native_model(model, config)
    return model


def as_ours(model: GPTNeoForCausalLM, spec: ModelSpec, corpus: Corpus) -> TinyTransformer:
    """A trained GPT-Neo as our model, so that one evaluator reads both."""
    tokenizer = corpus.tokenizer
    state = _from_huggingface_state(dict(model.state_dict()), spec)
    return model_from_state(
        spec, state, d_vocab=tokenizer.vocab_size, n_ctx=N_CTX, tokenizer=tokenizer, origin="the reference"
    )


# Rows -----------------------------------------------------------------------------------------------------


def rows_of(split: Split, order: np.ndarray) -> Iterator[np.ndarray]:
    """Full rows of 512 tokens of stories end to end."""
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for index in order:
        story = split[index][:-1]  # the next story begins with the end token
        waiting.append(story)
        n_waiting += len(story)
        if n_waiting >= N_CTX:
            stream = np.concatenate(waiting)
            for first in range(0, n_waiting - N_CTX + 1, N_CTX):
                yield stream[first : first + N_CTX]
            rest = stream[n_waiting - n_waiting % N_CTX :]
            waiting, n_waiting = [rest], len(rest)


def training_batches(split: Split, *, n_rows: int, seed: int) -> Iterator[Tensor]:
    """Batches of rows, epoch after epoch, the stories in the order in which ours are drawn (``epoch_batches``)."""
    epoch, batch = 0, []
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(split))
        for row in rows_of(split, order):
            batch.append(row)
            if len(batch) == n_rows:
                yield torch.from_numpy(np.stack(batch).astype(np.int64))
                batch = []
        epoch += 1


@torch.no_grad()
def own_loss(model: GPTNeoForCausalLM, split: Split) -> float:
    """Loss in nats per token of GPT-Neo on held-out rows of the kind that it was trained on."""
    model.eval()
    rows = list(rows_of(split, np.arange(len(split))))
    nats, n_targets = 0.0, 0
    for first in range(0, len(rows), 8):
        tokens = torch.from_numpy(np.stack(rows[first : first + 8]).astype(np.int64))
        logits = model(tokens).logits[:, :-1].flatten(0, 1)
        nats += float(F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum"))
        n_targets += tokens[:, 1:].numel()
    return nats / n_targets


# Training -------------------------------------------------------------------------------------------------


def _reference_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    return model(tokens, labels=tokens).loss


def _native_loss(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(tokens)[:, :-1].flatten(0, 1)
    return F.cross_entropy(logits.float(), tokens[:, 1:].flatten())


class Trainer:
    """A peer and its AdamW, fused; decay on the matrices of the blocks alone, as ours has it.

    ``bfloat16``: autocast of products. ``compiled``: by ``torch.compile``.
    """

    def __init__(self, model: nn.Module, *, bfloat16: bool, compiled: bool) -> None:
        self.model, self.is_autocast = model.train(), bfloat16
        embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in embeddings]
        others = [p for p in model.parameters() if p.ndim < 2 or id(p) in embeddings]
        groups = [{"params": matrices, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=BETAS, fused=True)
        loss = _native_loss if isinstance(model, NativeModel) else _reference_loss
        self.loss_of: Callable[[nn.Module, Tensor], Tensor] = torch.compile(loss) if compiled else loss

    def step(self, tokens: Tensor, rate: float) -> None:
        """One step."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.is_autocast):
            loss = self.loss_of(self.model, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.adamw.zero_grad()


def train_for(trainer: Trainer, batches: Iterator[Tensor], *, rate: float, seconds: float) -> int:
    """Train by the clock, compilation included. The number of steps.

    The rate rises along a line to ``rate`` and falls to zero over the time that the first step, which compiles, leaves.
    """
    began = time.perf_counter()
    trainer.step(next(batches), 0.0)
    compiled, n_steps = time.perf_counter(), 1
    left = seconds - (compiled - began)
    while (used := (time.perf_counter() - compiled) / left) < 1:
        share = used / WARMUP if used < WARMUP else (1 - used) / (1 - WARMUP)
        trainer.step(next(batches), rate * share)
        n_steps += 1
    return n_steps
