"""One pass of stories past all neurons: sums on every token, a sample for what needs more, the strongest examples.

Of every neuron, over all tokens but the first of each story: moments; the sum over the tokens of each label; the mean
for each word of the vocabulary; how often it is above zero; the stories in which it is strongest. Of a sample of tokens
(``sample``): its activations. Memory does not grow with the number of stories.

Axes: token, neuron (layer by layer), label, vocab, example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tslens.allocator import keep_freed_memory
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.story_model import StoryModel
from tslens.probes.batch import EncodedStory, encoded_batches
from tslens.probes.neurons.sample import (
    N_SHIFTS,
    NO_TOKEN,
    SAMPLE_TOKENS,
    Sample,
    Sampler,
    Tokens,
    priorities,
)
from tslens.probes.neurons.token_labels import names_with, shifted, token_flags
from tslens.types import NeuronId, Story

BATCH_TOKENS = 4096
N_EXAMPLES = 8  # stories of a neuron
BATCHES_IN_FLOAT32 = 32


@dataclass(frozen=True)
class LabelledBatch:
    """Stories as padded rows, and what is known of their tokens but the first, row by row.

    ``is_read``: which places these are: real ones but the first.
    """

    rows: Int[Tensor, "row pos"]
    is_read: Bool[Tensor, "row pos"]
    tokens: Tokens
    priority: np.ndarray
    stories: Sequence[Story]


def labelled_batches(
    stories: Iterable[Story],
    tokenizer: TextTokenizer,
    *,
    n_ctx: int,
    seed: int,
    users: Sequence[str] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[LabelledBatch]:
    """Batches of stories that carry labels; streams."""
    for encoded in encoded_batches(stories, tokenizer, n_ctx=n_ctx, batch_tokens=batch_tokens):
        yield labelled_batch(encoded, tokenizer.start_id, n_ctx=n_ctx, seed=seed, users=users)


def labelled_batch(
    encoded: Sequence[EncodedStory], start_id: int, *, n_ctx: int, seed: int, users: Sequence[str]
) -> LabelledBatch:
    """One batch."""
    ids = [np.array([start_id, *one.ids[: n_ctx - 1]]) for one in encoded]
    longest = max(map(len, ids))
    rows = np.zeros((len(ids), longest), dtype=np.int64)
    is_read = np.zeros(rows.shape, dtype=bool)
    parts, priority = [], []
    for row, (one, of_story) in enumerate(zip(encoded, ids, strict=True)):
        n, digest = len(of_story) - 1, one.story.digest
        rows[row, : n + 1], is_read[row, 1 : n + 1] = of_story, True
        flags = token_flags(one.story, one.offsets, users)[:n]
        rng = np.random.default_rng([seed, digest])
        behind = start_id if len(one.ids) < n_ctx - 1 else NO_TOKEN
        parts.append(
            Tokens(
                token=of_story[1:],
                before=of_story[:-1],
                next=np.append(of_story[2:], behind),
                pos=np.arange(1, n + 1),
                story=np.full(n, digest, dtype=np.uint64),
                flags=flags,
                shifted=shifted(flags, N_SHIFTS, rng),
            )
        )
        priority.append(priorities(seed, digest, n))
    return LabelledBatch(
        torch.from_numpy(rows),
        torch.from_numpy(is_read),
        joined(parts),
        np.concatenate(priority),
        [one.story for one in encoded],
    )


def joined(parts: Sequence[Tokens]) -> Tokens:
    """Tokens one after the other."""
    names = ("token", "before", "next", "pos", "story", "flags")
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Tokens(**columns, shifted=np.concatenate([part.shifted for part in parts], 1))


@dataclass(frozen=True)
class Sums:
    """Of every neuron over all tokens that were read.

    ``total``, ``square``: sums of activations and of their squares, float64. ``positive``: tokens where it is above
    zero. ``largest``, ``least``. ``by_label``: sum over the tokens of each label. ``by_token``: sum over the tokens
    of each id. ``label_counts``, ``token_counts``: how many tokens these are.
    """

    n: int
    total: Float[np.ndarray, " neuron"]
    square: Float[np.ndarray, " neuron"]
    positive: Float[np.ndarray, " neuron"]
    largest: Float[np.ndarray, " neuron"]
    least: Float[np.ndarray, " neuron"]
    by_label: Float[np.ndarray, "label neuron"]
    by_token: Float[np.ndarray, "vocab neuron"]
    label_counts: Int[np.ndarray, " label"]
    token_counts: Int[np.ndarray, " vocab"]

    @property
    def mean(self) -> Float[np.ndarray, " neuron"]:
        """Mean activation."""
        return self.total / self.n

    @property
    def variance(self) -> Float[np.ndarray, " neuron"]:
        """Variance of the activation, over the number of tokens."""
        return np.maximum(self.square / self.n - self.mean**2, 0.0)


@dataclass(frozen=True)
class Example:
    """A place where a neuron is strong: the story, and the position of the token in it (the start token is 0)."""

    story: Story
    pos: int
    activation: float


@dataclass(frozen=True)
class Read:
    """What one pass gave. ``neurons``: what the axis stands for. ``examples``: of each, the strongest stories first."""

    neurons: tuple[NeuronId, ...]
    labels: tuple[str, ...]
    sums: Sums
    sample: Sample
    examples: Sequence[Sequence[Example]]
    n_stories: int


def neurons_of(model: StoryModel, layers: Sequence[int] | None = None) -> tuple[NeuronId, ...]:
    """All neurons of a model, or of some layers."""
    chosen = range(model.cfg.n_layers) if layers is None else layers
    return tuple(NeuronId(layer, index) for layer in chosen for index in range(model.cfg.d_mlp))


@torch.inference_mode()
def read_neurons(
    model: StoryModel,
    batches: Iterable[LabelledBatch],
    *,
    layers: Sequence[int] | None = None,
    users: Sequence[str] = (),
    sample_tokens: int = SAMPLE_TOKENS,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> Read:
    """Read all batches once. ``layers``: which, each once, in the order of the neurons; all if None.

    The process keeps the memory that it frees (``allocator``).
    """
    keep_freed_memory()
    neurons, labels = neurons_of(model, layers), names_with(users)
    adder = _Adder(len(neurons), len(labels), model.cfg.d_vocab)
    sampler = Sampler(len(neurons), len(labels), size=sample_tokens)
    strongest = _Strongest(len(neurons))
    n_stories = 0
    for batch in batches:
        activation = activations(model, batch, layers)
        adder.add(activation, batch.tokens)
        sampler.add(batch.tokens, batch.priority, activation.numpy())
        strongest.add(activation, batch)
        n_stories += len(batch.stories)
        progress(n_stories)
    return Read(neurons, labels, adder.sums(), sampler.sample(), strongest.examples(), n_stories)


def activations(
    model: StoryModel, batch: LabelledBatch, layers: Sequence[int] | None = None
) -> Float[Tensor, "token neuron"]:
    """Activations of the tokens of a batch that are read, on the CPU, layer by layer in the order given."""
    chosen = list(range(model.cfg.n_layers) if layers is None else layers)
    read = batch.is_read.flatten().nonzero()[:, 0].to(model.device)
    d_mlp = model.cfg.d_mlp
    found = torch.empty(len(read), len(chosen) * d_mlp)
    for layer, post in enumerate(model.neuron_activations(batch.rows.to(model.device))):
        if layer in chosen:
            place = chosen.index(layer) * d_mlp
            found[:, place : place + d_mlp].copy_(post.flatten(0, 1).index_select(0, read))
    return found


class _Adder:
    """Running sums. A batch is summed in float32, batches in float64; of each word, 32 batches in float32."""

    def __init__(self, n_neurons: int, n_labels: int, d_vocab: int) -> None:
        self.n = 0
        self.total, self.square, self.positive = (
            torch.zeros(n_neurons, dtype=torch.float64) for _ in range(3)
        )
        self.largest = torch.full((n_neurons,), -torch.inf)
        self.least = torch.full((n_neurons,), torch.inf)
        self.by_label = torch.zeros(n_labels, n_neurons, dtype=torch.float64)
        self.by_token = torch.zeros(d_vocab, n_neurons, dtype=torch.float64)
        self._by_token, self._n_batches = torch.zeros(d_vocab, n_neurons), 0  # of the last batches
        self.label_counts = np.zeros(n_labels, dtype=np.int64)
        self.token_counts = np.zeros(d_vocab, dtype=np.int64)

    def add(self, activation: Float[Tensor, "token neuron"], tokens: Tokens) -> None:
        flags = torch.from_numpy(tokens.flags)
        everyone = torch.ones(1, len(activation))
        self.n += len(activation)
        summed = torch.cat([flags.T.float(), everyone]) @ activation
        self.by_label += summed[:-1]
        self.total += summed[-1]
        self.square += (everyone @ activation.square())[0]
        self.positive += (everyone @ activation.sign().clamp_(min=0))[
            0
        ]  # six times as fast as (activation > 0)
        self.largest = torch.maximum(self.largest, activation.amax(0))
        self.least = torch.minimum(self.least, activation.amin(0))
        self._by_token.index_add_(0, torch.from_numpy(tokens.token), activation)
        self._n_batches += 1
        if self._n_batches % BATCHES_IN_FLOAT32 == 0:
            self._flush()
        self.label_counts += tokens.flags.sum(0)
        self.token_counts += np.bincount(tokens.token, minlength=len(self.token_counts))

    def _flush(self) -> None:
        self.by_token += self._by_token
        self._by_token.zero_()

    def sums(self) -> Sums:
        self._flush()
        tensors = ("total", "square", "positive", "largest", "least", "by_label", "by_token")
        arrays = {name: getattr(self, name).numpy() for name in tensors}
        return Sums(n=self.n, **arrays, label_counts=self.label_counts, token_counts=self.token_counts)


class _Strongest:
    """The stories in which each neuron is strongest, one place of each."""

    def __init__(self, n_neurons: int) -> None:
        self._value = torch.full((N_EXAMPLES, n_neurons), -torch.inf)
        self._story = torch.full((N_EXAMPLES, n_neurons), -1)
        self._pos = torch.zeros(N_EXAMPLES, n_neurons, dtype=torch.long)
        self._stories: dict[int, Story] = {}
        self._n_seen = 0

    def add(self, activation: Float[Tensor, "token neuron"], batch: LabelledBatch) -> None:
        parts = activation.split(batch.is_read.sum(1).tolist())
        number = torch.arange(len(parts)) + self._n_seen
        value = torch.cat([self._value, torch.stack([part.amax(0) for part in parts])])
        story = torch.cat([self._story, number[:, None].expand(-1, value.shape[1])])
        self._value, order = value.topk(N_EXAMPLES, dim=0)
        self._story = story.gather(0, order)
        self._pos = self._pos.gather(0, order.clamp(max=N_EXAMPLES - 1))
        is_new = order >= N_EXAMPLES  # few, soon: only of these the place is looked up
        for index in (order[is_new] - N_EXAMPLES).unique().tolist():
            rank, neuron = (order == N_EXAMPLES + index).nonzero(as_tuple=True)
            self._pos[rank, neuron] = parts[index][:, neuron].argmax(0) + 1
        self._stories |= dict(zip(number.tolist(), batch.stories, strict=True))
        self._n_seen += len(parts)
        if len(self._stories) > 2 * self._value.numel():
            self._forget()

    def _forget(self) -> None:
        kept = set(self._story.unique().tolist())
        self._stories = {number: story for number, story in self._stories.items() if number in kept}

    def examples(self) -> list[list[Example]]:
        found = []
        for story, pos, value in zip(
            self._story.T.tolist(), self._pos.T.tolist(), self._value.T.tolist(), strict=True
        ):
            places = zip(story, pos, value, strict=True)
            found.append([Example(self._stories[s], p, v) for s, p, v in places if s >= 0])
        return found
