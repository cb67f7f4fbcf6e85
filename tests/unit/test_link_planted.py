"""Planted models: what is said to carry a readout does, and nothing else."""

from itertools import takewhile

import numpy as np
import pytest
import torch

from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import read_means
from tslens.corpus.author import write_stories
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError
from tslens.link.balance import Mirrored
from tslens.link.batches import pack
from tslens.link.measure import differences_of, read_pairs, read_readouts
from tslens.link.pairs import Readout
from tslens.link.planted import ANY, MEANING, PLAIN, WHIMS, genders_of, numbers_of, plant_capability
from tslens.link.readouts import encoder
from tslens.link.story_pairs import fault_pairs
from tslens.model.batches import IGNORED, collate
from tslens.model.shipped import tokenizer_file
from tslens.types import HeadId, NeuronId

HEADS = [HeadId(layer, index) for layer in range(2) for index in range(4)]
MLPS = [tuple(NeuronId(layer, index) for index in range(256)) for layer in range(2)]


@pytest.fixture(scope="module")
def shipped_tokenizer():
    return StoryTokenizer.load(tokenizer_file("cc8626255732"))


@pytest.fixture(scope="module")
def told():
    return list(write_stories(100, seed=11))


@pytest.fixture(scope="module")
def readouts(shipped_tokenizer, told):
    encode, made = encoder(shipped_tokenizer), []
    for kind in ("agreement", "changed_pronoun"):
        found = Mirrored(80)
        for story in takewhile(lambda _, found=found: not found.is_full, told):
            found.offer(list(fault_pairs(story, kind, encode, n_ctx=512, seed=0)))
        made.append(Readout(kind, "grammar", "something", tuple(found.items)))
    return made


def scores_of(planted, readouts):
    return {score.readout: score for score in read_readouts(planted.model, readouts, seed=0)}


def left_over(planted, readouts, components):
    """Mean difference of the planted readout with each group ablated by its mean, as a share of the whole."""
    chosen = [one for one in readouts if one.name == planted.readout]
    batches = pack(chosen, seed=0)
    means = read_means(planted.model, [(batch.tokens, batch.length) for batch in batches], n_pos=512)
    ablator = Ablator(planted.model, means)
    asked = [Intervention(tuple(group), "mean") for group in components]
    (under,) = differences_of(chosen, batches, lambda batch: ablator.losses_of(batch, asked).under)
    (whole,) = read_pairs(planted.model, chosen)
    return chosen[0].by_item(under).mean(-1) / chosen[0].by_item(whole).mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_one_head_alone_carries_what_was_planted(shipped_tokenizer, readouts, seed):
    planted = plant_capability("carried", tokenizer=shipped_tokenizer, seed=seed)
    scores = scores_of(planted, readouts)
    assert scores["changed_pronoun"].passes and scores["changed_pronoun"].accuracy >= 0.7
    assert not scores["agreement"].passes
    left = dict(zip(HEADS, left_over(planted, readouts, [(head,) for head in HEADS]), strict=True))
    assert abs(left.pop(planted.carrier)) < 0.2
    assert all(0.8 < share < 1.2 for share in left.values()), left


def test_a_bigram_is_carried_by_no_part(shipped_tokenizer, readouts):
    planted = plant_capability("spread", tokenizer=shipped_tokenizer, seed=0)
    scores = scores_of(planted, readouts)
    assert planted.carrier is None
    assert scores["agreement"].passes and not scores["changed_pronoun"].passes
    parts = [(head,) for head in HEADS] + MLPS
    left = left_over(planted, readouts, [*parts, [one for part in parts for one in part]])
    assert (np.abs(left - 1) < 0.2).all(), left  # the last: without any part


