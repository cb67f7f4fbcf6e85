"""The map by grades: what components take from each criterion of a judge, in texts written without them.

The model writes on the same prompts with the same random numbers, whole and under each ablation (the mean over all
positions, ``causal.ablation``), and the same judge grades all of it. Drops are paired, text by text, and clustered by
prompt; beside every component stand random sets that cost as much loss (``random_sets``). The unit is what one planted
fault costs with the same judge (``judge_doses``), for a criterion without a fault one point.

Axes: item (prompt and sample), column (what was ablated).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import t

from tslens.causal.ablation import Component, ablated
from tslens.causal.means import Means
from tslens.grading.completions import Drawing, Prompt, write_completions
from tslens.grading.expected import EXPECTED
from tslens.grading.judge import Judge, Outcome
from tslens.grading.planted import PlantedPair, plant_pairs
from tslens.grading.rubric import CRITERIA, Criterion
from tslens.grading.summary import MOST_FAILURES
from tslens.link.drops import ItemTable, drops_of
from tslens.link.groups import Group
from tslens.link.map_report import MapRow
from tslens.link.map_status import status_of
from tslens.link.random_sets import Rung, expected_of
from tslens.model.story_model import StoryModel
from tslens.stats import LEVEL
from tslens.types import Grade, Graded, Story

DOSE = "medium"  # strength of the faults that make the unit
POINT = 1.0  # the unit of a criterion that no fault is for


def write_without(
    model: StoryModel,
    prompts: Sequence[Prompt],
    components: Sequence[Component],
    means: Means,
    drawing: Drawing,
    progress: Callable[[int], None] = lambda n_done: None,
    *,
    share: float = 1.0,
) -> list[Graded]:
    """What a model writes on prompts with components at their mean over all positions; of none, as it is.

    ``share``: how far they go there, from 0 to 1.
    """
    hookable: Any = model
    without: AbstractContextManager[None] = (
        ablated(hookable, components, means=means, share=share) if components else nullcontext()
    )
    with without:
        return write_completions(model, prompts, **drawing.to_json(), progress=progress)


def judge_doses(judge: Judge, stories: Iterable[Story], *, seed: int) -> dict[Criterion, float]:
    """What one planted fault of medium strength costs with a judge, in points: ``doses_of`` its ``dose_pairs``.

    ``stories``: labelled.
    """
    pairs = dose_pairs(stories, seed=seed)
    return doses_of(pairs, judge.grade(dose_texts(pairs)))


def dose_pairs(stories: Iterable[Story], *, seed: int) -> list[PlantedPair]:
    """Labelled stories, each with its twins with one fault of medium strength."""
    return list(plant_pairs(stories, strengths=(DOSE,), seed=seed, source="author"))


def dose_texts(pairs: Sequence[PlantedPair]) -> list[Graded]:
    """What a judge is given of them: of each pair the story, then the twin."""
    return [text for pair in pairs for text in (pair.clean, pair.twin)]


def doses_of(pairs: Sequence[PlantedPair], outcomes: Sequence[Outcome]) -> dict[Criterion, float]:
    """What one fault costs, in points, by the criterion that it should hit. ``outcomes``: of ``dose_texts``.

    Mean over the pairs of a kind of fault, then over the kinds of a criterion (``grading.expected``). A criterion
    without a fault has none, nor one whose faults the judge does not see for sure: the lower end of the 95% interval of
    the mean over stories must lie above zero.
    """
    of_kind: dict[str, list[float]] = defaultdict(list)
    of_story: dict[Criterion, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair, clean, twin in zip(pairs, outcomes[::2], outcomes[1::2], strict=True):
        if isinstance(clean, Grade) and isinstance(twin, Grade):
            name = EXPECTED[pair.kind].criterion
            drop = getattr(clean, name) - getattr(twin, name)
            of_kind[pair.kind].append(drop)
            of_story[name][pair.story].append(drop)
    doses: dict[Criterion, list[float]] = defaultdict(list)
    for kind, drops in of_kind.items():
        doses[EXPECTED[kind].criterion].append(float(np.mean(drops)))
    return {name: float(np.mean(found)) for name, found in doses.items() if _is_seen(of_story[name].values())}


def _is_seen(of_stories: Iterable[Sequence[float]]) -> bool:
    """Whether the mean over stories is above zero for sure."""
    means = np.array([float(np.mean(of_story)) for of_story in of_stories])
    if len(means) < 2:
        return False
    reach = t.ppf((1 + LEVEL) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return bool(means.mean() > max(reach, 0.0))


def map_grades(
    whole: Sequence[Outcome],
    of_groups: Mapping[str, Sequence[Outcome]],
    of_rungs: Sequence[Sequence[Outcome]],
    groups: Sequence[Group],
    rungs: Sequence[Rung],
    costs: Mapping[str, float],
    doses: Mapping[Criterion, float],
    model: StoryModel,
    *,
    seed: int,
) -> list[MapRow]:
    """Rows of the groups that were graded, on every criterion; those of a criterion without a dose have no status.

    A group without which over a tenth of the texts have no grade has no row.

    ``whole``, ``of_groups``, ``of_rungs``: outcomes of the same texts in the same order, by the untouched model, by
    name of the group, and of each rung. ``costs``: loss in nats per token by name of group and of rung, under the
    same ablation. ``doses``: of ``judge_doses``. ``seed``: of the bootstrap.
    """
    graded = [group for group in groups if group.name in of_groups]
    if not graded:
        return []
    clusters = [prompt_key(one.graded.prompt_id) for one in whole]
    clean = points_of(whole)
    own = np.stack([clean - points_of(of_groups[group.name]) for group in graded], 1)
    random = np.stack([clean - points_of(of_rung) for of_rung in of_rungs], 1)
    nulls = [
        expected_of(rungs, [costs[rung.name] for rung in rungs], group.draws[0], costs[group.name], model)
        for group in graded
    ]
    tables, beside = [], []
    for k in range(len(CRITERIA)):
        mine = np.where(np.isnan(own[:, :, k]).mean(0) > MOST_FAILURES, np.nan, own[:, :, k])
        expected = [np.full(len(clean), np.nan) if one is None else one.of(random[:, :, k]) for one in nulls]
        tables.append(ItemTable(clusters, mine))
        beside.append(ItemTable(clusters, mine - np.stack(expected, 1)))
    drops, beyond = drops_of(tables, seed=seed), drops_of(beside, seed=seed)
    rows = []
    for k, name in enumerate(CRITERIA):
        for i, group in enumerate(graded):
            drop, more, null = drops[k][i], beyond[k][i], nulls[i]
            if drop is None:
                continue
            row = MapRow(
                component=group.name,
                n_components=group.n_components,
                delta_loss_nats=costs[group.name],
                evidence="grade",
                measure=name,
                capability=name,
                method="mean",
                drop=drop,
                whole=doses.get(name, POINT),
                expected=None if more is None else drop.value - more.value,
                beyond=more,
                reach=None if null is None else null.reach(random[:, :, k]),
                status=None,
            )
            rows.append(replace(row, status=status_of(row, None)) if name in doses else row)
    return rows


def points_of(outcomes: Sequence[Outcome]) -> Float[np.ndarray, "item criterion"]:
    """Grades, NaN where a text has none."""
    return np.array(
        [[getattr(one, name) if isinstance(one, Grade) else np.nan for name in CRITERIA] for one in outcomes]
    )


def prompt_key(prompt_id: str) -> int:
    """Key of a prompt, by which its texts are one cluster."""
    return int.from_bytes(hashlib.blake2b(prompt_id.encode(), digest_size=8).digest(), "little")
