import numpy as np
import torch

from tslens.stats import BootstrapSums, poisson_weights, scaled_deviations


def sums_of(x, *, seed=0, n_replicates=400, batch=7):
    """Bootstrap sums of x[story, column, head], added in batches."""
    sums = BootstrapSums(x.shape[1], x.shape[2], n_replicates)
    present = ~np.isnan(x).any(2)
    for first in range(0, len(x), batch):
        part = slice(first, first + batch)
        keys = range(len(x))[part]
        weights = torch.from_numpy(poisson_weights(seed, keys, n_replicates))
        half = torch.tensor([bool(key % 2) for key in keys])
        sums.add(torch.from_numpy(x[part]), torch.from_numpy(present[part]), weights, half)
    return sums


def test_row_zero_is_the_sample_mean_and_standard_error():
    x = np.random.default_rng(0).normal(2.0, 3.0, (50, 2, 3))
    means = sums_of(x).means()
    np.testing.assert_allclose(means.mean[0], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(means.se[0], x.std(0, ddof=1) / np.sqrt(50), rtol=1e-10)


def test_stories_without_a_query_do_not_count():
    x = np.random.default_rng(1).normal(size=(40, 2, 1))
    x[::4, 1] = np.nan
    means = sums_of(x).means()
    np.testing.assert_allclose(means.mean[0, 1], np.nanmean(x[:, 1], axis=0))
    assert means.n.tolist() == [40, 30]


def test_order_and_batches_of_stories_do_not_matter():
    x = np.random.default_rng(2).normal(size=(30, 1, 2))
    whole, small = sums_of(x, batch=30).means(), sums_of(x, batch=4).means()
    np.testing.assert_allclose(whole.mean, small.mean, rtol=1e-10)


def test_halves_make_up_the_whole():
    x = np.random.default_rng(3).normal(size=(30, 1, 1))
    sums = sums_of(x)
    np.testing.assert_allclose(sums.means(0).mean[0, 0], x[::2, 0].mean(0))
    np.testing.assert_allclose(sums.means(1).mean[0, 0], x[1::2, 0].mean(0))


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Skewed data, 40 stories: 95% intervals of 300 heads at once."""
    x = np.random.default_rng(4).exponential(1.0, (40, 1, 300))
    low, high = sums_of(x).means().interval()
    covered = ((low <= 1.0) & (high >= 1.0)).mean()
    assert 0.91 <= covered <= 0.98


def test_the_corrected_bound_errs_once_in_twenty_families():
    """200 families of 50 tests without effect: some lower end lies above zero in about 5% of families."""
    errors = 0
    for family in range(200):
        x = np.random.default_rng([5, family]).normal(size=(60, 1, 50))
        means = sums_of(x, seed=family, n_replicates=300, batch=60).means()
        deviation = scaled_deviations(means.mean[1:], means.mean[0], means.se[0])
        critical = np.quantile(deviation.max((1, 2)), 0.95)
        errors += bool((means.mean[0] - critical * means.se[0] > 0).any())
    assert errors <= 24  # 12%: about four standard deviations above 5%
