"""Shipped models: the package is whole and small, loads as it was rounded, and says so where it is broken."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tslens.corpus.stories import is_validation
from tslens.errors import DataError, ModelError, UsageError
from tslens.files import read_json, read_jsonl, write_json
from tslens.model import shipped
from tslens.model.checkpoint import load_checkpoint, read_tensors, save_checkpoint
from tslens.model.shipped import (
    NGRAM_SCHEMA,
    ShippedFacts,
    TextLoss,
    find_shipped,
    open_shipped,
    shipped_models,
    write_rounded,
)
from tslens.model.spec import ModelSpec
from tslens.probes.results import SCHEMA as SCORES_SCHEMA
from tslens.run_folder import METRICS_SCHEMA
from tslens.types import Story

pytestmark = pytest.mark.usefixtures("small_scans")


TRAINING = Path(__file__).parents[2] / "training"
LOSS = TextLoss("real stories", 9, 2.5, 0.9)


def ship(model, *, seed=0, packaged=True):
    """Put a cell into the package as make_models.py does, but with losses that are made up."""
    folder = shipped.MODELS / model.spec.name / f"seed{seed}"
    checkpoint = shipped.MODELS.parent / "step_000001.safetensors"
    save_checkpoint(model, checkpoint)
    if packaged:
        write_rounded(checkpoint, folder / "model.safetensors")
    model.tokenizer.save(shipped.tokenizer_file(model.tokenizer.sha256))
    corpus = shipped.corpus_folder("c" * 64)
    corpus.mkdir(parents=True, exist_ok=True)
    np.save(corpus / "train_digests.npy", np.array([3, 2**63 + 5], dtype=np.uint64))
    held_out = [{"texts": "real stories", "n_texts": 9, "loss_nats": 3.0, "bits_per_byte": 1.1}]
    write_json(corpus / "ngram4.json", {"schema": NGRAM_SCHEMA, "order": 4, "held_out": held_out})
    facts = ShippedFacts(
        name=model.spec.name,
        seed=seed,
        corpus="c" * 64,
        tokenizer_sha256=model.tokenizer.sha256,
        n_parameters=model.spec.n_params(model.cfg.d_vocab),
        steps=10,
        n_tokens=1000,
        seconds=1.5,
        train=LOSS,
        held_out=(LOSS,),
    )
    facts.write(folder)
    return folder


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty package, and a current folder without runs."""
    monkeypatch.setattr(shipped, "MODELS", tmp_path / "assets" / "models")
    monkeypatch.chdir(tmp_path)
    return shipped.MODELS


# What is in the package now ---------------------------------------------------------------------------------


def test_the_package_is_small():
    size = sum(path.stat().st_size for path in shipped.MODELS.rglob("*") if path.is_file())
    assert size <= 40_000_000


@pytest.mark.parametrize("found", shipped_models(), ids=lambda found: found.label)
def test_what_is_in_the_package_is_whole(found):
    assert found.facts.n_tokens > 0
    if found.packaged:
        model = open_shipped(found)
        assert model.train_digests
        assert sum(p.numel() for p in model.parameters()) == found.facts.n_parameters
        assert read_json(found.path / "config.json")["model"] == found.name
        assert read_json(found.path / "provenance.json")["data_sha256"] == found.facts.corpus
        assert read_jsonl(found.path / "metrics.jsonl", METRICS_SCHEMA)[1]


@pytest.mark.parametrize("found", shipped_models(), ids=lambda found: found.label)
def test_story_models_beat_the_4gram(found):
    spec = ModelSpec.from_name(found.name)
    if not spec.instruct and (found.name == "l1_h256" or (spec.d_model >= 128 and spec.n_layers >= 2)):
        assert found.ngram_bits_per_byte - found.val_bits_per_byte >= 0.10


# Loading ----------------------------------------------------------------------------------------------------


def test_a_shipped_model_has_the_logits_of_its_rounded_weights(package, tiny_model, tokenizer):
    ship(tiny_model)
    model = open_shipped(find_shipped("l2_h64", None))
    tokens = torch.from_numpy(
        tokenizer.encode_story("Once upon a time, Tom found a ball.")[None, :-1].astype(int)
    )
    rounded = load_checkpoint(package.parent / "step_000001.safetensors", tokenizer)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half().float())
        assert torch.equal(model(tokens), rounded(tokens))
        assert not torch.equal(model(tokens), tiny_model(tokens))
    assert model.embed.W_E.dtype == torch.float32
    assert not model.training
    assert model.train_digests == {3, 2**63 + 5}
    assert model.tokenizer.sha256 == tokenizer.sha256


