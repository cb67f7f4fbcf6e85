"""The package against training/shipped.toml: nothing is in it that the file does not name; what is there agrees."""

import shutil
import tomllib
from pathlib import Path

import pytest

from tslens.files import read_json, write_json
from tslens.model import shipped

TRAINING = Path(__file__).parents[2] / "training"
RECIPE = tomllib.loads((TRAINING / "shipped.toml").read_text(encoding="utf-8"))
SHARED = {"tokenizers", "corpora"}


def disagreements(models, results):
    """What is wrong with a folder of models and one of results, in words; a cell that is not trained yet is fine."""
    cells = {f"{row['model']}/seed{seed}": row for row in RECIPE["cells"] for seed in row["seeds"]}
    read_by, tokenizers = {False: set(), True: set()}, set()
    for folder in sorted(path for path in models.glob("*/*") if path.parent.name not in SHARED):
        cell = f"{folder.parent.name}/{folder.name}"
        is_packaged = (folder / "model.safetensors").exists()
        if cell not in cells:
            yield f"{cell} is no cell of shipped.toml"
        elif is_packaged != cells[cell]["packaged"]:
            yield f"{cell} is packaged and should not be" if is_packaged else f"{cell} has no weights"
        elif not (folder / "model.json").exists():
            yield f"{cell} has no facts"
        else:
            facts = read_json(folder / "model.json")
            yield from differences(cell, facts, folder if is_packaged else results / cell)
            read_by["instruct" in cell].add(facts["corpus"])
            tokenizers.add(facts["tokenizer_sha256"])
    for what, found in (("story corpora", read_by[False]), ("instruction corpora", read_by[True])):
        if len(found) > 1:
            yield f"there are {len(found)} {what}"
    if len(tokenizers) > 1:
        yield f"there are {len(tokenizers)} tokenizers"


def differences(cell, facts, folder):
    """Where the facts of a cell, the settings and provenance of its run, and the recipe do not say the same."""
    name, _, seed = cell.partition("/seed")
    model = {"model": name, "seed": int(seed)}
    texts = {"corpus_sha256": facts["corpus"], "tokenizer_sha256": facts["tokenizer_sha256"]}
    settings = RECIPE["settings"] | {"vocab_size": RECIPE["data"]["vocab_size"]}
    run = {"seed": int(seed), "data_sha256": facts["corpus"]}
    if "instruct" not in name:
        run["data"] = f"{RECIPE['data']['stories']}+{RECIPE['data']['author']}"
    for file, found, expected in (
        ("model.json", facts, {"name": name, "seed": int(seed)}),
        ("config.json", read_json(folder / "config.json"), model | texts | settings),
        ("provenance.json", read_json(folder / "provenance.json"), run),
    ):
        for key, value in expected.items():
            if found[key] != value:
                yield f"{cell}: {key} in {file} is {found[key]}, not {value}"


def test_the_package_is_what_the_recipe_says():
    assert list(disagreements(shipped.MODELS, TRAINING / "results")) == []


def test_the_recipe_names_each_cell_once():
    cells = [(row["model"], seed) for row in RECIPE["cells"] for seed in row["seeds"]]
    assert len(cells) == len(set(cells))


# What the first of these tests would find ---------------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    """A package of one real model and its shared files; a function that tells what is wrong with it."""
    shutil.copytree(shipped.MODELS / "l1_h64", tmp_path / "models" / "l1_h64")
    shutil.copytree(shipped.MODELS / "tokenizers", tmp_path / "models" / "tokenizers")
    return tmp_path / "models"


def wrong_with(package):
    return list(disagreements(package, package.parent / "results"))


def test_untrained_cells_are_fine(package):
    assert wrong_with(package) == []


@pytest.mark.parametrize("place", ["l1_h64/seed7", "l3_h64/seed0"])
def test_a_model_that_the_recipe_does_not_know(package, place):
    shutil.copytree(package / "l1_h64/seed0", package / place)
    assert wrong_with(package) == [f"{place} is no cell of shipped.toml"]


def test_a_model_that_should_not_be_packaged(package):
    row = next(row for row in RECIPE["cells"] if not row["packaged"])
    place = f"{row['model']}/seed{row['seeds'][0]}"
    shutil.copytree(package / "l1_h64/seed0", package / place)
    assert wrong_with(package) == [f"{place} is packaged and should not be"]


@pytest.mark.parametrize("lost", ["model.safetensors", "model.json"])
def test_half_a_model(package, lost):
    (package / "l1_h64/seed0" / lost).unlink()
    assert len(wrong_with(package)) == 1


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("model.json", {"seed": 1}),
        ("config.json", {"seed": 1}),
        ("config.json", {"model": "l1_h128"}),
        ("config.json", {"amount": 20_000_000}),
        ("config.json", {"precision": "float32"}),
        ("config.json", {"tokenizer_sha256": "t" * 64}),
        ("provenance.json", {"data_sha256": "c" * 64}),
        ("provenance.json", {"data": "author:1777:1"}),
    ],
)
def test_facts_that_do_not_agree(package, file, change):
    path = package / "l1_h64/seed0" / file
    write_json(path, read_json(path) | change)
    (said,) = wrong_with(package)
    assert f"{next(iter(change))} in {file}" in said


def test_models_of_two_corpora(package):
    shutil.copytree(shipped.MODELS / "l1_h128", package / "l1_h128")
    for file, key in (
        ("model.json", "corpus"),
        ("config.json", "corpus_sha256"),
        ("provenance.json", "data_sha256"),
    ):
        path = package / "l1_h128/seed0" / file
        write_json(path, read_json(path) | {key: "c" * 64})
    assert wrong_with(package) == ["there are 2 story corpora"]
