"""p under the null: uniform where it is continuous, never too small too often where it comes in steps or is cautious.

Rule of ties, everywhere: what is as far as what was found counts as beyond it, and what was found counts as one of its
own replicates, so that p = (1 + number at least as far) / (1 + number drawn), never 0.

4,000 nulls each in the full suite, fewer where one costs much (the numbers are printed), 150 or fewer in the sample.
The p of a row of heads is the largest over its nulls and corrected for all contrasts, those too that cannot err: it is
cautious, not uniform.
"""

from functools import cache, partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from tslens.corpus.diversity.comparison import compare_stories
from tslens.link import drops, effect_sizes
from tslens.link.conjecture.figures import Permutation, joint_p
from tslens.link.drops import ItemTable, drops_of
from tslens.link.effect_sizes import EffectSizes
from tslens.probes.kinds import two_kinds
from tslens.probes.neurons import cause
from tslens.probes.neurons.choice import TwinNull
from tslens.probes.plan import Measure
from tslens.probes.previous_token import PROBE
from tslens.probes.scan import Stream
from tslens.probes.verdict import judge
from tslens.probes.weights import agreement
from tslens.stats import BootstrapSums, poisson_weights, second_half

SIZES, DRAWS = (30, 60, 200), {30: 2000, 60: 1000, 200: 1000}
LEVELS = (0.01, 0.05, 0.1, 0.25, 0.5)


@cache
def weights_of(seed, keys):
    return poisson_weights(seed, keys)


@pytest.fixture(autouse=True)
def kept_weights(monkeypatch):
    """Twenty sets of weights, made once."""
    for module in (drops, effect_sizes):
        monkeypatch.setattr(module, "poisson_weights", lambda seed, keys: weights_of(seed, tuple(keys)))


def super_uniform(name, p, *, most=None):
    """No level is reached more often than it says, but for the chance of so many draws. ``most``: of 0.05, if known.

    Nor is it so cautious that nothing would ever be found: with ``most``, two in a hundred are at or below 0.05.
    """
    p = np.asarray(p)
    assert most is None or len(p) < 500 or (p <= 0.05).mean() > 0.02, (name, "too cautious")
    for level in LEVELS if most is None else (0.05,):
        share, bound = (p <= level).mean(), level if most is None else most
        assert share <= bound + 3.3 * (bound * (1 - bound) / len(p)) ** 0.5, (name, level, share)
    shares = ", ".join(f"{(p <= level).mean():.3f}" for level in LEVELS)
    print(f"{name} | {len(p)} | p at or below {LEVELS}: {shares}")


def uniform(name, p):
    """By Kolmogorov and Smirnov; steps of a thousandth are too small to be seen."""
    super_uniform(name, p)
    found = kstest(np.asarray(p) - np.random.default_rng(0).random(len(p)) / 1001, "uniform")
    print(f"{name} | Kolmogorov-Smirnov p {found.pvalue:.3f}")
    assert found.pvalue > 0.001, (name, found)


# The largest deviation --------------------------------------------------------------------------------------


def sums_of(x, seed):
    """``x``: [story, column, head]."""
    n, n_columns, n_heads = x.shape
    sums = BootstrapSums(n_columns, n_heads)
    half = torch.arange(n) % 2 == 1
    weights = torch.from_numpy(weights_of(seed, tuple(range(n))))
    sums.add(torch.from_numpy(x), torch.ones(n, n_columns, dtype=torch.bool), weights, half)
    return sums


def heads_p(rng, n, seed, n_heads=16, shared=0.7):
    """Least p of the heads of one model, none of which looks back more than evenly; the twins are far below.

    ``shared``: deviation of what a story has for all heads alike.
    """
    noise = rng.normal(size=(n, 2, n_heads)) + shared * rng.normal(size=(n, 1, 1))
    noise[:, 0] += 5.0
    twins = sums_of(rng.normal(-50, 1, (20, 1, 2)), 0)
    value = Measure("previous_token", "word", "value")
    null = Measure("previous_token", "word", "null", "uniform")
    cfg = type("cfg", (), {"n_layers": 1, "n_heads": n_heads})
    stream = Stream((value, null), sums_of(noise, seed), twins)
    report = judge(type("Model", (), {"cfg": cfg})(), [PROBE], [stream], n, 0, seed, {})
    return min(score.p for score in report.scores)