def test_weights_are_stored_once_and_in_half(package, tiny_model):
    folder = ship(tiny_model)
    metadata, tensors = read_tensors(folder / "model.safetensors")
    assert metadata["model"] == "l2_h64"
    assert set(tensors) == {name for name, _ in tiny_model.named_parameters()}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert (folder / "model.safetensors").stat().st_size < 2.1 * sum(
        p.numel() for p in tiny_model.parameters()
    )


def test_weights_too_large_for_float16_are_refused(package, tiny_model, tmp_path):
    save_checkpoint(tiny_model, tmp_path / "whole.safetensors")
    metadata, tensors = read_tensors(tmp_path / "whole.safetensors")
    tensors["blocks.0.mlp.b_in"][0] = 1e6
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "large.safetensors", metadata={"tslens": json.dumps(metadata)})
    with pytest.raises(ModelError, match="does not fit float16"):
        write_rounded(tmp_path / "large.safetensors", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


# Finding ----------------------------------------------------------------------------------------------------


def test_a_cell_is_found_by_name_and_seed(package, tiny_model):
    ship(tiny_model, seed=2)
    assert find_shipped("l2_h64", None).label == "l2_h64@seed2"  # the only one
    ship(tiny_model, seed=0)
    assert find_shipped("l2_h64", None).label == "l2_h64@seed0"
    assert find_shipped("l2_h64", "seed2").seed == 2
    assert find_shipped("l2_h64", "seed1") is None
    assert find_shipped("l1_h64", None) is None
    assert find_shipped("../models/l2_h64", None) is None
    assert [one.label for one in shipped_models()] == ["l2_h64@seed0", "l2_h64@seed2"]
    assert find_shipped("l2_h64", None).ngram_bits_per_byte == 1.1
    assert find_shipped("l2_h64", None).val_bits_per_byte == 0.9


def test_a_cell_without_weights_says_how_to_make_them(package, tiny_model, tmp_path):
    ship(tiny_model, packaged=False)
    found = find_shipped("l2_h64", None)
    assert not found.packaged
    assert found.weights is None
    with pytest.raises(ModelError, match="make models"):
        open_shipped(found)
    rebuilt = Path("runs/shipped/l2_h64/seed0/model.safetensors")
    write_rounded(package.parent / "step_000001.safetensors", rebuilt)
    assert found.weights == rebuilt
    assert open_shipped(found).spec.name == "l2_h64"
    assert not found.packaged


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("l2_h64/seed0/model.json", '{"schema": "tslens.shipped/9"}'),
        ("l2_h64/seed0/model.json", "{"),
        ("l2_h64/seed0/model.json", "[]"),
        ("l2_h64/seed0/model.safetensors", "x"),
        ("corpora/cccccccccccc/ngram4.json", "{}"),
        ("corpora/cccccccccccc/train_digests.npy", "x"),
    ],
)
def test_a_broken_package_names_the_file(package, tiny_model, file, content):
    ship(tiny_model)
    (package / file).write_text(content)
    with pytest.raises((ModelError, DataError), match=Path(file).name):
        open_shipped(find_shipped("l2_h64", None))


def test_weights_of_another_cell_are_refused(package, tiny_model):
    folder = ship(tiny_model)
    facts = read_json(folder / "model.json")
    write_json(folder / "model.json", facts | {"seed": 1})
    with pytest.raises(ModelError, match="seed 1"):
        find_shipped("l2_h64", None)


def test_the_command_lists_them(package, tiny_model, tslens):
    outcome = tslens("models")
    assert outcome.code == 0
    assert "No model is in the package" in outcome.out
    ship(tiny_model)
    outcome = tslens("models")
    assert "l2_h64" in outcome.out
    assert "in the package" in outcome.out
    (row,) = json.loads(tslens("models", "--json").out)["models"]
    assert (row["model"], row["packaged"], row["parameters"]) == (
        "l2_h64",
        True,
        tiny_model.spec.n_params(tiny_model.cfg.d_vocab),
    )
    assert row["held_out"][0]["ngram_bits_per_byte"] == 1.1


# Making -----------------------------------------------------------------------------------------------------

RECIPE = """
[data]
stories = "stories.jsonl"
author = "author:140:1"
instruct_seed = 0
vocab_size = 300
[settings]
budget = "steps"
amount = 12
batch_tokens = 512
[[cells]]
model = "l1_h32"
seeds = [0]
packaged = true
[[cells]]
model = "l1_h32-instruct"
seeds = [0]
packaged = false
"""


