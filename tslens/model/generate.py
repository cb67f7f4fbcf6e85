"""Completions from a model, with a key-value cache, each sample from a generator of its own.

1. Every (prompt, sample) is a row with its own random numbers, a function of (seed, index of the prompt, sample).
2. Rows are sorted by the length of their prompts and written in batches whose keys and values fit the processor's
   cache; a row that is done leaves its batch at once.
3. A token is drawn by inverting the cumulative distribution at the row's number for this step.

So a sample is a function of (seed, index of its prompt, sample, prompt, model), and not of what is written beside it.
For our models this holds to the last bit where ``decoding`` says so. Where sums are rounded otherwise (another number
of threads, a foreign model, hooks), a text may change where two tokens are tied, or where the random number meets a
border of the distribution, to about 1e-6 (3 of 128 sampled texts in a trial with plain sums).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.errors import ModelError, UsageError
from tslens.model.story_model import StoryModel

CACHE_BYTES = {"cpu": 2**26, "cuda": 2**33}  # keys and values of a batch: 64 MiB, 8 GiB
MOST_ROWS = 512
BLOCK = 64  # tokens whose probabilities are added up first


@dataclass(frozen=True)
class Completion:
    """One completion. ``ended``: the model closed the story itself, before ``max_tokens`` or the context."""

    prompt: str
    completion: str
    sample: int
    seed: int
    n_tokens: int
    ended: bool


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen. ``temperature``: 0 takes the likeliest. ``top_k``: among so many only."""

    max_tokens: int
    temperature: float
    top_k: int | None


