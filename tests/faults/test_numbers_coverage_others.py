"""How often the other 95% intervals hold the truth: areas, correlations, agreement, shares of a total, half-rises.

As ``test_numbers_coverage``, with 4,000, 2,000 and 1,000 draws of 30, 60 and 200 clusters, as these cost more, and
400 bootstrap replicates where the function takes weights. FALLS has what falls short of 93 of 100, and how far.
The exponent of scaling is counted by ``analysis/scaling_check.py``.
"""

import interval_counts
import numpy as np
import pytest
import torch
from interval_counts import SIZES, gather, hold, weights_of
from scipy.stats import norm

from tslens.audit import judge_figures
from tslens.grading import agreement
from tslens.link.conjecture import figures
from tslens.link.emergence.changes import SHIFT, find_change
from tslens.probes.kinds.deviance import Deviances
from tslens.probes.kinds.rule import judge_kinds
from tslens.probes.matching.moments import bootstrap_correlations, story_moments
from tslens.probes.neurons.codes import encode, error_over_stories, influence, placements
from tslens.probes.programs.estimates import percentile_interval
from tslens.probes.weights import agreement as ranks
from tslens.stats import BootstrapSums, percentile_ends
from tslens.types import HeadId

FEW = 400  # bootstrap replicates
FALLS = {
    "agreement, ac2": {30: (0.91, 0.96), 60: (0.92, 0.96)},
    "rank correlation 0.9": {30: (0.93, 0.985), 60: (0.93, 0.98)},  # wide near 1
}


@pytest.fixture(autouse=True)
def few_replicates(monkeypatch):
    def weights(seed, keys, n_replicates=FEW):
        return weights_of(seed, tuple(keys), n_replicates)

    for module in (judge_figures, figures):
        monkeypatch.setattr(module, "poisson_weights", weights)


def count(name, draw, truth, how_many):
    interval_counts.count(name, draw, truth, how_many, bounds=FALLS.get(name))


# Judges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
def test_areas_of_a_judge(apart, how_many):
    """Story and twin are alike (correlation one half); no story is held against its own twin."""
    truth = norm.cdf(apart / 2**0.5)

    def draw(rng, n, seed):
        story = 0.5**0.5 * rng.normal(size=n)
        clean, twin = (story + 0.5**0.5 * rng.normal(size=n) + mean for mean in (apart, 0.0))
        return judge_figures.area(clean, twin)

    count(f"area {truth:.2f}", draw, truth, how_many)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_rank_correlations_of_a_judge(rho, how_many):
    def draw(rng, n, seed):
        x = rng.normal(size=n)
        y = rho * x + (1 - rho**2) ** 0.5 * rng.normal(size=n)
        return judge_figures.rank_correlation(x, y, range(n), [""] * n, seed=seed)

    count(f"rank correlation {rho}", draw, 6 / np.pi * np.arcsin(rho / 2), how_many)


@pytest.mark.parametrize("grows", [False, True])
def test_slopes_of_a_judge(grows, how_many):
    def draw(rng, n, seed):
        x = rng.gamma(2, 1, n)
        y = 0.5 * x + rng.normal(size=n) * (0.5 + 0.3 * x if grows else 1.0)
        return judge_figures.slope(x, y, [""] * n)

    count("slope, spread grows" if grows else "slope", draw, 0.5, how_many)


def ratings(rng, n):
    """Two grades of a text in half points: how hard a text is, and what a judge adds."""
    told = 6.5 + 1.3 * rng.normal(size=(n, 1)) + 0.7 * rng.normal(size=(n, 2))
    return np.clip((2 * told).round() / 2, 0, 10)


@pytest.mark.parametrize("name", ["alpha_interval", "alpha_ordinal", "ac2", "difference"])
def test_agreement_of_a_judge_with_himself(name, how_many):
    """Jackknife on the logarithm of the disagreement; the truth is what 20,000 texts say."""
    many = ratings(np.random.default_rng(97), 20_000)
    truth = {
        "alpha_interval": agreement.krippendorff_alpha(many, "interval"),
        "alpha_ordinal": agreement.krippendorff_alpha(many, "ordinal"),
        "ac2": agreement.gwet_ac2(many, agreement.SCALE, agreement.quadratic_weights(agreement.SCALE)),
        "difference": np.abs(many[:, 0] - many[:, 1]).mean(),
    }[name]

    def draw(rng, n, seed):
        return getattr(agreement.measure_agreement(ratings(rng, n), [f"p{i}" for i in range(n)]), name)

    if name != "difference" and how_many(1, 0):
        pytest.skip("in the full suite")
    count(f"agreement, {name}", draw, truth, lambda sample, full: how_many(sample, min(full, 1000)))


# Heads and neurons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0.4, 2.0])
def test_areas_of_neurons(apart, how_many):
    """Tokens of a story are alike in activation and in label; Obuchowski's error, Student's t."""

    def sample(rng, n):
        story = np.repeat(np.arange(n), 25)
        flag = rng.random(25 * n) < np.repeat(rng.beta(2, 5, n), 25)
        value = 0.4 * np.repeat(rng.normal(size=n), 25) + rng.normal(size=25 * n) + apart * flag
        return story, flag, encode(value.astype(np.float32))

    _, flag, codes = sample(np.random.default_rng(96), 40_000)
    truth = placements(codes, flag)[flag].mean()

    class Ends:
        def __init__(self, area, reach):
            self.low, self.high = area - reach, area + reach

    def draw(rng, n, seed):
        from scipy.stats import t

        story, flag, codes = sample(rng, n)
        place = placements(codes, flag)
        error = error_over_stories(influence(place, flag), story)
        return Ends(place[flag].mean(), float(t.ppf(0.975, n - 1)) * error)

    count(
        f"area of a neuron {truth:.2f}", draw, truth, lambda sample, full: how_many(sample, min(full, 1000))
    )


