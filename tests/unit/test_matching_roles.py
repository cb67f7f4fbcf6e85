"""Roles that matched units share are told from roles that units dealt out at random share."""

import numpy as np
import pytest

from tslens.probes.matching.report import PairMatch, UnitMatch
from tslens.probes.matching.roles import (
    RoleAgreement,
    RoleHolders,
    head_roles,
    neuron_roles,
    replicated,
    role_agreements,
)
from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole


def pair_of(partners):
    """Heads of the first model, in layers of four, matched with these of the second."""
    matches = tuple(
        UnitMatch(
            HeadId(i // 4, i % 4), partner, 0.9, 0.8, 1.0, {}, 0.1, 0.1, 0.5, 0.4, 0.4, None, True, "same"
        )
        for i, partner in enumerate(partners)
    )
    return PairMatch("one", "other", "head", len(partners), len(partners), 0.05, 3.0, {}, {}, matches)


def holders(model, role, *units):
    return RoleHolders(model, "head", role, 8, tuple(units), (), 0.2)


IN_ORDER = [HeadId(i // 4, i % 4) for i in range(8)]


def test_equal_holders_are_more_than_chance():
    roles = [
        holders(model, role, *units)
        for model in ("one", "other")
        for role, units in (("subject", ("L0H0", "L1H1")), ("name", ("L0H2", "L1H3")))
    ]
    whole, *each = role_agreements(pair_of(IN_ORDER), roles, seed=0)
    assert whole.role is None and [one.role for one in each] == ["name", "subject"]
    assert (whole.n_a, whole.n_b, whole.n_both, whole.shared) == (4, 4, 4, 1.0)
    assert whole.chance == pytest.approx(2 * (2 * 2 / 8 + 2 * 2 / 8) / 8, abs=0.01)
    assert whole.p < 0.02 and each[0].shared == 1.0 and each[0].n_both == 2


def test_a_role_of_a_layer_is_no_identity():
    units = [f"L0H{i}" for i in range(4)]
    roles = [holders(model, "previous_token", *units) for model in ("one", "other")]
    turned = [HeadId(i // 4, (i + 1) % 4) for i in range(8)]
    whole = role_agreements(pair_of(turned), roles, seed=0)[0]
    assert whole.shared == 1.0 and whole.p < 0.05
    assert whole.chance_in_layer == 1.0 and whole.p_in_layer == 1.0


def test_deals_are_the_null():
    """Holders drawn at random reach p = 0.05 in about one of twenty draws."""
    rng, small = np.random.default_rng(0), []
    names = [str(head) for head in IN_ORDER]
    for draw in range(200):
        roles = [
            holders(model, role, *rng.choice(names, 3, replace=False))
            for model in ("one", "other")
            for role in ("subject", "name", "topic")
        ]
        small.append(role_agreements(pair_of(IN_ORDER), roles, seed=draw, n_deals=200)[0].p <= 0.05)
    assert np.mean(small) < 0.1


def test_no_holder_is_no_number():
    (whole,) = role_agreements(
        pair_of(IN_ORDER), [holders("one", "subject"), holders("other", "subject")], seed=0
    )
    assert (whole.n_a, whole.shared, whole.chance, whole.p, whole.p_in_layer) == (0, None, None, None, None)
    assert RoleAgreement.from_json(whole.to_json()) == whole


def score(head, probe, position, excess, status):
    return HeadScore(
        HeadId(0, head), probe, position, 0.5, 0.4, 0.6, None, {}, excess, 0.1, 0.0, status, None, None, None,
        (None, None), 40,
    )  # fmt: skip


def test_holders_of_heads_and_neurons():
    scores = [
        score(0, "subject", "word", 0.1, "candidate"),
        score(1, "subject", "word", 0.3, "role"),
        score(2, "subject", "word", 0.4, "unclear"),
        score(0, "subject", "before", -0.1, "no"),
    ]
    word, before = head_roles("one", scores)
    assert (word.role, word.holders, word.confirmed) == ("subject", ("L0H1", "L0H0"), ("L0H1",))
    assert (word.n_units, word.best) == (3, 0.4) and (before.role, before.holders) == ("subject before", ())
    assert RoleHolders.from_json(word.to_json()) == word
    blank = NeuronRole.none(NeuronId(0, 0))
    fields = {"auroc": 0.9, "excess": 0.3, "status": "candidate"}
    found = neuron_roles(
        "one", [blank, NeuronRole(**{**vars(blank), "neuron": NeuronId(0, 1), "role": "noun", **fields})]
    )
    assert [(one.role, one.holders, one.n_units) for one in found] == [("noun", ("L0N1",), 2)]


def test_a_role_replicates_where_every_model_has_a_holder():
    roles = [
        holders("one", "subject", "L0H0"),
        holders("other", "subject", "L0H3"),
        holders("one", "name", "L0H1"),
    ]
    assert replicated(roles, ["one", "other"], "head") == ["subject"]
    assert replicated(roles, ["one"], "head") == ["name", "subject"]
    assert replicated(roles, ["one", "other"], "neuron") == []
