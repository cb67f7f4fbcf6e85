"""Is it there already given the current token? What candidates would be worth if they knew nothing else.

The mean of what a head does at the current token, on the other half of the stories, is put in place of what it does, at
places whose current token that half has. It comes from other stories, so that its noise lowers neither side.

Axes: place, candidate, story.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tslens.probes.production.contrast import matched
from tslens.probes.production.corrected import Corrected
from tslens.probes.production.seen import Seen
from tslens.probes.production.verdict import FLOOR
from tslens.types import Basis


@dataclass(frozen=True)
class ByToken:
    """``lexical``: the value that the current token alone gives, in nats. ``basis``: None where it is open."""

    basis: Basis | None
    lexical: float


def bases(seen: Seen, seed: int) -> list[ByToken | None]:
    """Of each candidate; None for copying, or where no place has a known token and a match.

    A basis is a finding, never what is left: ``contextual`` where the value beyond the current token reaches the floor,
    else ``lexical`` where the value that the current token gives reaches it, or where the value beyond surely does not.
    """
    places, half = seen.places, seen.half
    predicted, known = np.zeros_like(seen.does), np.zeros(len(places), dtype=bool)
    size = int(places.current.max()) + 1
    for side in (False, True):
        mine, other = half == side, half != side
        n = np.bincount(places.current[other], minlength=size)
        known[mine] = n[places.current[mine]] > 0
        for i, does in enumerate(seen.does[other].T):
            total = np.bincount(places.current[other], does, size)
            predicted[mine, i] = (total / np.maximum(n, 1))[places.current[mine]]
    by_token = np.full((len(seen.clusters), seen.does.shape[1]), np.nan)
    beyond = by_token.copy()
    for story, where in enumerate(places.of_rows(len(seen.clusters))):
        here = np.arange(where.start, where.stop)[known[where]]
        weights = matched(seen.holds[here], seen.strata[here])
        found = weights.any(0) & seen.has_class
        by_token[story, found] = (weights * predicted[here]).sum(0)[found]
        beyond[story, found] = (weights * (seen.does[here] - predicted[here])).sum(0)[found]
    rest, alone = (Corrected.of(table, seen.clusters, seed) for table in (beyond, by_token))
    return [
        ByToken(_basis(rest.low[i], rest.high[i], alone.low[i]), float(alone.mean[i])) if n_stories else None
        for i, n_stories in enumerate(rest.n.tolist())
    ]


def _basis(low_beyond: float, high_beyond: float, low_lexical: float) -> Basis | None:
    """By the ends of both values, in nats, each corrected for all candidates."""
    if low_beyond >= FLOOR:
        return "contextual"
    return "lexical" if low_lexical >= FLOOR or high_beyond < FLOOR else None
