"""What is ablated together: all that is named, and beside a role as many others of the same layers."""

from types import SimpleNamespace

import pytest

from tslens.causal.ablation import parse_component
from tslens.errors import UsageError
from tslens.link.groups import (
    every_head,
    every_layer,
    every_neuron,
    heads_of_roles,
    neurons_of_roles,
    random_share,
    role_groups,
)
from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole

MODEL = SimpleNamespace(cfg=SimpleNamespace(n_layers=3, n_heads=4, d_mlp=40))


def test_single_components_are_all_there_and_named_as_they_are_read():
    heads, layers = every_head(MODEL), every_layer(MODEL)
    neurons = every_neuron(MODEL, [2, 0])
    assert [len(groups) for groups in (heads, layers, neurons)] == [12, 9, 80]
    for group in (*heads, *layers, *neurons):
        assert group.draws == ((parse_component(group.name),),) and group.n_components == 1
        assert group.kind == "component" and not group.like
    assert [group.name for group in every_layer(MODEL, [1])] == ["L1.attn", "L1.mlp", "L1"]
    assert {group.name for group in every_head(MODEL, [2])} == {f"L2H{i}" for i in range(4)}


def test_a_share_is_of_every_layer_and_drawn_anew():
    share = random_share(MODEL, 0.25, seed=3, n_draws=4)
    assert len(share.draws) == 4 and len(set(share.draws)) == 4
    for draw in share.draws:
        assert [sum(one.layer == layer for one in draw) for layer in range(3)] == [10, 10, 10]
        assert len(set(draw)) == 30
    assert share == random_share(MODEL, 0.25, seed=3, n_draws=4) != random_share(MODEL, 0.25, seed=4)
    (whole,) = set(random_share(MODEL, 1.0, seed=0, layers=[1]).draws)
    assert set(whole) == {NeuronId(1, i) for i in range(40)}


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, 0.001, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(UsageError, match="share"):
        random_share(MODEL, fraction, seed=0)


@pytest.mark.parametrize("make", [every_head, every_layer, every_neuron])
def test_a_layer_that_is_not_there_is_refused(make):
    with pytest.raises(UsageError, match="no layer 3"):
        make(MODEL, [0, 3])


def test_beside_a_role_stand_as_many_others_of_its_layers():
    own = [NeuronId(0, 1), NeuronId(0, 2), NeuronId(2, 30)]
    (group,) = role_groups(MODEL, {"pos_verb": own}, seed=1)
    assert group.name == "role:pos_verb" and group.draws == (tuple(own),) and len(group.like) == 3
    for draw in group.like:
        assert not set(draw) & set(own)
        assert sorted(one.layer for one in draw) == [0, 0, 2] and len(set(draw)) == 3
    assert len(set(group.like)) > 1
    crowded = role_groups(MODEL, {"name": [HeadId(1, i) for i in range(3)]}, seed=1)
    assert crowded[0].like == ()


def test_roles_and_candidates_count_as_having_the_role():
    def score(head, probe, status):
        blank = dict.fromkeys(HeadScore.__dataclass_fields__)
        return HeadScore(**{**blank, "head": head, "probe": probe, "status": status})

    heads = heads_of_roles(
        [
            score(HeadId(1, 2), "name", "role"),
            score(HeadId(1, 2), "name", "candidate"),  # at the other position
            score(HeadId(0, 0), "name", "candidate"),
            score(HeadId(0, 1), "name", "unclear"),
            score(HeadId(0, 1), "topic", "no"),
        ]
    )
    assert heads == {"name": [HeadId(0, 0), HeadId(1, 2)]}

    def role(index, label, status):
        blank = dict.fromkeys(NeuronRole.__dataclass_fields__)
        return NeuronRole(**{**blank, "neuron": NeuronId(0, index), "role": label, "status": status})

    neurons = neurons_of_roles([role(1, "quote", "role"), role(2, None, "no"), role(3, "topic", "unclear")])
    assert neurons == {"quote": [NeuronId(0, 1)]}
