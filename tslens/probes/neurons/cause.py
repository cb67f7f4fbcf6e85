"""Whether the model uses a neuron where its role says that it fires: ablation in three ways.

1. The neuron's activation is replaced at all tokens: by zero, by its mean over all tokens, or by what it is at a random
   other token of the batch. The three disagree, so all are given.
2. The next token's loss is read at tokens with the role's label, and at tokens without it: up to 64 of either in a
   story, drawn by lot.
3. What it costs at the label's tokens, minus what it costs at *like* tokens without the label (the same fifth of the
   untouched model's loss, the same octave of position), is ``beyond``. A neuron that serves every prediction alike, or
   whose label marks what is hard to predict, gains nothing by it.

Effects are means over a story's tokens, then over stories. ``p``: one-sided, of "the mean put in its place costs no
more there than at like tokens", over stories, corrected over all neurons tested (false discovery rate); ``low``: the
lower end of that difference, corrected for the selection, as for areas. The role is confirmed where it is above zero,
and the other two ways agree in sign.

Axes: row, pos, token (read in a batch, row by row), method, neuron, stratum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control, t

from tslens.causal.replacement import Replacement
from tslens.causal.rerun import losses_at
from tslens.model.prefix import Prefix
from tslens.model.story_model import StoryModel
from tslens.probes.neurons.sample import NO_TOKEN
from tslens.probes.neurons.stream import LabelledBatch, Read
from tslens.probes.profile import octave

METHODS: tuple[Replacement, ...] = ("zero", "mean", "resample")
MOST_TOKENS = 64  # of a story, with the label and without, at which the loss is read
LOSS_BINS = 5
N_OCTAVES = 16
N_STRATA = LOSS_BINS * N_OCTAVES
MAX_NEURONS = 4  # that run at once, each in three variants
MIN_STORIES = 10
RATE = 0.05


@dataclass(frozen=True)
class NeuronCause:
    """Effects of one neuron in nats of loss at tokens with its label.

    ``effects``: "zero", "mean", "resample" (activation replaced), each also with "_beyond": minus the same at like
    tokens without the label; "loss" of the untouched model there; "low", the corrected lower end of "mean_beyond".
    ``p``: corrected. ``holds``: the role is confirmed.
    """

    effects: Mapping[str, float]
    p: float
    holds: bool
    n_stories: int

    def to_json(self) -> dict[str, float]:
        """As plain JSON types."""
        return {**self.effects, "p": self.p, "n_stories": self.n_stories}


@torch.inference_mode()
def neuron_causes(
    model: StoryModel,
    batches: Sequence[LabelledBatch],
    read: Read,
    asked: Mapping[int, int],
    *,
    seed: int,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> dict[int, NeuronCause]:
    """Effects of some neurons; those whose label too few stories have are left out.

    ``asked``: column of each neuron in ``read``, and the number of its label. Two passes over the batches;
    ``progress`` is called in the second.
    """
    clean = [CleanLosses.of(model, batch) for batch in batches]
    edges = loss_edges(clean)
    collected = {column: _Effects() for column in asked}
    n_done = 0
    for number, (batch, one) in enumerate(zip(batches, clean, strict=True)):
        _Batch(model, batch, one, edges, read, seed, number).add(asked, collected)
        n_done += len(batch.stories)
        progress(n_done)
    return _judged({column: effects.per_story() for column, effects in collected.items()})


@dataclass(frozen=True)
class CleanLosses:
    """The untouched model's loss at the tokens of a batch that have a next one. ``place``: which of them do."""

    place: Bool[np.ndarray, " token"]
    loss: Float[np.ndarray, " token"]

    @classmethod
    def of(cls, model: StoryModel, batch: LabelledBatch) -> CleanLosses:
        """Run the model on a batch."""
        place = batch.tokens.next != NO_TOKEN
        return cls(place, token_losses(model, batch, place))

    def strata(
        self, batch: LabelledBatch, edges: Float[np.ndarray, " edge"]
    ) -> tuple[Float[np.ndarray, " token"], Int[np.ndarray, " token"]]:
        """Of every token its loss (NaN without a next one) and its stratum: fifth of loss, octave of position."""
        loss = np.full(len(batch.tokens), np.nan)
        loss[self.place] = self.loss
        level = np.searchsorted(edges, np.nan_to_num(loss))
        return loss, level * N_OCTAVES + octave(batch.tokens.pos)


