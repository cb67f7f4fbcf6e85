"""The dip of a sample: how far its distribution is from the nearest one of a single mode (Hartigan and Hartigan 1985).

A distribution has one mode if it is convex before some point and concave behind it. An interval that holds the mode is
narrowed step by step:

1. draw the greatest convex minorant of the lower corners of the empirical distribution, and the least concave
   majorant of its upper corners;
2. find the largest gap between the two at a point where either touches its corners; where it is no larger than what
   was found so far, the search ends;
3. the mode lies between the touching points beside the gap; outside them minorant and majorant must follow the sample,
   and their largest distance from it is twice the dip, if it is the largest so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def dip(values: Float[np.ndarray, " value"] | Sequence[float]) -> float:
    """The largest distance of the sample's distribution from the nearest one of a single mode.

    From 1 / (2n), for n values in one heap or evenly spread, to 1/4, for two points with half of them each.
    Raises ValueError without a value.
    """
    x, count = np.unique(np.asarray(values, dtype=np.float64), return_counts=True)
    if not len(x):
        raise ValueError("A dip needs a value.")
    upper = np.cumsum(count).astype(np.float64)
    lower = upper - count
    twice, low, high = 1.0, 0, len(x) - 1  # in values
    while low < high:
        here = slice(low, high + 1)
        minorant_at, majorant_at = _hull(x[here], lower[here]), _hull(x[here], -upper[here])
        minorant = np.interp(x[here], x[here][minorant_at], lower[here][minorant_at])
        majorant = np.interp(x[here], x[here][majorant_at], upper[here][majorant_at])
        gap = majorant - minorant
        at_minorant, at_majorant = gap[minorant_at], gap[majorant_at]
        if max(at_minorant.max(), at_majorant.max()) <= twice:
            break
        if at_minorant.max() >= at_majorant.max():
            first = minorant_at[at_minorant.argmax()]
            last = majorant_at[np.searchsorted(majorant_at, first)]
        else:
            last = majorant_at[at_majorant.argmax()]
            first = minorant_at[np.searchsorted(minorant_at, last, side="right") - 1]
        before = (upper[here] - minorant)[:first]
        behind = (majorant - lower[here])[last + 1 :]
        twice = max(before.max(initial=twice), behind.max(initial=twice))
        if (first, last) == (0, high - low):
            break
        low, high = low + int(first), low + int(last)
    return float(twice) / (2 * upper[-1])


def _hull(x: Float[np.ndarray, " value"], y: Float[np.ndarray, " value"]) -> Int[np.ndarray, " corner"]:
    """Places of the corners of the greatest convex minorant of points of rising x, both ends among them."""
    kept: list[int] = []
    xs, ys = x.tolist(), y.tolist()
    for i in range(len(xs)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (ys[b] - ys[a]) * (xs[i] - xs[a]) < (ys[i] - ys[a]) * (xs[b] - xs[a]):
                break
            kept.pop()
        kept.append(i)
    return np.array(kept)
