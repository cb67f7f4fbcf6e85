"""How often 95% intervals of means, ratios and shares hold the truth: 93 to 97 of 100, with 30 clusters or more.

Each case is data as the field has them, drawn again and again (``interval_counts``); what is counted is whether the
interval that tslens prints holds the truth. `TSLENS_FAULTS=full` draws 4,000 times with 30, 60 and 200 clusters, the
sample 200 times with 30. The sample is a part of the full set.

BEYOND has what no interval of so few clusters can be asked for, and FALLS how far short it falls. Where a tenth of 30
clusters say anything at all, one sample in 24 holds none of them, and one in five no more than one.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from interval_counts import LOT, SIZES, ends_of, gather, lots, weights_of
from scipy.stats import norm

from tslens.corpus.diversity import estimates
from tslens.grading import summary
from tslens.link.clustered import ClusteredMeans
from tslens.link.sizes.contrasts import Quantity, linear
from tslens.link.sizes.measured import Measured, SizeRow
from tslens.stats import BootstrapSums


def weights(lot, n):
    return weights_of(lot, tuple(range(1000 * lot, 1000 * lot + n)))


# Means over clusters ----------------------------------------------------------------------------------------


def mixture(rng, shape):
    """Drops of grades: two of three texts lose nothing."""
    return np.where(rng.random(shape) < 0.66, 0.0, rng.normal(0.8, 1.2, shape).round()), 0.34 * 0.8


MEANS = {
    "loss by story": lambda rng, shape: (1.5 + 0.35 * (rng.gamma(4, 1, shape) - 4) / 2, 1.5),
    "attention": lambda rng, shape: (rng.beta(0.5, 4, shape), 0.5 / 4.5),
    "exponential": lambda rng, shape: (rng.exponential(1, shape), 1.0),
    "t5": lambda rng, shape: (rng.standard_t(5, shape), 0.0),
    "grades lost": mixture,
}
BEYOND = {  # skew 6 and kurtosis 111; no third moment; a tenth of the clusters (three of 30) say all
    "lognormal": lambda rng, shape: (rng.lognormal(0, 1, shape), np.exp(0.5)),
    "t3": lambda rng, shape: (rng.standard_t(3, shape), 0.0),
    "one in ten": lambda rng, shape: (np.where(rng.random(shape) < 0.9, 0, rng.gamma(2, 1, shape)), 0.2),
}
FALLS = {
    "lognormal": {30: (0.90, 0.95), 60: (0.91, 0.95), 200: (0.92, 0.96)},
    "t3": {30: (0.91, 0.95), 60: (0.91, 0.95), 200: (0.92, 0.96)},
    "one in ten": {30: (0.80, 0.95), 60: (0.93, 0.97), 200: (0.93, 0.97)},
}


@pytest.mark.parametrize("name", [*MEANS, *BEYOND])
def test_the_studentised_interval_of_a_mean(name, how_many):
    """Of heads, neurons' effects, ablations, weights, programs, words of stories."""
    found = {}
    for n, lot in lots(how_many):
        x, truth = {**MEANS, **BEYOND}[name](np.random.default_rng([n, lot]), (n, 1, LOT))
        sums = BootstrapSums(1, LOT)
        present = torch.ones(n, 1, dtype=torch.bool)
        sums.add(torch.from_numpy(x), present, torch.from_numpy(weights(lot, n)), present[:, 0])
        low, high = sums.means().interval()
        found.setdefault(n, []).append((low[0], high[0]))
    gather(f"mean, {name}", found, truth, FALLS.get(name))


def test_the_interval_of_a_difference_of_two_sets(how_many, monkeypatch):
    """Diversity: words of a story in one corpus, and in another of other spread."""
    monkeypatch.setattr(estimates, "poisson_weights", lambda seed, keys: weights(seed, len(keys)))
    found = {}
    for n, lot in lots(how_many):
        rng = np.random.default_rng([n, lot, 2])
        one, other = rng.gamma(6, 30, (LOT, n)), rng.lognormal(5, 0.5, (LOT, n))
        truth = 180 - np.exp(5.125)
        told = [
            estimates.estimate_difference("words", pair, (range(n), range(n)), seed=lot)
            for pair in zip(one, other, strict=True)
        ]
        found.setdefault(n, []).append(ends_of(told))
    gather("difference of two sets, words", found, truth)


# Ratios of sums over clusters -------------------------------------------------------------------------------


