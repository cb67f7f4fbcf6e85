"""Whether the model uses what a head looks at: edge knock-out for each candidate row, whole heads beside it.

1. The stories are run once for the mean of what each head mixes; a 4-gram says how hard each token is (``strata``).
2. For each row, the attention of its head is moved from the role's keys, or from like keys, to position 0
   (``causal.knockout``), at the queries where the role would serve a prediction, up to 64 of a story, drawn by lot;
   there the next token's loss is read.
   The effect is the loss with the role's edges gone minus that with the like edges gone.
3. The heads are replaced whole, in three ways (``causal.replacement``). What that costs at served predictions is held
   against tokens that the role does not serve, of the same part of speech, the same fifth of n-gram loss and the same
   octave of position.

Effects are means over a story's served predictions, then over stories. The lower end of the edge effect is corrected
for all rows that were tested (the largest deviation over rows, as in ``verdict``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from tslens.causal.knockout import EdgeEffects, EdgeTest, knock_out
from tslens.causal.replacement import MeanZ, Replacement, head_losses, other_rows
from tslens.causal.rerun import losses_at
from tslens.model.batches import IGNORED
from tslens.model.story_model import StoryModel
from tslens.probes.batch import TokenBatch
from tslens.probes.edges import Edges, edges_of
from tslens.probes.strata import Strata, Texts, targets_of
from tslens.stats import (
    MIN_HALF,
    BootstrapSums,
    one_sided,
    poisson_weights,
    scaled_deviations,
    second_half,
)
from tslens.types import HeadScore

METHODS: tuple[Replacement, ...] = ("zero", "mean", "resample")
MAX_VARIANTS = 12  # copies of a batch that run at once
MOST_QUERIES = 64  # of a story, for one row: a role that serves every prediction is not read at all of them
COLUMNS = ("edge", "full", "mass", "equal", "loss", *METHODS, *(f"{method}_beyond" for method in METHODS))


@dataclass(frozen=True)
class Cause:
    """Effects of one row in nats of loss, means over stories of means over served predictions.

    ``effects``: "edge" (the role's edges gone minus like edges gone, equal mass), "edge_low" (corrected lower end of
    its 95% interval), "equal" (share of queries where both arms moved the same mass, at least 0.02; at the others the
    like edges had less), "edge_per_mass" (nats per unit of moved attention, at the former), "full" (all of the role's
    mass gone), "mass" (of the role's keys at served queries), "loss", "ngram" (of the untouched model and of a 4-gram
    there), "zero", "mean", "resample" (the whole head replaced), each also with "_beyond": minus the same at tokens
    that are alike and not served. ``holds``: whether the edge effect is above zero, corrected, and on either half, and
    above zero per unit of mass where both arms moved the same.
    """

    effects: Mapping[str, float]
    holds: bool
    n_stories: int


@torch.inference_mode()
def measure_causes(
    model: StoryModel,
    texts: Texts,
    rows: Sequence[HeadScore],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> list[Cause | None]:
    """Effects of each row; None where its probe serves no prediction, or no story has a served query with controls.

    ``rows``: of probes of ``texts``. Two passes over the batches; ``progress`` is called in the second.
    """
    measured = _Measured(model, texts, rows, seed)
    n_done = 0
    for index, batch in enumerate(texts.batches):
        measured.add(index, batch)
        n_done += len(batch.length)
        progress(n_done)
    return measured.causes()


@dataclass(frozen=True)
class _Story:
    """What one story says of one row: means over its served predictions; ``served``: their strata."""

    cluster: int
    means: Mapping[str, float]
    moved: float  # sum over queries where an effect per unit of mass is defined, and the effects there
    by_mass: float
    served: Int[np.ndarray, " query"]


class _Measured:
    """Collects what every story says of every row."""

    def __init__(self, model: StoryModel, texts: Texts, rows: Sequence[HeadScore], seed: int) -> None:
        self.model, self.texts, self.rows, self.seed = model, texts, rows, seed
        self.heads = sorted({row.head for row in rows})
        self.probes = {probe.name: probe for probe in texts.probes}
        self.stories: list[list[_Story]] = [[] for _ in rows]
        self.strata = Strata.of(texts, model.cfg.d_vocab, model.cfg.n_ctx)
        self.columns = (*COLUMNS, "ngram") if texts.has_ends else COLUMNS
        self.outside: list[_Outside] = [_Outside(self.strata.n) for _ in rows]
        means = MeanZ()
        for batch in texts.batches:
            means.add(model.prefix(self._tokens(batch)), torch.from_numpy(batch.length))
        self.mean_z = means.mean(max(batch.tokens.shape[1] for batch in texts.batches))

    def _tokens(self, batch: TokenBatch) -> torch.Tensor:
        return torch.from_numpy(batch.tokens).to(self.model.device)

    def add(self, index: int, batch: TokenBatch) -> None:
        """All rows on one batch."""
        edges = {name: edges_of(probe, batch, self.texts.calibration) for name, probe in self.probes.items()}
        asked = [
            (i, found) for i, row in enumerate(self.rows) if (found := edges[row.probe].get(row.position))
        ]
        if not asked:
            return
        targets = torch.from_numpy(targets_of(batch, self.model.cfg.n_ctx, has_ends=self.texts.has_ends))
        prefix = self.model.prefix(self._tokens(batch))
        lots = _lots(batch, self.seed)
        drawn = [_drawn(found, lots) for _, found in asked]
        tests = [
            EdgeTest(self.rows[i].head, *some.target, *some.control)
            for (i, _), some in zip(asked, drawn, strict=True)
        ]
        effects = knock_out(self.model, prefix, tests, targets, max_variants=MAX_VARIANTS)

        at = targets != IGNORED
        at[:, 0] = False
        on_device = at.to(prefix.tokens.device)
        clean = losses_at(self.model, prefix.final[on_device], targets.to(prefix.tokens.device)[on_device])
        other = other_rows(len(batch.length), np.random.default_rng([self.seed, index]))
        lost = {
            method: head_losses(
                self.model, prefix, self.heads, method, targets, at,
                mean=self.mean_z, other=other, max_variants=MAX_VARIANTS,
            ) - clean
            for method in METHODS
        }  # fmt: skip
        number = np.full(at.shape, -1)
        number[at.numpy()] = np.arange(len(clean))
        for (i, _), effect in zip(asked, effects, strict=True):
            head = self.heads.index(self.rows[i].head)
            of_head = np.stack([lost[method][head] for method in METHODS])
            served = [found.target for found in edges[self.rows[i].probe].values()]
            self._add_row(i, index, batch, effect, of_head, number, np.concatenate(served, axis=1))

    def _add_row(
        self,
        i: int,
        index: int,
        batch: TokenBatch,
        effect: EdgeEffects,
        of_head: Float[np.ndarray, "method position"],
        number: Int[np.ndarray, "row pos"],
        served: Int[np.ndarray, "3 edge"],
    ) -> None:
        strata, ngram = self.strata.of_batch[index], self.strata.losses[index]
        per_query = {
            "edge": effect.loss_target - effect.loss_control,
            "full": effect.loss_full - effect.loss_clean,
            "mass": effect.mass_target,
            "equal": effect.by_mass.astype(float),
            "loss": effect.loss_clean,
            "ngram": ngram[effect.row, effect.query],
        }
        is_served = np.zeros(number.shape, dtype=bool)
        is_served[served[0], served[1]] = True  # of either position of the probe, with or without like edges
        rest = (number >= 0) & ~is_served
        self.outside[i].add(of_head[:, number[rest]], strata[rest])
        for row in np.unique(effect.row).tolist():
            mine = effect.row == row
            place = effect.query[mine]
            by_head = of_head[:, number[row, place]].mean(1)
            means = {name: float(values[mine].mean()) for name, values in per_query.items()}
            means |= dict(zip(METHODS, by_head.tolist(), strict=True))
            by_mass = mine & effect.by_mass
            self.stories[i].append(
                _Story(
                    cluster=batch.cluster[row],
                    means=means,
                    moved=float(effect.mass[by_mass].sum()),
                    by_mass=float(per_query["edge"][by_mass].sum()),
                    served=strata[row, place],
                )
            )

    def causes(self) -> list[Cause | None]:
        """Means, intervals and verdicts of all rows."""
        sums = [self._bootstrap(i) for i in range(len(self.rows))]
        deviations = [
            scaled_deviations(whole.mean[1:, 0, 0], whole.mean[0, 0, 0], whole.se[0, 0, 0])
            for found in sums
            if found is not None
            for whole in [found.means()]
        ]
        critical = float(np.quantile(np.max(deviations, axis=0), 0.95)) if deviations else 0.0
        return [None if found is None else self._cause(i, found, critical) for i, found in enumerate(sums)]

    def _bootstrap(self, i: int) -> BootstrapSums | None:
        stories = self.stories[i]
        if not stories:
            return None
        expected = self.outside[i].means()
        sums = BootstrapSums(len(self.columns), 1)
        rows = []
        for story in stories:
            like = dict(zip(METHODS, expected[:, story.served].mean(1).tolist(), strict=True))
            beyond = {f"{method}_beyond": story.means[method] - like[method] for method in METHODS}
            both = {**story.means, **beyond}
            rows.append([both[name] for name in self.columns])
        values = np.array(rows)
        clusters = [story.cluster for story in stories]
        x = torch.from_numpy(values)[:, :, None]
        half = torch.tensor([second_half(key) for key in clusters])
        sums.add(x, torch.isfinite(x[:, :, 0]), torch.from_numpy(poisson_weights(self.seed, clusters)), half)
        return sums

    def _cause(self, i: int, sums: BootstrapSums, critical: float) -> Cause:
        whole, halves = sums.means(), [sums.means(0), sums.means(1)]
        low = float(whole.mean[0, 0, 0] - critical * whole.se[0, 0, 0])
        on_halves = [half.mean[0, 0, 0] - one_sided(half.n[0]) * half.se[0, 0, 0] for half in halves]
        moved = sum(story.moved for story in self.stories[i])
        effects = {name: float(whole.mean[0, column, 0]) for column, name in enumerate(self.columns)}
        effects["edge_low"] = low
        if moved > 0:
            effects["edge_per_mass"] = sum(story.by_mass for story in self.stories[i]) / moved
        known = {name: value for name, value in effects.items() if np.isfinite(value)}
        enough = min(half.n[0] for half in halves) >= MIN_HALF
        holds = bool(
            enough
            and low > 0
            and np.nan_to_num(on_halves, nan=-1.0).min() > 0
            and effects.get("edge_per_mass", 1.0) > 0  # not known where like edges never had as much
        )
        return Cause(known, holds, len(self.stories[i]))


def _lots(batch: TokenBatch, seed: int) -> Float[np.ndarray, "row pos"]:
    """A random number for each token, which its story and its place decide."""
    size = batch.tokens.shape[1]
    return np.stack([np.random.default_rng([seed, 0xED, key]).random(size) for key in batch.cluster])


def _drawn(edges: Edges, lots: Float[np.ndarray, "row pos"]) -> Edges:
    """The edges of some queries: of those that have both targets and controls, the 64 of each row with least lots."""
    size = lots.shape[1]
    of_target, of_control = (row * size + query for row, query, _ in (edges.target, edges.control))
    both = np.intersect1d(of_target, of_control)
    row = both // size
    order = np.lexsort((lots.flat[both], row))
    rank = np.arange(len(both)) - np.searchsorted(row, row)  # of the sorted ones, within their row
    kept = both[order[rank < MOST_QUERIES]]
    return Edges(edges.target[:, np.isin(of_target, kept)], edges.control[:, np.isin(of_control, kept)])


class _Outside:
    """Mean loss of a replaced head at the tokens that a row does not serve, by stratum."""

    def __init__(self, n_strata: int) -> None:
        self.sum = np.zeros((len(METHODS), n_strata))
        self.n = np.zeros(n_strata)

    def add(self, lost: Float[np.ndarray, "method position"], strata: Int[np.ndarray, " position"]) -> None:
        """Some tokens."""
        self.n += np.bincount(strata, minlength=len(self.n))
        for method, row in enumerate(lost):
            self.sum[method] += np.bincount(strata, row, len(self.n))

    def means(self) -> Float[np.ndarray, "method stratum"]:
        """NaN where no such token is."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.sum / self.n
