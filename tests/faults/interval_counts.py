"""What the counts of intervals share: weights that are made once, draws, and whether the truth was held often enough.

A sample of draws is allowed its own chance (3.5 standard deviations), the full count one standard deviation.
"""

from functools import cache

import numpy as np

from tslens.stats import N_REPLICATES, poisson_weights

SIZES = (30, 60, 200)  # clusters
HOLDS = (0.93, 0.97)
FULL = 250  # draws, from which on a count is full
LOT = 200  # draws that share their bootstrap weights
SEEDS = 20  # different sets of bootstrap weights


@cache
def weights_of(seed, keys, n_replicates=N_REPLICATES):
    return poisson_weights(seed, keys, n_replicates)


def lots(how_many, n_lots=20, sizes=SIZES):
    """Pairs of a size and a number of a lot."""
    return [(n, lot) for n in sizes[: how_many(1, len(sizes))] for lot in range(how_many(1, n_lots))]


def ends_of(intervals):
    """Lower and upper ends [end, draw]."""
    return np.array([(one.low, one.high) for one in intervals], dtype=float).T


def hold(name, n, ends, truth, bounds=None):
    """What is wrong with so many intervals [end, draw]; nothing if they hold the truth as often as they should.

    ``bounds``: by size, of the share that hold it, where these are not ``HOLDS``.
    """
    low, high = np.asarray(ends, dtype=float)
    below, above, n_draws = (low > truth + 1e-12).mean(), (high < truth - 1e-12).mean(), len(low)
    covered, chance = 1 - below - above, (3.5 if n_draws < FULL else 1.0) * (0.05 * 0.95 / n_draws) ** 0.5
    print(f"{name} | {n} | {covered:.3f} | missed below {below:.3f}, above {above:.3f} | {n_draws}")
    least, most = (bounds or {}).get(n, HOLDS)
    return [] if least - chance <= covered <= most + chance else [(name, n, float(covered))]


def gather(name, found, truth, bounds=None):
    """``found``: by size, parts of intervals [end, draw]."""
    wrong = []
    for n, parts in found.items():
        wrong += hold(name, n, np.concatenate(parts, 1), truth, bounds)
    assert not wrong, wrong


def count(name, draw, truth, how_many, *, sizes=SIZES, draws=(4000, 2000, 1000), bounds=None):
    """``draw(rng, n, seed)``: an interval with ``low`` and ``high``; without ends it is not counted."""
    found = {}
    for n, n_full in zip(sizes[: how_many(1, len(sizes))], draws, strict=False):
        told = [draw(np.random.default_rng([n, i]), n, i % SEEDS) for i in range(how_many(100, n_full))]
        found[n] = [ends_of(one for one in told if one.low is not None)]
    gather(name, found, truth, bounds)
