"""Commands on another library's model."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    """A small Llama of transformers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    path = tmp_path_factory.mktemp("foreign") / "their-llama"
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save(path / "tokenizer.json")
    return path


@pytest.mark.filterwarnings("ignore:.*intervals are:UserWarning")
def test_heads(tslens, folder, story_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "heads.html"
    done = tslens(
        "heads", "--model", folder, "--stories", story_file, "--n-stories", 5, "--html", page, "--json"
    )
    assert done.code == 0, done.err
    assert f"model: folder {folder}, transformers" in done.err
    assert "what it was trained on is not known" in done.err
    found = json.loads(done.out)
    assert found["model"] == "their-llama"
    assert {row["head"] for row in found["heads"]} == {f"L0H{i}" for i in range(4)}
    assert list((tmp_path / "runs" / "their-llama" / "results" / "heads").glob("*.jsonl"))
    assert page.stat().st_size > 10_000


def test_look(tslens, folder):
    done = tslens("look", "Tom found a kite.", "--model", folder, "--head", "L0H3", "--json")
    assert done.code == 0, done.err
    assert list(json.loads(done.out)["patterns"]) == ["L0H3"]


def test_generate(tslens, folder):
    done = tslens("generate", "--model", folder, "--prompt", "Tom", "--max-tokens", 5, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["completions"][0]["completion"]


def test_it_is_not_exported(tslens, folder, tmp_path):
    done = tslens("export", "--model", folder, "--to", "huggingface", tmp_path / "out")
    assert done.code == 1
    assert "no other format" in done.err


def test_a_pickle_and_another_architecture(tslens, tmp_path):
    (tmp_path / "model.pt").touch()
    done = tslens("heads", "--model", tmp_path / "model.pt")
    assert done.code == 1
    assert "pickle" in done.err
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = tslens("heads", "--model", tmp_path)
    assert done.code == 1
    assert "bert" in done.err