def tokens(rng, shape):
    """Loss per token: long stories count more, and are a little harder."""
    count = np.maximum(rng.lognormal(5, 0.4, shape).round(), 5)
    level = 1.5 + 0.15 * (np.log(count) - 5) + 0.3 * (np.exp(0.5 * rng.normal(size=shape) - 0.125) - 1)
    return level * count, count


def items(rng, shape):
    """Differences in nats: one to a dozen items of a story, alike within it."""
    count = np.minimum(rng.geometric(0.35, shape), 12).astype(float)
    return rng.normal(0.5, 0.6, shape) * count + np.sqrt(count) * rng.normal(0, 0.8, shape), count


def zeros(rng, shape):
    """What is lost of a readout: nothing of four stories in five."""
    count = np.minimum(rng.geometric(0.35, shape), 12).astype(float)
    return count * np.where(rng.random(shape) < 0.8, 0, rng.gamma(2, 0.5, shape)), count


def tails(rng, shape):
    """Differences with heavy tails (t with 5 degrees of freedom)."""
    count = 1.0 + rng.binomial(4, 0.3, shape)
    return (0.3 + 0.5 * rng.standard_t(5, shape)) * count, count


RATIOS = {"loss per token": tokens, "items of stories": items, "mostly zero": zeros, "heavy tails": tails}
STUDENT_FALLS = {
    "mostly zero": {30: (0.78, 0.86), 60: (0.84, 0.90), 200: (0.90, 0.95)},
    "loss per token": {30: (0.91, 0.95), 60: (0.92, 0.96)},
}


@cache
def truth_of(name):
    rng, total, number = np.random.default_rng(99), 0.0, 0.0
    for _ in range(20):
        values, count = RATIOS[name](rng, 100_000)
        total, number = total + values.sum(), number + count.sum()
    return total / number


@pytest.mark.parametrize("name", RATIOS)
def test_the_studentised_interval_of_a_ratio(name, how_many):
    """Of readouts, drops of the map, losses of two models, roles of two models."""
    found = {}
    for n, lot in lots(how_many):
        values, counts = RATIOS[name](np.random.default_rng([n, lot, 3]), (n, LOT))
        means = ClusteredMeans.of(weights(lot, n), values, counts)
        found.setdefault(n, []).append(ends_of(means.interval(i) for i in range(LOT)))
    gather(f"ratio, {name}", found, truth_of(name))


@pytest.mark.parametrize("name", RATIOS)
def test_students_interval_of_a_ratio(name, how_many):
    """Of the table of sizes and the readings of emergence; not for what is zero in most clusters."""
    found = {}
    for n, lot in lots(how_many):
        values, counts = RATIOS[name](np.random.default_rng([n, lot, 3]), (n, LOT))
        told = ends_of([Measured((*range(n),), values[:, i], counts[:, i]).interval() for i in range(LOT)])
        found.setdefault(n, []).append(told)
    gather(f"ratio by Student's t, {name}", found, truth_of(name), STUDENT_FALLS.get(name))


def real():
    """What clusters said of our shipped models, by measure: sums and numbers of values (a committed report)."""
    path = Path(__file__).parents[2] / "reports" / "sizes" / "sizes.jsonl"
    row = json.loads(path.read_text(encoding="utf-8").splitlines()[1])
    wanted = ("loss", "tense nats", "word_order nats", "swapped_names nats", "agreement nats")
    return {name: [np.array(row["measured"][name][part]) for part in ("sums", "counts")] for name in wanted}


@pytest.mark.parametrize(
    "name", ["loss", "tense nats", "word_order nats", "swapped_names nats", "agreement nats"]
)
def test_intervals_of_what_real_stories_say(name, how_many):
    """Clusters drawn from those of a shipped model; their ratio is the truth."""
    sums, counts = real()[name]
    truth, found, by_t = sums.sum() / counts.sum(), {}, {}
    for n, lot in lots(how_many):
        drawn = np.random.default_rng([n, lot, 4]).integers(len(sums), size=(n, LOT))
        means = ClusteredMeans.of(weights(lot, n), sums[drawn], counts[drawn])
        found.setdefault(n, []).append(ends_of(means.interval(i) for i in range(LOT)))
        student = [Measured((*range(n),), sums[at], counts[at]).interval() for at in drawn.T]
        by_t.setdefault(n, []).append(ends_of(student))
    gather(f"real {name}", found, truth)
    gather(f"real {name}, Student's t", by_t, truth)


