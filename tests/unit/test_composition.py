"""Which paths are chosen and what stands beside them; a planted composition is found, unconnected parts are not."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import tslens
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError, ModelError, ProbeInputError
from tslens.link.composition.asked import Path, Receiver, Sender
from tslens.link.composition.choice import LEAST_STORIES, Pools, chosen_paths, senders_of
from tslens.link.composition.effects import MeanEffect
from tslens.link.composition.measure import find_compositions
from tslens.link.composition.report import load_compositions, save_compositions
from tslens.link.composition.verdict import role_pairs_of
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.base import find_probes
from tslens.probes.neurons.token_labels import TOKEN_LABELS, token_flags
from tslens.probes.programs.roles import Role
from tslens.provenance import provenance
from tslens.types import HeadId, HeadScore, NeuronId, NeuronRole

ROLE = Role("name", "word")


def test_of_other_pairs_only_what_reaches_the_floor_is_chosen():
    def path(role, index, name):
        return Path(Sender((NeuronId(0, index),), role), Receiver(HeadId(1, 0), ROLE), name)

    effect = {
        path("introduction", i, "k"): MeanEffect(0.001 * i, LEAST_STORIES) for i in range(8)
    } | {
        path("pos_verb", 10, "k"): MeanEffect(0.019, LEAST_STORIES),
        path("pos_verb", 11, "k"): MeanEffect(0.021, LEAST_STORIES),
        path("pos_verb", 12, "k"): MeanEffect(0.5, LEAST_STORIES - 1),
        path("pos_verb", 13, "v"): MeanEffect(0.05, LEAST_STORIES),
    }  # fmt: skip
    chosen = chosen_paths(effect, 3)
    assert [str(one.sender.units[0]) for one in chosen] == ["L0N7", "L0N6", "L0N5", "L0N11"]


def neuron_roles(model, with_role):
    every = [
        NeuronRole.none(NeuronId(layer, index))
        for layer in range(model.cfg.n_layers)
        for index in range(model.cfg.d_mlp)
    ]
    return [
        replace(one, role=with_role[one.neuron], status="candidate") if one.neuron in with_role else one
        for one in every
    ]


def head_score(head, probe, status="role"):
    return HeadScore(
        head=head, probe=probe, position="word", value=0.3, low=0.2, high=0.4, mul=None, nulls={},
        excess=0.2, excess_low=0.1, p=0.001, status=status, basis=None, cause=None, value_all=0.3,
        excess_halves=(0.2, 0.2), n_stories=100,
    )  # fmt: skip


def test_controls_have_no_role_and_stand_once(random_model):
    model = random_model("l3_h64")
    with_role = {NeuronId(0, index): "introduction" for index in range(0, 30, 3)}
    with_role[NeuronId(1, 4)] = "introduction"
    neurons = neuron_roles(model, with_role)
    heads = [head_score(HeadId(1, 0), "name"), head_score(HeadId(2, 1), "subject")]
    senders = senders_of(neurons, heads, find_probes(), n_layers=3)
    pools = Pools(model, neurons, heads, 20, seed=0)
    assert Counter(sender.before for sender in senders) == {None: 13, 1: 1, 2: 1}
    for sender in senders:
        controls = pools.of(sender)
        if isinstance(sender.units[0], HeadId):  # of four heads three have no role: too few
            assert controls.kind == "directions" and len(controls.rotations) == 20
            continue
        layers = sorted(unit.layer for unit in sender.units)
        drawn = [unit for group in controls.groups for unit in group]
        assert len(controls.groups) == 20 and len(drawn) == len(set(drawn))
        assert all(sorted(unit.layer for unit in group) == layers for group in controls.groups)
        assert not set(drawn) & set(with_role)


@pytest.mark.parametrize(
    ("effect", "why"),
    [(0.001, "too few stories of the second half"), (-0.1, "no path has an effect above zero")],
)
def test_a_pair_without_a_tested_path_says_why(effect, why):
    sender, receiver = Sender((NeuronId(0, 1),), "introduction"), Receiver(HeadId(1, 0), ROLE)
    everything = {Path(sender, receiver, "k"): MeanEffect(effect, LEAST_STORIES)}
    pairs = role_pairs_of([sender], [receiver], everything, [])
    said = {(pair.sender_role, pair.receiver_role): pair.why_none for pair in pairs}
    assert why in said["introduction", "name"] and len(said) == 6
    assert said["introduction", "antecedent"] == "no head has the second role"


# Planted ----------------------------------------------------------------------------------------------------

NAME, FED, UNREAD, CONSTANT, WANTED = range(5)  # dimensions of the residual stream; the others are noise
PLANTED, COMPOSED = NeuronId(0, 3), HeadId(1, 0)


@pytest.fixture(scope="module")
def gold():
    """Seventy short stories."""
    return sorted(tslens.read_stories("author:300"), key=lambda story: len(story.text))[:70]


@pytest.fixture(scope="module")
def gold_tokenizer(gold):
    return StoryTokenizer.train(gold, vocab_size=1200)


def tokens_with(labels, stories, tokenizer):
    """Tokens that mostly have one of some labels."""
    n, n_with = np.zeros(tokenizer.vocab_size), np.zeros(tokenizer.vocab_size)
    columns = [list(TOKEN_LABELS).index(label) for label in labels]
    for story in stories:
        ids, offsets = tokenizer.encode_with_offsets(story.text)
        np.add.at(n, ids, 1)
        np.add.at(n_with, ids, token_flags(story, offsets)[:, columns].any(1))
    return torch.from_numpy(n_with > n / 2)


@pytest.fixture(scope="module")
def planted(gold, gold_tokenizer):
    """A function that makes the model; ``written``: the dimension that the neuron writes to.

    Neuron L0N3 fires at names. Head L1H0 looks from everywhere at what has ``FED``, and raises names and pronouns by
    how much of it is a name. All other neurons write noise.
    """
    names, wanted = (
        tokens_with(labels, gold, gold_tokenizer) for labels in (["pos_propn"], ["pos_propn", "pos_pron"])
    )

    def make(written):
        model = TinyTransformer(ModelSpec.from_name("l2_h64"), len(names), seed=1, tokenizer=gold_tokenizer)
        noise = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for block in model.blocks:
                for weight in (block.attn.W_Q, block.attn.W_K, block.attn.W_V, block.attn.W_O):
                    weight.zero_()
            model.pos_embed.W_pos.zero_()
            model.embed.W_E.copy_(0.3 * torch.randn(len(names), 64, generator=noise))
            model.embed.W_E[:, :5] = 0
            model.embed.W_E[names, NAME] = 3
            model.embed.W_E[wanted, WANTED] = 2
            mlp, head = model.blocks[0].mlp, model.blocks[1].attn
            mlp.W_out.copy_(0.02 * torch.randn(mlp.W_out.shape, generator=noise))
            mlp.W_in[:, PLANTED.index], mlp.W_out[PLANTED.index] = 0, 0
            mlp.W_in[NAME, PLANTED.index], mlp.b_in[PLANTED.index], mlp.W_out[PLANTED.index, written] = (
                1,
                -3,
                1,
            )
            model.blocks[1].ln1.w[CONSTANT], model.blocks[1].ln1.b[CONSTANT] = 0, 1
            head.W_K[0, FED, 0], head.W_Q[0, CONSTANT, 0] = 1, 1
            head.W_V[0, NAME, 0], head.W_O[0, 0, WANTED] = 1, 0.1
        return model.eval()

    return make


def composed(model, stories, role="protagonist", **more):
    neurons = neuron_roles(model, {PLANTED: role})
    heads = [
        head_score(COMPOSED, "name"),
        head_score(HeadId(0, 2), "name"),
        head_score(HeadId(1, 3), "name", "no"),
    ]
    return find_compositions(model, stories, neurons, heads, seed=0, n_controls=8, n_loss=12, **more)


def test_a_planted_composition_is_found(planted, gold, tmp_path):
    steps = Counter()
    report = composed(planted(FED), gold, progress=lambda what, n: steps.update([what]))
    best = report.best_first()[0]
    assert (best.senders, best.receiver, best.receiver_role, best.input) == (
        (PLANTED,),
        COMPOSED,
        "name",
        "k",
    )
    assert best.status == "found" and best.asked and report.counts["found"] == 1
    assert best.n_above == 0 and best.control_kind == "neurons" and best.n_controls == 8
    assert best.beyond_low > 0.02 and best.loss.low > 0 and best.loss_beyond.low > 0
    assert abs(best.controls) < best.effect.value / 2 and best.effect.value <= best.clean
    assert set(steps) == {"choosing", "testing", "losses"}
    assert report.n_chosen_on + report.n_tested_on == len(gold) == report.n_stories
    pair = next(pair for pair in report.pairs if pair.status == "found")
    assert (pair.sender_role, pair.receiver_role, pair.n_senders, pair.n_receivers) == (
        "protagonist",
        "name",
        1,
        2,
    )
    others = [one for one in report.pairs if one is not pair]
    assert all(one.why_none for one in others if one.asked and not one.n_tested)

    record = provenance(command="x", seed=0, data="author:90", data_sha256="0", started="now", seconds=1)
    path = tmp_path / "rows.jsonl"
    save_compositions(report, path, model="m", checkpoint="c", roles=["a"], record=record)
    header, loaded = load_compositions(path)
    assert loaded == report and header["roles"] == ["a"] and path.with_suffix(".provenance.json").exists()
    assert report.to_pandas().status[0] == "found" and "L0N3 (protagonist)" in report._repr_html_()
    path.write_text(path.read_text().replace('"chosen"', '"choosen"'))
    with pytest.raises(DataError, match="no compositions"):
        load_compositions(path)


def test_the_same_parts_unconnected_are_not_found(planted, gold):
    report = composed(planted(UNREAD), gold)
    assert not report.counts["found"] and not report.counts["candidate"]
    assert all(path.least_seen < 0.04 for path in report.paths if path.input != "v"), (
        "it could have been seen"
    )
    assert all(path.beyond_low < path.beyond.value < path.beyond_high for path in report.paths)
    assert all(path.beyond_high < 0.02 for path in report.paths if path.input != "v"), "as much is ruled out"
    fed = next(
        pair for pair in report.pairs if (pair.sender_role, pair.receiver_role) == ("protagonist", "name")
    )
    assert fed.n_paths and abs(fed.largest) < 0.01 and fed.status == "no"


def test_a_pair_that_nobody_guessed_is_found_too(planted, gold):
    report = composed(planted(FED), gold, role="pos_propn")
    assert [(path.status, path.asked, path.input) for path in report.paths if path.input == "k"] == [
        ("found", False, "k")
    ]


# What is refused --------------------------------------------------------------------------------------------


def test_a_model_of_one_layer_has_no_paths(random_model):
    model = random_model("l1_h64")
    report = find_compositions(model, [], neuron_roles(model, {PLANTED: "introduction"}), [], seed=0)
    assert not report.paths and len(report.pairs) == 6
    assert all(pair.asked and "one layer" in pair.why_none for pair in report.pairs)


def test_what_cannot_be_read_is_refused(random_model, planted, gold):
    with pytest.raises(ModelError, match="our own architecture"):
        find_compositions(random_model("gpt2"), gold, [], [], seed=0)
    with pytest.raises(ProbeInputError, match="needed on either half"):
        composed(planted(FED), gold[:12])
    model = planted(FED)
    model.tokenizer = None
    with pytest.raises(ModelError, match="no tokenizer"):
        composed(model, gold)
