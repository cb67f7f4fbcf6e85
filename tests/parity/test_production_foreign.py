"""What heads produce, in other people's models: the frozen normalisation gives their logits, and ours those of ours."""

import json

import pytest
import torch

from tslens.corpus.author import write_stories
from tslens.model.export import export_model
from tslens.model.foreign import ForeignModel
from tslens.model.load import load_model
from tslens.probes.production.direct import Run, behind_final_norm, unembedding
from tslens.probes.production.produce import score_production

pytestmark = pytest.mark.usefixtures("small_scans")


def their_model(kind, tokenizer):
    """A random model of transformers with norms that are not ones."""
    import transformers

    size = tokenizer.vocab_size
    torch.manual_seed(1)
    if kind == "gpt2":
        config = transformers.GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=4, n_positions=200)
        model = transformers.GPT2LMHeadModel(config)
    else:
        config = transformers.LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=200,
        )
        model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return ForeignModel(model.eval(), tokenizer, name=kind)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_frozen_normalisation_gives_the_logits(kind, tokenizer):
    model = their_model(kind, tokenizer)
    tokens = torch.randint(0, tokenizer.vocab_size, (2, 30), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits = model(tokens)
        run = Run.of(model, tokens)
        _, cache = model.run_with_cache(tokens)
        last = cache["blocks.1.hook_resid_post"]
        bias = model.unembed(model.final_norm(torch.zeros_like(last[:, :1])))
        again = behind_final_norm(model, last) / run.scale @ unembedding(model) + bias
        torch.testing.assert_close(again, logits, atol=1e-3, rtol=1e-3)
        written = torch.einsum("rphe,hed->rpd", run.z[0], model.bridge.blocks[0].attn.W_O)
        out = cache["blocks.0.hook_attn_out"]
        torch.testing.assert_close(written - written[:, :1], out - out[:, :1], atol=1e-4, rtol=1e-3)
    assert not any(model.list_hooks())


def test_rows_are_those_of_the_same_model_of_ours(tmp_path):
    """Random twins differ; values and intervals may not."""
    ours = load_model("shipped:l1_h64")
    path = tmp_path / "theirs"
    export_model(ours, "huggingface", path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "activation_function": "gelu_pytorch_tanh"}))
    theirs = load_model(path)
    assert isinstance(theirs, ForeignModel)
    stories = list(write_stories(30, seed=9))
    found, expected = (
        score_production(model, stories, seed=0, exclude=(), n_explain=0) for model in (theirs, ours)
    )
    assert len(found.rows) == len(expected.rows)
    for mine, other in zip(expected.rows, found.rows, strict=True):
        assert (mine.head, mine.kind, mine.name) == (other.head, other.kind, other.name)
        assert other.value == pytest.approx(mine.value, abs=1e-3)
        assert other.nulls["moved"] == pytest.approx(mine.nulls["moved"], abs=1e-3)
        assert other.beside is None
