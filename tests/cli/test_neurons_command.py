"""``tslens neurons`` as a user runs it."""

import json

import pytest

from tslens.files import read_jsonl
from tslens.probes.neurons.results import SCHEMA, load_neuron_roles

pytestmark = pytest.mark.usefixtures("told_once", "small_scans")
ROW = {"neuron", "role", "auroc", "low", "high", "variance", "variance_beyond_token", "nulls", "p", "status"}
ROW |= {"basis", "writes", "cause", "kind"}
SCAN = ("neurons", "--model", "shipped:l1_h64", "--n-stories", 40, "--n-explain", 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("neurons")


@pytest.fixture
def found(tslens, folder, monkeypatch):
    """The JSON of a scan, made once."""
    monkeypatch.chdir(folder)
    kept = folder / "kept.json"
    if not kept.exists():
        done = tslens(*SCAN, "--json")
        assert done.code == 0, done.err
        assert done.err.splitlines()[0].startswith("tslens neurons: ") and "(seed 0)" in done.err
        kept.write_text(done.out, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def test_json_keeps_the_contract(found):
    assert found["schema"] == "tslens.neurons/1" and found["model"] == "shipped:l1_h64@seed0"
    assert found["n_stories"] == 40 and len(found["neurons"]) == 256
    for row in found["neurons"]:
        assert set(row) >= ROW
        assert row["status"] in {"role", "candidate", "unclear", "no"}
        assert row["cause"] is None or row["status"] in {"role", "candidate"}
        assert row["status"] != "role" or row["cause"]["low"] > 0
        assert row["basis"] is not None or row["status"] == "no"
        assert row["auroc_low"] <= row["auroc"] and row["low"] <= row["auroc"] <= row["high"]
        assert len(row["writes"]["promotes"]) == len(row["writes"]["suppresses"]) == 10
    statuses = [row["status"] for row in found["neurons"]]
    assert statuses.count("role") >= 10


def test_the_file_has_the_same_rows(found, folder):
    (path,) = (folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "neurons").glob(
        "*_seed0_explain24.jsonl"
    )
    header, rows = read_jsonl(path, SCHEMA)
    assert rows == found["neurons"]
    assert header["n_explained"] >= 24 and header["labels"][0]["name"] == "pos_adj"
    assert "NaN" not in path.read_text(encoding="utf-8")  # no JSON
    assert any(label["word_alone"] is None for label in header["labels"])  # symbols: no story has any
    _, roles = load_neuron_roles(path)
    assert [role.to_json() for role in roles] == rows
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0 and record["command"].startswith("tslens ")


def test_one_layer_in_a_table_and_the_same_twice(tslens, project):
    scan = ("neurons", "--model", "l2_h32", "--layer", 1, "--n-stories", 40, "--n-explain", 0, "--out")
    done = [tslens(*scan, name) for name in ("one", "two")]
    assert all(one.code == 0 for one in done), done[0].err
    assert "128 neurons: 0 role" in done[0].out and "Causes were not tested" in done[0].out
    one, two = (next((project / name).glob("*.jsonl")).read_bytes() for name in ("one", "two"))
    assert one == two and b'"L1N127"' in one and b'"L0N0"' not in one


def test_a_page_of_neurons(tslens, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tslens(*SCAN[:4], 30, "--n-explain", 0, "--html", "neurons.html")
    assert done.code == 0, done.err
    assert "wrote neurons.html" in done.out and "256 neurons: " in done.out
    page = (tmp_path / "neurons.html").read_text(encoding="utf-8")
    assert "MLP neurons of shipped:l1_h64@seed0" in page and "L0N255" in page
    assert len(page) < 2_000_000


# Look -------------------------------------------------------------------------------------------------------


def test_a_neuron_on_a_text(tslens, project):
    text = "One day, Tom ate a banana."
    done = tslens("look", text, "--model", "l2_h32", "--neuron", "l1n7", "--html", "look.html")
    assert done.code == 0, done.err
    assert "raises: " in done.out and "L1N7" in done.out and "wrote look.html" in done.out
    assert "L1N7" in (project / "look.html").read_text(encoding="utf-8")
    found = json.loads(tslens("look", text, "--model", "l2_h32", "--neuron", "L1N7", "--json").out)
    assert found["schema"] == "tslens.look_neuron/1" and found["neuron"] == "L1N7"
    assert len(found["tokens"]) == len(found["activations"]) and len(found["raises"]) == 8


def test_what_no_neuron_is(tslens, project):
    for arguments, word in (
        (("--neuron", "L1H7"), "no neuron"),
        (("--neuron", "L9N7"), "L9N7"),
        (("--neuron", "L1N7", "--head", "L0H0"), "Both"),
    ):
        done = tslens("look", "Tom ran home.", "--model", "l2_h32", *arguments)
        assert done.code == 2 and word in done.err, done.err
