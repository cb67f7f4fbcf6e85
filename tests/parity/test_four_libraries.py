"""One checkpoint in the four libraries: equal logits on 512 tokens, with layers that attend locally.

Version 3 of TransformerLens needs an environment of its own (``make compat``); its path is in ``$TSLENS_TL3_PYTHON``.
"""

import os
import subprocess

import pytest
import torch

from tslens.model.checkpoint import load_checkpoint, save_checkpoint
from tslens.model.export import export_model
from tslens.model.load import load_model
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer

BOUND = 1e-4

HOOKED_TRANSFORMER = """
import json, sys, torch
from safetensors.torch import load_file, save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig
folder, tokens, out = sys.argv[1:]
config = json.load(open(f"{folder}/config.json"))
model = HookedTransformer(HookedTransformerConfig.from_dict({**config, "device": "cpu"}))
model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=True)
with torch.no_grad():
    save_file({"logits": model(load_file(tokens)["tokens"])}, out)
"""


@pytest.fixture(scope="module")
def model(tokenizer):
    """Three layers, one of them local; weights far from zero, so that the window and the missing scale count."""
    model = TinyTransformer(ModelSpec.from_name("l3_h64"), tokenizer.vocab_size, seed=1, tokenizer=tokenizer)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 8 if ".W_" in name else 1
            parameter.mul_(scale).add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def tokens(model):
    return torch.randint(0, model.cfg.d_vocab, (2, 512), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def logits(model, tokens):
    with torch.no_grad():
        return model(tokens)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "huggingface"
    export_model(model, "huggingface", folder)
    return folder


def difference(one, other):
    return float((one - other).abs().max())


def test_the_window_matters_here(model, tokens, logits):
    """Without it this test would pass on a model that knows no local attention."""
    window = model.blocks[1].attn.window
    model.blocks[1].attn.window = None
    model.blocks[1].attn._mask = torch.empty(0, 0)
    try:
        with torch.no_grad():
            changed = model(tokens)
    finally:
        model.blocks[1].attn.window = window
        model.blocks[1].attn._mask = torch.empty(0, 0)
    assert difference(changed[:, :256], logits[:, :256]) < BOUND
    assert difference(changed[:, 256:], logits[:, 256:]) > 100 * BOUND


def test_tslens_checkpoint(model, tokens, logits, tmp_path):
    save_checkpoint(model, tmp_path / "step_000001.safetensors")
    with torch.no_grad():
        assert torch.equal(
            load_checkpoint(tmp_path / "step_000001.safetensors", model.tokenizer)(tokens), logits
        )


def test_tslens_reads_the_exported_folder(exported, tokens, logits):
    with torch.no_grad():
        assert difference(load_model(exported)(tokens), logits) < BOUND


def test_transformers(exported, tokens, logits, stories):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    theirs = AutoModelForCausalLM.from_pretrained(exported)
    with torch.no_grad():
        assert difference(theirs(tokens).logits, logits) < BOUND
    tokenizer = AutoTokenizer.from_pretrained(exported)
    own = load_model(exported).tokenizer
    assert tokenizer(stories[0].text)["input_ids"] == own.encode(stories[0].text)


@pytest.mark.filterwarnings("ignore")
def test_transformer_lens_4(exported, tokens, logits):
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(str(exported))
    with torch.no_grad():
        assert difference(bridge(tokens), logits) < BOUND


def test_transformer_lens_3(model, tokens, logits, tmp_path):
    python = os.environ.get("TSLENS_TL3_PYTHON")
    if not python:
        pytest.skip("run `make compat`, which makes the environment of TransformerLens 3.9")
    from safetensors.torch import load_file, save_file

    export_model(model, "hooked-transformer", tmp_path / "hooked")
    save_file({"tokens": tokens}, tmp_path / "tokens.safetensors")
    paths = (tmp_path / "hooked", tmp_path / "tokens.safetensors", tmp_path / "logits.safetensors")
    subprocess.run([python, "-c", HOOKED_TRANSFORMER, *map(str, paths)], check=True, capture_output=True)
    assert difference(load_file(paths[2])["logits"], logits) < BOUND
