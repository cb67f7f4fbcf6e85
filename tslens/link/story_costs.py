"""What interventions cost in all: loss on stories, and the means that stand in for what is ablated.

Axes: story, intervention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float

from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import Means, read_means
from tslens.causal.replacement import other_rows
from tslens.errors import ModelError, ProbeInputError
from tslens.link.effects import BATCH_TOKENS, StoryRows
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch, story_batches
from tslens.probes.units import NO_LABELS
from tslens.types import Story


@dataclass(frozen=True, eq=False)
class StoryCosts:
    """``clean``: loss of the untouched model, mean over a story's tokens; ``delta``: what each intervention adds."""

    clean: Float[np.ndarray, " story"]
    delta: Float[np.ndarray, "story intervention"]

    @property
    def mean(self) -> list[float]:
        """What each intervention costs, nats per token, mean over stories."""
        found: list[float] = self.delta.mean(0).tolist()
        return found


class CostStories:
    """Stories on which interventions are read, in batches; ``means``: of all heads and neurons on them.

    Raises ProbeInputError where there is no story, ModelError for a model without tokenizer.
    """

    def __init__(self, model: StoryModel, stories: Iterable[Story]) -> None:
        if model.tokenizer is None:
            raise ModelError(
                "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
            )
        read = partial(
            story_batches, tokenizer=model.tokenizer, n_ctx=model.cfg.n_ctx, batch_tokens=BATCH_TOKENS
        )
        self.model = model
        self.batches: list[TokenBatch] = list(read(stories, labels=NO_LABELS))
        if not self.batches:
            raise ProbeInputError("There is no story to read.", "Give other stories with --stories.")
        rows = ((torch.from_numpy(batch.tokens), torch.from_numpy(batch.length)) for batch in self.batches)
        self.means: Means = read_means(model, rows, n_pos=model.cfg.n_ctx)

    @property
    def n_stories(self) -> int:
        """How many are read."""
        return sum(len(batch.length) for batch in self.batches)

    def costs(
        self,
        ablator: Ablator,
        interventions: Sequence[Intervention],
        *,
        seed: int,
        progress: Callable[[int], None] = lambda n_stories: None,
    ) -> StoryCosts:
        """Costs of interventions. ``seed``: of the stories that stand in for others."""
        clean, delta, n_done = [], [], 0
        for number, batch in enumerate(self.batches):
            other = other_rows(len(batch.length), np.random.default_rng([seed, number]))
            rows = StoryRows.of(batch, self.model.cfg.n_ctx, other)
            losses = ablator.losses_of(rows, interventions)
            n_read = rows.at.sum(1).numpy()
            starts = np.cumsum(n_read) - n_read
            clean.append(np.add.reduceat(losses.clean, starts) / n_read)
            delta.append((np.add.reduceat(losses.delta, starts, axis=1) / n_read).T)
            n_done += len(n_read)
            progress(n_done)
        return StoryCosts(np.concatenate(clean), np.concatenate(delta))
