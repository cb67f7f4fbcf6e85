"""Steps per second of our training and of its peers, all sides in turn in one run, at an equal number of targets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle

import torch
from train_peers import STEP_ROWS, Options, Trainer, gpt_neo, native, training_batches

from tslens.config import TrainConfig, train_config
from tslens.corpus.shards import Corpus
from tslens.model.batches import collate, epoch_batches
from tslens.model.spec import N_CTX, ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.train.objective import Objective, resolve_precision
from tslens.train.optimizer import Optimizers

ROUNDS, STEPS_A_ROUND = 7, 10


def our_steps(config: TrainConfig, corpus: Corpus) -> Callable[[], int]:
    """A function that takes one step of ours and gives its number of targets."""
    config = replace(
        config, precision=resolve_precision(config.precision, "cpu"), batch_tokens=STEP_ROWS * N_CTX
    )
    model = TinyTransformer(
        ModelSpec.from_name(config.model), corpus.tokenizer.vocab_size, seed=config.seed
    ).train()
    objective = Objective(model, precision=config.precision, compiled=config.compile)
    optimizers = Optimizers(model, config)
    batches = cycle(
        epoch_batches(corpus.train.lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=0)
    )

    def step() -> int:
        rows = collate([corpus.train[i] for i in next(batches)])
        objective(rows.tokens, rows.targets, 1 / rows.n_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizers.step(0.5)
        return rows.n_targets

    return step


def peer_steps(make: Callable, spec: ModelSpec, corpus: Corpus, options: Options) -> Callable[[], int]:
    """The same for a peer."""
    trainer = Trainer(make(spec, corpus.tokenizer.vocab_size, 0), options)
    batches = training_batches(corpus.train, n_rows=STEP_ROWS, seed=0)

    def step() -> int:
        tokens = next(batches)
        trainer.step(tokens, 5e-4)
        return tokens[:, 1:].numel()

    return step


def steps_per_second(name: str, corpus: Corpus, options: dict[str, Options]) -> dict[str, float]:
    """Medians over rounds of steps of 2,048 targets a second, all sides in turn."""
    spec = ModelSpec.from_name(name)
    sides = {
        "ours": our_steps(train_config(None, model=name, seed=0, minutes=1), corpus),
        "reference": peer_steps(gpt_neo, spec, corpus, options["reference"]),
        "native": peer_steps(native, spec, corpus, options["native"]),
    }
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(ROUNDS + 1):
        for side, step in sides.items():
            began = time.perf_counter()
            n_targets = sum(step() for _ in range(STEPS_A_ROUND))
            speeds[side].append(n_targets / (STEP_ROWS * N_CTX) / (time.perf_counter() - began))
    return {side: statistics.median(found[1:]) for side, found in speeds.items()}  # the first round warms up
