"""Statistics in float64 against slow formulas: stories really repeated, shares counted, p ordered by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import beta

from tslens.link.clustered import ClusteredMeans
from tslens.link.drops import ItemTable, drops_of
from tslens.probes.neurons.codes import encode, error_over_stories, influence, placements
from tslens.stats import BootstrapSums, poisson_weights, share_interval

N = 30


@pytest.fixture(scope="module")
def weights():
    return poisson_weights(3, range(N))


def repeated(weights, values):
    """Mean and standard error of each replicate, its stories written out as often as they were drawn."""
    found = []
    for row in weights.astype(int):
        drawn = np.repeat(values, row)
        found.append((drawn.mean(), drawn.std() / np.sqrt(len(drawn) - 1)))
    return np.array(found).T


def slow_interval(mean, se):
    scaled = (mean[1:] - mean[0]) / se[1:]
    low, high = np.quantile(scaled, [0.025, 0.975])
    return mean[0] - high * se[0], mean[0] - low * se[0]


def interval_of(values, weights):
    sums = BootstrapSums(1, 1)
    there = torch.ones(len(values), 1, dtype=torch.bool)
    sums.add(torch.from_numpy(values)[:, None, None], there, torch.from_numpy(weights), there[:, 0])
    return tuple(float(end[0, 0]) for end in sums.means().interval())


def test_the_interval_of_a_mean_is_that_of_repeated_stories(weights):
    values = np.random.default_rng(0).exponential(1, N)
    slow = slow_interval(*repeated(weights, values))
    assert interval_of(values, weights) == pytest.approx(slow, rel=1e-10)


def test_the_interval_of_a_ratio_is_that_of_repeated_stories(weights):
    rng = np.random.default_rng(1)
    counts = rng.geometric(0.3, N).astype(float)
    sums = counts * rng.normal(1, 1, N)
    found = []
    for row in weights.astype(int):
        s, c = np.repeat(sums, row), np.repeat(counts, row)
        ratio, n = s.sum() / c.sum(), len(s)
        found.append((ratio, np.sqrt(((s - ratio * c) ** 2).sum() * n / (n - 1)) / c.sum()))
    means = ClusteredMeans.of(weights, sums[:, None], counts[:, None])
    one = means.interval(0)
    assert (one.low, one.high) == pytest.approx(slow_interval(*np.array(found).T), rel=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.3, 7.3, -1000.1])
def test_an_interval_moves_with_its_data(weights, level):
    """27 of 30 stories say the same: replicates that drew no other have an error of rounding alone, by which nothing
    may be divided, or an end lies millions away."""
    values = np.zeros(N)
    values[:3] = [1.0, 2.0, 4.0]
    still, moved = interval_of(values, weights), interval_of(values + level, weights)
    assert np.array(moved) - level == pytest.approx(np.array(still), abs=1e-5)
    assert max(map(abs, still)) < 20
    means = ClusteredMeans.of(weights, (values + level)[:, None], np.ones((N, 1)))
    one = means.interval(0)
    assert (one.low - level, one.high - level) == pytest.approx(still, abs=1e-5)


def test_what_does_not_vary_has_an_interval_of_no_width(weights):
    assert interval_of(np.full(N, 0.1), weights) == pytest.approx((0.1, 0.1), abs=1e-7)


def test_p_of_the_largest_deviation_is_counted(weights):
    """Of drops of three components: each replicate's largest deviation by loops."""
    values = np.random.default_rng(2).normal(0.3, 1, (N, 3))
    (found,) = drops_of([ItemTable([*range(N)], values)], seed=3)
    means = np.stack([repeated(weights, column)[0] for column in values.T], 1)
    error = values.std(0, ddof=1) / np.sqrt(N)
    largest = [max(abs(row - means[0]) / error) for row in means[1:]]
    from scipy.stats import norm, t

    for i, one in enumerate(found):
        as_normal = norm.isf(t.sf(abs(means[0, i]) / error[i], N - 1))
        assert one.p == pytest.approx((1 + sum(d >= as_normal for d in largest)) / 1001)


def test_a_share_of_independent_answers_is_clopper_and_pearsons():
    share, n = 27 / 30, 30
    se = np.sqrt(share * (1 - share) / (n - 1))
    found = share_interval(share, se, n, n)
    hits = min(share * (1 - share) / se**2, n) * share
    n_effective = hits / share
    assert found.low == pytest.approx(beta.ppf(0.025, hits, n_effective - hits + 1), rel=1e-12)
    assert found.high == pytest.approx(beta.ppf(0.975, hits + 1, n_effective - hits), rel=1e-12)
    assert (
        0.72 < found.low < 0.74 and 0.97 < found.high < 0.98
    )  # of the exact table, 0.735 and 0.979, one less


def test_the_error_of_an_area_is_that_of_leaving_stories_out():
    """Obuchowski's error against the jackknife over stories, which agree for many stories."""
    rng = np.random.default_rng(4)
    story = np.repeat(np.arange(120), 8)
    flag = rng.random(960) < 0.3
    codes = encode((rng.normal(size=960) + flag).astype(np.float32))

    def area(chosen):
        c, f = codes[chosen].astype(float), flag[chosen]
        return ((c[f][:, None] > c[~f]) + 0.5 * (c[f][:, None] == c[~f])).mean()

    place = placements(codes, flag)
    assert place[flag].mean() == pytest.approx(area(np.full(960, True)), abs=1e-12)
    without = np.array([area(story != one) for one in range(120)])
    slow = np.sqrt(119 / 120 * ((without - without.mean()) ** 2).sum())
    assert error_over_stories(influence(place, flag), story) == pytest.approx(slow, rel=0.02)
