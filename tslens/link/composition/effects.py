"""What cutting direct paths does to heads, story by story: all paths on one half, the chosen ones on the other.

An effect is what the untouched model has minus what is left with the path cut (``paths``): above zero where
the sender feeds what the receiver does. Paths of one sender role are cut at the same tokens, so they run together.

Axes: story, path, control, variant (the sender, then its controls), row, pos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tslens.causal.means import Means
from tslens.causal.rerun import losses_at
from tslens.link.composition.asked import Path, PathText, Receiver, Sender
from tslens.link.composition.heads import HeadAtPlaces, UntouchedHead
from tslens.link.composition.paths import INPUTS, Controls, Input, PathRun, Places
from tslens.model.batches import IGNORED
from tslens.model.transformer import TinyTransformer
from tslens.probes.programs.roles import Role
from tslens.probes.strata import targets_of
from tslens.types import HeadId

MOST_SCORES = 1_000_000  # of the variants that run together
MAX_VARIANTS = 8  # copies of a batch that run at once where losses are read


# All paths --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanEffect:
    """Effect of a path, mean over the stories that have such pairs; how many these are."""

    effect: float
    n_stories: int


@torch.no_grad()
def read_all(
    model: TinyTransformer,
    texts: Sequence[PathText],
    senders: Sequence[Sender],
    receivers: Sequence[Receiver],
    means: Means,
    *,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> dict[Path, MeanEffect]:
    """Effect of every path from a sender to a receiver of a later layer that any story has a pair for."""
    of_role: dict[str | Role, list[int]] = defaultdict(list)
    for i, sender in enumerate(senders):
        of_role[sender.role].append(i)
    of_layers: dict[int, dict[HeadId, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, receiver in enumerate(receivers):
        of_layers[receiver.head.layer][receiver.head].append(i)
    shape = len(senders), len(receivers), len(INPUTS)
    sums, counts = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    n_done = 0
    for text in texts:
        run = _run(model, text)
        heads = {one.head: UntouchedHead(run, one.head) for one in receivers}
        pairs = {role: text.pairs(role).to(model.device) for role in {one.role for one in receivers}}
        for role, some in of_role.items():
            places = Places.of(text.tokens_of(role).to(model.device))
            for layer, of_layer in of_layers.items():
                able = [i for i in some if senders[i].feeds(layer)]
                if not able:
                    continue
                at_heads = {
                    head: HeadAtPlaces(heads[head], places, [pairs[receivers[i].role] for i in mine])
                    for head, mine in of_layer.items()
                }
                for part, projected in _projected(run, layer, places, senders, able, means):
                    for name, new in projected.items():
                        for head, mine in of_layer.items():
                            effects = _effects(at_heads[head].measure(name, new[..., head.index, :]))
                            where = np.ix_(part, mine, [INPUTS.index(name)])
                            sums[where] += np.nansum(effects, -1).T[:, :, None]
                            counts[where] += np.isfinite(effects).sum(-1).T[:, :, None]
        n_done += len(text.text.batch.length)
        progress(n_done)
    return {
        Path(senders[i], receivers[j], INPUTS[k]): MeanEffect(float(sums[i, j, k]) / n, n)
        for i, j, k in zip(*(axis.tolist() for axis in counts.nonzero()), strict=True)
        if (n := int(counts[i, j, k]))
    }


def _projected(
    run: PathRun,
    layer: int,
    places: Places,
    senders: Sequence[Sender],
    able: Sequence[int],
    means: Means,
) -> Iterator[tuple[Sequence[int], Mapping[Input, Float[Tensor, "variant row place head d_head"]]]]:
    """What the heads of a layer get, untouched and with each of some senders cut, a few senders at a time."""
    n_rows, n_places = places.index.shape
    step = max(1, MOST_SCORES // (n_rows * n_places * run.resid[0].shape[1]))
    for first in range(0, len(able), step):
        part = able[first : first + step]
        changes = run.changes([senders[i].units for i in part], means, places)
        read = run.read(layer, places, torch.cat([torch.zeros_like(changes[:1]), changes]))
        yield part, run.project(layer, read)


def _effects(measured: Float[Tensor, "relation variant row"]) -> Float[np.ndarray, "relation variant row"]:
    """What the first variant, the untouched one, has minus what the others have."""
    effects: np.ndarray = (measured[:, :1] - measured[:, 1:]).double().cpu().numpy()
    return effects


def _run(model: TinyTransformer, text: PathText) -> PathRun:
    return PathRun(model, text.text.tokens.to(model.device))


# Chosen paths, beside controls ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PathEffects:
    """What cutting one path does in each story, NaN where it has no such pair.

    ``clean``: what the untouched model has: attention mass, or 1 for ``v``. ``sender``: how much of it is lost with the
    path cut. ``controls``: with as large a change by each control.
    """

    clean: Float[np.ndarray, " story"]
    sender: Float[np.ndarray, " story"]
    controls: Float[np.ndarray, "control story"]


@torch.no_grad()
def read_chosen(
    model: TinyTransformer,
    texts: Sequence[PathText],
    paths: Mapping[Path, Controls],
    means: Means,
    *,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> dict[Path, PathEffects]:
    """Effects of chosen paths and of the controls beside each."""
    measured: dict[Path, list[np.ndarray]] = {path: [] for path in paths}
    n_done = 0
    for text in texts:
        for path, at_head, changes in _changed(model, text, paths, means):
            untouched = torch.cat([torch.zeros_like(changes[:1]), changes])
            read = at_head.run.read(path.receiver.head.layer, at_head.places, untouched)
            pairs = [text.pairs(path.receiver.role).to(model.device)]
            new = at_head.head.project(path.input, read)
            found = HeadAtPlaces(at_head.head, at_head.places, pairs).measure(path.input, new)[0]
            measured[path].append(found.double().cpu().numpy())
        n_done += len(text.text.batch.length)
        progress(n_done)
    whole = {path: np.concatenate(parts, axis=1) for path, parts in measured.items()}
    return {
        path: PathEffects(values[0], values[0] - values[1], values[0] - values[2:])
        for path, values in whole.items()
    }


@torch.no_grad()
def read_losses(
    model: TinyTransformer,
    texts: Sequence[PathText],
    paths: Mapping[Path, Controls],
    means: Means,
    *,
    progress: Callable[[int], None] = lambda n_stories: None,
) -> dict[Path, Float[np.ndarray, "variant story"]]:
    """Loss with each path cut minus the clean one, at the predictions that the receiver's role serves.

    The sender first, then the controls. NaN in stories without such a prediction.
    """
    found: dict[Path, list[np.ndarray]] = {path: [] for path in paths}
    n_done = 0
    for text in texts:
        targets = torch.from_numpy(targets_of(text.text.batch, model.cfg.n_ctx, has_ends=True))
        prefix = model.prefix(text.text.tokens.to(model.device))
        for path, at_head, changes in _changed(model, text, paths, means):
            head = path.receiver.head
            at = torch.from_numpy(text.text.serves[path.receiver.role.probe]) & (targets != IGNORED)
            wanted = targets[at].to(model.device)
            clean = losses_at(model, prefix.final[at.to(model.device)], wanted)
            parts = []
            for some in changes.split(MAX_VARIANTS):
                read = at_head.run.read(head.layer, at_head.places, some)
                mixed = at_head.head.mixed_change(path.input, read, at_head.places)
                written = mixed @ prefix.output(head.layer)[head.index]
                final = prefix.rerun(head.layer, written, at.to(model.device))
                lost = losses_at(model, final.flatten(0, 1), wanted.repeat(len(some)))
                parts.append(lost.reshape(len(some), -1) - clean)
            found[path].append(_by_row(np.concatenate(parts), at.nonzero()[:, 0].numpy(), len(targets)))
        n_done += len(targets)
        progress(n_done)
    return {path: np.concatenate(parts, axis=1) for path, parts in found.items()}


@dataclass(frozen=True, eq=False)
class _AtHead:
    """Where a path ends in a batch."""

    run: PathRun
    places: Places
    head: UntouchedHead


def _changed(
    model: TinyTransformer, text: PathText, paths: Mapping[Path, Controls], means: Means
) -> Iterator[tuple[Path, _AtHead, Float[Tensor, "variant row place d_model"]]]:
    """Each path in a batch, sender by sender, with the sender's change and those of its controls."""
    run = _run(model, text)
    of_sender: dict[Sender, list[Path]] = defaultdict(list)
    for path in paths:
        of_sender[path.sender].append(path)
    heads = {head: UntouchedHead(run, head) for head in {path.receiver.head for path in paths}}
    for sender, mine in of_sender.items():
        places = Places.of(text.tokens_of(sender.role).to(model.device))
        own = run.changes([sender.units], means, places)
        changes = torch.cat([own, paths[mine[0]].changes(run, own[0], means, places)])
        for path in mine:
            yield path, _AtHead(run, places, heads[path.receiver.head]), changes


def _by_row(
    values: Float[np.ndarray, "variant position"], row: np.ndarray, n_rows: int
) -> Float[np.ndarray, "variant row"]:
    """Means over the positions of each row, NaN where it has none."""
    n = np.bincount(row, minlength=n_rows)
    sums = np.stack([np.bincount(row, weights=one, minlength=n_rows) for one in values])
    means: np.ndarray = sums / np.where(n > 0, n, np.nan)
    return means