@pytest.fixture(scope="module")
def told(stories):
    """Enough stories that some of each kind are held out."""
    return [Story(f"{s.text}\nThey saw {n} stars.") for n in range(4) for s in stories]


@pytest.fixture
def maker(package, told, tmp_path, monkeypatch):
    """make_models.py with a recipe of two tiny cells."""
    monkeypatch.syspath_prepend(TRAINING)
    module = importlib.import_module("make_models")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "shipped.toml").write_text(RECIPE)
    readme = (
        "before\n<!-- written by make_models.py -->\nold\n<!-- end of what make_models.py writes -->\nafter\n"
    )
    (tmp_path / "training" / "README.md").write_text(readme)
    (tmp_path / "stories.jsonl").write_text("".join(json.dumps({"text": s.text}) + "\n" for s in told))
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path))
    monkeypatch.setattr(module, "HEADS_STORIES", 40)
    for name in ("RECIPE", "README", "RESULTS"):
        monkeypatch.setattr(module, name, tmp_path / "training" / getattr(module, name).name)
    yield module
    for name in ("make_models", "model_texts"):
        sys.modules.pop(name, None)


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")  # few of 40 stories have direct speech
def test_making_the_cells_once_and_the_table(maker, package, told, tmp_path, capsys):
    assert maker.main([]) == 0
    story, instruct = shipped_models()
    assert (story.packaged, instruct.packaged) == (True, False)
    assert instruct.weights == Path("runs/shipped/l1_h32-instruct/seed0/model.safetensors")
    assert {path.name for path in (tmp_path / "training/results/l1_h32-instruct/seed0").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "provenance.json",
        "samples.jsonl",
        "heads",
    }
    (heads,) = (tmp_path / "training/results/l1_h32-instruct/seed0/heads").glob("*.jsonl")
    header, rows = read_jsonl(heads, SCORES_SCHEMA)
    assert (header["model"], header["n_stories"]) == ("shipped:l1_h32-instruct@seed0", 40)
    assert {row["head"] for row in rows} == {"L0H0", "L0H1"}
    command = read_json(heads.with_suffix(".provenance.json"))["command"]
    assert command == (
        "tslens heads --model shipped:l1_h32-instruct@seed0 --n-stories 40 "
        "--out training/results/l1_h32-instruct/seed0/heads"
    )
    assert len(list((package / "tokenizers").iterdir())) == 1
    assert [loss.texts for loss in story.facts.held_out] == ["real stories", "author stories"]
    assert story.facts.steps == 12
    text = (tmp_path / "training/README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"{story.val_bits_per_byte:.3f}" in text
    # probes leave out training stories by the hash of the story, which is not that of the text after its prompt
    digests = open_shipped(instruct).train_digests
    read = {story.digest for story in told if not is_validation(story)} & digests
    assert len(read) > 0.8 * sum(not is_validation(story) for story in told)
    assert not digests & {story.digest for story in told if is_validation(story)}
    # what is done is passed over
    before = (story.path / "model.json").stat().st_mtime_ns
    assert maker.main([]) == 0
    assert (story.path / "model.json").stat().st_mtime_ns == before
    capsys.readouterr()
    maker.main(["--list"])
    assert capsys.readouterr().out.count("done") == 2


def test_losses_are_of_the_rounded_weights_on_all_held_out_stories(maker, tmp_path, told):
    from tslens.model.loss import evaluate, loss_per_target

    assert maker.main(["--only", "l1_h32"]) == 0
    (found,) = shipped_models()
    model = open_shipped(found)
    real = [story for story in told if is_validation(story)]
    encoded = [model.tokenizer.encode_story(story.text) for story in real]
    report = evaluate(lambda group: loss_per_target(model, group), encoded, model.tokenizer.n_bytes)
    loss = found.facts.held_out[0]
    assert loss.n_texts == len(real)
    assert loss.loss_nats == pytest.approx(report.loss_nats, abs=1e-6)
    assert loss.bits_per_byte == pytest.approx(report.bits_per_byte, abs=1e-6)
    assert not model.train_digests & {story.digest for story in real}


def test_a_slice_leaves_a_run_that_goes_on(maker, capsys):
    assert maker.main(["--only", "l1_h32", "--minutes", "0"]) == 3
    assert shipped_models() == []
    assert maker.main(["--only", "l1_h32@seed0"]) == 0
    assert len(shipped_models()) == 1


def test_an_unknown_cell_is_refused(maker):
    with pytest.raises(UsageError, match="l9_h64"):
        maker.main(["--only", "l9_h64"])