def vectorised(how_many, lot=200):
    """A size, a generator, weights and how many draws share them."""
    for n, n_full in zip(SIZES[: how_many(1, 3)], (4000, 4000, 4000), strict=False):
        for seed in range(how_many(1, n_full // lot)):
            yield n, np.random.default_rng([n, seed, 9]), seed, lot


def test_shares_of_a_total_of_heads(how_many):
    """Kinds of head: ratios of deviances over stories, studentised; programs: one less such a ratio, percentiles."""
    kinds, programs = {}, {}
    for n, rng, seed, lot in vectorised(how_many):
        total = rng.gamma(6, 0.3, (n, lot))
        left = {form: total * rng.beta(8 * m, 8 * (1 - m), (n, lot)) for form, m in FORMS.items()}
        found = Deviances(total=total, left=left, first=np.zeros((n, lot)))
        heads = [HeadId(0, i) for i in range(lot)]
        rows = judge_kinds(heads, found, range(1000 * seed, 1000 * seed + n), twins=0.0, seed=seed)
        shares = [row.shares["unique_distance"] for row in rows]
        kinds.setdefault(n, []).append(np.array([(one.low, one.high) for one in shares]).T)
        sums = BootstrapSums(2, lot, FEW)
        present = torch.ones(n, 2, dtype=torch.bool)
        both = torch.from_numpy(np.stack([left["both"], total], 1))
        weights = torch.from_numpy(weights_of(seed, tuple(range(n)), FEW))
        sums.add(both, present, weights, present[:, 0])
        mean = sums.means().mean
        told = [percentile_interval(1 - mean[:, 0, i] / mean[:, 1, i]) for i in range(lot)]
        programs.setdefault(n, []).append(np.array([(one.low, one.high) for one in told]).T)
    gather("share of a head's total", kinds, FORMS["tokens"] - FORMS["both"])
    gather("share that a program explains", programs, 1 - FORMS["both"])


FORMS = {"distance": 0.6, "tokens": 0.7, "parts": 0.5, "both": 0.3}


@pytest.mark.parametrize("rho", [0.1, 0.6, 0.95])
def test_correlations_of_neurons_of_two_models(rho, how_many):
    """30 tokens of a story, which share much; percentiles with Student's tails."""
    found = {}
    for n, rng, seed, lot in vectorised(how_many, 100):
        shared = rng.normal(size=(n, 1, lot)) * 0.5 + rng.normal(size=(n, 30, lot))
        x, y = (
            rho**0.5 * shared
            + (1 - rho) ** 0.5 * (rng.normal(size=(n, 1, lot)) * 0.5 + rng.normal(size=(n, 30, lot)))
            for _ in range(2)
        )
        x, y = (torch.from_numpy(one.reshape(-1, lot)) for one in (x, y))
        moments = story_moments(x, y, [30] * n).numpy()
        weights = weights_of(seed, tuple(range(n)), FEW)
        told = percentile_ends(bootstrap_correlations(moments, np.full(n, 30.0), weights), n)
        found.setdefault(n, []).append(np.stack(told))
    gather(f"correlation of neurons {rho}", found, rho)


def test_rank_correlations_of_weights_over_heads(how_many):
    """Fisher's z (Bonett and Wright) over so many heads; normal numbers of correlation 0.6."""
    truth = 6 / np.pi * np.arcsin(0.3)
    for n in SIZES[: how_many(1, 3)]:
        rng, lot = np.random.default_rng(n), how_many(200, 4000)
        x = rng.normal(size=(lot, n))
        y = 0.6 * x + 0.8 * rng.normal(size=(lot, n))
        r = (ranks._scaled_ranks(x) * ranks._scaled_ranks(y)).sum(1)
        wrong = hold("rank correlation over heads", n, np.stack(ranks.fisher_interval(r, n)), truth)
        assert not wrong, wrong


# Models and training ----------------------------------------------------------------------------------------


def test_the_interaction_of_the_conjecture(how_many):
    """Percentiles of a difference of ratios of sums."""

    def draw(rng, n, seed):
        measures = []
        for name, capability in (("agreement", "grammar"), ("names", "consistency")):
            there = rng.gamma(4, 1, n)
            taken = np.stack([0.5 * there, 0.2 * there]) + rng.gamma(2, 0.5, (2, n)) - 1
            measures.append(figures.Measure(name, capability, range(n), taken, there))
        return figures.contrast_of(measures, seed=seed).interaction

    count("interaction", draw, 0.0, how_many)


@pytest.mark.parametrize("se", [0.02, 0.06])
def test_the_half_rise_of_a_capability(se, how_many):
    """Fifteen checkpoints, readings with known errors; there are no clusters here."""
    tokens = [0, *(1000 * 2.0**k for k in range(14))]
    x = np.log2(np.array(tokens) + SHIFT)
    series = 1 / (1 + np.exp(-3.0 * (x - np.log2(100_000 + SHIFT))))
    n_draws, ends = how_many(100, 4000), []
    for i in range(n_draws):
        told = series + np.random.default_rng([i, 10]).normal(0, se, len(x))
        found = find_change("a", "s", tokens, told, [se] * len(x), seed=i)
        ends.append((found.low, found.high))
    wrong = hold(f"half-rise, error {se}", len(x), np.array(ends, dtype=float).T, 100_000)
    assert not wrong, wrong
