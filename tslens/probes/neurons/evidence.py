"""Passages in which a neuron fires, and passages in which it is quiet: what a reader is shown, and what he is asked.

A reader is shown passages of one half of the stories and asked about passages of the other, so that what he says of the
neuron is tested on what he has not seen. The second half's passages are drawn from its whole top percent, not from its
very strongest places alone.

Source: "detection" of Paulo et al. 2024, Automatically interpreting millions of features in large language models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.model.story_model import StoryModel
from tslens.probes.batch import encoded_batches
from tslens.stats import second_half
from tslens.types import NeuronId, Story

BATCH_TOKENS = 4096
TOKENS_BEFORE, TOKENS_AFTER = 24, 8
N_SHOWN, N_SHOWN_QUIET = 8, 4  # passages that a reader is shown
N_ASKED = 10  # passages of either kind that he is asked about
PASSAGES_A_LOT = 10
ACTIVE, QUIET = 0.99, 0.9  # quantiles of a half: it fires at or above the one, is quiet up to the other
MARKS = ("<<", ">>")
NEW_LINE = "\u23ce"


@dataclass(frozen=True)
class Track:
    """Activations of some neurons along one story; position 0 is the token that begins it, which is no place."""

    story: int
    ids: tuple[int, ...]
    activation: Float[np.ndarray, "pos neuron"]

    @property
    def is_second(self) -> bool:
        """Whether the story is of the half on which is asked."""
        return second_half(self.story)


@dataclass(frozen=True)
class Passage:
    """Some text around a place, its token between ``MARKS``. ``level``: activation there, 10 at the largest shown."""

    text: str
    is_active: bool
    level: int = 0


@dataclass(frozen=True)
class Evidence:
    """Of one neuron. ``shown``: strongest places first, each of another story, then quiet ones.

    ``asked``: in lots of ``PASSAGES_A_LOT``, half of each active, in no order.
    """

    shown: tuple[Passage, ...]
    asked: tuple[Passage, ...]


@torch.inference_mode()
def read_tracks(
    model: StoryModel,
    stories: Iterable[Story],
    neurons: Sequence[NeuronId],
    progress: Callable[[int], None] = lambda n_stories: None,
) -> list[Track]:
    """Run a model on stories and keep what some of its neurons do; no labels are needed."""
    assert model.tokenizer is not None
    n_ctx, start_id = model.cfg.n_ctx, model.tokenizer.start_id
    found: list[Track] = []
    for encoded in encoded_batches(stories, model.tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS):
        ids = [(start_id, *one.ids[: n_ctx - 1]) for one in encoded]
        rows = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
        for row, of_story in enumerate(ids):
            rows[row, : len(of_story)] = torch.tensor(of_story)
        of_layer = {
            layer: post[:, :, [neuron.index for neuron in neurons if neuron.layer == layer]].float().cpu()
            for layer, post in enumerate(model.neuron_activations(rows.to(model.device)))
        }
        place = [sum(other.layer == one.layer for other in neurons[:i]) for i, one in enumerate(neurons)]
        values = torch.stack(
            [of_layer[one.layer][:, :, at] for one, at in zip(neurons, place, strict=True)], -1
        )
        found += [
            Track(one.story.digest, of_story, values[row, : len(of_story)].numpy())
            for row, (one, of_story) in enumerate(zip(encoded, ids, strict=True))
        ]
        progress(len(found))
    return found


def evidence_of(
    tracks: Sequence[Track], column: int, neuron: NeuronId, tokenizer: TextTokenizer, *, seed: int
) -> Evidence | None:
    """What a reader of the neuron in that column sees and is asked; None where it fires in too few stories.

    ``seed``, ``neuron``: which places are drawn, and the order in which is asked; not which others are read with it.
    """
    rng = np.random.default_rng([seed, neuron.layer, neuron.index])
    first = [track for track in tracks if not track.is_second]
    second = [track for track in tracks if track.is_second]
    if len(first) < N_SHOWN + N_SHOWN_QUIET or len(second) < 2 * N_ASKED:
        return None
    shown, asked = _shown(first, column, rng), _asked(second, column, rng)
    if len(shown) < N_SHOWN + N_SHOWN_QUIET or len(asked) < 2 * N_ASKED:
        return None
    largest = max(value for _, _, value in shown)
    half = PASSAGES_A_LOT // 2
    order = np.concatenate(
        [
            rng.permutation([*range(first, first + half), *range(N_ASKED + first, N_ASKED + first + half)])
            for first in range(0, N_ASKED, half)
        ]
    )
    return Evidence(
        tuple(
            Passage(_text(track, at, tokenizer), i < N_SHOWN, max(0, round(10 * value / largest)))
            for i, (track, at, value) in enumerate(shown)
        ),
        tuple(Passage(_text(asked[i][0], asked[i][1], tokenizer), bool(i < N_ASKED)) for i in order),
    )


Place = tuple[Track, int, float]


def _shown(tracks: Sequence[Track], column: int, rng: np.random.Generator) -> list[Place]:
    """The strongest places, each in another story, then quiet places of others; only places where it fires at all."""
    peak = [int(track.activation[1:, column].argmax()) + 1 for track in tracks]
    places = [
        (track, at, float(track.activation[at, column])) for track, at in zip(tracks, peak, strict=True)
    ]
    places.sort(key=lambda place: (-place[2], place[0].story))
    strong = [place for place in places[:N_SHOWN] if place[2] > 0]
    others = [track for track, _, _ in places[N_SHOWN:]]
    active, quiet = _levels(tracks, column)
    return strong + _drawn(others, column, _quiet_below(active, quiet), N_SHOWN_QUIET, rng)


def _asked(tracks: Sequence[Track], column: int, rng: np.random.Generator) -> list[Place]:
    """Places drawn where it fires, each in another story, then as many where it is quiet, of yet other stories."""
    active, quiet = _levels(tracks, column)
    strong = _drawn(tracks, column, lambda values: (values >= active) & (values > 0), N_ASKED, rng)
    used = {track.story for track, _, _ in strong}
    others = [track for track in tracks if track.story not in used]
    return strong + _drawn(others, column, _quiet_below(active, quiet), N_ASKED, rng)


def _quiet_below(active: float, quiet: float) -> Callable[[np.ndarray], Bool[np.ndarray, " pos"]]:
    """Of a neuron that is zero at nearly all tokens both quantiles may be zero."""
    return lambda values: (values <= quiet) & (values < max(active, 1e-12))


def _levels(tracks: Sequence[Track], column: int) -> tuple[float, float]:
    values = np.concatenate([track.activation[1:, column] for track in tracks])
    active, quiet = np.quantile(values, (ACTIVE, QUIET))
    return float(active), float(quiet)


def _drawn(
    tracks: Sequence[Track],
    column: int,
    chosen: Callable[[np.ndarray], Bool[np.ndarray, " pos"]],
    n: int,
    rng: np.random.Generator,
) -> list[Place]:
    """One place of each of ``n`` stories that have one, both by lot."""

    def places() -> Iterator[Place]:
        for index in rng.permutation(len(tracks)):
            values = tracks[index].activation[1:, column]
            there = np.flatnonzero(chosen(values))
            if len(there):
                at = int(rng.choice(there))
                yield tracks[index], at + 1, float(values[at])

    return [place for place, _ in zip(places(), range(n), strict=False)]


def _text(track: Track, at: int, tokenizer: TextTokenizer) -> str:
    """Text around a place on one line; the mark stands behind the blank that a token may begin with."""
    begin, end = max(1, at - TOKENS_BEFORE), at + 1 + TOKENS_AFTER
    before = tokenizer.decode(track.ids[begin:at])
    word = tokenizer.decode_after(track.ids[begin:at], track.ids[at : at + 1])
    after = tokenizer.decode_after(track.ids[begin : at + 1], track.ids[at + 1 : end])
    blank = word[: len(word) - len(word.lstrip(" "))]
    parts = (f"{before}{blank}", word[len(blank) :], after)
    before, word, after = (_seen(part) for part in parts)
    return " ".join(f"{before}{MARKS[0]}{word.strip()}{MARKS[1]}{after}".split())


def _seen(text: str) -> str:
    """Text with its new lines to be seen, and no marks but ours."""
    for mark in MARKS:
        text = text.replace(mark, " ".join(mark))
    return text.replace("\n", f" {NEW_LINE} ")
