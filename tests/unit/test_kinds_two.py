"""The dip is the least distance to one mode; two kinds are found where they are planted and not in a continuum."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from tslens.errors import ProbeInputError
from tslens.probes.kinds import two_kinds
from tslens.probes.kinds.dip import dip
from tslens.probes.kinds.report import SHARES, HeadKind, Interval
from tslens.probes.kinds.two_kinds import Places, beyond_twins, judge_two_kinds, places, verdict
from tslens.types import HeadId


def least_distance(x):
    """The dip by linear programs: for each mode, the distribution of one mode that is nearest to the sample."""
    x = np.sort(x)
    return min(_nearest_with_mode(x, k) for k in range(len(x)))


def _nearest_with_mode(x, k):
    """Numbers: G just before each point to the mode, G at the mode and behind, and the distance."""
    n = len(x)
    before, behind = list(range(k + 1)), list(range(k + 1, n + 1))  # G(x_0) ... G(x_k-), G(x_k) ... G(x_n-1)
    d, rows, limits = n + 1, [], []

    def at_most(terms, limit):
        row = np.zeros(n + 2)
        for place, factor in terms:
            row[place] += factor
        rows.append(row)
        limits.append(limit)

    def near(place, height):
        at_most([(place, 1), (d, -1)], height)
        at_most([(place, -1), (d, -1)], -height)

    for i in range(n):
        if i <= k:
            near(before[i], i / n)
        if i < k:
            near(before[i], (i + 1) / n)
        if i >= k:
            near(behind[i - k], (i + 1) / n)
        if i > k:
            near(behind[i - k], i / n)
    for i in range(k):  # rising, and convex
        at_most([(before[i], 1), (before[i + 1], -1)], 0)
        if i + 1 < k:
            left, right = 1 / (x[i + 1] - x[i]), 1 / (x[i + 2] - x[i + 1])
            at_most([(before[i], -left), (before[i + 1], left + right), (before[i + 2], -right)], 0)
    at_most([(before[-1], 1), (behind[0], -1)], 0)
    for i in range(n - k - 1):  # rising, and concave
        at_most([(behind[i], 1), (behind[i + 1], -1)], 0)
        if i + 2 < n - k:
            left, right = 1 / (x[k + i + 1] - x[k + i]), 1 / (x[k + i + 2] - x[k + i + 1])
            at_most([(behind[i], left), (behind[i + 1], -left - right), (behind[i + 2], right)], 0)
    cost = np.zeros(n + 2)
    cost[d] = 1
    return linprog(cost, A_ub=np.array(rows), b_ub=limits, bounds=(None, None)).fun


@pytest.mark.parametrize("seed", range(12))
def test_the_dip_is_the_least_distance_to_one_mode(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(5, 14))
    x = rng.normal(size=n) + 4 * (rng.random(n) < 0.5) * (seed % 2)
    assert dip(x) == pytest.approx(max(least_distance(x), 1 / (2 * n)), abs=1e-6)


def test_the_dip_of_known_samples():
    assert dip([3.0]) == 0.5
    assert dip(np.arange(10.0)) == pytest.approx(1 / 20)
    assert dip([0.0] * 5 + [1.0] * 5) == pytest.approx(1 / 4)
    assert dip([2.0] * 8) == pytest.approx(1 / 16)
    with pytest.raises(ValueError, match="needs a value"):
        dip([])


def test_the_dip_knows_no_scale_and_no_side():
    x = np.random.default_rng(3).normal(size=40)
    assert dip(5 - 3 * x) == pytest.approx(dip(x))


def shapes_of(draw, sizes=(12, 24, 32, 32, 48, 64), seed=0, error=0.03):
    """Shapes of models with heads drawn by a function (rng, n)."""
    rng = np.random.default_rng(seed)
    return {
        f"m{i}": Places(draw(rng, n) + rng.normal(scale=error, size=n), np.full(n, error))
        for i, n in enumerate(sizes)
    }


def two_clusters(rng, n):
    return np.where(rng.random(n) < 0.4, 0.7, -0.6) + 0.12 * rng.normal(size=n)


def continuum(rng, n):
    distance, tokens = rng.exponential(size=(2, n))
    return (distance - tokens) / (distance + tokens)  # even from -1 to 1


@pytest.fixture(scope="module")
def found():
    """Verdicts on both truths, with fewer simulations than elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        for name, n in (("N_NULL", 299), ("N_BOOTSTRAP", 40), ("N_PLANTED", 40)):
            patch.setattr(two_kinds, name, n)
        return {
            name: judge_two_kinds(shapes_of(draw, seed=1), seed=0)
            for name, draw in (("two", two_clusters), ("continuum", continuum))
        }