@torch.inference_mode()
def generate(
    model: StoryModel,
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

    An empty prompt asks for a story from its beginning. ``temperature``: 0 takes the most probable token. ``top_k``:
    sample among so many tokens only. ``progress`` gets the number of completions so far, those that are being
    written counted by their share of ``max_tokens``. Hooks on the model stay in force (``causal.ablation``).
    Raises UsageError for impossible settings or a prompt that fills the context, ModelError without a tokenizer.
    """
    asked = {"samples": samples, "max_tokens": max_tokens, "temperature": temperature, "top_k": top_k}
    for name, value in asked.items():
        least = 0 if name == "temperature" else 1
        if value is not None and not value >= least:
            raise UsageError(f"{name} cannot be {value}.", f"Give {least} or more.")
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot write.", "Put a tokenizer.json beside it."
        )
    encoded = _encode(tokenizer, prompts, model.cfg.n_ctx)
    jobs = [(index, sample) for index in range(len(prompts)) for sample in range(samples)]
    jobs.sort(key=lambda job: len(encoded[prompts[job[0]]]))
    found: dict[tuple[int, int], Completion] = {}
    sampling = Sampling(max_tokens, temperature, top_k)
    while len(found) < len(jobs):
        rest = jobs[len(found) :]
        part = rest[: rows_at_once(model, [len(encoded[prompts[i]]) for i, _ in rest], max_tokens)]
        draws = np.stack([np.random.default_rng([seed, *job]).random(max_tokens) for job in part])
        n_before = len(found)
        rows = _write(
            model,
            [encoded[prompts[i]] for i, _ in part],
            torch.from_numpy(draws),
            sampling,
            tokenizer.eos_id,
            lambda done, n_before=n_before: progress(n_before + int(done)),  # type: ignore[misc]
        )
        for (index, sample), ids in zip(part, rows, strict=True):
            ended = ids[-1] == tokenizer.eos_id
            told = encoded[prompts[index]][1:]
            text = tokenizer.decode_after(told, ids[:-1] if ended else ids)
            found[index, sample] = Completion(prompts[index], text, sample, seed, len(ids), ended)
        progress(len(found))
    return [found[job] for job in sorted(found)]


def _encode(tokenizer: TextTokenizer, prompts: Sequence[str], n_ctx: int) -> dict[str, list[int]]:
    """Token ids of each prompt, the token before a story first."""
    encoded = {prompt: [tokenizer.start_id, *tokenizer.encode(prompt)] for prompt in prompts}
    for prompt, ids in encoded.items():
        if len(ids) >= n_ctx:
            raise UsageError(
                f'The prompt "{prompt[:40]}..." has {len(ids)} tokens; the context holds {n_ctx}.',
                "Shorten the prompt.",
            )
    return encoded


def rows_at_once(model: StoryModel, lengths: list[int], max_tokens: int) -> int:
    """How many of the next rows, shortest first, are written together: as many as their cache has room for."""
    cfg = model.cfg
    room = CACHE_BYTES.get(model.device.type, CACHE_BYTES["cpu"])
    per_slot = 2 * cfg.n_layers * cfg.d_model * 4
    n_rows = 0
    for length in lengths[:MOST_ROWS]:
        if n_rows >= 16 and (n_rows + 1) * per_slot * min(length + max_tokens, cfg.n_ctx) > room:
            break
        n_rows += 1
    return n_rows


def _write(
    model: StoryModel,
    prompts: list[list[int]],
    draws: Float64[Tensor, "row step"],
    sampling: Sampling,
    eos: int,
    progress: Callable[[float], None],
) -> list[list[int]]:
    """New token ids of each prompt; the last is the token after a story where the model ended it."""
    n_ctx = min(model.cfg.n_ctx, max(map(len, prompts)) + sampling.max_tokens)
    decoder = model.decoder()
    logits = decoder.start(prompts, n_ctx)
    device = logits.device
    draws = draws.to(device)
    new: list[list[int]] = [[] for _ in prompts]
    alive = list(range(len(prompts)))  # of which prompt each row of the decoder is
    for step in range(sampling.max_tokens):
        chosen = choose(logits, draws[:, step], sampling)
        left = []
        for row, (index, token) in enumerate(zip(alive, chosen.tolist(), strict=True)):
            new[index].append(token)
            if token != eos and len(prompts[index]) + step < n_ctx:
                left.append(row)
        if not left or step + 1 == sampling.max_tokens:
            break
        if len(left) < len(alive):
            rows = torch.tensor(_close_gaps(left), device=device)
            decoder.keep(rows)
            chosen, draws = chosen[rows], draws[rows]
            alive = [alive[row] for row in rows.tolist()]
        progress(len(prompts) - len(alive) + len(alive) * (step + 1) / sampling.max_tokens)
        logits = decoder.step(chosen)
    return new


def _close_gaps(left: list[int]) -> list[int]:
    """The rows that are left, the last of them in the gaps of those that are gone: few change their place."""
    inside = [row for row in left if row < len(left)]
    movers = iter(row for row in left if row >= len(left))
    stays = set(inside)
    return [row if row in stays else next(movers) for row in range(len(left))]


def choose(
    logits: Float[Tensor, "row d_vocab"], draw: Float64[Tensor, " row"], sampling: Sampling
) -> Int[Tensor, " row"]:
    """One token per row: the likeliest at temperature 0, else where the cumulative distribution passes ``draw``.

    ``draw``: uniform in 0 to 1.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if sampling.top_k is None or sampling.top_k >= logits.shape[-1]:
        return _invert(_weights(logits, sampling.temperature), draw)
    best = logits.topk(sampling.top_k)
    tokens, order = best.indices.sort(
        -1
    )  # by id, so that a near tie in probability does not change their order
    weights = _weights(best.values.gather(-1, order), sampling.temperature)
    return tokens.gather(-1, _invert(weights, draw)[:, None])[:, 0]


def _weights(logits: Float[Tensor, "row entry"], temperature: float) -> Float[Tensor, "row entry"]:
    return ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(-1)  # no temperature overflows


def _invert(weights: Float[Tensor, "row entry"], draw: Float64[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The entry where the running sum of the weights passes ``draw`` times their sum.

    In two steps, sums of blocks and then one block, both in float64: a running sum over the vocabulary would take
    longer than the model.
    """
    blocks = F.pad(weights, (0, -weights.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    target = draw[:, None] * sums[:, -1:]
    block = torch.searchsorted(sums, target, right=True).clamp(max=sums.shape[-1] - 1)
    before = F.pad(sums, (1, 0)).gather(-1, block)
    inside = blocks.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0].double().cumsum(-1)
    entry = torch.searchsorted(inside, target - before, right=True).clamp(max=BLOCK - 1)
    return (block * BLOCK + entry)[:, 0].clamp(max=weights.shape[-1] - 1)
