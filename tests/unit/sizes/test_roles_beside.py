"""Roles and grades beyond loss: a planted relation is found, one that loss explains is not."""

import numpy as np

from tslens.link.sizes.measured import Measured, SizeRow
from tslens.link.sizes.roles_beside import roles_beside_loss
from tslens.probes.matching.roles import RoleHolders


def table(rng, n=20):
    bits, strength = rng.normal(size=n), rng.normal(size=n)
    grades = {
        "grammar": -bits + 0.8 * strength + 0.1 * rng.normal(size=n),
        "plot": -bits + 0.1 * rng.normal(size=n),
    }
    by_loss = -bits + 0.3 * rng.normal(size=n)
    rows = []
    for i in range(n):
        measured = {"bits": bits[i], **{name: of[i] for name, of in grades.items()}}
        label = f"m{i}"
        roles = tuple(
            RoleHolders(label, "head", role, 4, (), (), float(best))
            for role, best in (("subject", strength[i]), ("by loss", by_loss[i]), ("still", 1.0))
        )
        rows.append(
            SizeRow(
                label, label, "ours", 1, 64, 4, False, 1, None, None,
                {name: Measured.of_means({"a": float(v), "b": float(v)}) for name, v in measured.items()},
                roles,
            )
        )  # fmt: skip
    return rows


def test_only_what_goes_beyond_loss_is_found():
    found = {
        (one.role, one.measure): one for one in roles_beside_loss(table(np.random.default_rng(0)), seed=0)
    }
    assert found["subject", "grammar"].q < 0.01
    assert found["subject", "grammar"].correlation > 0.7
    assert found["by loss", "plot"].plain > 0.8  # with loss left in
    assert found["by loss", "plot"].q > 0.05
    assert ("still", "plot") not in found  # nothing varies
    assert {one.n_shapes for one in found.values()} == {20}


def test_p_is_uniform_where_nothing_is():
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        rows = table(rng, n=12)
        found += [one.p for one in roles_beside_loss(rows, seed=0, n_draws=200) if one.measure == "plot"]
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) < 0.05) < 0.12


def test_too_few_models_say_nothing():
    assert roles_beside_loss(table(np.random.default_rng(2), n=5), seed=0) == []
