"""Composition: does a component with a role feed a later head in its role?

Eldan and Li (2023, section 5.2) find a neuron that fires where the protagonist is introduced and guess that a head uses
it to attend to the name later. Here that is asked of all such neurons and heads, and of any other pair of roles.

1. Senders are neurons and heads with a role, receivers heads of later layers with a role that is not one of distance.
   Stories are halved by the hash of their text. Means are read on the first half.
2. On the first half every direct path from a sender to the queries, keys or values of a receiver is cut at the tokens
   of the sender's role (``paths``). Of each pair of roles the paths of largest effect are chosen.
3. On the second half the chosen paths are cut again, and beside each the same is done with as large a change by
   components of the sender's layer that have no role, or in random directions where there are too few.
4. A path is a ``candidate`` if its effect beyond the mean of its controls reaches the floor, by a lower end corrected
   over all tested paths, and no control does as much. It is ``found`` if the cut path also costs loss, and more than
   controls do, at the predictions that the receiver's role serves. Else ``no``; ``least_seen`` says what it would take.

Axes: story, path, control, replicate.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import torch

from tslens.allocator import keep_freed_memory
from tslens.causal.means import Means, read_means
from tslens.errors import ModelError, ProbeInputError
from tslens.link.composition.asked import Path, PathText, Receiver, Sender, clusters_of
from tslens.link.composition.choice import (
    LEAST_STORIES,
    Pools,
    chosen_paths,
    fewer,
    receivers_of,
    senders_of,
)
from tslens.link.composition.effects import read_all, read_chosen, read_losses
from tslens.link.composition.report import CompositionReport
from tslens.link.composition.verdict import Judge, loss_sizes, one_layer_pairs, role_pairs_of
from tslens.model.story_model import StoryModel
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import Probe, find_probes
from tslens.probes.batch import batch_of_stories, encoded_batches
from tslens.probes.labels import with_labels
from tslens.probes.neurons.token_labels import TOKEN_LABELS, token_flags
from tslens.probes.programs.roles import Role, RoleText, readable
from tslens.probes.scan import BATCH_TOKENS, Source, calibrate, window_of
from tslens.probes.units import LabelNeeds
from tslens.stats import MIN_CLUSTERS, second_half
from tslens.types import HeadScore, NeuronRole, Story

N_CANDIDATES = 5  # of each pair of roles and each input
N_CONTROLS = 20
N_LOSS = 50

Progress = Callable[[str, int], None]


@torch.inference_mode()
def find_compositions(
    model: StoryModel,
    stories: Iterable[Story | str],
    neurons: Sequence[NeuronRole],
    heads: Sequence[HeadScore],
    *,
    seed: int,
    exclude: Collection[int] | None = None,
    n_candidates: int = N_CANDIDATES,
    n_controls: int = N_CONTROLS,
    n_loss: int = N_LOSS,
    progress: Progress = lambda what, n_stories: None,
) -> CompositionReport:
    """Which direct paths from components with roles feed later heads in their roles.

    ``stories``: read once and kept; those whose digest is in ``exclude`` are left out, by default the model's training
    stories. Labels are their own, else the annotator's. ``neurons``: of ``classify_neurons`` for this model, all of
    them: those without a role are controls. ``heads``: of ``score_heads``. ``n_candidates``: most paths of each pair of
    roles and input that are tested; of pairs that the authors' guess does not name only such as reach the floor where
    they are chosen. ``n_loss``: stories of the second half on which the loss of candidates is read. ``seed``: of
    controls and of the bootstrap. ``progress`` is called with what is done ("choosing", "testing", "losses") and the
    stories that are done. A model of one layer has no such path: its report says so, and no story is read.
    Warns below 30 stories of the second half. Raises ModelError for a model that is not of ours, without tokenizer or
    with hooks; ProbeInputError with fewer than ten stories on a half.
    """
    keep_freed_memory()
    model = _checked(model)
    probes = {probe.name: probe for probe in readable(list(find_probes().values()), model)}
    senders = senders_of(neurons, heads, probes, n_layers=model.cfg.n_layers)
    receivers = receivers_of(heads, probes)
    if model.cfg.n_layers == 1:
        return CompositionReport((), tuple(one_layer_pairs()), 1, 0, 0, 0, 0, 0, seed)
    source = Source(stories, model.train_digests if exclude is None else exclude)
    first, second = _halves(model, source, senders, receivers, probes)
    means = _means(model, first, second)
    everything = read_all(model, first, senders, receivers, means, progress=lambda n: progress("choosing", n))
    chosen = chosen_paths(everything, n_candidates)
    controls = Pools(model, neurons, heads, n_controls, seed)
    tested = {path: controls.of(path.sender) for path in chosen}
    effects = read_chosen(model, second, tested, means, progress=lambda n: progress("testing", n))
    judge = Judge(effects, clusters_of(second), seed)
    some = _first(second, n_loss)
    asked = {path: fewer(tested[path]) for path in judge.candidates() if _serves(path, some)}
    losses = read_losses(model, some, asked, means, progress=lambda n: progress("losses", n)) if asked else {}
    scores = judge.scores(everything, tested, loss_sizes(losses, clusters_of(some), seed))
    return CompositionReport(
        paths=tuple(scores),
        pairs=tuple(role_pairs_of(senders, receivers, everything, scores)),
        n_layers=model.cfg.n_layers,
        n_stories=source.n_read,
        n_excluded=source.n_excluded,
        n_chosen_on=len(clusters_of(first)),
        n_tested_on=len(clusters_of(second)),
        n_loss=len(clusters_of(some)) if asked else 0,
        seed=seed,
    )


def _checked(model: StoryModel) -> TinyTransformer:
    if not isinstance(model, TinyTransformer):
        raise ModelError(
            "Paths are patched in models of our own architecture only, and this is another's.",
            "Give a model of tslens train, a shipped one, or a GPT-Neo checkpoint.",
        )
    if model.tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    if any(model.list_hooks()):
        raise ModelError(
            "The model has hooks, which a path does not run.", "Remove them with model.reset_hooks()."
        )
    return model


def _halves(
    model: TinyTransformer,
    source: Source,
    senders: Sequence[Sender],
    receivers: Sequence[Receiver],
    probes: Mapping[str, Probe],
) -> tuple[list[PathText], list[PathText]]:
    """Batches of the stories of either half, with the keys and tokens of all roles that are needed."""
    sides: tuple[list[Story], list[Story]] = [], []
    for story in with_labels(source):
        sides[second_half(story.digest)].append(story)
    if min(map(len, sides)) < LEAST_STORIES:
        raise ProbeInputError(
            f"There are {len(sides[0])} stories to choose paths on and {len(sides[1])} to test them on "
            f"({source.n_excluded} more were training stories of this model).",
            f"Give more stories: {LEAST_STORIES} are needed on either half.",
        )
    if len(sides[1]) < MIN_CLUSTERS:
        warnings.warn(
            f"Only {len(sides[1])} stories are tested on; below {MIN_CLUSTERS} intervals are too narrow.",
            stacklevel=3,
        )
    roles: list[str | Role] = [sender.role for sender in senders]
    roles += [receiver.role for receiver in receivers]
    named = [probes[name] for name in sorted({role.probe for role in roles if isinstance(role, Role)})]
    labels = sorted({role for role in roles if isinstance(role, str)})
    first, second = (_texts(model, side, named, labels) for side in sides)
    return first, second


def _texts(
    model: TinyTransformer, stories: Sequence[Story], probes: Sequence[Probe], labels: Sequence[str]
) -> list[PathText]:
    tokenizer = model.tokenizer
    assert tokenizer is not None
    n_ctx = model.cfg.n_ctx
    columns = [tuple(TOKEN_LABELS).index(label) for label in labels]
    batches, flags = [], []
    for encoded in encoded_batches(stories, tokenizer, n_ctx=n_ctx, batch_tokens=BATCH_TOKENS):
        batch = batch_of_stories(
            [one.story for one in encoded], tokenizer, n_ctx=n_ctx, labels=LabelNeeds(scheme=True)
        )
        of_batch = np.zeros((len(labels), *batch.tokens.shape), dtype=bool)
        for row, one in enumerate(encoded):
            n = int(batch.length[row]) - 1
            of_batch[:, row, 1 : n + 1] = token_flags(one.story, one.offsets)[:n, columns].T
        batches.append(batch)
        flags.append(of_batch)
    calibration = calibrate(batches, probes, model.cfg.d_vocab, window=window_of(model))
    return [
        PathText(
            RoleText.of(batch, probes, calibration),
            dict(zip(labels, map(torch.from_numpy, of_batch), strict=True)),
        )
        for batch, of_batch in zip(batches, flags, strict=True)
    ]


def _means(model: TinyTransformer, first: Sequence[PathText], second: Sequence[PathText]) -> Means:
    """Of the first half, for positions of both."""
    rows = ((one.text.tokens, torch.from_numpy(one.text.batch.length)) for one in first)
    return read_means(model, rows, n_pos=max(one.text.n_pos for one in (*first, *second)))


def _first(texts: Sequence[PathText], n_stories: int) -> list[PathText]:
    """Texts until they hold so many stories."""
    kept, n_left = [], n_stories
    for text in texts:
        if n_left <= 0:
            break
        kept.append(text)
        n_left -= len(text.text.batch.length)
    return kept


def _serves(path: Path, texts: Sequence[PathText]) -> bool:
    """Whether the receiver's role serves a prediction in these stories."""
    return any(
        served.any() for one in texts if (served := one.text.serves.get(path.receiver.role.probe)) is not None
    )