def test_two_kinds_are_found_where_they_are(found):
    two = found["two"]
    assert two.verdict == "two kinds" and two.p < 0.01 and two.pooled_p < 0.01
    assert two.between.value < 0.05 and two.components_p < 0.03 and two.ashman.low > 3
    assert two.n_heads == 212 and two.n_strata == 6


def test_a_continuum_is_not_two_kinds(found):
    one = found["continuum"]
    assert one.verdict == "no two kinds"
    assert one.p > 0.05 and one.between.low > 1 / 6 and one.between.value == pytest.approx(1 / 3, abs=0.1)


def test_power_grows_with_the_distance_and_false_alarms_are_few(found):
    for one in found.values():
        even, single, *clusters = one.planted
        assert even.truth == "an even spread" and even.found <= 0.15
        assert single.truth == "one cluster" and single.found <= 0.05
        assert clusters[0].distance == 2.0 and clusters[0].found <= 0.2
        assert clusters[-1].found >= 0.95
        assert one.seen_from is not None and 3 <= one.seen_from <= 5
    assert found["two"].to_json()["planted"][0]["truth"] == "an even spread"


def test_the_verdict_follows_its_rule():
    few, some, many = Interval(0.05, 0.0, 0.1), Interval(0.2, 0.1, 0.3), Interval(0.35, 0.3, 0.4)
    assert verdict(0.01, few, 0.9) == "two kinds"
    assert verdict(0.01, some, 0.9) == "not settled"
    assert verdict(0.01, many, 0.9) == "no two kinds"
    assert verdict(0.5, some, 0.9) == "no two kinds"
    assert verdict(0.5, some, 0.3) == "not settled"


def test_shapes_of_few_heads_are_left_out():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("N_NULL", "N_BOOTSTRAP", "N_PLANTED"):
            patch.setattr(two_kinds, name, 9)
        found = judge_two_kinds(shapes_of(two_clusters, sizes=(3, 30)), seed=0)
    assert (found.n_heads, found.n_strata) == (30, 1)
    with pytest.raises(ProbeInputError, match="has 4 heads"):
        judge_two_kinds(shapes_of(two_clusters, sizes=(3, 2)), seed=0)


def head(kind, distance, tokens, balance=True):
    shares = {name: Interval(0.0, -0.01, 0.01) for name in SHARES}
    shares["unique_distance"] = Interval(distance, distance - 0.0196, distance + 0.0196)
    shares["unique_tokens"] = Interval(tokens, tokens - 0.0196, tokens + 0.0196)
    place = Interval((distance - tokens) / (distance + tokens), -1.0, 0.96) if balance else None
    return HeadKind(
        HeadId(0, 0), kind, kind, 1.0, (kind, kind), Interval(1.0, 0.9, 1.1), shares, place, 0.1, True
    )


def test_heads_within_the_twins_are_left_out():
    near, far = head("positional", 0.6, 0.2), head("semantic", 0.1, 0.5)
    near = replace(near, beyond_twins=False)
    assert beyond_twins({"m": [near, far], "n": [near]}) == {"m": [far], "n": []}


def test_even_heads_and_heads_without_a_balance_have_no_place():
    rows = [head("positional", 0.6, 0.2), head("even", 0.5, 0.1), head("mixed", 0.04, 0.01, balance=False)]
    on_balance, on_difference = (places({"m": rows}, axis)["m"] for axis in ("balance", "difference"))
    assert on_balance.values == pytest.approx([0.5]) and on_balance.errors == pytest.approx([0.5])
    assert on_difference.values == pytest.approx([0.4, 0.03])
    assert on_difference.errors == pytest.approx([0.01 * 2**0.5] * 2)
