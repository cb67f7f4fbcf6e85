"""From deviances to shares of the total with intervals, and from these to a kind.

Floors were written down before any shipped model was looked at (``docs/methods.md``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from tslens.probes.kinds.deviance import FORMS, Deviances
from tslens.probes.kinds.report import KINDS, SHARES, HeadKind, Interval, Share
from tslens.stats import poisson_weights, scaled_deviations, second_half
from tslens.types import HeadId

EVEN_NATS = 0.1  # a total below: nothing to explain
LEAST_SHARE = 0.1  # of the total, for a part to lead, and for both parts together to have a balance
TWICE = 2.0  # one part leads by being at least so many times the other
MOSTLY = 0.5  # of unique tokens, for parts of speech to make a head syntactic
AGREEMENT = 0.95  # of the bootstrap replicates

_LEFT: Mapping[Share, Mapping[str, int]] = {
    "unique_distance": {"tokens": 1, "both": -1},
    "unique_tokens": {"distance": 1, "both": -1},
    "shared": {"total": 1, "distance": -1, "tokens": -1, "both": 1},
    "unexplained": {"both": 1},
    "parts_of_speech": {"distance": 1, "parts": -1},
    "words": {"parts": 1, "both": -1},
}
"""Each share as a sum of deviances, over the total."""
_POSITIONAL, _SYNTACTIC, _SEMANTIC, _MIXED, _EVEN = range(5)


def judge_kinds(
    heads: Sequence[HeadId], found: Deviances, clusters: Sequence[int], *, twins: float, seed: int
) -> tuple[HeadKind, ...]:
    """Shares, intervals and kind of each head.

    ``clusters``: a 64-bit key of each story. ``twins``: the largest total of a head of random twins, nats per query.
    """
    columns: dict[str, np.ndarray] = {"total": found.total, **{form: found.left[form] for form in FORMS}}
    parts = np.stack(
        [sum(sign * columns[name] for name, sign in _LEFT[share].items()) for share in SHARES], -1
    )  # [story head share]
    weights = poisson_weights(seed, clusters)
    ones = np.ones_like(found.total)
    total = _Ratios(found.total[:, :, None], ones, weights)
    shares = _Ratios(parts, found.total, weights)
    distance, tokens = (parts[:, :, SHARES.index(name)] for name in ("unique_distance", "unique_tokens"))
    balance = _Ratios((distance - tokens)[:, :, None], distance + tokens, weights)
    kind = kind_numbers(total.value[:, :, 0], shares.value)
    half = np.array([second_half(key) for key in clusters])
    of_halves = [_kinds_of(found.total[half == side], parts[half == side]) for side in (False, True)]
    rows = []
    for i, head in enumerate(heads):
        certain = float((kind[1:, i] == kind[0, i]).mean())
        nearest, first, second = (KINDS[int(numbers[i])] for numbers in (kind[0], *of_halves))
        stands = certain >= AGREEMENT and nearest == first == second
        of_head = {name: shares.interval(i, at) for at, name in enumerate(SHARES)}
        of_total = total.interval(i, 0)
        has_balance = of_head["unique_distance"].value + of_head["unique_tokens"].value >= LEAST_SHARE
        rows.append(
            HeadKind(
                head=head,
                kind=nearest if stands else "unclear",
                nearest=nearest,
                certain=certain,
                halves=(first, second),
                total=of_total,
                shares=of_head,
                balance=balance.interval(i, 0) if has_balance else None,
                first=float(found.first[:, i].mean()),
                beyond_twins=of_total.low > twins,
            )
        )
    return tuple(rows)


def kind_numbers(
    total: Float[np.ndarray, "*any"], shares: Float[np.ndarray, "*any share"], *, floors: float = 1.0
) -> Int[np.ndarray, "*any"]:
    """Place in ``KINDS`` of each total in nats with its shares, errors left aside. ``floors``: times the rule's."""
    distance, tokens, parts = (
        shares[..., SHARES.index(name)] for name in ("unique_distance", "unique_tokens", "parts_of_speech")
    )

    def leads(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        led: np.ndarray = (one >= floors * LEAST_SHARE) & (one >= TWICE * other)
        return led

    by_tokens = leads(tokens, distance)
    is_even = total < floors * EVEN_NATS
    return np.select(
        [is_even, leads(distance, tokens), by_tokens & (parts >= MOSTLY * tokens), by_tokens],
        [_EVEN, _POSITIONAL, _SYNTACTIC, _SEMANTIC],
        _MIXED,
    )


def _kinds_of(
    total: Float[np.ndarray, "story head"], parts: Float[np.ndarray, "story head share"]
) -> Int[np.ndarray, " head"]:
    mean = total.mean(0)
    return kind_numbers(mean, parts.mean(0) / _not_zero(mean)[:, None])


def _not_zero(values: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.where(np.abs(values) < 1e-12, 1e-12, values)
    return found


class _Ratios:
    """Ratios of means over stories, [1 + replicate, head, part], row 0 the sample, with their standard errors.

    The error is that of the mean of (part - ratio x whole) over the mean of the whole (Cochran 1977).
    """

    def __init__(
        self,
        parts: Float[np.ndarray, "story head part"],
        whole: Float[np.ndarray, "story head"],
        weights: Float[np.ndarray, "replicate story"],
    ) -> None:
        def mean(x: np.ndarray) -> np.ndarray:
            return np.einsum("rs,shp->rhp", weights, x, optimize=True) / n

        n = weights.sum(1)[:, None, None]
        denominator = whole[:, :, None]
        size = _not_zero(mean(denominator))
        self.value = mean(parts) / size
        rest = mean(parts**2) - 2 * self.value * mean(parts * denominator)
        rest += self.value**2 * mean(denominator**2)
        self.error = np.sqrt(np.maximum(rest, 0) / np.maximum(n - 1, 1)) / np.abs(size)
        scaled = scaled_deviations(self.value[1:], self.value[0], self.error[1:])
        self._tails = np.quantile(scaled, [0.025, 0.975], axis=0)

    def interval(self, head: int, part: int) -> Interval:
        """Studentised, 95%."""
        value, error = self.value[0, head, part], self.error[0, head, part]
        low, high = self._tails[:, head, part]
        return Interval(float(value), float(value - high * error), float(value - low * error))
