"""The row of a model: its loss, its readouts, its grades, its short answers, what it was asked for, its roles.

Measures, by name: ``loss`` (nats per token), ``bits`` (per byte); ``grammar``, ``creativity``, ``consistency``,
``plot`` (grades, 0 to 10); each readout (accuracy, 0 to 1) and ``NAME nats`` (its difference); ``factual written``,
``reasoning written``, ``context written`` (share of the answers to the paper's short prompts that succeed, by rule);
``words``, ``features``, ``sentence`` (share of what was asked for that is in the story, by rule) and
``words by chance`` (of what the next prompt asked for).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tslens.corpus.instructions.form import KINDS
from tslens.errors import ModelError
from tslens.grading.instructed import Followed
from tslens.grading.prompts import ShortPrompt
from tslens.grading.results import GradedModel
from tslens.grading.rubric import CRITERIA
from tslens.grading.short import ShortOutcome
from tslens.link.measure import ROUNDING, Differences
from tslens.link.pairs import Readout
from tslens.link.sizes.measured import Measured
from tslens.model.loss import loss_per_target
from tslens.model.spec import ModelSpec
from tslens.model.story_model import StoryModel
from tslens.train.flops import flops_per_token
from tslens.types import Story

READOUTS = {
    "grammar": ("agreement", "tense", "word_order"),
    "consistency": ("swapped_names", "changed_pronoun", "lost_object"),
    "knowledge": ("factual", "reasoning", "context"),
    "instructions": ("instructed_word", "instructed_sentence"),
}
"""Readouts by capability, as the table shows them."""
BY_CHANCE = " by chance"
WRITTEN = " written"
NATS = " nats"


def read_losses(model: StoryModel, stories: Sequence[Story]) -> dict[str, Measured]:
    """Loss on stories, in nats per token and bits per byte. Raises ModelError without a tokenizer."""
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read stories.", "Give one with a tokenizer.json."
        )
    n_ctx = model.cfg.n_ctx
    losses = loss_per_target(model, [tokenizer.encode_story(story.text, context=n_ctx) for story in stories])
    n_bytes = [tokenizer.story_bytes(story.text, context=n_ctx) for story in stories]
    return measured_losses(stories, losses, n_bytes)


def measured_losses(
    stories: Sequence[Story], losses: Iterable[np.ndarray], n_bytes: Sequence[int]
) -> dict[str, Measured]:
    """Of the losses of each story's targets, in nats, and its bytes."""
    told = [np.asarray(one, dtype=np.float64) for one in losses]
    names = tuple(f"story {story.digest}" for story in stories)
    nats, tokens = np.array([one.sum() for one in told]), np.array([float(len(one)) for one in told])
    return {
        "loss": Measured(names, nats, tokens),
        "bits": Measured(names, nats / math.log(2), np.array(n_bytes, dtype=float)),
    }


def accuracies(readouts: Sequence[Readout], differences: Differences) -> dict[str, Measured]:
    """Accuracy of each readout that has pairs, and its difference in nats. ``differences``: of ``link.measure``."""
    found: dict[str, Measured] = {}
    for readout, of_pairs in zip(readouts, differences, strict=True):
        if not readout.items:
            continue
        of_items = readout.by_item(of_pairs)
        right = (np.sign(np.where(np.abs(of_items) < ROUNDING, 0.0, of_items)) + 1) / 2
        clusters = [f"pairs {item[0].cluster}" for item in readout.items]
        found[readout.name] = _by_cluster(clusters, right)
        found[readout.name + NATS] = _by_cluster(clusters, of_items)
    return found


def _by_cluster(clusters: Sequence[str], values: Sequence[float] | np.ndarray) -> Measured:
    names, index = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index).astype(float)
    return Measured(tuple(names.tolist()), sums, counts)


def of_grades(graded: GradedModel) -> dict[str, Measured]:
    """Mean grade of each prompt; nothing where too many texts have no grade."""
    if not graded.summary.means:
        return {}
    kind = graded.header["prompts"]
    return {
        name: Measured.of_means(
            _means((f"{kind} {one.graded.prompt_id}", float(getattr(one, name))) for one in graded.grades)
        )
        for name in CRITERIA
    }


def of_short(answers: Iterable[object], prompts: Iterable[ShortPrompt]) -> dict[str, Measured]:
    """Share of success of each short prompt whose answers have an outcome, by group."""
    group_of = {prompt.id: prompt.group for prompt in prompts}
    of_group: dict[str, list[tuple[str, float]]] = {}
    for one in answers:
        if isinstance(one, ShortOutcome) and not one.graded.repeat:
            values = of_group.setdefault(group_of[one.graded.prompt_id] + WRITTEN, [])
            values.append((f"short {one.graded.prompt_id}", float(one.outcome == "success")))
    return {group: _by_cluster(*zip(*values, strict=True)) for group, values in of_group.items()}


def of_instructions(followed: Sequence[Followed], by_chance: Sequence[Followed]) -> dict[str, Measured]:
    """Share of what was asked for that is followed, by kind, and of what the next prompt asked for."""
    found: dict[str, Measured] = {}
    for ending, part in (("", followed), (BY_CHANCE, by_chance)):
        for kind in KINDS:
            values = [
                (f"instructions {one.graded.prompt_id}", one.compliance.shares[kind])
                for one in part
                if one.held_out is None and kind in one.compliance.shares
            ]
            if values:
                found[kind + ending] = _by_cluster(*zip(*values, strict=True))
    return found


def _means(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    of: dict[str, list[float]] = {}
    for name, value in values:
        of.setdefault(name, []).append(value)
    return {name: float(np.mean(part)) for name, part in of.items()}


def training_flops(spec: ModelSpec, d_vocab: int, n_tokens: int, stories: Sequence[Measured]) -> float:
    """Operations of a training on so many tokens, of stories as long as those that were measured."""
    lengths = np.concatenate([one.counts for one in stories]).astype(int)
    return n_tokens * flops_per_token(spec, d_vocab, lengths)