@pytest.mark.parametrize(("n_heads", "n"), [(1, 200), (16, 200), (16, 60), (16, 30)])
def test_p_of_heads(n_heads, n, how_many):
    """The least p of a model, that is whether any of its heads errs; heads of a story are somewhat alike."""
    n_draws = how_many(40, DRAWS[n])
    if n < 200 and n_draws < 1000:
        pytest.skip("in the full suite")
    rng = np.random.default_rng([n, 1])
    family = [heads_p(rng, n, i % 20, n_heads) for i in range(n_draws)]
    super_uniform(f"heads, least of {n_heads}, {n} stories", family, most=0.055)


@pytest.mark.parametrize("n", SIZES)
def test_p_of_many_unlike_heads(n, how_many):
    """The hardest case: 128 heads that have nothing in common, normal noise."""
    if how_many(1, 0):
        pytest.skip("in the full suite")
    rng = np.random.default_rng([n, 12])
    family = [heads_p(rng, n, i % 20, 128, shared=0.0) for i in range(500)]
    super_uniform(f"heads, least of 128 unlike ones, {n} stories", family, most=0.055)


def drops_p(rng, n, seed):
    values = rng.normal(size=(n, 16)) + 0.7 * rng.normal(size=(n, 1))
    (found,) = drops_of([ItemTable(list(range(n)), values)], seed=seed)
    return min(one.p for one in found)


@pytest.mark.parametrize("n", SIZES)
def test_p_of_drops_of_the_map(n, how_many):
    """Sixteen components, two-sided; Student's quantile, so that 30 stories are enough."""
    n_draws = how_many(40, DRAWS[n])
    if n > 30 and n_draws < 1000:
        pytest.skip("in the full suite")
    rng = np.random.default_rng([n, 3])
    family = [drops_p(rng, n, i % 20) for i in range(n_draws)]
    super_uniform(f"drops, least of 16, {n} stories", family, most=0.055)


def effects_p(rng, n, seed):
    values = rng.normal(size=(n, 1, 16)) + 0.7 * rng.normal(size=(n, 1, 1))
    sizes = EffectSizes.of(values, np.ones((n, 1), dtype=bool), list(range(n)), seed=seed)
    return min(sizes.effect(0, row).p for row in range(16))


@pytest.mark.parametrize("n", SIZES)
def test_p_of_ablations(n, how_many):
    n_draws = how_many(0, DRAWS[n])
    if not n_draws:
        pytest.skip("in the full suite")
    rng = np.random.default_rng([n, 4])
    family = [effects_p(rng, n, i % 20) for i in range(n_draws)]
    super_uniform(f"ablation, least of 16, {n} stories", family, most=0.055)


# Neurons ----------------------------------------------------------------------------------------------------


def test_p_of_a_neuron_against_random_ones(how_many):
    """A neuron that is one of the random ones: the rank among so many is uniform in steps."""
    rng, p = np.random.default_rng(5), []
    for _ in range(how_many(150, 4000)):
        areas = 0.5 + 0.05 * rng.normal(size=(61, 1)).round(2)  # with ties
        d = 2**0.5 * torch.special.ndtri(torch.from_numpy(areas[:, 0])).numpy()
        null = TwinNull(areas[1:], np.zeros(1), np.ones(1), np.sort(d[1:]))
        p.append(null.p(0, float(areas[0, 0])))
    super_uniform("neuron among random ones", p)
    assert min(p) >= 1 / 61


