"""Batches from where a run stands, pass after pass, collated while the step before is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from tslens.config import TrainConfig
from tslens.corpus.shards import Split
from tslens.model.batches import IGNORED, Batch, collate, epoch_batches
from tslens.train.distribute import World

AHEAD = 2


@dataclass(frozen=True)
class Share:
    """What this process takes of a batch.

    ``rows``: its stories. ``n_targets``: of all processes. ``epoch``, ``used``: where the run stands after it.
    """

    rows: Batch
    n_targets: int
    epoch: int
    used: int


def batch_shares(
    stories: Split, config: TrainConfig, world: World, device: torch.device, *, epoch: int, used: int
) -> Generator[Share, None, None]:
    """Endless. ``epoch``, ``used``: the pass to begin in and how many batches of it to leave out."""
    places = _places(stories, config, epoch, used)
    with ThreadPoolExecutor(1) as beside:  # a thread of its own, so that collating costs no time of a GPU
        waiting = deque(
            beside.submit(_read, stories, place, world, device.type) for place in islice(places, AHEAD)
        )
        while True:
            found = waiting.popleft().result()
            waiting.append(beside.submit(_read, stories, next(places), world, device.type))
            yield found


def _places(
    stories: Split, config: TrainConfig, epoch: int, used: int
) -> Iterator[tuple[np.ndarray, int, int]]:
    while True:
        batches = epoch_batches(
            stories.lengths, batch_tokens=config.batch_tokens, seed=config.seed, epoch=epoch
        )
        for index in islice(batches, used, None):
            used += 1
            yield index, epoch, used
        epoch, used = epoch + 1, 0


def _read(stories: Split, place: tuple[np.ndarray, int, int], world: World, device: str) -> Share:
    index, epoch, used = place
    own = world.share(index)
    batch = collate([stories[i] for i in (own if len(own) else index[:1])])
    if not len(own):  # fewer rows than processes: a row that counts nothing keeps the processes in step
        batch.targets.fill_(IGNORED)
    if device == "cuda":
        batch = Batch(batch.tokens.pin_memory(), batch.targets.pin_memory(), batch.n_targets)
    return Share(batch, int(stories.lengths[index].sum()), epoch, used)
