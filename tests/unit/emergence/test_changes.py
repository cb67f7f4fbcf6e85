"""Half-rises, falls and lags of series whose truth is known."""

import numpy as np
import pytest

from tslens.link.emergence.changes import SHIFT, Change, find_change, find_lags

TOKENS = [0, *(1000 * 2.0**k for k in range(14))]  # to 8 million


def sigmoid(at, steepness=3.0, top=1.0):
    x = np.log2(np.array(TOKENS) + SHIFT)
    return top / (1 + np.exp(-steepness * (x - np.log2(at + SHIFT))))


def change(values, *, se=0.02, seed=0, **more):
    return find_change("a", "s", TOKENS, values, [se] * len(TOKENS), seed=seed, **more)


def test_a_half_rise_is_where_it_was_put():
    found = change(sigmoid(100_000))
    assert found.tokens == pytest.approx(100_000, rel=0.05)
    assert found.low < 100_000 < found.high
    assert found.high / found.low < 1.5
    assert not found.vanishes and found.lost == pytest.approx(0, abs=0.01)


def test_its_interval_holds_the_truth():
    rng, held = np.random.default_rng(0), 0
    for seed in range(100):
        noisy = sigmoid(100_000) + rng.normal(0, 0.05, len(TOKENS))
        found = change(noisy, se=0.05, seed=seed)
        held += found.low <= 100_000 <= found.high
    assert held >= 88


def test_loss_rises_downwards():
    found = change(9.0 - 7 * sigmoid(50_000), falls=True)
    assert found.tokens == pytest.approx(50_000, rel=0.1)
    assert (found.start, found.peak) == pytest.approx((9.0, 2.0), abs=0.05)


def test_noise_does_not_rise():
    """The highest of fifteen readings of noise is high; it counts as a rise in one of forty."""
    rng = np.random.default_rng(1)
    n_rise = sum(
        change(rng.normal(0, 0.05, len(TOKENS)), se=0.05, seed=seed).tokens is not None for seed in range(200)
    )
    assert n_rise <= 11


def test_what_vanishes_and_what_only_sags():
    gone = sigmoid(20_000) - 0.9 * sigmoid(2_000_000)
    found = change(gone)
    assert found.vanishes and found.lost == pytest.approx(0.9, abs=0.1)
    sags = change(sigmoid(20_000) - 0.3 * sigmoid(2_000_000))
    assert not sags.vanishes and sags.lost_low > 0.1


def risen(run, series, tokens):
    return Change(run, series, 0, 1, 1, tokens, tokens, tokens, 0, 0, 0)


def test_an_order_is_stated_only_where_seeds_agree():
    changes = {
        "role": [risen(run, "role", 1e4) for run in "abc"],
        "late": [risen(run, "late", at) for run, at in zip("abc", (1e6, 1.01e6, 0.99e6), strict=True)],
        "mixed": [risen(run, "mixed", at) for run, at in zip("abc", (1e3, 1e5, 1e6), strict=True)],
        "never": [Change(run, "never", 0, 0, 0, None, None, None, 0, 0, 0) for run in "abc"],
    }
    found = {
        one.second: one for one in find_lags(changes, [("role", name) for name in ("late", "mixed", "never")])
    }
    assert set(found) == {"late", "mixed"}
    late = found["late"]
    assert late.sure and late.n_seeds == 3
    assert late.doublings == pytest.approx(np.log2((1e6 + SHIFT) / (1e4 + SHIFT)), abs=0.02)
    assert late.low < late.doublings < late.high
    assert not found["mixed"].sure


def test_many_pairs_are_corrected_for():
    """Three seeds of lags that barely leave out zero: alone they count, among fifty pairs they do not."""
    changes = {"role": [risen(run, "role", 1e5) for run in "abc"]}
    for k in range(50):
        ratios = (1.9, 2.3, 2.9)
        changes[f"c{k}"] = [risen(run, f"c{k}", 1e5 * r) for run, r in zip("abc", ratios, strict=True)]
    alone = find_lags(changes, [("role", "c0")])
    many = find_lags(changes, [("role", f"c{k}") for k in range(50)])
    assert alone[0].sure and not any(one.sure for one in many)
    assert alone[0].low == many[0].low > 0  # the interval shown is of one pair
