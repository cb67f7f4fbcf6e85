"""The basis of what a head produces is found or open, where the truth is known."""

import numpy as np
import pytest

from tslens.probes.production.corrected import Corrected
from tslens.probes.production.current_token import _basis, bases
from tslens.probes.production.places import Places
from tslens.probes.production.seen import Seen
from tslens.probes.production.verdict import FLOOR


def bases_of(of_token, of_place, n_stories=40):
    """The basis of a head that does what is given for its current token, and for what comes next beyond that."""
    rng = np.random.default_rng(3)
    n = 60
    current = rng.integers(0, 2, n_stories * n)
    holds = rng.random(n_stories * n) < np.where(current == 1, 0.8, 0.2)
    row = np.repeat(np.arange(n_stories), n)
    zero = np.zeros_like(row)
    places = Places(
        row=row, pos=np.tile(np.arange(1, n + 1), n_stories), kind=zero, token=zero, current=current, alike=zero,
        seen=zero.astype(bool),
    )  # fmt: skip
    noise = rng.normal(0, 0.05, len(row))
    does = (of_token * current + of_place * holds + noise)[:, None]
    seen = Seen(places, list(range(n_stories)), does, holds[:, None], zero[:, None], np.array([True]))
    return bases(seen, seed=0)[0]


@pytest.mark.parametrize(
    ("of_token", "of_place", "basis"),
    [(0.5, 0.0, "lexical"), (0.0, 0.5, "contextual"), (0.5, 0.5, "contextual"), (0.03, 0.156, None)],
)
def test_a_basis_is_a_finding(of_token, of_place, basis):
    found = bases_of(of_token, of_place)
    assert found.basis == basis
    assert found.basis != "lexical" or found.lexical > FLOOR


def test_a_small_rest_makes_a_basis_lexical_only_where_that_is_sure():
    assert _basis(-1.0, 0.05, 0.0) == "lexical"
    assert _basis(-1.0, 0.15, 0.05) is None
    assert _basis(-np.inf, np.inf, -np.inf) is None
    assert _basis(0.1, 0.2, 0.3) == "contextual"


def test_upper_ends_hold_for_all_tests_together():
    table = np.random.default_rng(5).normal(0, 1, (80, 40))
    found = Corrected.of(table, list(range(80)), seed=0)
    assert (found.high > 0).all() and (found.low < 0).all()
    one = Corrected.of(table[:, :1], list(range(80)), seed=0)
    assert found.high[0] > one.high[0] > one.mean[0]
    np.testing.assert_allclose(Corrected.of(-table, list(range(80)), seed=0).low, -found.high, rtol=1e-5)
    assert Corrected.of(table[:6], list(range(6)), seed=0).high[0] == np.inf
