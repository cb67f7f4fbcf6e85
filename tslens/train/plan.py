"""What training will take, before anything starts: parameters, operations, memory, disk and time of every cell.

The time is measured where that is cheap, by a few real steps of the model at its batch size; the smallest model comes
first, and what it reaches of the rate of plain matrix products is what the larger ones are taken to reach. For a GPU
that is not here, time follows from the peak of its data sheet and an assumed share of it, and from an assumed time to
launch the kernels of a step: that is most of the time of a small model.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import torch

from tslens.config import Precision, TrainConfig
from tslens.corpus.shards import Corpus
from tslens.errors import UsageError
from tslens.model.batches import collate, epoch_batches
from tslens.model.loss import CHUNK, GPU_CHUNK
from tslens.model.spec import N_CTX, ModelSpec
from tslens.train.cells import Cell
from tslens.train.flops import PEAK_FLOPS, flops_per_token, matmul_flops
from tslens.train.learner import Learner
from tslens.train.loop import EVEN_STEPS
from tslens.train.objective import resolve_precision

GPUS = {"a100": "A100", "h100": "H100", "v100": "V100"}
ASSUMED_MFU = 0.3  # of a GPU that is not here, and
STEP_LAUNCH, LAYER_LAUNCH = (
    3e-3,
    1e-3,
)  # seconds for a step and for a layer of it, however little there is to do
FIRST_UTILISATION = 0.3  # guessed before any model was measured
PROBE_SECONDS = 20.0  # for all models of a grid together
MODEL_SECONDS = 3.0  # for one of them: larger ones are not measured
PROBE_STEPS = 3
LAYER_WIDTHS = 16  # numbers that a layer keeps for the backward pass, for a position and a unit of width

Basis = Literal["measured", "estimated", "data sheet"]


@dataclass(frozen=True)
class Plan:
    """What one cell will take.

    ``n_params``: trained, ``n_embedding`` of them of tokens and positions. ``flops_per_token``: see
    :func:`tslens.train.flops.flops_per_token`. ``tokens``, ``flops``: of the whole run; None for a budget in minutes.
    ``memory_bytes``: weights, gradients, optimizer, and the activations of a batch. ``disk_bytes``: of the run folder.
    ``tokens_per_second``, ``seconds``: on the device, by ``basis``: ``measured`` by steps of this model, ``estimated``
    from smaller ones, or from a ``data sheet``.
    """

    model: str
    seed: int
    n_params: int
    n_embedding: int
    flops_per_token: float
    tokens: int | None
    flops: float | None
    memory_bytes: int
    disk_bytes: int
    tokens_per_second: float
    seconds: float
    basis: Basis


@dataclass(frozen=True)
class Pace:
    """Tokens a second, and how that is known."""

    tokens_per_second: float
    basis: Basis


def plan_cells(cells: Sequence[Cell], corpus: Corpus, *, device: str, gpu: str | None = None) -> list[Plan]:
    """The plan of each cell, in their order.

    ``gpu``: ``a100``, ``h100`` or ``v100``: its time instead of that of ``device``, which nothing then runs on.
    Raises UsageError for another one.
    """
    lengths, d_vocab = corpus.train.lengths, corpus.tokenizer.vocab_size
    flops = {
        cell.config.model: flops_per_token(ModelSpec.from_name(cell.config.model), d_vocab, lengths)
        for cell in cells
    }
    settings = {cell.config.model: cell.config for cell in cells}
    step_tokens = mean_batch(cells[0].config, corpus) if cells else 0.0
    pace = (
        _measured_pace(settings, flops, corpus, device)
        if gpu is None
        else _gpu_pace(settings, flops, gpu, step_tokens)
    )
    where = device if gpu is None else "cuda"
    return [
        _plan(cell.config, where, d_vocab, flops[cell.config.model], pace[cell.config.model], step_tokens)
        for cell in cells
    ]


def _plan(
    config: TrainConfig, device: str, d_vocab: int, flops: float, pace: Pace, step_tokens: float
) -> Plan:
    spec = ModelSpec.from_name(config.model)
    tokens = {"steps": config.amount * step_tokens, "tokens": config.amount}.get(config.budget)
    seconds = config.amount * 60 if tokens is None else tokens / pace.tokens_per_second
    steps = (tokens or seconds * pace.tokens_per_second) / step_tokens
    return Plan(
        model=config.model,
        seed=config.seed,
        n_params=spec.n_params(d_vocab),
        n_embedding=(d_vocab + N_CTX) * spec.d_model,
        flops_per_token=flops,
        tokens=None if tokens is None else round(tokens),
        flops=None if tokens is None else flops * tokens,
        memory_bytes=memory_bytes(config, d_vocab, device),
        disk_bytes=disk_bytes(config, d_vocab, n_steps=max(1, round(steps))),
        tokens_per_second=pace.tokens_per_second,
        seconds=seconds,
        basis=pace.basis,
    )


# Sizes ------------------------------------------------------------------------------------------------------


def mean_batch(config: TrainConfig, corpus: Corpus) -> float:
    """Tokens of a batch, padding left out: the mean over the first ones of the run."""
    batches = epoch_batches(corpus.train.lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=0)
    sizes = [int(corpus.train.lengths[index].sum()) for index in islice(batches, 1000)]
    return sum(sizes) / len(sizes)


def optimizer_bytes(config: TrainConfig, d_vocab: int) -> int:
    """Moments of the optimizer: Adam's two of everything, but Muon's one of each matrix of the blocks."""
    spec = ModelSpec.from_name(config.model)
    matrices = spec.n_layers * (4 * spec.d_model**2 + 2 * spec.d_model * spec.d_mlp)
    return 4 * (2 * spec.n_params(d_vocab) - (matrices if config.optimizer == "muon" else 0))


def activation_bytes(config: TrainConfig, d_vocab: int, device: str) -> int:
    """What a batch keeps for its backward pass in float32, and the logits of a chunk.

    A layer keeps 16 numbers for each position and unit of width: 7 of attention (its input, that normalised, query,
    key, value, their mix, and the sum after it), 9 of the MLP (its input normalised, 4 before and 4 after the gelu).
    In bfloat16 most of them take half, which is not counted.
    """
    spec = ModelSpec.from_name(config.model)
    widths = LAYER_WIDTHS * spec.n_layers + 4  # embedding, last norm, its gradient
    positions, chunk = config.batch_tokens, GPU_CHUNK if device.startswith("cuda") else CHUNK
    logits = min(positions, chunk) * d_vocab
    return 4 * (positions * widths * spec.d_model + logits + d_vocab * spec.d_model)


def memory_bytes(config: TrainConfig, d_vocab: int, device: str) -> int:
    """Memory of training: weights and gradients in float32, optimizer, activations; not Python and its libraries."""
    weights = 4 * ModelSpec.from_name(config.model).n_params(d_vocab)
    return 2 * weights + optimizer_bytes(config, d_vocab) + activation_bytes(config, d_vocab, device)


def disk_bytes(config: TrainConfig, d_vocab: int, *, n_steps: int) -> int:
    """Size of the checkpoints and of the two states that a run keeps; the unembedding is stored beside its twin."""
    spec = ModelSpec.from_name(config.model)
    n_params = spec.n_params(d_vocab)
    checkpoint = 4 * (n_params + d_vocab * (spec.d_model + 1) + 3 * spec.n_layers * spec.d_model)
    state = 4 * n_params + optimizer_bytes(config, d_vocab)
    return n_checkpoints(n_steps) * checkpoint + 2 * state


def n_checkpoints(n_steps: int) -> int:
    """Checkpoints of a run: before it, at steps 1, 2, 4 ... 512, then evenly, at its end, and the best."""
    early = {1 << i for i in range(10) if 1 << i <= n_steps}
    return len({0, n_steps} | early | set(range(EVEN_STEPS, n_steps + 1, EVEN_STEPS))) + 1


# Time -------------------------------------------------------------------------------------------------------


def gpu_peak(gpu: str, precision: Precision) -> tuple[float, Precision]:
    """Peak of a GPU of ``GPUS`` in the data sheet, and the precision that training takes there."""
    peaks = PEAK_FLOPS[GPUS[gpu]]
    taken: Precision = "bfloat16" if precision in {"auto", "bfloat16"} and "bfloat16" in peaks else "float32"
    return peaks[taken], taken


def _gpu_pace(
    settings: dict[str, TrainConfig], flops: dict[str, float], gpu: str, step_tokens: float
) -> dict[str, Pace]:
    if gpu not in GPUS:
        raise UsageError(f'No figures of a GPU "{gpu}" are known.', f"Choose one of: {', '.join(GPUS)}.")
    paces = {}
    for model, needed in flops.items():
        rate = gpu_peak(gpu, settings[model].precision)[0] * ASSUMED_MFU
        launch = STEP_LAUNCH + LAYER_LAUNCH * ModelSpec.from_name(model).n_layers
        paces[model] = Pace(step_tokens / (launch + step_tokens * needed / rate), "data sheet")
    return paces


def _measured_pace(
    settings: dict[str, TrainConfig], flops: dict[str, float], corpus: Corpus, device: str
) -> dict[str, Pace]:
    """Pace of each model: the small ones by their own steps, the others by the share that the last of those reached."""
    first = next(iter(settings.values()))
    peak = matmul_flops(device, resolve_precision(first.precision, device))
    share, begin = FIRST_UTILISATION, time.perf_counter()
    paces = {}
    for model in sorted(flops, key=flops.__getitem__):
        expected = (PROBE_STEPS + 1) * settings[model].batch_tokens * flops[model] / (peak * share)
        if expected < MODEL_SECONDS and time.perf_counter() - begin + expected < PROBE_SECONDS:
            paces[model] = Pace(measure_pace(settings[model], corpus, device), "measured")
            share = paces[model].tokens_per_second * flops[model] / peak
        else:
            paces[model] = Pace(peak * share / flops[model], "estimated")
    return paces


def measure_pace(config: TrainConfig, corpus: Corpus, device: str) -> float:
    """Tokens a second of real training, nothing written: a few steps, the best time of each.

    Not compiled, which would take longer than the rest.
    """
    config = replace(config, precision=resolve_precision(config.precision, device), compile=False)
    learner = Learner(config, corpus.tokenizer, device=device)
    batches = epoch_batches(corpus.train.lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=0)
    per_token, per_step = [], []
    for index in islice(batches, PROBE_STEPS + 1):
        begin = time.perf_counter()
        batch = collate([corpus.train[i] for i in index])
        learner.gradients(batch, 1 / batch.n_targets)
        _wait(device)
        middle = time.perf_counter()
        learner.update(1e-3)
        _wait(device)
        per_token.append((middle - begin) / batch.n_targets)
        per_step.append(time.perf_counter() - middle)
    n_tokens = mean_batch(config, corpus)
    return 1 / (min(per_token) + min(per_step) / n_tokens)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
