"""Completions from a model, with a key-value cache, each sample from a generator of its own.

A sample is a function of (seed, index of its prompt, its own index, prompt, model): it does not depend on
which others run beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.errors import UsageError
from tslens.model.attention import KeyValues
from tslens.model.transformer import TinyTransformer

BATCH = 32


@dataclass(frozen=True)
class Completion:
    """One completion. ``ended``: the model closed the story itself, before ``max_tokens`` or the context."""

    prompt: str
    completion: str
    sample: int
    seed: int
    n_tokens: int
    ended: bool


@torch.inference_mode()
def generate(
    model: TinyTransformer,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    max_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int,
    progress: Callable[[int], None] = lambda n_done: None,
) -> list[Completion]:
    """``samples`` completions of every prompt, in order of prompt, then sample.

    ``temperature``: 0 takes the most probable token. ``top_k``: sample among so many tokens only. ``progress`` gets the
    number of completions so far.
    Raises UsageError for impossible settings or a prompt that fills the context.
    """
    if not (samples >= 1 and max_tokens >= 1 and temperature >= 0 and (top_k is None or top_k >= 1)):
        raise UsageError(
            f"Cannot sample {samples} times {max_tokens} tokens at temperature {temperature}, top-k {top_k}.",
            "Samples, tokens and top-k are at least 1, the temperature at least 0.",
        )
    tokenizer = model._tokenizer()
    jobs = [(index, sample) for index in range(len(prompts)) for sample in range(samples)]
    encoded = {prompt: [tokenizer.eos_id, *tokenizer.encode(prompt)] for prompt in prompts}
    for prompt, ids in encoded.items():
        if len(ids) >= model.cfg.n_ctx:
            raise UsageError(
                f'The prompt "{prompt[:40]}..." has {len(ids)} tokens; the context holds {model.cfg.n_ctx}.',
                "Shorten the prompt.",
            )
    done: list[Completion] = []
    for first in range(0, len(jobs), BATCH):
        part = jobs[first : first + BATCH]
        draws = np.stack([np.random.default_rng([seed, *job]).random(max_tokens) for job in part])
        rows = _complete(model, [encoded[prompts[i]] for i, _ in part], draws, max_tokens, temperature, top_k)
        for (index, sample), ids in zip(part, rows, strict=True):
            ended = bool(ids) and ids[-1] == tokenizer.eos_id
            text = tokenizer.decode(ids[:-1] if ended else ids)
            done.append(Completion(prompts[index], text, sample, seed, len(ids), ended))
        progress(len(done))
    return done


def _complete(
    model: TinyTransformer,
    prompts: list[list[int]],
    draws: np.ndarray,
    max_tokens: int,
    temperature: float,
    top_k: int | None,
) -> list[list[int]]:
    """New token ids of each prompt; the last is ``<|endoftext|>`` where the model ended the story."""
    device, eos = model.embed.W_E.device, model._tokenizer().eos_id
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    tokens = torch.full((len(prompts), int(lengths.max())), eos, device=device)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt)
    n_ctx = min(model.cfg.n_ctx, tokens.shape[1] + max_tokens)
    shape = (len(prompts), model.cfg.n_heads, n_ctx, model.cfg.d_head)
    start = torch.zeros(len(prompts), dtype=torch.long, device=device)
    past = [
        KeyValues(model.embed.W_E.new_zeros(shape), model.embed.W_E.new_zeros(shape), start)
        for _ in range(model.cfg.n_layers)
    ]
    final = model.final_residual(tokens, past)[torch.arange(len(prompts)), lengths - 1]
    new: list[list[int]] = [[] for _ in prompts]
    alive = torch.ones(len(prompts), dtype=torch.bool)
    for step in range(max_tokens):
        logits = model.unembed(final).cpu()
        chosen = _choose(logits, torch.from_numpy(draws[:, step]), temperature, top_k).to(device)
        for row in alive.nonzero().flatten().tolist():
            new[row].append(int(chosen[row]))
        full = (lengths + step >= n_ctx).cpu()
        alive &= ~((chosen == eos).cpu() | full)
        if not alive.any() or step + 1 == max_tokens:
            break
        for layer in past:  # rows that are done go on at the last place, unread
            layer.start = (lengths + step).clamp(max=n_ctx - 1)
        final = model.final_residual(chosen[:, None], past)[:, 0]
    return new


def _choose(
    logits: Float[Tensor, "story d_vocab"],
    draw: Float[Tensor, " story"],
    temperature: float,
    top_k: int | None,
) -> Tensor:
    """One token per row by inverting the cumulative distribution at ``draw``, uniform in 0 to 1."""
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits.double() / temperature
    if top_k is not None:
        least = scaled.topk(min(top_k, scaled.shape[-1])).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    cumulative = scaled.softmax(-1).cumsum(-1)
    chosen = torch.searchsorted(cumulative, draw[:, None] * cumulative[:, -1:], right=True)
    return chosen[:, 0].clamp(max=logits.shape[-1] - 1)
