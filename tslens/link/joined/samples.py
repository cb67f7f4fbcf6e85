"""Texts that a model wrote, read again by it: what each token costs, and how that changes without each component.

Axes: token (the start token first), component, query_pos, key_pos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from tslens.causal.ablation import Component
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import Means
from tslens.errors import ModelError
from tslens.grading.judge import Outcome
from tslens.grading.rubric import CRITERIA
from tslens.link.effects import StoryRows
from tslens.model.story_model import StoryModel
from tslens.types import Grade, Graded, HeadId, NeuronId

MOST_TOKENS = 240
N_PATTERNS = 3  # heads of a text whose pattern is kept: those that change its tokens most


@dataclass(frozen=True, eq=False)
class Sample:
    """A text with its grade, read token by token.

    ``first``: index of the first token that the model wrote. ``n_tokens``: of the whole text, of which the first are
    held. ``losses``: nats of each token, NaN of the first.
    ``changes``: what each component's mean in its place adds to a token's loss. ``patterns``: attention of a few heads.
    ``activations``: of the neurons that were asked for.
    """

    outcome: Outcome
    tokens: Sequence[str]
    first: int
    n_tokens: int
    losses: Float[np.ndarray, " token"]
    components: Sequence[str]
    changes: Float[np.ndarray, "component token"]
    patterns: Mapping[HeadId, Float[np.ndarray, "query_pos key_pos"]]
    activations: Mapping[NeuronId, Float[np.ndarray, " token"]]


def choose_texts(outcomes: Sequence[Outcome], n: int) -> list[Outcome]:
    """Texts that show what a grade means: of each criterion the lowest, of all the best, and one in the middle.

    Each of another prompt as long as there are some; texts that were given again are left out. Ungraded texts come in
    their order where nothing was graded.
    """
    first = [one for one in outcomes if not one.graded.repeat]
    graded = [one for one in first if isinstance(one, Grade)]
    if not graded:
        return first[:n]
    total = {id(one): sum(getattr(one, name) for name in CRITERIA) for one in graded}
    by_total = sorted(graded, key=lambda one: total[id(one)])
    turns = [sorted(graded, key=lambda one, name=name: getattr(one, name)) for name in CRITERIA]  # type: ignore[misc]
    turns += [by_total[::-1], by_total[len(by_total) // 2 :]]
    chosen: list[Grade] = []
    prompts: set[str] = set()
    for fresh in (True, False):
        while len(chosen) < min(n, len(graded)):
            before = len(chosen)
            for turn in turns:
                found = next(
                    (
                        one
                        for one in turn
                        if not any(one is other for other in chosen)
                        and not (fresh and one.graded.prompt_id in prompts)
                    ),
                    None,
                )
                if found is not None and len(chosen) < n:
                    chosen.append(found)
                    prompts.add(found.graded.prompt_id)
            if len(chosen) == before:
                break
    chosen.sort(key=lambda one: (one.consistency, total[id(one)]))
    return [*chosen]


@torch.no_grad()
def read_sample(
    model: StoryModel,
    means: Means,
    outcome: Outcome,
    components: Sequence[Component],
    neurons: Sequence[NeuronId],
    *,
    patterns_of: Sequence[HeadId] | None = None,
) -> Sample:
    """A text read again, cut at ``MOST_TOKENS``. ``means``: what stands in for a component.

    ``patterns_of``: heads whose patterns are kept; None: the few that change its tokens most.
    Raises ModelError for a model without tokenizer.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot read texts.", "Give one with a tokenizer.json."
        )
    graded: Graded = outcome.graded
    before = tokenizer.encode(graded.prompt)
    ids = [tokenizer.start_id, *tokenizer.encode(graded.prompt + graded.completion)]
    n_tokens = len(ids)
    ids = ids[: min(MOST_TOKENS, model.cfg.n_ctx)]
    tokens = torch.tensor([ids])
    targets = torch.cat([tokens[:, 1:], torch.zeros(1, 1, dtype=torch.long)], 1)
    at = torch.ones_like(tokens, dtype=torch.bool)
    at[0, -1] = False
    rows = StoryRows(tokens, targets, at, torch.tensor([len(ids)]), None)
    read = Ablator(model, means).losses_of(rows, [Intervention((one,), "mean") for one in components])
    changes = np.concatenate([np.zeros((len(components), 1)), read.delta], axis=1)
    heads = [one for one in components if isinstance(one, HeadId)]
    if patterns_of is None:
        weight = {one: np.abs(row).sum() for one, row in zip(components, changes, strict=True)}
        patterns_of = sorted(heads, key=lambda head: (-weight[head], head))[:N_PATTERNS]
    prefix = model.prefix(tokens.to(model.device))
    kept = {
        head: prefix.pattern(head.layer)[0, head.index].float().cpu().numpy().copy() for head in patterns_of
    }
    fired = dict(enumerate(model.neuron_activations(tokens.to(model.device)))) if neurons else {}
    return Sample(
        outcome,
        tokenizer.token_strings(ids),
        min(1 + len(before), len(ids)),
        n_tokens,
        np.concatenate([[np.nan], read.clean]),
        [str(one) for one in components],
        changes,
        kept,
        {one: fired[one.layer][0, :, one.index].float().cpu().numpy() for one in neurons},
    )