def test_without_its_carrier_a_model_of_the_same_weights_passes_nothing(shipped_tokenizer, readouts):
    with_one = plant_capability("carried", tokenizer=shipped_tokenizer, seed=0)
    none = plant_capability("none", tokenizer=shipped_tokenizer, seed=0)
    assert none.carrier is None and none.readout == "changed_pronoun"
    assert not any(score.passes for score in scores_of(none, readouts).values())
    other = with_one.model.state_dict()
    for name, weights in none.model.state_dict().items():
        if torch.equal(weights, other[name]):
            continue
        differs = (weights != other[name]).flatten(1).any(1).nonzero().flatten().tolist()
        assert name.startswith(f"blocks.{with_one.carrier.layer}.attn.W_")
        assert differs == [with_one.carrier.index]


@torch.no_grad()
def test_genders_exchanged_reverse_what_the_carrier_writes_and_nothing_else(shipped_tokenizer, told):
    genders = torch.from_numpy(genders_of(shipped_tokenizer))
    he, she = (shipped_tokenizer.encode(text)[0] for text in (" he", " she"))
    tokens = torch.from_numpy(np.array(shipped_tokenizer.encode_story(told[0].text)[:-1]))[None].long()
    exchanged = torch.where(genders[tokens] > 0, he, torch.where(genders[tokens] < 0, she, tokens))
    assert (tokens != exchanged).sum() > 3
    planted = plant_capability("carried", tokenizer=shipped_tokenizer, seed=3)
    before, after = (planted.model(some, stop_at_layer=2)[0] for some in (tokens, exchanged))
    plain = genders[tokens[0]] == 0
    for one, other in (
        (before[:, PLAIN], after[:, PLAIN]),
        (before[plain, WHIMS], after[plain, WHIMS]),
        (before[:, MEANING], -after[:, MEANING]),
    ):
        assert (one - other).norm() < 0.01 * one.norm()
    assert before[plain][:, MEANING].abs().max() > 0.5
    assert (before[:, ANY] == before[0, ANY]).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["carried", "spread", "none"])
def test_parts_that_carry_nothing_cost_loss(shipped_tokenizer, told, kind):
    planted = plant_capability(kind, tokenizer=shipped_tokenizer, seed=1)
    batch = collate([shipped_tokenizer.encode_story(story.text) for story in told[:16]])

    class Rows:
        tokens, targets, other = batch.tokens, batch.targets, None
        at = batch.targets != IGNORED
        length = at.sum(1)

    ablator = Ablator(planted.model, read_means(planted.model, [(Rows.tokens, Rows.length)], n_pos=512))
    parts = [(head,) for head in HEADS] + MLPS
    losses = ablator.losses_of(Rows, [Intervention(part, "mean") for part in parts])
    cost = losses.delta.mean(1)
    assert (cost > 0).mean() >= 0.8 and 0.005 < np.median(cost) < 0.1, cost
    assert losses.clean.mean() < 7  # with no knowledge but of how common tokens are it is 6 or more


def test_carriers_are_in_other_places_by_other_seeds(shipped_tokenizer):
    found = [
        plant_capability("carried", tokenizer=shipped_tokenizer, seed=seed).carrier for seed in range(12)
    ]
    again = plant_capability("carried", tokenizer=shipped_tokenizer, seed=5)
    assert len(set(found)) >= 5 and again.carrier == found[5]
    one = plant_capability("carried", tokenizer=shipped_tokenizer, seed=5)
    for name, weights in one.model.state_dict().items():
        assert torch.equal(weights, again.model.state_dict()[name]), name


def test_words_have_the_meanings_that_they_should(shipped_tokenizer, tokenizer):
    token = {
        text: shipped_tokenizer.encode(text)[0] for text in (" he", " She", " were", " was", " they", " the")
    }
    genders, numbers = genders_of(shipped_tokenizer), numbers_of(shipped_tokenizer)
    assert (genders[token[" he"]], genders[token[" She"]], genders[token[" the"]]) == (-1, 1, 0)
    assert (numbers[token[" were"]], numbers[token[" was"]], numbers[token[" they"]]) == (1, -1, 1)
    with pytest.raises(DataError, match="pronouns"):
        plant_capability("none", tokenizer=tokenizer, seed=0)
