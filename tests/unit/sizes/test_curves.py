"""Saturating curves: known ends are found, and what no model tells is said not to be told."""

import numpy as np
import pytest

from tslens.errors import ProbeInputError
from tslens.link.sizes.contrasts import Quantity
from tslens.link.sizes.curves import fit_curve
from tslens.link.sizes.measured import Measured, SizeRow

SIZES = np.geomspace(1, 256, 9)


def row(label, cell, values):
    one = Measured.of_means({f"p{j}": float(v) for j, v in enumerate(values)})
    return SizeRow(label, cell, "ours", 1, 64, 4, False, 1, None, None, {"g": one})


def quantities(means, rng, noise=0.3, of_seeds=0.0):
    """Cells of one seed each, and three of three seeds by which their spread is known."""
    prompts = rng.normal(size=60)

    def drawn(mean):
        return mean + rng.normal(0, of_seeds) + prompts + rng.normal(size=60) * noise

    found = [Quantity((row(f"m{i}", f"m{i}", drawn(mean)),), "g") for i, mean in enumerate(means)]
    seeded = [tuple(row(f"s{k}@{i}", f"s{k}", drawn(5.0)) for i in range(3)) for k in range(3)]
    return found, seeded


def of(means, rng, **more):
    cells, seeded = quantities(means, rng, **more)
    return cells, SIZES.tolist(), seeded


def test_a_known_end_is_found():
    rng = np.random.default_rng(0)
    held = {"top": 0, "rate": 0}
    for _ in range(40):
        curve = fit_curve(*of(7.5 - 4 * SIZES**-0.8, rng), by="width", most=10, seed=0)
        assert curve.told and curve.error < curve.error_of_line
        held["top"] += curve.top_interval.low <= 7.5 <= curve.top_interval.high
        held["rate"] += curve.rate_interval.low <= 0.8 <= curve.rate_interval.high
    assert min(held.values()) >= 34  # 95% of 40, and chance
    assert curve.at(np.array([1.0])) == pytest.approx(curve.top - curve.gap)


def test_the_spread_of_seeds_is_in_the_interval():
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(40):
        curve = fit_curve(*of(7.5 - 2 * SIZES**-0.5, rng, of_seeds=0.15), by="width", most=10, seed=0)
        held += curve.top_interval.low <= 7.5 <= curve.top_interval.high
    assert held >= 34


def test_a_straight_line_has_no_end_that_is_told():
    rng = np.random.default_rng(1)
    curve = fit_curve(*of(3 + 0.5 * np.log(SIZES), rng), by="width", most=10, seed=0)
    assert not curve.told


def test_what_does_not_grow_has_no_end_either():
    rng = np.random.default_rng(2)
    told = [
        fit_curve(*of(np.full(9, 5.5), rng, of_seeds=0.05), by="width", most=10, seed=0).told
        for _ in range(20)
    ]
    assert sum(told) <= 1


def test_without_seeds_nothing_is_told():
    rng = np.random.default_rng(0)
    cells, sizes, _ = of(7.5 - 4 * SIZES**-0.8, rng)
    assert not fit_curve(cells, sizes, [], by="width", most=10, seed=0).told


def test_the_end_stays_within_the_scale():
    rng = np.random.default_rng(2)
    assert fit_curve(*of(3 + 1.25 * np.log(SIZES), rng), by="width", most=10, seed=0).top <= 10


def test_three_sizes_are_too_few():
    cells, seeded = quantities([1, 2, 3], np.random.default_rng(3))
    with pytest.raises(ProbeInputError, match="4 sizes"):
        fit_curve(cells, [1, 2, 4], seeded, by="width", most=10, seed=0)
