"""``tslens weights`` as a user runs it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tslens.cli.weights import weights
from tslens.errors import UsageError
from tslens.files import read_jsonl
from tslens.model.load import find_model, load_model
from tslens.probes.held_out import HeldOut
from tslens.probes.results import save_head_scores
from tslens.probes.scan import score_heads
from tslens.probes.weights.results import SCHEMA, load_weights
from tslens.provenance import provenance

pytestmark = pytest.mark.usefixtures("told_once", "small_scans")
MODEL = "shipped:l1_h128"
SCAN = ["--model", MODEL, "--n-stories", "40", "--probe", "name", "--probe", "subject", "--n-explain", "3"]
CIRCUIT = {"value", "low", "high", "top", "nulls", "excess", "excess_low", "halves", "status", "stream"}


def run(*arguments):
    app = typer.Typer()
    app.command()(weights)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Attention scores and results in one place."""
    folder = tmp_path_factory.mktemp("weights")
    held_out = HeldOut(load_model(MODEL), None, 40)
    source = find_model(MODEL)
    report = score_heads(load_model(MODEL), held_out, seed=0, probes=["name", "subject"], n_explain=0)
    record = provenance(command="", seed=0, data="", data_sha256="", started="", seconds=0.0)
    path = folder / "heads.jsonl"
    save_head_scores(report, path, model=source.label, checkpoint=source.path.name, record=record)
    return folder


@pytest.fixture(scope="module")
def found(folder):
    done = run(*SCAN, "--heads", folder / "heads.jsonl", "--out", folder / "one", "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_json_keeps_the_contract(found):
    assert found["schema"] == "tslens.weights/1" and found["model"] == f"{MODEL}@seed0"
    assert found["n_stories"] == 40 and len(found["weights"]) == 4 * 8
    for row in found["weights"]:
        assert set(row["qk"]) >= CIRCUIT and row["qk"]["nats"] is not None
        assert row["qk"]["status"] in {"candidate", "unclear", "no"}
        assert row["qk"]["low"] <= row["qk"]["value"] <= row["qk"]["high"]
        assert row["measured"]["rank"] >= 1 and row["measured"]["edge"] is not None
    means = [row for row in found["agreements"] if row["probe"] is None]
    assert all(-1 <= row["low"] <= row["high"] <= 1 and 0 < row["p"] <= 1 for row in means)


def test_files_hold_the_same_rows(found, folder):
    (path,) = (path for path in (folder / "one").glob("*_explain3.jsonl"))
    header, rows = read_jsonl(path, SCHEMA)
    assert rows == found["weights"] and header["heads"] == "heads.jsonl" and header["n_attended"] == 40
    _, scores, agreements = load_weights(path)
    assert json.loads(json.dumps([score.to_json() for score in scores])) == rows
    assert [row.to_json() for row in agreements] == found["agreements"]
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0
    assert "NaN" not in path.read_text(encoding="utf-8")


def test_a_table_with_disagreements_first(folder, found):
    done = run(*SCAN, "--heads", folder / "heads.jsonl", "--out", folder / "two")
    assert done.exit_code == 0, done.output
    assert "(seed 0)" in done.stderr.splitlines()[0]
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    first = max(found["weights"], key=lambda row: abs(row["measured"]["gap"]))
    largest = abs(first["measured"]["gap"])
    heads = {row["head"] for row in found["weights"] if abs(row["measured"]["gap"]) == largest}
    assert lines[1].split()[0] in heads
    assert "8 heads" not in lines[0] and "by weights alone" in done.stdout and "mean" in done.stdout
    one, two = ((folder / name).glob("*_explain3.jsonl") for name in ("one", "two"))
    assert next(one).read_bytes() == next(two).read_bytes()


def test_scores_of_another_model_are_refused(folder):
    done = run("--model", "shipped:l1_h64", "--heads", folder / "heads.jsonl")
    assert isinstance(done.exception, UsageError) and "not of shipped:l1_h64" in str(done.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--n-stories", "0"), "none"),
        (("--n-explain", "-1"), "below 0"),
        (("--probe", "subjekt"), 'no probe "subjekt"'),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, said):
    done = run("--model", MODEL, *arguments)
    assert isinstance(done.exception, UsageError) and said in str(done.exception)
