"""Ablation by the mean over all positions, in part or in full: hooks, decoder and ablator do the same."""

import pytest
import torch
import torch.nn.functional as F
from einops import einsum

from tslens.causal.ablation import LayerId, ablated, parse_component
from tslens.causal.ablator import Ablator, Intervention
from tslens.causal.means import read_means
from tslens.link.effects import StoryRows
from tslens.model.batches import IGNORED
from tslens.types import HeadId, NeuronId

N_POS = 20
PROMPTS = [[1, 5, 9, 12], [1, 7, 30], [1, *range(3, 60)]]
SETS = [["L0H1"], ["L0H1", "L0H3", "L1N5"], ["L1N7", "L1N9"], ["L1.attn"], ["L0.mlp"], ["L1", "L0H2"]]


@pytest.fixture(scope="module")
def model(random_model):
    return random_model("l2_h64")


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(1, 60, (4, N_POS), generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def means(model, tokens):
    length = torch.tensor([N_POS, 14, 11, 8])
    return read_means(model, [(tokens, length)], n_pos=N_POS)


def test_means_over_all_positions_are_those_of_all_real_tokens(model, means, tokens):
    length = [N_POS, 14, 11, 8]
    post = list(model.neuron_activations(tokens))
    expected = torch.cat([post[1][row, :n] for row, n in enumerate(length)]).double().mean(0)
    assert torch.allclose(means.post_overall[1], expected, atol=1e-9)
    assert torch.equal(means.everywhere().post[1, 7], means.post_overall[1])
    assert torch.equal(means.everywhere().z[0, 3], means.z_overall[0])


def test_a_head_in_part_at_its_mean_by_hand(model, means, tokens):
    """What it writes is 0.3 of what it wrote and 0.7 of its mean."""
    head, share = HeadId(0, 1), 0.7
    block, z = model.blocks[0], model.prefix(tokens).z(0)[:, :, head.index]

    def by_hand(written, hook):
        change = share * (means.z_overall[0, head.index].float() - z)
        return written + einsum(change, block.attn.W_O[head.index], "r p e, e d -> r p d")

    with torch.no_grad():
        with model.hooks(fwd_hooks=[("blocks.0.hook_attn_out", by_hand)]):
            expected = model(tokens)
        with ablated(model, [head], means=means, share=share):
            found = model(tokens)
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, model(tokens), atol=1e-3)


@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("by_mean", [True, False])
def test_a_decoder_writes_what_the_hooked_model_says(model, means, names, share, by_mean, monkeypatch):
    components = [parse_component(name) for name in names]
    with ablated(model, components, means=means if by_mean else None, share=share):
        with torch.no_grad():
            expected = [model(torch.tensor([prompt]))[0, -1] for prompt in PROMPTS]
        monkeypatch.setattr(model, "final_residual", None)  # the decoder does not run it
        found = model.decoder().start(PROMPTS, 100)
    assert torch.allclose(found, torch.stack(expected), atol=1e-4)


def test_blocks_inside_each_other_move_a_unit_twice(model, means, tokens):
    head = HeadId(0, 2)
    with (
        torch.no_grad(),
        ablated(model, [head], share=0.5),
        ablated(model, [head], means=means, share=0.5),
    ):
        hooked = model(tokens)[:, -1]
        decoded = model.decoder().start(tokens.tolist(), 100)
    assert torch.allclose(hooked, decoded, atol=1e-4)


@pytest.mark.parametrize("names", SETS)
def test_the_ablator_knows_shares_and_means_without_positions(model, means, tokens, names):
    components = tuple(parse_component(name) for name in names)
    targets = torch.cat([tokens[:, 1:], torch.full((4, 1), IGNORED)], 1)
    rows = StoryRows(tokens, targets, targets != IGNORED, torch.full((4,), N_POS), None)
    losses = Ablator(model, means.everywhere()).losses_of(rows, [Intervention(components, "mean", 0.6)])
    with torch.no_grad(), ablated(model, components, means=means, share=0.6):
        logits = model(tokens)
    expected = F.cross_entropy(logits[rows.at], targets[rows.at], reduction="none")
    assert torch.allclose(torch.from_numpy(losses.under[0]).float(), expected, atol=1e-5)
    assert abs(losses.delta[0]).max() > 1e-3


def test_a_share_of_nothing_changes_nothing(model, means, tokens):
    with torch.no_grad():
        plain = model(tokens)
        with ablated(model, [LayerId(0), NeuronId(1, 3)], means=means, share=0.0):
            assert torch.allclose(model(tokens), plain, atol=1e-5)
