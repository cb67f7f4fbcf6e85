"""HookedTransformer state dicts with their configuration, written by TransformerLens' own naming of GPT-2 and ours."""

import json

import pytest
import torch
from safetensors.torch import save_file

from tslens.errors import ModelError
from tslens.model.export import export_model
from tslens.model.foreign import ForeignModel
from tslens.model.load import find_model, load_model
from tslens.model.transformer import TinyTransformer

BOUND = 1e-4
SHAPE = {"n_layers": 2, "d_model": 32, "n_heads": 4, "d_head": 8, "n_ctx": 64, "d_vocab": 100, "d_mlp": 128}


@pytest.fixture(scope="module")
def gpt2():
    """A random GPT-2 with biases, its logits, and its weights in HookedTransformer's layout, plain and folded."""
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    size = {"vocab_size": 100, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    model = GPT2LMHeadModel(GPT2Config(**size, attn_implementation="eager")).eval()
    tokens = torch.randint(0, 100, (2, 50))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.ndim == 2 else 1).add_(0.1 * torch.randn(parameter.shape))
        logits = model(tokens).logits
    bridge = build_bridge_from_module(model, "GPT2LMHeadModel", hf_config=model.config, model_name="x")
    plain = {name: tensor.detach().clone() for name, tensor in bridge.tl_parameters().items()}
    bridge.enable_compatibility_mode()
    folded = {name: tensor.detach().clone() for name, tensor in bridge.tl_parameters().items()}
    return tokens, logits, plain, {name: tensor for name, tensor in folded.items() if ".ln" not in f".{name}"}


def write(folder, weights, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**SHAPE, "act_fn": "gelu_new", **config}))
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors")
    return folder


def test_ours_comes_back(tiny_model, tmp_path):
    export_model(tiny_model, "hooked-transformer", tmp_path / "hooked")
    assert find_model(tmp_path / "hooked").kind == "hooked-transformer"
    model = load_model(tmp_path / "hooked")
    assert isinstance(model, TinyTransformer)
    tokens = torch.randint(0, tiny_model.cfg.d_vocab, (2, 40))
    with torch.no_grad():
        assert torch.equal(model(tokens), tiny_model(tokens))
    assert model.tokenizer.sha256 == tiny_model.tokenizer.sha256


def test_gpt2(gpt2, tmp_path):
    tokens, logits, plain, _ = gpt2
    model = load_model(write(tmp_path / "plain", plain, normalization_type="LN"))
    assert isinstance(model, ForeignModel)
    with torch.no_grad():
        assert (model(tokens) - logits).abs().max() < BOUND
    assert model.tokenizer is None


def test_gpt2_with_folded_norms(gpt2, tmp_path):
    """Folding changes logits by a constant of each position, and leaves an output bias."""
    tokens, logits, _, folded = gpt2
    assert folded["unembed.b_U"].abs().max() > 0.01
    model = load_model(write(tmp_path / "folded", folded, normalization_type="LNPre"))
    with torch.no_grad():
        found = model(tokens).log_softmax(-1)
        assert (found - logits.log_softmax(-1)).abs().max() < BOUND
    twin = model.random_twin("redrawn", seed=0)
    assert len(twin._trained) == len(model._trained)


def test_a_window_becomes_gpt_neo(tiny_model, tmp_path):
    """Ours with another window: the logits differ from ours only behind that window, and patterns end there."""
    export_model(tiny_model, "hooked-transformer", tmp_path / "hooked")
    file = tmp_path / "hooked" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "window_size": 10}))
    model = load_model(tmp_path / "hooked")
    assert isinstance(model, ForeignModel)
    assert [model.window(0), model.window(1)] == [None, 10]
    tokens = torch.randint(0, tiny_model.cfg.d_vocab, (2, 40))
    with torch.no_grad():
        assert (model(tokens)[:, :10] - tiny_model(tokens)[:, :10]).abs().max() < BOUND
        assert (model(tokens)[:, 10:] - tiny_model(tokens)[:, 10:]).abs().max() > 100 * BOUND
    pattern = list(model.attention_patterns(tokens))[1]
    assert pattern.diagonal(-9, 2, 3).min() > 0
    assert pattern.diagonal(-10, 2, 3).max() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("positional_embedding_type", "rotary"),
        ("normalization_type", "RMS"),
        ("attn_only", True),
        ("gated_mlp", True),
        ("n_key_value_heads", 2),
        ("act_fn", "solu_ln"),
        ("attn_scale", 3.0),
        ("d_head", 16),
    ],
)
def test_other_architectures_are_refused_by_name(gpt2, tmp_path, field, value):
    with pytest.raises(ModelError, match=r"d_head" if field == "attn_scale" else rf"{field}|heads of 16"):
        load_model(write(tmp_path / "other", gpt2[2], **{field: value}))


def test_weights_that_do_not_fit(gpt2, tmp_path):
    plain = gpt2[2]
    fewer = {name: tensor for name, tensor in plain.items() if name != "blocks.1.mlp.b_in"}
    nan = {**plain, "ln_final.w": torch.full((32,), float("nan"))}
    for name, weights, config in [
        ("fewer", fewer, {}),
        ("nan", nan, {}),
        ("layers", plain, {"n_layers": 10**9}),
        ("vocab", plain, {"d_vocab": 10**10}),
        ("words", plain, {"n_heads": "four"}),
    ]:
        with pytest.raises(ModelError):
            load_model(write(tmp_path / name, weights, **config))
