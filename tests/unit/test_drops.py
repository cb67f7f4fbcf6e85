"""Means of what is lost: the mean by hand, intervals that hold together, halves, missing values."""

import numpy as np
import pytest

from tslens.link.drops import Drop, ItemTable, drops_of
from tslens.stats import second_half

N_CLUSTERS = 40


def table_of(rng, effects, *, n_items=3, shared=1.0):
    """Items of clusters that share noise, each column with its own mean."""
    keys = rng.integers(2**62, size=N_CLUSTERS).tolist()
    cluster = [key for key in keys for _ in range(n_items)]
    noise = np.repeat(rng.normal(0, shared, (N_CLUSTERS, len(effects))), n_items, axis=0)
    return ItemTable(cluster, np.array(effects) + noise + rng.normal(0, 0.5, noise.shape))


def test_the_mean_is_over_items_and_missing_ones_do_not_count():
    values = np.array([[1.0, 2.0], [3.0, np.nan], [8.0, np.nan]])
    first, second = drops_of([ItemTable([1, 1, 2], values)], seed=0)[0]
    assert first is not None and first.value == pytest.approx(4.0)
    assert second is None  # one cluster only


def test_halves_are_those_of_the_clusters():
    rng = np.random.default_rng(0)
    table = table_of(rng, [0.3])
    (drop,) = drops_of([table], seed=1)[0]
    side = np.array([second_half(key) for key in table.cluster])
    assert drop.halves == (
        pytest.approx(table.values[~side, 0].mean()),
        pytest.approx(table.values[side, 0].mean()),
    )
    assert Drop(1.0, 0, 2, 0, 2, 0.1, (0.2, None)).is_confirmed is False


def test_a_table_alone_has_narrower_corrected_intervals_than_among_others():
    rng = np.random.default_rng(3)
    one, other = table_of(rng, [0.5]), table_of(rng, [0.0] * 20)
    (alone,) = drops_of([one], seed=0)[0]
    (among,) = drops_of([one, other], seed=0)[0]
    assert alone.low == among.low and alone.value == among.value
    assert among.low_corrected < alone.low_corrected < alone.value


def test_corrected_intervals_hold_together():
    """On 150 samples of 20 columns in two tables, no true effect: about 5% have any that excludes zero."""
    rng, n_wrong = np.random.default_rng(5), 0
    for sample in range(150):
        tables = [table_of(rng, [0.0] * 10), table_of(rng, [0.0] * 10, n_items=1)]
        found = [drop for of_table in drops_of(tables, seed=sample) for drop in of_table]
        n_wrong += any(drop.low_corrected > 0 or drop.high_corrected < 0 for drop in found)
    assert 1 <= n_wrong <= 18  # 7.5 on average; beyond 18 by chance in one of ten thousand


def test_p_says_what_the_corrected_interval_says():
    rng = np.random.default_rng(7)
    for drop in drops_of([table_of(rng, [0.0, 0.4, 1.5, -1.0])], seed=0)[0]:
        excludes = drop.low_corrected > 0 or drop.high_corrected < 0
        assert excludes == (drop.p < 0.05) or drop.p == pytest.approx(0.05, abs=0.005)


def test_nothing_lost_is_nothing():
    (drop,) = drops_of([ItemTable(list(range(8)), np.zeros((8, 1)))], seed=0)[0]
    assert (drop.value, drop.low_corrected, drop.p) == (0.0, 0.0, 1.0)


def test_another_unit_and_json():
    drop = Drop(2.0, 1.0, 3.0, 0.5, 3.5, 0.01, (1.5, None))
    assert drop.scaled(0.5) == Drop(1.0, 0.5, 1.5, 0.25, 1.75, 0.01, (0.75, None))
    assert Drop.from_json(drop.to_json()) == drop
