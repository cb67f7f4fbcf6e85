"""Which model a name means, and what the note says."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tslens.corpus import hub_model
from tslens.errors import ModelError
from tslens.model import load
from tslens.model.checkpoint import save_checkpoint
from tslens.model.export import export_model
from tslens.model.load import find_model, load_model


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(load, "find_shipped", lambda name, seed: None)
    monkeypatch.setattr(load, "shipped_models", list)
    return tmp_path


def make_run(folder: Path, model, *, seed=0):
    run = folder / f"seed{seed}"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"model": folder.name, "seed": seed}))
    save_checkpoint(model, run / "checkpoints" / "step_000001.safetensors")
    (run / "DONE").touch()


@pytest.fixture
def shipped(monkeypatch, place):
    """A shipped model of the same name as a run."""
    cell = SimpleNamespace(
        name="l2_h64", seed=0, label="l2_h64@seed0", path=place / "package", weights=place / "package" / "w",
        val_bits_per_byte=1.25, ngram_bits_per_byte=1.5,
    )  # fmt: skip
    monkeypatch.setattr(load, "find_shipped", lambda name, seed: cell if name == "l2_h64" else None)
    monkeypatch.setattr(load, "shipped_models", lambda: [cell])
    return cell


def test_a_run_goes_before_a_shipped_model(place, shipped, tiny_model):
    found = find_model("l2_h64")
    assert (found.kind, found.label) == ("shipped", "shipped:l2_h64@seed0")
    assert found.home.path == Path("runs/l2_h64-shipped/seed0")
    assert found.home.results("heads") == Path("runs/l2_h64-shipped/seed0/results/heads")
    assert (found.validation_bits(), found.ngram_bits()) == (1.25, 1.5)
    make_run(place / "runs" / "l2_h64", tiny_model)
    found = find_model("l2_h64")
    assert (found.kind, found.label) == ("checkpoint", "l2_h64@seed0")
    assert "also there: shipped:l2_h64@seed0" in found.note
    assert find_model("shipped:l2_h64").kind == "shipped"


def test_a_seed_that_no_run_has_is_that_of_the_shipped_model(place, shipped, tiny_model, monkeypatch):
    make_run(place / "runs" / "l2_h64", tiny_model)
    monkeypatch.setattr(load, "find_shipped", lambda name, seed: shipped if seed == "seed1" else None)
    assert find_model("l2_h64@seed1").kind == "shipped"
    assert find_model("l2_h64@seed0").kind == "checkpoint"
    with pytest.raises(ModelError, match="seed2"):
        find_model("l2_h64@seed2")


def test_a_path_goes_before_all(place, shipped, tiny_model):
    make_run(place / "runs" / "l2_h64", tiny_model)
    make_run(place / "l2_h64", tiny_model, seed=3)
    found = find_model("l2_h64")
    assert found.label == "l2_h64@seed3"
    assert "also there: runs/l2_h64, shipped:l2_h64@seed0" in found.note


def test_seeds(place, tiny_model):
    for seed in (0, 2):
        make_run(place / "runs" / "l2_h64", tiny_model, seed=seed)
    assert find_model("l2_h64").label == "l2_h64@seed0"
    assert "also there: l2_h64@seed2" in find_model("l2_h64").note
    assert find_model("l2_h64@seed2").label == "l2_h64@seed2"
    with pytest.raises(ModelError, match="there are seed0, seed2"):
        find_model("l2_h64@seed5")


def test_folders_and_files_by_their_content(place, tiny_model):
    for to in ("huggingface", "hooked-transformer"):
        export_model(tiny_model, to, place / to)
    found = find_model("huggingface")
    assert (found.kind, found.label, found.home.path) == (
        "transformers",
        "huggingface",
        Path("runs/huggingface-transformers"),
    )
    assert find_model("hooked-transformer").kind == "hooked-transformer"
    shutil.move(place / "huggingface", place / "TinyStories-1.5M")
    assert find_model("TinyStories-1.5M").label == "TinyStories-1.5M"
    (place / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model"):
        find_model("empty")
    (place / "m.pt").touch()
    with pytest.raises(ModelError, match="pickle") as caught:
        find_model("m.pt")
    assert "safetensors" in caught.value.hint


def test_nothing_of_that_name(place, shipped):
    with pytest.raises(ModelError) as caught:
        find_model("l2_h46")
    assert "Did you mean l2_h64?" in caught.value.hint
    for name, near in (
        ("l9_h999", "l9_h1024"),
        ("l8_h65", "l8_h64"),
    ):  # shapes near them, of which no model is there
        with pytest.raises(ModelError) as caught:
            find_model(name)
        assert near not in caught.value.hint
    (place / "runs" / "l7_h777" / "seed0").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:  # a folder that holds no run is no model
        find_model("l7_h778")
    assert "l7_h777" not in caught.value.hint
    with pytest.raises(ModelError, match="no shipped model") as caught:
        find_model("shipped:l2_h46")
    assert "shipped:l2_h64@seed0" in caught.value.hint


# The hub, which no test reaches ---------------------------------------------------------------------------------


@pytest.fixture
def hub(place, monkeypatch):
    """A hub that answers with what a test puts into it."""
    answers = {"names": ["model.safetensors", "config.json"], "error": None, "asked": []}

    class Api:
        def model_info(self, repository, *, revision, timeout):
            answers["asked"].append((repository, revision))
            if answers["error"] is not None:
                raise answers["error"]
            names = [SimpleNamespace(rfilename=name) for name in answers["names"]]
            return SimpleNamespace(siblings=names, sha="abc")

    def snapshot(repository, *, revision, allow_patterns, local_files_only=False):
        assert not {"*.bin", "*", "*.pt", "*.py"} & set(allow_patterns)
        if local_files_only and not answers.get("cached"):
            raise OSError("not in the cache")
        return str(answers["folder"])

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    return answers


def test_a_model_of_the_hub(hub, place, tiny_model):
    export_model(tiny_model, "huggingface", place / "cache" / "0123abc")
    hub["folder"] = place / "cache" / "0123abc"
    found = find_model("someone/their-model@refs/pr/1")
    assert hub["asked"] == [("someone/their-model", "refs/pr/1")]
    assert found.label == "someone/their-model@refs/pr/1"
    assert "of the Hugging Face hub" in found.note
    assert os.sep not in found.home.path.name
    assert load_model("someone/their-model").spec == tiny_model.spec


def test_a_hub_model_without_safetensors(hub):
    hub["names"] = ["pytorch_model.bin", "config.json"]
    with pytest.raises(ModelError, match="no safetensors"):
        find_model("someone/their-model")


def test_no_network(hub, place, tiny_model):
    hub["error"] = ConnectionError("name not resolved")
    with pytest.raises(ModelError, match="cannot be reached: name not resolved"):
        find_model("someone/their-model")
    export_model(tiny_model, "huggingface", place / "cache" / "0123abc")
    hub |= {"cached": True, "folder": place / "cache" / "0123abc"}
    assert find_model("someone/their-model").path == hub["folder"]


def test_a_mistyped_path_asks_nobody(hub, place):
    (place / "runs").mkdir()
    for text in ("runs/l9_h64", "runs/m.bin", "some/where.safetensors", "a/b/c", "nonsense"):
        with pytest.raises(ModelError, match="No trained model"):
            find_model(text)
    assert hub["asked"] == []
    assert hub_model.is_hub_model("roneneldan/TinyStories-1M")
