"""Which roles the units of several models hold, which replicate, and whether matched units hold the same ones.

A unit *holds* a role if a row of it is ``role`` or ``candidate``. A role replicates if every model has a holder. That
says nothing of identity: matched units *share* roles only where they do so more often than units dealt out at random.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from tslens.probes.matching.report import Component, PairMatch
from tslens.types import HeadScore, NeuronRole

N_DEALS = 5000
_HOLDS = ("role", "candidate")


@dataclass(frozen=True)
class RoleHolders:
    """Who holds a role in one model.

    ``n_units``: heads or neurons that the model has. ``holders``: those that hold it, strongest first;
    ``confirmed``: of these, those whose status is ``role``. ``best``: largest excess of all its units, held or not.
    """

    model: str
    component: Component
    role: str
    n_units: int
    holders: tuple[str, ...]
    confirmed: tuple[str, ...]
    best: float

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return {**asdict(self), "holders": list(self.holders), "confirmed": list(self.confirmed)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RoleHolders:
        """Inverse of :meth:`to_json`."""
        return cls(**{**row, "holders": tuple(row["holders"]), "confirmed": tuple(row["confirmed"])})


def head_roles(model: str, scores: Sequence[HeadScore]) -> list[RoleHolders]:
    """Holders of each probe at each position ("subject before"), from the rows of ``score_heads``."""
    n_units = len({score.head for score in scores})
    rows: dict[str, list[tuple[float, str, str]]] = {}
    for score in scores:
        name = score.probe + (" before" if score.position == "before" else "")
        rows.setdefault(name, []).append((score.excess, str(score.head), score.status))
    return [_holders(model, "head", name, n_units, mine) for name, mine in rows.items()]


def neuron_roles(model: str, roles: Sequence[NeuronRole]) -> list[RoleHolders]:
    """Holders of each label, from the rows of ``classify_neurons``; a neuron holds one at most."""
    rows: dict[str, list[tuple[float, str, str]]] = {}
    for role in roles:
        if role.role is not None:
            rows.setdefault(role.role, []).append((role.excess, str(role.neuron), role.status))
    return [_holders(model, "neuron", name, len(roles), mine) for name, mine in sorted(rows.items())]


def _holders(
    model: str, component: Component, role: str, n_units: int, rows: Iterable[tuple[float, str, str]]
) -> RoleHolders:
    ordered = sorted(rows, key=lambda row: (-row[0], row[1]))
    return RoleHolders(
        model,
        component,
        role,
        n_units,
        holders=tuple(unit for _, unit, status in ordered if status in _HOLDS),
        confirmed=tuple(unit for _, unit, status in ordered if status == "role"),
        best=ordered[0][0],
    )


def replicated(roles: Sequence[RoleHolders], models: Sequence[str], component: Component) -> list[str]:
    """The roles that every one of these models has a holder of."""
    held = [
        {one.role for one in roles if (one.model, one.component) == (model, component) and one.holders}
        for model in models
    ]
    return sorted(set.intersection(*held))


# Matched units ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoleAgreement:
    """How often matched units hold the same role, against deals at random (``docs/methods.md``).

    ``role``: one, or None for all together. ``n_a``, ``n_b``: roles held by matched units of either model, each unit
    counted once for each role; ``n_both``: those that both units of a pair hold. ``shared``: 2 n_both / (n_a + n_b);
    ``chance``: its mean where the units of b are dealt out anew, ``chance_in_layer`` where only those of a layer are;
    ``p``, ``p_in_layer``: share of the deals that reach it. All five are None where nobody holds a role.
    """

    model_a: str
    model_b: str
    component: Component
    role: str | None
    n_a: int
    n_b: int
    n_both: int
    shared: float | None
    chance: float | None
    p: float | None
    chance_in_layer: float | None
    p_in_layer: float | None

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> RoleAgreement:
        """Inverse of :meth:`to_json`."""
        return cls(**row)


def role_agreements(
    pair: PairMatch, roles: Sequence[RoleHolders], *, seed: int, n_deals: int = N_DEALS
) -> list[RoleAgreement]:
    """Of all roles together, then of each that a matched unit of both models holds. ``seed``: of the deals."""
    held = {
        side: {
            one.role: set(one.holders)
            for one in roles
            if (one.model, one.component) == (model, pair.component)
        }
        for side, model in (("a", pair.model_a), ("b", pair.model_b))
    }
    names = sorted(held["a"].keys() | held["b"].keys())
    table_a, table_b = (
        np.array(
            [
                [str(getattr(match, side)) in held[side].get(name, ()) for name in names]
                for match in pair.matches
            ],
            dtype=bool,
        ).reshape(len(pair.matches), len(names))
        for side in "ab"
    )
    layer = np.array([match.b.layer for match in pair.matches])
    deals = _deals(layer, n_deals, seed)
    whole = _agreement(pair, None, table_a, table_b, deals)
    return [
        whole,
        *(
            _agreement(pair, name, table_a[:, [i]], table_b[:, [i]], deals)
            for i, name in enumerate(names)
            if table_a[:, i].any() and table_b[:, i].any()
        ),
    ]


def _deals(layer: Int[np.ndarray, " pair"], n_deals: int, seed: int) -> dict[str, np.ndarray]:
    """Orders [deal, pair] of the second units: of all, and within their layers."""
    rng = np.random.default_rng(seed)
    anywhere = rng.permuted(np.tile(np.arange(len(layer)), (n_deals, 1)), axis=1)
    in_layer = np.empty_like(anywhere)
    for one in np.unique(layer):
        places = np.flatnonzero(layer == one)
        in_layer[:, places] = rng.permuted(np.tile(places, (n_deals, 1)), axis=1)
    return {"anywhere": anywhere, "in_layer": in_layer}


def _agreement(
    pair: PairMatch,
    role: str | None,
    table_a: Bool[np.ndarray, "pair role"],
    table_b: Bool[np.ndarray, "pair role"],
    deals: Mapping[str, np.ndarray],
) -> RoleAgreement:
    n_a, n_b = int(table_a.sum()), int(table_b.sum())
    both = table_a.astype(np.int64) @ table_b.T.astype(np.int64)  # roles in common of any two units
    n_both, n_held = int(np.trace(both)), n_a + n_b
    found: dict[str, tuple[float | None, float | None]] = {}
    for name, order in deals.items():
        dealt = both[np.arange(len(both)), order].sum(1)
        reached = (1 + int((dealt >= n_both).sum())) / (1 + len(dealt))
        found[name] = (float(2 * dealt.mean() / n_held), reached) if n_held else (None, None)
    return RoleAgreement(
        pair.model_a,
        pair.model_b,
        pair.component,
        role,
        n_a,
        n_b,
        n_both,
        2 * n_both / n_held if n_held else None,
        *found["anywhere"],
        *found["in_layer"],
    )