def token_losses(
    model: StoryModel, batch: LabelledBatch, place: Bool[np.ndarray, " token"]
) -> Float[np.ndarray, " token"]:
    """Loss in nats of the next token at some tokens of a batch, with whatever hooks are on the model."""
    final = model.final_residual(batch.rows.to(model.device))[batch.is_read.to(model.device)]
    chosen = torch.from_numpy(place).to(model.device)
    targets = torch.from_numpy(batch.tokens.next[place]).long().to(model.device)
    return losses_at(model, final[chosen], targets)


def loss_edges(clean: Sequence[CleanLosses]) -> Float[np.ndarray, " edge"]:
    """Where the fifths of loss meet."""
    losses = np.concatenate([one.loss for one in clean]) if clean else np.zeros(0)
    return np.quantile(losses, np.linspace(0, 1, LOSS_BINS + 1)[1:-1]) if len(losses) else np.zeros(0)


class _Batch:
    """Interventions on one batch."""

    def __init__(
        self,
        model: StoryModel,
        batch: LabelledBatch,
        clean: CleanLosses,
        edges: Float[np.ndarray, " edge"],
        read: Read,
        seed: int,
        number: int,
    ) -> None:
        self.model, self.batch, self.read = model, batch, read
        rows = batch.rows.to(model.device)
        self.prefix: Prefix = model.prefix(rows)
        self.activation = dict(enumerate(model.neuron_activations(rows)))
        self.has_next, tokens = clean.place, batch.tokens
        self.loss, self.stratum = clean.strata(batch, edges)
        self.row = batch.is_read.nonzero()[:, 0].numpy()
        drawn = np.random.default_rng([seed, 0xCA05E, number])
        self.lot = drawn.random(len(tokens))
        self.other = torch.from_numpy(drawn.permutation(len(tokens))).to(model.device)

    def add(self, asked: Mapping[int, int], collected: Mapping[int, _Effects]) -> None:
        """All neurons, some of a layer at a time."""
        of_layer: dict[int, list[int]] = {}
        for column in asked:
            of_layer.setdefault(self.read.neurons[column].layer, []).append(column)
        for layer, columns in of_layer.items():
            for first in range(0, len(columns), MAX_NEURONS):
                self._run(layer, columns[first : first + MAX_NEURONS], asked, collected)

    def _run(
        self,
        layer: int,
        columns: Sequence[int],
        asked: Mapping[int, int],
        collected: Mapping[int, _Effects],
    ) -> None:
        places = [self._places(self.batch.tokens.flags[:, asked[column]]) for column in columns]
        at = torch.zeros(len(columns), *self.batch.rows.shape, dtype=torch.bool)
        for variant, place in enumerate(places):
            at[variant, self.batch.is_read] = torch.from_numpy(place)
        at = at.repeat_interleave(len(METHODS), 0).to(self.prefix.tokens.device)
        change = torch.cat([self._changes(layer, column) for column in columns])
        final = self.prefix.rerun(layer, change, at, part="mlp")
        targets = [np.tile(self.batch.tokens.next[place], len(METHODS)) for place in places]
        next_token = torch.from_numpy(np.concatenate(targets)).long().to(final.device)
        found = losses_at(self.model, final, next_token)
        sizes = np.cumsum([len(METHODS) * int(place.sum()) for place in places])[:-1]
        for column, place, loss in zip(columns, places, np.split(found, sizes), strict=True):
            lost = loss.reshape(len(METHODS), -1) - self.loss[place]
            flag = self.batch.tokens.flags[place, asked[column]]
            where = self.row[place], self.stratum[place], self.loss[place]
            collected[column].add(lost, flag, *where, self.batch.tokens.story[place])

    def _places(self, flag: Bool[np.ndarray, " token"]) -> Bool[np.ndarray, " token"]:
        """Tokens at which the loss is read: those of least lot of each row, with the label and without."""
        found = np.zeros(len(flag), dtype=bool)
        for kind in (flag & self.has_next, ~flag & self.has_next):
            number = np.flatnonzero(kind)
            order = number[np.lexsort((self.lot[number], self.row[number]))]
            row = self.row[order]
            found[order[np.arange(len(row)) - np.searchsorted(row, row) < MOST_TOKENS]] = True
        return found

    def _changes(self, layer: int, column: int) -> Float[torch.Tensor, "method row pos d_model"]:
        """What the MLP writes less or more with the neuron replaced; nothing at padded places and the start token."""
        is_read = self.batch.is_read.to(self.prefix.tokens.device)
        index = self.read.neurons[column].index
        own = self.activation[layer][..., index][is_read]
        new = (torch.zeros_like(own), torch.full_like(own, self.read.sums.mean[column]), own[self.other])
        missing = own.new_zeros(len(METHODS), *is_read.shape)
        for method, values in enumerate(new):
            missing[method, is_read] = values - own
        written = self.model.mlp_output(layer)[index].to(missing)
        return rearrange(missing, "m r p -> m r p 1") * written


