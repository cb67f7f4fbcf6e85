"""The exponent of simulated runs is found, with an interval that holds it; what cannot be told is said."""

import numpy as np
import pytest

from tslens.link.scaling.envelope import read_envelope
from tslens.link.scaling.points import ScalingRun
from tslens.link.scaling.surface import fit_scaling


def test_without_noise_the_exponent_is_exact(simulated):
    runs, truth = simulated(np.random.default_rng(0), sd_run=0.0, sd_point=0.0)
    found = fit_scaling(runs, seed=0, n_replicates=20)
    assert found.exponent == pytest.approx(truth, abs=0.005)
    assert found.surface.floor == pytest.approx(1.2, abs=0.02)
    assert (found.surface.alpha, found.surface.beta) == pytest.approx((0.35, 0.4), abs=0.01)
    assert found.tokens_exponent == pytest.approx(1 - 0.9 * truth, abs=0.005)
    # the best size has the least loss of its budget, among sizes that spend it on fewer or more tokens
    budget, best = found.budgets[10], found.best[10]
    sizes = best * np.array([0.9, 1.0, 1.1])
    flops = 6 * np.e**0.5 * sizes**0.9
    losses = found.surface.loss(sizes, budget / flops)
    assert losses[1] == losses.min()


@pytest.mark.parametrize(("n_sizes", "sd_run"), [(10, 0.006), pytest.param(6, 0.012, marks=pytest.mark.slow)])
def test_the_interval_holds_the_truth(simulated, n_sizes, sd_run):
    rng = np.random.default_rng(n_sizes)
    held = 0
    for k in range(20):
        runs, truth = simulated(rng, n_sizes=n_sizes, sd_run=sd_run, n_points=6)
        found = fit_scaling(runs, seed=k, n_replicates=60)
        held += found.interval.low <= truth <= found.interval.high
    assert held >= 17  # of 20; analysis/scaling_check.py counts hundreds


def test_equal_seeds_give_equal_intervals(simulated):
    runs, _ = simulated(np.random.default_rng(3), n_sizes=6, n_points=5)
    first, again, other = (fit_scaling(runs, seed=seed, n_replicates=50).interval for seed in (0, 0, 1))
    assert first == again != other


def test_parabolas_find_the_same_exponent(simulated):
    runs, truth = simulated(np.random.default_rng(0), n_sizes=12, sd_run=0.0, sd_point=0.0, n_points=40)
    found = read_envelope(runs)
    assert found.exponent == pytest.approx(truth, abs=0.12)
    assert found.n_runs_on > 3
    losses = [one.loss_nats for one in found.budgets]
    assert losses == sorted(losses, reverse=True)


def test_what_lies_outside_the_sizes_is_said():
    """Sizes so large that the smallest is best at every budget."""
    runs = []
    for i, size in enumerate((1e8, 2e8, 4e8, 9e8)):
        tokens = np.geomspace(1e5, 1e6, 6)
        loss = 1 + (size / 1e6) ** -0.5 + 3 * (tokens / 1e6) ** -0.5
        runs.append(ScalingRun(f"m{i}", f"m{i}", 0, int(size), int(size), 6 * size, tokens, loss, "c", "t"))
    found = fit_scaling(runs, seed=0, n_replicates=20)
    assert found.outside == 1.0
    assert any("extrapolated" in one for one in found.warnings)
    assert read_envelope(runs).exponent is None


def test_seeds_of_a_size_are_one_size(simulated):
    rng = np.random.default_rng(4)
    runs = [run for _ in range(2) for run in simulated(rng, n_sizes=5, n_points=4)[0]]
    found = fit_scaling(runs, seed=0, n_replicates=20)
    assert (found.n_runs, found.n_sizes, found.n_points) == (10, 5, 40)
