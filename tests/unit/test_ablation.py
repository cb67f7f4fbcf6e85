"""An ablated model is the model whose output weights are zero, in whatever runs it, and only while it is ablated.

Text is written without hooks: the decoder leaves the component out of its weights.
"""

import copy
from types import SimpleNamespace

import pytest
import torch

from tslens.causal.ablation import LayerId, ablated, check_component, parse_component
from tslens.errors import ModelError, UsageError
from tslens.model.generate import generate
from tslens.types import HeadId, NeuronId

COMPONENTS = ["L0H3", "L1N117", "L0", "L1.attn", "L0.mlp"]


def without(model, text):
    """A copy of a model with the output weights of a component zero."""
    model, component = copy.deepcopy(model), parse_component(text)
    block = model.blocks[component.layer]
    with torch.no_grad():
        if isinstance(component, HeadId):
            block.attn.W_O[component.index] = 0
        elif isinstance(component, NeuronId):
            block.mlp.W_out[component.index] = 0
        else:
            if component.part != "mlp":
                block.attn.W_O.zero_(), block.attn.b_O.zero_()
            if component.part != "attn":
                block.mlp.W_out.zero_(), block.mlp.b_out.zero_()
    return model


@pytest.fixture(scope="module")
def model(tiny_model):
    """The tiny model with biases that are not zero, so that a layer's biases count."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("b_O", "b_out", "b_in")):
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
    return model


@pytest.mark.parametrize("text", COMPONENTS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ablated_generation_is_that_of_the_ablated_weights(model, text, temperature):
    prompts = ["Once", "Then they wanted", "Tom found a kite in the park. " * 20]
    settings = {"samples": 2, "max_tokens": 25, "temperature": temperature, "seed": 3}
    plain = generate(model, prompts, **settings)
    with ablated(model, [parse_component(text)]):
        found = generate(model, prompts, **settings)
    assert found == generate(without(model, text), prompts, **settings)
    if not text.startswith("L1N"):  # one neuron of 256 may change no token
        assert found != plain
    assert generate(model, prompts, **settings) == plain


@pytest.mark.parametrize("text", COMPONENTS)
def test_ablated_logits_are_those_of_the_ablated_weights(model, text):
    tokens = model.to_tokens("Once upon a time, Tom found a kite.")
    with torch.no_grad(), ablated(model, [parse_component(text)]):
        found = model(tokens)
        patterns = [pattern.clone() for pattern in model.attention_patterns(tokens)]
    with torch.no_grad():
        expected = without(model, text)(tokens)
        expected_patterns = list(without(model, text).attention_patterns(tokens))
        plain = model(tokens)
    assert torch.allclose(found, expected, atol=1e-5)
    assert (found - plain).abs().max() > 1e-4
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(patterns, expected_patterns, strict=True))


PROMPTS = [[0, 7, 9], [0, *range(20, 61)], [0, *range(1, 300)]]


def written(decoder, n_steps=4):
    """Logits after prompts of different lengths and after a few more tokens."""
    found = [decoder.start(PROMPTS, 400)]
    found += [decoder.step(torch.full((len(PROMPTS),), 30 + step)) for step in range(n_steps)]
    return torch.stack(found)


@pytest.mark.parametrize(
    "components", [*([text] for text in COMPONENTS), ["L0H1", "L0H2", "L1N5", "L1.attn"]]
)
def test_a_decoder_leaves_components_out_of_its_weights(model, components, monkeypatch):
    """To the last bit what the ablated weights give; the model with its hooks never runs."""
    expected = model
    for text in components:
        expected = without(expected, text)
    with ablated(model, [parse_component(text) for text in components]):
        monkeypatch.setattr(model, "final_residual", None)
        found = written(model.decoder())
    assert torch.equal(found, written(expected.decoder()))
    assert not torch.equal(found, written(model.decoder()))


def test_blocks_inside_each_other_silence_both_in_a_decoder(model):
    with ablated(model, [HeadId(0, 1)]), ablated(model, [HeadId(0, 2), NeuronId(1, 5)]):
        found = written(model.decoder())
    expected = without(without(without(model, "L0H1"), "L0H2"), "L1N5")
    assert torch.equal(found, written(expected.decoder()))


def test_a_decoder_obeys_other_hooks_beside_an_ablation(model):
    def double(resid, hook):
        return 2 * resid

    with ablated(model, [HeadId(0, 3)]), model.hooks(fwd_hooks=[("blocks.1.hook_attn_out", double)]):
        found = written(model.decoder())
    doubled = without(model, "L0H3")
    with torch.no_grad():
        doubled.blocks[1].attn.W_O.mul_(2), doubled.blocks[1].attn.b_O.mul_(2)
    assert torch.allclose(found, written(doubled.decoder()), atol=1e-4)


def test_a_decoder_obeys_an_ablation_that_begins_or_ends_while_it_writes(model):
    new = torch.full((len(PROMPTS),), 30)
    plain, silent = (
        model.decoder(),
        without(model, "L1.mlp").decoder(),
    )  # the last layer: no key depends on it
    for decoder in (plain, silent):
        decoder.start(PROMPTS, 400)
    expected = {"plain": plain.step(new), "silent": silent.step(new)}
    begins, ends = model.decoder(), model.decoder()
    begins.start(PROMPTS, 400)
    with ablated(model, [LayerId(1, "mlp")]):
        ends.start(PROMPTS, 400)
        assert torch.allclose(begins.step(new), expected["silent"], atol=1e-4)
    assert torch.allclose(ends.step(new), expected["plain"], atol=1e-4)


def test_several_components_and_blocks_add_up(model):
    tokens = model.to_tokens("Once upon a time")
    chosen = [parse_component(text) for text in ("L0H1", "L0H2", "L1N5", "L1N6")]
    with torch.no_grad(), ablated(model, chosen[:2]), ablated(model, chosen[2:]):
        found = model(tokens)
    expected = without(without(without(without(model, "L0H1"), "L0H2"), "L1N5"), "L1N6")
    with torch.no_grad():
        assert torch.allclose(found, expected(tokens), atol=1e-5)


def test_an_error_takes_the_hooks_off_and_leaves_those_of_others(model):
    def other(activation, hook):
        return None

    point = model.hook_dict["blocks.0.attn.hook_z"]
    before = len(point._forward_hooks)
    point.add_hook(other)
    with pytest.raises(ZeroDivisionError), ablated(model, [HeadId(0, 3), LayerId(1)]):
        assert len(point._forward_hooks) == before + 2
        raise ZeroDivisionError
    assert len(point._forward_hooks) == len(point.fwd_hooks) == before + 1
    model.reset_hooks()
    assert not any(model.list_hooks())


def test_tools_that_reset_hooks_do_not_end_an_ablation(model):
    tokens = model.to_tokens("Once upon a time")
    with torch.no_grad(), ablated(model, [HeadId(0, 3)]):
        model.reset_hooks()
        _, cache = model.run_with_cache(tokens)
        assert not cache["z", 0][:, :, 3].any()
        assert cache["z", 0][:, :, 2].any()


@pytest.mark.parametrize("text", COMPONENTS)
def test_names_are_read_back(text):
    assert str(parse_component(text)) == text
    assert parse_component(f" {text.replace('L', 'l')} ") == parse_component(text)


@pytest.mark.parametrize("text", ["", "L", "H3", "L0H", "L0X3", "L0.head", "0", "L0H3 L0H4"])
def test_other_names_are_refused(text):
    with pytest.raises(UsageError, match="no component"):
        parse_component(text)


@pytest.mark.parametrize("text", ["L2", "L2H0", "L0H4", "L0N256"])
def test_components_that_the_model_lacks_are_refused(model, text):
    with pytest.raises(UsageError, match=f"no {text}"), ablated(model, [parse_component(text)]):
        pass
    assert not any(model.list_hooks())


@pytest.mark.parametrize(
    ("text", "n", "has", "hint"),
    [
        ("L3H9", 1, "1 layer.", "The only one is L0."),
        ("L3", 2, "2 layers.", "Choose one from L0 to L1."),
        ("L0H9", 1, "1 head.", "The only one is L0H0."),
        ("L1N9", 2, "2 neurons.", "Choose one from L1N0 to L1N1."),
    ],
)
def test_what_there_is_to_choose_from_is_told(text, n, has, hint):
    bare = SimpleNamespace(cfg=SimpleNamespace(n_layers=n, n_heads=n, d_mlp=n))
    with pytest.raises(UsageError) as caught:
        check_component(bare, parse_component(text))
    assert caught.value.message.endswith(f" {has}") and caught.value.hint == hint


def test_a_model_without_the_hook_point_says_so(model):
    bare = SimpleNamespace(cfg=model.cfg, hook_dict={})
    with pytest.raises(ModelError, match="hook_z"), ablated(bare, [HeadId(0, 0)]):
        pass
