"""What neurons write and whether the model uses them, where the truth was set by hand."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from tslens.causal.ablation import ablated
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import UsageError
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.probes.neurons.cause import neuron_causes
from tslens.probes.neurons.codes import encode
from tslens.probes.neurons.kinds import kind_of
from tslens.probes.neurons.reader import Explained
from tslens.probes.neurons.sample import Sample
from tslens.probes.neurons.stream import labelled_batches, read_neurons
from tslens.probes.neurons.token_labels import names_with
from tslens.probes.neurons.writes import logit_effects, read_writes
from tslens.types import NeuronId

STORIES = list(write_stories(40, seed=3))
TOKENIZER = StoryTokenizer.train(STORIES, vocab_size=512)
STOP = TOKENIZER.encode(" .")[-1] if len(TOKENIZER.encode(" .")) == 1 else TOKENIZER.encode(".")[-1]
NAMES = names_with(())
ONE, NOWHERE, SIDES, NOUNS, STOPS = range(5)  # dimensions of the residual stream with a meaning


@pytest.fixture(scope="module")
def batches():
    return list(labelled_batches(STORIES, TOKENIZER, n_ctx=512, seed=0))


@pytest.fixture(scope="module")
def model(batches) -> TinyTransformer:
    """Neurons 0 to 4 write along one dimension each, 5 against the first, the others nothing."""
    model = TinyTransformer(ModelSpec.from_name("l1_h32"), TOKENIZER.vocab_size, seed=0, tokenizer=TOKENIZER)
    tokens = [batch.tokens for batch in batches]
    token, flags = np.concatenate([t.token for t in tokens]), np.concatenate([t.flags for t in tokens])
    nouns = np.unique(token[flags[:, NAMES.index("pos_noun")]])
    with torch.no_grad():
        block, embed = model.blocks[0], model.embed.W_E
        embed.normal_(generator=torch.Generator().manual_seed(1))
        embed[:, :5] = 0
        embed[7, ONE] = 5
        embed[:, SIDES] = torch.where(torch.arange(len(embed)) % 2 == 0, 6.0, -6.0)
        embed[nouns.tolist(), NOUNS] = 3
        block.attn.W_O.zero_()
        block.mlp.W_out.zero_()
        for neuron in range(5):
            block.mlp.W_out[neuron, neuron] = 2
        block.mlp.W_out[5, ONE] = -1
    return model.eval()


@pytest.fixture(scope="module")
def read(model, batches):
    return read_neurons(model, batches)


def test_effects_are_weights_through_the_last_norm(model):
    directions = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    directions[2] = 1.0  # the same in all dimensions: the norm removes it
    found = logit_effects(model, directions)
    centred = directions - directions.mean(1, keepdim=True)
    expected = (centred / directions.std(1, keepdim=True, unbiased=False).clamp(min=1e-9)) @ model.embed.W_E.T
    expected -= expected.mean(1, keepdim=True)
    np.testing.assert_allclose(found[:2], expected[:2].detach(), atol=1e-3)
    assert not found[2].any()


def test_what_neurons_write_is_called_by_its_name(model, read):
    writes = read_writes(model, read, seed=0)
    assert len(writes) == 128
    kinds = [one.kind for one in writes[:6]]
    assert kinds == ["prediction", "entropy", "partition", "none", "entropy", "suppression"]
    assert writes[ONE].promotes[0] == writes[5].suppresses[0] == TOKENIZER.token_strings([7])[0]
    assert writes[NOUNS].part == "NOUN" and writes[NOUNS].part_auroc > 0.9
    assert writes[NOWHERE].part is None and writes[ONE].part is None
    assert writes[7].kind == "none" and writes[7].spread == writes[7].length == 0
    assert writes[ONE].length == pytest.approx(2)


def test_random_directions_are_called_something_once_in_a_hundred(model, read):
    random = TinyTransformer(ModelSpec.from_name("l1_h32"), TOKENIZER.vocab_size, seed=9, tokenizer=TOKENIZER)
    with torch.no_grad():
        random.embed.W_E.copy_(model.embed.W_E)
    writes = read_writes(random.eval(), read, seed=0)
    assert sum(one.kind != "none" for one in writes) <= 12  # of 128; three kinds of one percent each
    assert sum(one.part is not None for one in writes) <= 6


def test_a_neuron_that_fires_before_what_it_raises_fires_where_it_writes(model, read):
    is_next = read.sample.tokens.next == int(np.bincount(read.sample.tokens.next.clip(0)).argmax())
    codes = read.sample.codes.copy()
    codes[:, 6] = encode(is_next.astype(np.float32))
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.blocks[0].mlp.W_out[6] = model.embed.W_E[int(read.sample.tokens.next[is_next][0])]
    before = read_writes(model, read, seed=0)[6].fires_where
    after = read_writes(model, replace(read, sample=Sample(read.sample.tokens, codes)), seed=0)[6].fires_where
    assert after > 0.85 > before


def test_kinds_follow_what_explains_a_neuron(model, read):
    plain = read_writes(model, read, seed=0)[NOUNS]
    taken_back, given = replace(plain, own_tokens=0.01), replace(plain, own_tokens=0.9)
    assert kind_of(0, Explained(0.9, 0.9, 0.9), given) == "dead"
    assert kind_of(9, Explained(0.1, 0.1, 0.6), given) == "positional"
    assert kind_of(9, Explained(0.9, 0.9, 0.1), given) == "token"
    assert kind_of(9, Explained(0.7, 0.9, 0.1), given) == "n-gram"
    assert kind_of(9, Explained(0.7, 0.9, 0.1), taken_back) == "suppressing"
    assert kind_of(9, Explained(0.7, 0.7, 0.1), taken_back) == "mixed"


# Cause ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def used(batches) -> TinyTransformer:
    """Neuron 6 fires at full stops and raises what most often follows them; 7 fires as well and writes nothing."""
    model = TinyTransformer(ModelSpec.from_name("l1_h32"), TOKENIZER.vocab_size, seed=0, tokenizer=TOKENIZER)
    token = np.concatenate([batch.tokens.token for batch in batches])
    following = np.concatenate([batch.tokens.next for batch in batches])
    after_stop = int(np.bincount(following[(token == STOP) & (following >= 0)]).argmax())
    with torch.no_grad():
        block, embed = model.blocks[0], model.embed.W_E
        model.pos_embed.W_pos.zero_()
        embed.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
        embed[:, STOPS] = 0
        embed[STOP, STOPS] = 3
        block.attn.W_O.zero_()
        block.mlp.W_in.zero_()
        block.mlp.W_in[STOPS, 6:8] = 1
        block.mlp.W_out.zero_()
        block.mlp.W_out[6] = embed[after_stop]
    return model.eval()


def test_a_neuron_that_the_loss_needs_is_confirmed_and_a_silent_one_is_not(used, batches):
    label = NAMES.index("sentence_end")
    found = neuron_causes(used, batches, read_neurons(used, batches), {6: label, 7: label}, seed=0)
    loud, silent = found[6], found[7]
    assert loud.holds and loud.p < 0.01 and loud.effects["low"] > 0
    assert loud.effects["zero"] > 0.05 and loud.effects["zero_beyond"] > 0.05
    assert not silent.holds and silent.effects["zero"] == pytest.approx(0, abs=1e-6)
    assert loud.n_stories == len(STORIES)


def test_effects_are_those_of_hooks(used, batches):
    """Fewer than 64 tokens a story have the label, so all of them are read."""
    label = NAMES.index("sentence_end")
    found = neuron_causes(used, batches, read_neurons(used, batches), {6: label}, seed=0)[6]

    def losses(batch):
        with torch.no_grad():
            logits = used(batch.rows)[batch.is_read]
        target = torch.from_numpy(batch.tokens.next).long().clamp(min=0)
        return torch.nn.functional.cross_entropy(logits, target, reduction="none").numpy()

    per_story = []
    for batch in batches:
        before = losses(batch)
        with ablated(used, [NeuronId(0, 6)]):
            lost = losses(batch) - before
        asked = batch.tokens.flags[:, label] & (batch.tokens.next >= 0)
        for story in np.unique(batch.tokens.story):
            mine = asked & (batch.tokens.story == story)
            assert 0 < mine.sum() <= 64
            per_story.append(lost[mine].mean())
    assert found.effects["zero"] == pytest.approx(float(np.mean(per_story)), abs=1e-5)


def test_a_label_that_few_stories_have_has_no_cause(used, batches):
    read = read_neurons(used, batches)
    assert neuron_causes(used, batches[:1], read, {6: NAMES.index("pos_x")}, seed=0) == {}
    assert neuron_causes(used, [], read, {6: NAMES.index("subject")}, seed=0) == {}


def test_a_neuron_is_written_as_it_is_read():
    assert NeuronId.parse("l2n17") == NeuronId(2, 17) and str(NeuronId(2, 17)) == "L2N17"
    with pytest.raises(UsageError, match="no neuron"):
        NeuronId.parse("L2H17")
