"""Which heads of a model are called distance and which semantic: by their kind, and drawn anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from math import comb, prod
from typing import NamedTuple

import numpy as np

from tslens.probes.kinds.report import HeadKind, Kind
from tslens.types import HeadId

LEAST_HEADS = 3  # of either group
LEAST_LABELLINGS = 20  # below which a permutation cannot tell
DISTANCE: Kind = "positional"
SEMANTIC: Kind = "semantic"

Heads = tuple[HeadId, ...]


class Labelling(NamedTuple):
    """Heads that are called distance and semantic, either in order."""

    distance: Heads
    semantic: Heads


def groups_of(kinds: Sequence[HeadKind], *, strict: bool = False) -> Labelling:
    """Heads by their kind; ``strict``: only those that are farther from even attention than all heads of twins."""
    chosen = [one for one in kinds if one.beyond_twins or not strict]
    distance, semantic = (
        tuple(sorted(one.head for one in chosen if one.kind == kind)) for kind in (DISTANCE, SEMANTIC)
    )
    return Labelling(distance, semantic)


def why_not(kinds: Sequence[HeadKind], labelling: Labelling) -> str:
    """Why the groups of a model say nothing; empty where they do: heads enough, and balances apart."""
    for name, heads in zip(labelling._fields, labelling, strict=True):
        if len(heads) < LEAST_HEADS:
            return f"{name} heads: {len(heads)}, fewer than {LEAST_HEADS}"
    balance = {one.head: one.balance for one in kinds}
    distance, semantic = ([balance[head] for head in heads] for heads in labelling)
    lowest = min(-1.0 if one is None else one.low for one in distance)
    highest = max(1.0 if one is None else one.high for one in semantic)
    if lowest <= highest:
        return f"the groups do not separate: balances of distance heads from {lowest:.2f}, of semantic to {highest:.2f}"
    return ""


# Labels drawn anew ------------------------------------------------------------------------------------------


def n_labellings(labelling: Labelling, *, within_layers: bool) -> int:
    """How many there are with groups of these sizes, this one included."""
    return prod(comb(len(heads), n) for heads, n in _strata(labelling, within_layers))


def is_in_one_layer(labelling: Labelling) -> bool:
    """Whether labels drawn within layers are those drawn within the model."""
    return len({head.layer for heads in labelling for head in heads}) == 1


def draw_labellings(labelling: Labelling, n: int, *, within_layers: bool, seed: int) -> list[Labelling]:
    """The given one, then ``n`` different others of the same sizes, drawn evenly; all where there are no more.

    ``within_layers``: with as many distance heads of each layer.
    """
    strata = _strata(labelling, within_layers)
    if n_labellings(labelling, within_layers=within_layers) - 1 <= n:
        others = [one for one in _all_of(strata) if one != labelling]
        return [labelling, *others]
    rng = np.random.default_rng([seed, 0xC0])
    found = {labelling: None}
    while len(found) <= n:
        distance = [
            heads[i] for heads, k in strata for i in rng.choice(len(heads), k, replace=False).tolist()
        ]
        found[_labelled(strata, distance)] = None
    return list(found)


def _strata(labelling: Labelling, within_layers: bool) -> list[tuple[Heads, int]]:
    """Heads whose labels may change places, and how many of them are distance heads."""
    by_layer: dict[int, list[HeadId]] = defaultdict(list)
    for head in sorted((*labelling.distance, *labelling.semantic)):
        by_layer[head.layer if within_layers else 0].append(head)
    distance = set(labelling.distance)
    return [(tuple(heads), sum(head in distance for head in heads)) for heads in by_layer.values()]


def _all_of(strata: Sequence[tuple[Heads, int]]) -> Iterator[Labelling]:
    for chosen in product(*(combinations(heads, n) for heads, n in strata)):
        yield _labelled(strata, [head for heads in chosen for head in heads])


def _labelled(strata: Sequence[tuple[Heads, int]], distance: Sequence[HeadId]) -> Labelling:
    chosen = set(distance)
    rest = (head for heads, _ in strata for head in heads if head not in chosen)
    return Labelling(tuple(sorted(chosen)), tuple(sorted(rest)))
