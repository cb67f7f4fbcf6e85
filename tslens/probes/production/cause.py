"""Does the model use what a head produces? Mean ablation where the head says that its class comes.

The head *says so* where it does more for the class than at 95% of the places of the other half of the stories whose
next token is not in it. It is replaced by the mean of what it mixes at the position; what that costs where it says so
and the class comes is held against what it costs where the class comes and it does not say so, at places of the same
stratum. Effects are means over a story's places, then over stories.

Axes: place (of all stories), candidate, head, story.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from tslens.causal.replacement import MeanZ, head_losses
from tslens.causal.rerun import losses_at
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.production.corrected import Corrected
from tslens.probes.production.places import Places
from tslens.probes.production.report import Produced
from tslens.probes.production.seen import Seen
from tslens.types import HeadId

SAYS_SO = 0.95  # quantile of places whose next token is not in the class
MAX_VARIANTS = 12  # copies of a batch that run at once


def said_at(seen: Seen) -> Bool[np.ndarray, "place candidate"]:
    """Where each candidate says that its class comes; nowhere if the other half has no place without it."""
    said = np.zeros(seen.holds.shape, dtype=bool)
    for side in (False, True):
        mine, other = seen.half == side, seen.half != side
        for i, (does, holds) in enumerate(zip(seen.does.T, seen.holds.T, strict=True)):
            without = does[other & ~holds]
            if len(without):
                said[mine, i] = does[mine] > np.quantile(without, SAYS_SO)
    return said


def shares_said(seen: Seen, said: Bool[np.ndarray, "place candidate"]) -> list[float | None]:
    """Share of the places of the class at which each candidate says so."""
    return [
        float(yes[holds].mean()) if holds.any() else None
        for yes, holds in zip(said.T, seen.holds.T, strict=True)
    ]


def costs_of_ablation(
    model: StoryModel,
    batches: Sequence[TokenBatch],
    places: Sequence[Places],
    asked: Sequence[Produced],
    progress: Callable[[int], None],
) -> Float[np.ndarray, "place candidate"]:
    """Loss in nats with the head replaced by its mean, minus that of the untouched model."""
    heads = sorted({row.head for row in asked})
    means = MeanZ()
    for batch in batches:
        means.add(model.prefix(_on_device(model, batch)), torch.from_numpy(batch.length))
    mean = means.mean(max(batch.tokens.shape[1] for batch in batches))
    costs, n_done = [], 0
    for batch, here in zip(batches, places, strict=True):
        costs.append(_of_batch(model, batch, here, heads, mean))
        n_done += len(batch.length)
        progress(n_done)
    which = [heads.index(row.head) for row in asked]
    return np.concatenate(costs, 1)[which].T


def _of_batch(
    model: StoryModel,
    batch: TokenBatch,
    places: Places,
    heads: Sequence[HeadId],
    mean: Float[torch.Tensor, "layer pos head d_head"],
) -> Float[np.ndarray, "head place"]:
    prefix = model.prefix(_on_device(model, batch))
    at = torch.zeros(batch.tokens.shape, dtype=torch.bool)
    at[places.row, places.pos] = True
    targets = torch.from_numpy(np.roll(batch.tokens, -1, axis=1))  # at places the next token is there
    found = head_losses(model, prefix, heads, "mean", targets, at, mean=mean, max_variants=MAX_VARIANTS)
    on_device = at.to(prefix.tokens.device)
    return found - losses_at(model, prefix.final[on_device], targets.to(prefix.tokens.device)[on_device])


def _on_device(model: StoryModel, batch: TokenBatch) -> Int[torch.Tensor, "row pos"]:
    return torch.from_numpy(batch.tokens).to(model.device)


def causes(
    seen: Seen,
    said: Bool[np.ndarray, "place candidate"],
    costs: Float[np.ndarray, "place candidate"],
    seed: int,
) -> list[dict[str, float] | None]:
    """Effects of each candidate and whether they hold; None where no story has a place with a like one."""
    n_stories = len(seen.clusters)
    tables = np.full((3, n_stories, seen.does.shape[1]), np.nan)  # mean, like, beyond
    for i, (yes, holds, stratum, cost) in enumerate(
        zip(said.T, seen.holds.T, seen.strata.T, costs.T, strict=True)
    ):
        other, served = holds & ~yes, holds & yes
        n = np.bincount(stratum[other], minlength=int(stratum.max()) + 1)
        like = np.bincount(stratum[other], cost[other], len(n)) / np.maximum(n, 1)
        served &= n[stratum] > 0
        row = seen.places.row[served]
        n_served = np.bincount(row, minlength=n_stories)
        there = n_served > 0
        for table, values in enumerate((cost, like[stratum], cost - like[stratum])):
            total = np.bincount(row, values[served], n_stories)
            tables[table, there, i] = total[there] / n_served[there]
    corrected = Corrected.of(tables[2], seen.clusters, seed)
    found: list[dict[str, float] | None] = []
    for i, n in enumerate(corrected.n.tolist()):
        if not n:
            found.append(None)
            continue
        of_mean, of_like = (float(np.nanmean(table[:, i])) for table in tables[:2])
        found.append(
            {
                "mean": of_mean,
                "like": of_like,
                "beyond": float(corrected.mean[i]),
                **({"low": float(corrected.low[i])} if np.isfinite(corrected.low[i]) else {}),
                "n_stories": n,
                "holds": bool(corrected.low[i] > 0 and corrected.low_half[i] > 0),
            }
        )
    return found