# Means of grades, paired; contrasts of models ---------------------------------------------------------------


def test_the_interval_of_a_mean_grade_and_of_a_paired_difference(how_many):
    """Grades in half points, three texts of a prompt; the difference is zero for most texts."""
    grades, pairs = {}, {}
    clean = lambda x: np.clip((2 * x).round() / 2, 0, 10)  # noqa: E731
    rng = np.random.default_rng(98)
    level = rng.normal(6.5, 1.2, (1_000_000, 1))
    truth = clean(level + rng.normal(0, 0.8, (1_000_000, 3))).mean()
    for n, lot in lots(how_many):
        rng = np.random.default_rng([n, lot, 5])
        told = clean(rng.normal(6.5, 1.2, (LOT, n, 1)) + rng.normal(0, 0.8, (LOT, n, 3))).mean(2)
        grades.setdefault(n, []).append(ends_of(summary._mean(row, 3 * n) for row in told))
        lost = mixture(rng, (LOT, n, 3))[0].mean(2)
        pairs.setdefault(n, []).append(ends_of(summary._mean(row, 3 * n) for row in lost))
    gather("mean grade", grades, truth)
    gather("paired difference of grades", pairs, 0.34 * 0.8)


def test_the_interval_of_a_contrast_of_models(how_many):
    """Two models on the same prompts, ratios with unequal counts; no seeds."""
    found = {}
    for n, lot in lots(how_many):
        rng = np.random.default_rng([n, lot, 6])
        told = []
        for _ in range(LOT // 4):
            values, counts = items(rng, n)
            better = values + counts * rng.gamma(2, 0.1, n)
            rows = [
                _row(i, Measured((*map(str, range(n)),), x, counts)) for i, x in enumerate((values, better))
            ]
            told.append(linear([Quantity((row,), "x") for row in reversed(rows)], [1, -1]))
        found.setdefault(n, []).append(ends_of(told))
    gather("contrast of two models", found, 0.2, {30: (0.90, 0.95)})


def _row(number, measured):
    return SizeRow(
        f"m{number}", f"m{number}", "ours", None, None, None, False, None, None, None, {"x": measured}
    )


# Shares -----------------------------------------------------------------------------------------------------


def answers(p, icc, n_answers):
    """Right answers of a prompt and how many it has; ``n_answers``: 0 for a number that differs by prompt."""
    a, b = p * (1 - icc) / icc, (1 - p) * (1 - icc) / icc

    def draw(rng, n):
        count = np.minimum(rng.geometric(0.35, n), 12) if n_answers == 0 else np.full(n, n_answers)
        level = p if n_answers == 1 else rng.beta(a, b, n)
        return rng.binomial(count, level).astype(float), count.astype(float)

    return draw


@pytest.mark.parametrize("n_answers", [1, 4, 0], ids=["single", "four", "unequal"])
@pytest.mark.parametrize("p", [0.02, 0.5, 0.9, 0.95, 0.98])
def test_the_interval_of_a_share(p, n_answers, how_many):
    """Compliance, accuracies of readouts, answers to short prompts. It never falls short of 93; where few or no
    failures are in most samples (n p (1 - p) below 10 or so), it is wide, as every interval that is exact there is."""
    draw, found = answers(p, 0.3, n_answers), {}
    for n, lot in lots(how_many):
        rng = np.random.default_rng([n, lot, 7])
        told = [Measured((*range(n),), *draw(rng, n)).share_interval() for _ in range(LOT)]
        found.setdefault(n, []).append(ends_of(told))
    few = (
        60 if n_answers == 1 else 30
    )  # clusters up to which even a half of right answers comes in coarse steps
    wide = {n: (0.93, 0.97 if n * p * (1 - p) > 10 and n > few else 1.0) for n in SIZES}
    gather(f"share {p}, {n_answers or 'unequal'} a prompt", found, p, wide)


def test_a_share_interval_is_no_wider_than_it_must_be():
    """All of 30 right: the lower end is where 30 successes have one chance in forty; and the mean is inside."""
    ends = Measured((*range(30),), np.ones(30), np.ones(30)).share_interval()
    assert ends.high == 1.0 and ends.low**30 == pytest.approx(0.025)
    assert norm.cdf(1.959964) == pytest.approx(0.975)