class _Effects:
    """What was read of one neuron, story by story."""

    def __init__(self) -> None:
        self._served: list[tuple[int, np.ndarray, float, np.ndarray]] = []  # story, means, loss, strata
        self._sum = np.zeros((len(METHODS), N_STRATA))
        self._n = np.zeros(N_STRATA)

    def add(
        self,
        lost: Float[np.ndarray, "method token"],
        flag: Bool[np.ndarray, " token"],
        row: Int[np.ndarray, " token"],
        stratum: Int[np.ndarray, " token"],
        loss: Float[np.ndarray, " token"],
        story: np.ndarray,
    ) -> None:
        """The tokens of a batch that were read."""
        self._n += np.bincount(stratum[~flag], minlength=len(self._n))
        for method, of_method in enumerate(lost):
            self._sum[method] += np.bincount(stratum[~flag], of_method[~flag], len(self._n))
        for one in np.unique(row[flag]).tolist():
            mine = flag & (row == one)
            self._served.append(
                (int(story[mine][0]), lost[:, mine].mean(1), float(loss[mine].mean()), stratum[mine])
            )

    def per_story(self) -> Float[np.ndarray, "story column"]:
        """Of each story with the label: the three effects, the three beyond like tokens, the loss."""
        with np.errstate(divide="ignore", invalid="ignore"):
            like = self._sum / self._n
        rows = []
        for _, means, loss, strata in self._served:
            known = self._n[strata] > 0
            if known.any():
                rows.append([*means, *(means - like[:, strata[known]].mean(1)), loss])
        return np.array(rows).reshape(-1, 2 * len(METHODS) + 1)


def _judged(tables: Mapping[int, Float[np.ndarray, "story column"]]) -> dict[int, NeuronCause]:
    """Means over stories; p-values and lower ends of "mean_beyond" corrected over the neurons."""
    tables = {column: table for column, table in tables.items() if len(table) >= MIN_STORIES}
    if not tables:
        return {}
    decides = len(METHODS) + METHODS.index("mean")
    middle = {column: table.mean(0) for column, table in tables.items()}
    error = {
        column: float(table[:, decides].std(ddof=1) / len(table) ** 0.5) for column, table in tables.items()
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        p = [
            float(t.sf(np.nan_to_num(middle[c][decides] / np.float64(error[c])), len(tables[c]) - 1))
            for c in tables
        ]
    adjusted = false_discovery_control(p)
    tail = RATE * max(int((adjusted <= RATE).sum()), 1) / len(p)
    names = (*METHODS, *(f"{method}_beyond" for method in METHODS), "loss")
    found = {}
    for (column, table), q in zip(tables.items(), adjusted.tolist(), strict=True):
        effects = dict(zip(names, middle[column].tolist(), strict=True))
        low = effects["mean_beyond"] - float(t.ppf(1 - tail, len(table) - 1)) * error[column]
        agree = all(effects[f"{method}_beyond"] > 0 for method in METHODS)
        found[column] = NeuronCause({**effects, "low": low}, q, q <= RATE and low > 0 and agree, len(table))
    return found
