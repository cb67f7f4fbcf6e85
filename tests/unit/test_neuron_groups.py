"""Neurons of a role together, k-sparse probes, and a part of the audit, where the truth is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tslens.audit.neurons import NeuronAuditSize, audit_neurons
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.neurons.codes import encode
from tslens.probes.neurons.dose import dose_effects
from tslens.probes.neurons.sample import Sample
from tslens.probes.neurons.sparse import sparse_probes
from tslens.probes.neurons.stream import labelled_batches, read_neurons
from tslens.probes.neurons.token_labels import names_with
from tslens.types import NeuronRole

STORIES = list(write_stories(40, seed=3))
TOKENIZER = StoryTokenizer.train(STORIES, vocab_size=512)
STOP = TOKENIZER.encode(".")[-1]
STOPS = 4  # a dimension of the residual stream
LOUD = range(6, 10)  # neurons


@pytest.fixture(scope="module")
def batches():
    return list(labelled_batches(STORIES, TOKENIZER, n_ctx=512, seed=0))


@pytest.fixture(scope="module")
def model(batches) -> TinyTransformer:
    """Four neurons fire at full stops, and together raise what most often follows them; the others write nothing."""
    model = TinyTransformer(ModelSpec.from_name("l2_h32"), TOKENIZER.vocab_size, seed=0, tokenizer=TOKENIZER)
    token = np.concatenate([batch.tokens.token for batch in batches])
    following = np.concatenate([batch.tokens.next for batch in batches])
    after_stop = int(np.bincount(following[(token == STOP) & (following >= 0)]).argmax())
    with torch.no_grad():
        embed = model.embed.W_E
        model.pos_embed.W_pos.zero_()
        embed.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
        embed[:, STOPS] = 0
        embed[STOP, STOPS] = 3
        for block in model.blocks:
            block.attn.W_O.zero_()
            block.mlp.W_out.zero_()
        mlp = model.blocks[0].mlp
        mlp.W_in[:, LOUD] = 0
        mlp.W_in[STOPS, LOUD] = 1
        mlp.W_out[LOUD] = embed[after_stop] / 4
    return model.eval()


@pytest.fixture(scope="module")
def read(model, batches):
    return read_neurons(model, batches)


def roles_of(read, label: str) -> list[NeuronRole]:
    """The loud neurons are candidates, the others nothing."""
    said = {"role": label, "status": "candidate", "basis": "lexical"}
    return [
        replace(NeuronRole.none(neuron), **said, excess=0.4 - 0.01 * column)
        if column in LOUD
        else NeuronRole.none(neuron)
        for column, neuron in enumerate(read.neurons)
    ]


def test_more_neurons_of_a_role_cost_more_and_as_many_others_nothing(model, read, batches):
    found = dose_effects(model, batches, read, roles_of(read, "sentence_end"))
    assert [dose.n_neurons for dose in found] == [1, 2, 4]
    effects = [dose.effect for dose in found]
    assert effects == sorted(effects) and effects[0] > 0.005
    assert all(dose.low > 0 for dose in found)
    assert all(dose.low < dose.effect < dose.high for dose in found)
    assert all(abs(dose.others) < 1e-6 for dose in found)
    assert not any(model.list_hooks())
    alone = dose_effects(model, batches, read, roles_of(read, "sentence_end"))
    assert [one.to_json() for one in alone] == [one.to_json() for one in found]


def test_three_neurons_are_no_group(model, read, batches):
    few = [
        replace(role, status="no") if i == LOUD[0] else role for i, role in enumerate(roles_of(read, "quote"))
    ]
    assert dose_effects(model, batches, read, few) == []
    assert dose_effects(model, [], read, roles_of(read, "sentence_end")) == []  # causes were not asked for


def test_a_label_in_one_neuron_and_one_that_is_spread(read):
    kept = [names_with(()).index(name) for name in ("quote", "subject")]
    tokens = replace(read.sample.tokens, flags=read.sample.tokens.flags[:, kept])
    read, (one, spread) = replace(read, labels=("quote", "subject")), (0, 1)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((len(tokens), 64)).astype(np.float32)
    values[:, 3] += 3 * tokens.flags[:, one]
    values[:, 20:52] += 0.5 * tokens.flags[:, [spread]]
    probes = sparse_probes(replace(read, sample=Sample(tokens, encode(values))), seed=0)
    area = {(probe.label, probe.k): probe for probe in probes}
    assert area["quote", 1].auroc > 0.95 and area["quote", 64].auroc < area["quote", 1].auroc + 0.05
    assert area["subject", 1].auroc < 0.7 < area["subject", 32].auroc
    assert area["subject", 32].selectivity > 0.2
    assert {probe.k for probe in probes} == {1, 2, 4, 8, 16, 32, 64}


@pytest.mark.slow  # a part of it is in tests/cli/test_audit.py
def test_the_audit_of_neurons_on_a_small_scale():
    size = NeuronAuditSize(60, 60, 1, 40, 2, 40)
    seen = []
    found = audit_neurons(
        seed=0, parts=("hand-set", "random", "shifted"), size=size, progress=lambda part, n: seen.append(part)
    )
    assert [check.passed for check in found.checks] == [True] * len(found.checks), found.checks
    assert {check.part for check in found.checks} == {"hand-set", "random", "shifted"}
    assert seen == ["hand-set", "random", "shifted", "shifted"]
    truths = {case.truth: case.said.status for case in found.cases if case.part == "hand-set"}
    assert truths["lexical"] == "role" and truths["silent"] == "candidate" and truths["dead"] == "no"
