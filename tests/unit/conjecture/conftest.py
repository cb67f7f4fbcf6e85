"""What the tests of the conjecture share: two groups of heads, measures of which effects are planted, permutations."""

import numpy as np
import pytest

from tslens.link.conjecture.figures import Measure, Permutation
from tslens.link.conjecture.labels import Labelling
from tslens.types import HeadId

HEADS = [HeadId(0, index) for index in range(8)]
TWO = Labelling(tuple(HEADS[:3]), tuple(HEADS[3:7]))


def planted_measures(planted, *, n=400, noise=0.0, seed=0):
    """Measures of which each group takes planted shares, by name, with its capability; stories shared among them."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(n // 2), 2).tolist()
    found = []
    for name, (capability, distance, semantic) in planted.items():
        there = rng.uniform(1, 3, n)
        taken = np.outer([distance, semantic], there) + noise * rng.normal(size=(2, n))
        found.append(Measure(name, capability, cluster, taken, there))
    return found


PLANTED = {
    "agreement": ("grammar", 0.9, 0.3),
    "tense": ("grammar", 0.5, 0.1),
    "swapped_names": ("consistency", 0.2, 0.6),
}
"""Grammar 0.7 and 0.2, consistency 0.2 and 0.6: distance 0.5, semantic -0.4."""


def a_permutation(found, others):
    return Permutation(found, tuple(others), 0.1, 1 + len(others), 0)


# Fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def two():
    """Three distance heads and four semantic ones, all of one layer."""
    return TWO


@pytest.fixture(scope="session")
def planted():
    """Measures by name: capability, share that the distance heads take, share that the semantic ones take."""
    return PLANTED


@pytest.fixture(scope="session")
def measures_of():
    """Makes measures of planted shares."""
    return planted_measures


@pytest.fixture(scope="session")
def permutation_of():
    """Makes a permutation of what was found and of what other labels give."""
    return a_permutation
