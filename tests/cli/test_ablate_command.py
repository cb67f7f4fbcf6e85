"""``tslens ablate`` as a user runs it."""

import json

import pytest

from tslens.link.ablation_report import load_ablations

STORIES = ("--stories", "author:60", "--n-stories", 30)
MODEL = ("ablate", "--model", "shipped:l1_h64", *STORIES)
ROW = {"component", "method", "delta_loss_nats", "low", "high", "low_corrected", "high_corrected", "p"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ablate")


@pytest.fixture
def run(tslens, folder, monkeypatch):
    """Runs the command in a folder of its own; its JSON."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        done = tslens(*MODEL, *arguments, "--json")
        assert done.code == 0, done.err
        assert done.err.splitlines()[0].startswith("tslens ablate: ") and "(seed 0)" in done.err
        return json.loads(done.out)

    return run


def names(found):
    return [row["component"] for row in found["components"] if row["method"] == "mean"]


def test_json_keeps_the_contract(run, folder):
    found = run()
    assert found["schema"] == "tslens.ablate/1" and found["model"] == "shipped:l1_h64@seed0"
    assert found["n_stories"] == 30 and names(found) == [f"L0H{i}" for i in range(4)]
    assert [row["method"] for row in found["components"]] == ["zero", "mean", "resample"] * 4
    for row in found["components"]:
        assert set(row) >= ROW
        assert row["low_corrected"] <= row["low"] <= row["delta_loss_nats"] <= row["high"]
        assert row["by_class"]["NOUN"]["n_stories"] == 30 and row["by_class"]["VERB"]["low"] is not None
    assert max(row["delta_loss_nats"] for row in found["components"]) > 0.05
    (path,) = (folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "ablate").glob("*_heads.jsonl")
    header, rows = load_ablations(path)
    assert [row.to_json() for row in rows] == found["components"]
    assert header["loss_nats"] == found["loss_nats"]
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0 and record["command"].startswith("tslens ")


def test_what_options_choose(run):
    assert names(run("--components", "mlps")) == ["L0.attn", "L0.mlp", "L0"]
    whole = run("--layer", 0, "--method", "mean")
    assert names(whole) == ["L0.attn", "L0.mlp", "L0"] and len(whole["components"]) == 3
    half = run("--neuron-fraction", 0.5, "--method", "mean", "--method", "zero", "--draws", 2)
    assert [row["component"] for row in half["components"]] == ["neurons:0.5"] * 2
    assert half["components"][0]["method"] == "zero" and half["components"][0]["spread"] > 0
    (part,) = run("--neuron-fraction", 0.05, "--method", "mean", "--draws", 2)["components"]
    assert part["delta_loss_nats"] < half["components"][1]["delta_loss_nats"]


def test_whole_roles_of_neurons_and_of_heads(run, tslens, folder, of_heads, of_neurons):
    done = tslens(*MODEL, "--components", "neurons")
    assert done.code == 2 and "tslens neurons" in done.err
    results = folder / "runs" / "l1_h64-shipped" / "seed0" / "results"
    nouns = dict.fromkeys(range(20), "role")
    of_neurons(results / "neurons" / "a.jsonl", {"noun": nouns, "quote": {30: "candidate", 31: "no"}})
    file = of_heads(results / "heads" / "a.jsonl", {"first_token": {"L0H0": "role", "L0H2": "candidate"}})
    found = run("--components", "neurons", "--method", "mean")
    assert names(found) == ["role:noun", "role:quote"]
    assert found["members"] == {"role:noun": [f"L0N{i}" for i in range(20)], "role:quote": ["L0N30"]}
    for row in found["components"]:
        assert row["n_components"] == len(found["members"][row["component"]])
    assert any(row["beyond_random"] is not None for row in found["components"])
    heads = run("--roles", file, "--method", "mean")
    assert names(heads) == [*(f"L0H{i}" for i in range(4)), "role:first_token"]
    assert heads == run("--method", "mean")  # the newest results of the model are taken by themselves


def test_a_table_for_people(tslens, project):
    """Beside results of the heads that hold no role: only those that a user names have to."""
    few = ("--stories", "author:60", "--n-stories", 40, "--n-explain", 0, "--probe", "first_token")
    assert tslens("heads", "--model", "l2_h32", *few).code == 0
    scan = ("ablate", "--model", "l2_h32", *STORIES)
    done = tslens(*scan, "--components", "neurons", "--layer", 1, "--method", "mean", "--out", "there")
    assert done.code == 0, done.err
    assert "L1N" in done.out and "more are in the file" in done.out and "wrote there" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    done = tslens(*scan, "--out", "there")
    assert done.code == 0 and "zero and mean: rank correlation" in done.out
    assert "roles: 0 of " in done.err and "role:" not in done.out
    assert len(list((project / "there").glob("*.jsonl"))) == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--layer", 7), "no layer 7"),
        (("--components", "heads", "--neuron-fraction", 0.5), "neurons"),
        (("--neuron-fraction", 1.5), "share"),
        (("--roles", "file", "--layer", 0), "--roles"),
        (("--components", "biases"), "biases"),
        (("--method", "half"), "half"),
        (("--draws", 1), "--draws"),
    ],
)
def test_what_cannot_be_meant_is_refused(tslens, project, arguments, word):
    done = tslens("ablate", "--model", "l2_h32", "--stories", "author:5", *arguments)
    assert done.code == 2 and word in done.err, done.err