@pytest.mark.parametrize("n", SIZES)
def test_p_of_the_cause_of_a_neuron(n, how_many):
    """One-sided Student's t over stories: uniform for one neuron."""
    rng = np.random.default_rng([n, 6])
    p = [cause._judged({0: rng.normal(size=(n, 7))})[0].p for _ in range(how_many(150, 4000))]
    uniform(f"cause of a neuron, {n} stories", p)


# Permutations -----------------------------------------------------------------------------------------------


def test_p_of_rank_correlations_of_weights(how_many, monkeypatch):
    """Heads are permuted: of the mean over relations, and of the largest of three relations."""
    monkeypatch.setattr(agreement, "N_PERMUTATIONS", 199)
    rng, means, least = np.random.default_rng(7), [], []
    for i in range(how_many(30, 2000)):
        scores, measures = ({"x": rng.normal(size=(3, 8)).round(1)} for _ in range(2))
        layers = np.zeros(8, dtype=int)
        relations = [("a", "word"), ("b", "word"), ("c", "word")]
        found = agreement.rank_agreements(agreement.Quantities(relations, layers, scores, measures), seed=i)
        means += [one.p for one in found if one.probe is None]
        least.append(min(one.p for one in found if one.probe is not None))
    super_uniform("rank correlation, mean over relations", means)
    super_uniform("rank correlation, least of three", least)


def test_p_of_the_conjecture(how_many):
    """The labelling found is one of those drawn; the sum over three models likewise."""
    rng, one, joint = np.random.default_rng(8), [], []
    for i in range(how_many(150, 4000)):
        values = rng.normal(size=(3, 40)).round(1)  # with ties
        models = [Permutation(float(row[0]), tuple(row[1:].tolist()), 0.1, 99, 0) for row in values]
        one.append(models[0].p)
        joint.append(joint_p(models, seed=i, n_sums=999))
    super_uniform("conjecture, one model", one)
    super_uniform("conjecture, three models", joint)
    assert abs(np.mean(joint) - 0.5) < 3.3 * (1 / 12 / len(joint)) ** 0.5 + 0.01


def test_p_of_swapped_labels_of_stories(how_many):
    """Two corpora of one author; two-sided, the observed deal counted."""
    rng = np.random.default_rng(9)
    words, found = [f"w{i}" for i in range(60)], {}
    for i in range(how_many(4, 300)):
        texts = [" ".join(rng.choice(words, rng.integers(8, 25)).tolist()) for _ in range(24)]
        for row in compare_stories(texts[:12], texts[12:], seed=i, n_permutations=39):
            found.setdefault(row.name, []).append(row.p)
    for name, p in found.items():
        super_uniform(f"swapped labels, {name}", p)


def test_p_of_two_kinds_of_heads(how_many):
    """Of one mode: even spreads are the worst case, where p is uniform; one cluster is never called two."""
    rng, sizes = np.random.default_rng(10), (16, 16, 32)
    of = lambda draw: two_kinds._statistic([draw(size=n) for n in sizes])  # noqa: E731
    null = np.array([of(rng.random) for _ in range(two_kinds.N_NULL)])
    n_draws = how_many(60, 2000)
    even = [two_kinds._p_value(of(rng.random), null) for _ in range(n_draws)]
    super_uniform("dips, even spreads", even, most=0.07)  # one null serves all: its own chance is in it
    normal = [two_kinds._p_value(of(partial(rng.normal, 0, 0.3)), null) for _ in range(n_draws)]
    assert np.mean(np.array(normal) <= 0.05) < 0.02


def test_halves_are_halves_and_know_nothing_of_weights():
    """What confirms on either half is fair only if the halves are even and independent of the bootstrap."""
    keys = np.random.default_rng(11).integers(2**63, size=4000).tolist()
    side = np.array([second_half(key) for key in keys])
    assert abs(side.mean() - 0.5) < 0.03
    weights = poisson_weights(0, keys[:500], 200)[1:].mean(0)
    assert abs(np.corrcoef(weights, side[:500])[0, 1]) < 0.15
