"""A run that starts in the middle gives what the whole model gives with the same change made by a hook."""

import copy

import pytest
import torch
from torch.nn.functional import pad

from tslens.causal.ablation import ablated
from tslens.errors import ModelError
from tslens.types import HeadId, NeuronId

BOUND = 1e-5
FOREIGN = ["gpt2", "llama", "gpt_neo"]


@pytest.fixture(scope="module", params=["l1_h64", "l3_h64", *FOREIGN])
def model(request, random_model):
    return random_model(request.param)


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return torch.randint(0, tokenizer.vocab_size, (3, 40), generator=torch.Generator().manual_seed(1))


def random_change(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def other_pattern(pattern, seed=3):
    """Another causal distribution for each query."""
    noise = torch.randn(pattern.shape, generator=torch.Generator().manual_seed(seed))
    return (noise.masked_fill(pattern == 0, float("-inf"))).softmax(-1)


def bridge(model):
    return getattr(model, "bridge", model)


def test_the_first_run_is_the_model(model, tokens):
    prefix = model.prefix(tokens)
    with torch.no_grad():
        assert torch.allclose(prefix.final, model.final_residual(tokens), atol=BOUND)
    assert prefix.n_layers == model.cfg.n_layers
    for layer, pattern in enumerate(model.attention_patterns(tokens)):
        assert torch.allclose(prefix.pattern(layer), pattern, atol=BOUND)
        assert torch.allclose(prefix.pattern(layer), pattern, atol=BOUND)  # also when it is asked again
        z = torch.einsum("rhqk,rhke->rqhe", pattern, prefix.values(layer))
        assert torch.allclose(prefix.z(layer), z, atol=BOUND)
    assert not any(model.list_hooks())


def test_without_a_head_it_is_the_ablated_model(model, tokens):
    prefix = model.prefix(tokens)
    for layer in range(prefix.n_layers):
        change = -torch.einsum("rphe,hed->hrpd", prefix.z(layer), prefix.output(layer))
        final = prefix.rerun(layer, change)
        for head in range(model.cfg.n_heads):
            with torch.no_grad(), ablated(model, [HeadId(layer, head)]):
                expected = model.unembed(model.final_residual(tokens))
            found = model.unembed(final[head])
            assert torch.allclose(found, expected, atol=BOUND, rtol=BOUND)
            assert (found - model.unembed(prefix.final)).abs().max() > 1e-3


def test_a_changed_pattern_is_a_hooked_pattern(model, tokens, request):
    """The bridge's GPT-Neo only shows its pattern, so there the hook is on what the pattern has mixed."""
    prefix = model.prefix(tokens)
    for layer in range(prefix.n_layers):
        new = other_pattern(prefix.pattern(layer))
        z = torch.einsum("rhqk,rhke->rqhe", new - prefix.pattern(layer), prefix.values(layer))
        change = torch.einsum("rphe,hed->rpd", z, prefix.output(layer))[None]
        name, replaced = f"blocks.{layer}.attn.hook_pattern", new
        if "gpt_neo" in request.node.name:
            name, replaced = f"blocks.{layer}.attn.hook_z", prefix.z(layer) + z
        with torch.no_grad(), bridge(model).hooks(fwd_hooks=[(name, lambda old, hook, by=replaced: by)]):
            expected = model.final_residual(tokens)
        found = prefix.rerun(layer, change)[0]
        assert torch.allclose(found, expected, atol=BOUND, rtol=BOUND)
        assert (found - prefix.final).abs().max() > 1e-3


def test_chosen_positions_are_those_of_the_full_result(model, tokens):
    prefix = model.prefix(tokens)
    generator = torch.Generator().manual_seed(0)
    same, own = torch.rand(3, 40, generator=generator) < 0.2, torch.rand(4, 3, 40, generator=generator) < 0.2
    same[1] = False  # a row of which nothing is wanted
    for layer in range(prefix.n_layers):
        change = random_change(4, 3, 40, model.cfg.d_model)
        full = prefix.rerun(layer, change)
        assert full.shape == change.shape
        assert torch.allclose(prefix.rerun(layer, change, same), full[:, same], atol=BOUND)
        assert torch.allclose(prefix.rerun(layer, change, own), full[own], atol=BOUND)
        nothing = prefix.rerun(layer, change, torch.zeros_like(same))
        assert nothing.shape == (4, 0, model.cfg.d_model)


def test_without_a_neuron_it_is_the_ablated_model(model, tokens):
    """A change of what the MLP writes, at all places, and at those that are wanted."""
    prefix = model.prefix(tokens)
    place = torch.zeros(tokens.shape, dtype=torch.bool)
    place[:, [2, 17, 39]] = True
    for layer, activation in enumerate(model.neuron_activations(tokens)):
        neurons = [0, 7, 31]
        change = -torch.einsum("rpn,nd->nrpd", activation[..., neurons], model.mlp_output(layer)[neurons])
        final = prefix.rerun(layer, change, part="mlp")
        assert torch.allclose(prefix.rerun(layer, change, place, part="mlp"), final[:, place], atol=BOUND)
        own = place.repeat(3, 1, 1)
        own[1, 0] = False
        assert torch.allclose(prefix.rerun(layer, change, own, part="mlp"), final[own], atol=BOUND)
        for variant, neuron in enumerate(neurons):
            with torch.no_grad(), ablated(model, [NeuronId(layer, neuron)]):
                expected = model.final_residual(tokens)
            assert torch.allclose(final[variant], expected, atol=BOUND, rtol=BOUND)
            assert (final[variant] - prefix.final).abs().max() > 1e-4


def test_the_last_norm_is_the_one_that_the_unembedding_reads(model, tokens):
    last = f"blocks.{model.cfg.n_layers - 1}.hook_resid_post"
    _, cache = bridge(model).run_with_cache(tokens)
    with torch.no_grad():
        final = model.final_residual(tokens)
    assert torch.allclose(model.final_norm(cache[last]), final, atol=BOUND)


def test_layers_before_the_change_are_not_run_again(model, tokens):
    """The first norm of a layer stands for its attention, the second for its MLP."""
    prefix = model.prefix(tokens)
    called, handles = [], []
    for layer, block in enumerate(bridge(model).blocks):
        for name in ("ln1", "ln2"):
            norm = getattr(block, name)
            part = getattr(norm, "original_component", norm)
            handles.append(
                part.register_forward_hook(lambda *args, name=name, layer=layer: called.append((layer, name)))
            )
    try:
        for layer in range(prefix.n_layers):
            called.clear()
            prefix.rerun(layer, random_change(1, 3, 40, model.cfg.d_model))
            later = [(after, name) for after in range(layer + 1, prefix.n_layers) for name in ("ln1", "ln2")]
            assert called == [(layer, "ln2"), *later]
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_rerun_makes_no_pattern(kind, random_model, tokens, monkeypatch):
    """Attention is fused: no softmax over scores is taken, in a layer with a window neither."""
    model = random_model(kind)
    prefix = model.prefix(tokens)
    taken, softmax = [], torch.nn.functional.softmax

    def counted(scores, *args, **kwargs):
        taken.append(scores.shape)
        return softmax(scores, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "softmax", counted)
    prefix.rerun(0, random_change(1, 3, 40, 32))
    assert not taken
    model.final_residual(tokens)
    assert len(taken) == prefix.n_layers


def test_variants_do_not_see_each_other(model, tokens):
    prefix = model.prefix(tokens)
    change = random_change(3, 3, 40, model.cfg.d_model)
    change[1] = 0
    together = prefix.rerun(0, change)
    assert torch.allclose(together[1], prefix.final, atol=BOUND)
    for variant in range(3):
        alone = prefix.rerun(0, change[variant : variant + 1])[0]
        assert torch.allclose(together[variant], alone, atol=BOUND)


def test_padding_on_the_right_changes_nothing(model, tokens):
    lengths = [40, 23, 9]
    change = random_change(2, 3, 40, model.cfg.d_model)
    padded = tokens.clone()
    for row, length in enumerate(lengths):
        padded[row, length:] = 0
    final = model.prefix(padded).rerun(0, change)
    for row, length in enumerate(lengths):
        alone = model.prefix(tokens[row : row + 1, :length]).rerun(0, change[:, row : row + 1, :length])
        assert torch.allclose(final[:, row, :length], alone[:, 0], atol=BOUND)


def test_the_model_and_the_first_run_stay_as_they_are(model, tokens):
    prefix = model.prefix(tokens)
    before = copy.deepcopy([prefix.final, prefix.pattern(0), prefix.values(0), prefix.z(0), prefix.output(0)])
    prefix.rerun(0, random_change(2, 3, 40, model.cfg.d_model))
    after = [prefix.final, prefix.pattern(0), prefix.values(0), prefix.z(0), prefix.output(0)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not any(tensor.requires_grad for tensor in after)
    with torch.no_grad():
        assert torch.allclose(model.final_residual(tokens), prefix.final, atol=BOUND)
    assert not any(model.list_hooks())


def test_a_model_with_hooks_is_refused(model, tokens):
    prefix = model.prefix(tokens)
    with ablated(model, [HeadId(0, 0)]):
        with pytest.raises(ModelError, match="hooks"):
            model.prefix(tokens)
        with pytest.raises(ModelError, match="hooks"):
            prefix.rerun(0, random_change(1, 3, 40, model.cfg.d_model))
    prefix.rerun(0, random_change(1, 3, 40, model.cfg.d_model))


@pytest.mark.parametrize("name", ["l2_h64", "l3_h64"])
def test_a_windowed_layer_beyond_its_window(tokenizer, random_model, name):
    """Layer 1 looks back 256 positions: at 300, a rerun from layer 0 and one from layer 1 must know it."""
    model = random_model(name)
    tokens = torch.randint(0, tokenizer.vocab_size, (1, 300), generator=torch.Generator().manual_seed(4))
    prefix = model.prefix(tokens)
    assert not prefix.pattern(1)[:, :, 280, :25].any()
    assert (prefix.pattern(1)[:, :, 280, 25:281] > 0).any(-1).all()
    at = torch.zeros(1, 300, dtype=torch.bool)
    at[0, [3, 255, 256, 290]] = True
    for layer in (0, 1):
        change = random_change(1, 1, 300, 64)
        name = f"blocks.{layer}.hook_attn_out"
        with torch.no_grad(), model.hooks(fwd_hooks=[(name, lambda out, hook, by=change[0]: out + by)]):
            expected = model.final_residual(tokens)
        assert torch.allclose(prefix.rerun(layer, change)[0], expected, atol=BOUND, rtol=BOUND)
        assert torch.allclose(prefix.rerun(layer, change, at)[0], expected[at], atol=BOUND, rtol=BOUND)


def test_more_tokens_than_the_context_are_refused(model, tokens):
    with pytest.raises(ModelError, match="Cut the text"):
        model.prefix(pad(tokens, (0, model.cfg.n_ctx)))
