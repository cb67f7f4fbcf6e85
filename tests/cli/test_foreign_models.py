"""Commands on another library's model."""

import json

import pytest
import torch

pytestmark = pytest.mark.usefixtures("told_once", "small_scans")


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
    assert list((tmp_path / "runs" / "their-llama-transformers" / "results" / "heads").glob("*.jsonl"))
    assert page.stat().st_size > 10_000


@pytest.fixture(scope="module")
def papers_folder(tmp_path_factory):
    """A function: a shipped GPT-Neo as transformers has it, its activation renamed, so that it is not read as ours."""
    from tslens.model.export import export_model
    from tslens.model.load import load_model

    def made(name):
        path = tmp_path_factory.mktemp("foreign") / f"their-{name}"
        export_model(load_model(f"shipped:{name}"), "huggingface", path)
        config = json.loads((path / "config.json").read_text())
        assert config["activation_function"] == "gelu_new"
        (path / "config.json").write_text(json.dumps({**config, "activation_function": "gelu_pytorch_tanh"}))
        return path

    return made


@pytest.mark.slow  # losses and patterns of such a folder are held against ours in tests/parity
@pytest.mark.filterwarnings("ignore:.*intervals are:UserWarning")
def test_roles_and_causes_are_those_of_the_same_model_of_ours(tslens, papers_folder, tmp_path, monkeypatch):
    """Random twins differ, so which rows are candidates may; what was measured of a row in both may not."""
    monkeypatch.chdir(tmp_path)
    explained = []
    for model in (papers_folder("l4_h64"), "shipped:l4_h64"):
        probes = ["--probe", "action", "--probe", "distance_2", "--probe", "previous_token"]
        done = tslens("heads", "--model", model, "--n-stories", 40, "--n-explain", 12, *probes, "--json")
        assert done.code == 0, done.err
        rows = json.loads(done.out)["heads"]
        explained.append({(r["head"], r["probe"], r["position"]): r for r in rows if r["cause"] is not None})
    theirs, ours = explained
    both = sorted(theirs.keys() & ours.keys())
    assert {head[:2] for head, _, _ in both} >= {"L2", "L3"}, "a layer with and one without a layer after it"
    assert "role" in {theirs[row]["status"] for row in both}
    for row in both:
        assert theirs[row]["status"] == ours[row]["status"]
        assert theirs[row]["basis"] == ours[row]["basis"]
        corrected = {"edge_low"}  # for all rows that were tested, which differ where the candidates do
        assert theirs[row]["cause"].keys() == ours[row]["cause"].keys()
        for name in theirs[row]["cause"].keys() - corrected:
            assert theirs[row]["cause"][name] == pytest.approx(ours[row]["cause"][name], abs=1e-4), (
                row,
                name,
            )
    assert max(abs(theirs[row]["cause"]["zero"]) for row in both) > 0.01


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


def test_a_pickle_and_another_architecture(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").touch()
    done = tslens("heads", "--model", tmp_path / "model.pt")
    assert done.code == 1
    assert "pickle" in done.err
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    done = tslens("heads", "--model", tmp_path)
    assert done.code == 1
    assert "bert" in done.err


@pytest.mark.slow
def test_neurons_are_those_of_the_same_model_of_ours(tslens, papers_folder, tmp_path, monkeypatch):
    """Random twins differ, so which rows are candidates may; what was measured of a neuron in both may not."""
    monkeypatch.chdir(tmp_path)
    measured = []
    for model in (papers_folder("l2_h64"), "shipped:l2_h64"):
        done = tslens(
            "neurons", "--model", model, "--layer", 1, "--n-stories", 40, "--n-explain", 12, "--json"
        )
        assert done.code == 0, done.err
        measured.append({row["neuron"]: row for row in json.loads(done.out)["neurons"]})
    theirs, ours = measured
    assert theirs.keys() == ours.keys() == {f"L1N{index}" for index in range(256)}
    same = [name for name in ours if ours[name]["role"] is not None]
    n_causes = 0
    for name in same:
        mine, other = ours[name], theirs[name]
        assert other["role"] == mine["role"] and other["auroc"] == pytest.approx(mine["auroc"], abs=2e-3)
        assert other["writes"]["promotes"][:3] == mine["writes"]["promotes"][:3]
        if mine["cause"] is not None and other["cause"] is not None:
            n_causes += 1
            assert other["cause"]["mean"] == pytest.approx(mine["cause"]["mean"], abs=2e-4)
            assert other["cause"]["zero"] == pytest.approx(mine["cause"]["zero"], abs=2e-4)
    assert len(same) > 200 and n_causes > 20


def test_neurons_of_a_gated_mlp(tslens, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "neurons.html"
    done = tslens("neurons", "--model", folder, "--n-stories", 60, "--n-explain", 4, "--html", page, "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["neurons"]
    assert [row["neuron"] for row in rows] == [f"L0N{index}" for index in range(40)]
    assert not [row for row in rows if row["status"] == "role"], "it is random"
    assert page.stat().st_size > 10_000
