"""Saturating curves: known ends are found, and what no model tells is said not to be told."""

import numpy as np
import pytest

from tslens.errors import ProbeInputError
from tslens.link.sizes.contrasts import Quantity
from tslens.link.sizes.curves import fit_curve
from tslens.link.sizes.measured import Measured, SizeRow

SIZES = np.geomspace(1, 256, 9)


def quantities(means, rng, noise=0.3):
    prompts = rng.normal(size=60)
    found = []
    for i, mean in enumerate(means):
        values = mean + prompts + rng.normal(size=60) * noise
        one = Measured.of_means({f"p{j}": float(v) for j, v in enumerate(values)})
        found.append(
            Quantity((SizeRow(f"m{i}", f"m{i}", "ours", 1, 64, 4, False, 1, None, None, {"g": one}),), "g")
        )
    return found


def test_a_known_end_is_found():
    rng = np.random.default_rng(0)
    held = {"top": 0, "rate": 0}
    for _ in range(40):
        curve = fit_curve(quantities(7.5 - 4 * SIZES**-0.8, rng), SIZES.tolist(), by="width", most=10, seed=0)
        assert curve.told and curve.error < curve.error_of_line
        held["top"] += curve.top_interval.low <= 7.5 <= curve.top_interval.high
        held["rate"] += curve.rate_interval.low <= 0.8 <= curve.rate_interval.high
    assert min(held.values()) >= 34  # 95% of 40, and chance
    assert curve.at(np.array([1.0])) == pytest.approx(curve.top - curve.gap)


def test_a_straight_line_has_no_end_that_is_told():
    rng = np.random.default_rng(1)
    curve = fit_curve(quantities(3 + 0.5 * np.log(SIZES), rng), SIZES.tolist(), by="width", most=10, seed=0)
    assert not curve.told


def test_the_end_stays_within_the_scale():
    rng = np.random.default_rng(2)
    curve = fit_curve(quantities(3 + 1.25 * np.log(SIZES), rng), SIZES.tolist(), by="width", most=10, seed=0)
    assert curve.top <= 10


def test_three_sizes_are_too_few():
    rng = np.random.default_rng(3)
    with pytest.raises(ProbeInputError, match="4 sizes"):
        fit_curve(quantities([1, 2, 3], rng), [1, 2, 4], by="width", most=10, seed=0)
