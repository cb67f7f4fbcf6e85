"""``tslens match`` as a user runs it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tslens.cli.match import match
from tslens.errors import ModelError, UsageError
from tslens.probes.matching.results import load_match

pytestmark = pytest.mark.usefixtures("told_once", "small_scans")
app = typer.Typer()
app.command()(match)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("match")


@pytest.fixture
def found(folder, monkeypatch):
    """The JSON of a match of two shipped models of different depth, made once."""
    monkeypatch.chdir(folder)
    kept = folder / "kept.json"
    if not kept.exists():
        done = run("shipped:l1_h64", "shipped:l2_h64", "--n-stories", 70, "--components", "heads", "--json")
        assert done.exit_code == 0, done.output
        assert done.stderr.splitlines()[0].startswith(
            "tslens match: loading shipped:l1_h64, shipped:l2_h64 (seed 0)"
        )
        kept.write_text(done.stdout, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def test_json_says_all(found):
    assert found["schema"] == "tslens.matches/1" and found["n_stories"] == 70
    assert found["models"] == ["shipped:l1_h64@seed0", "shipped:l2_h64@seed0"]
    (pair,) = found["pairs"]
    assert (pair["n_a"], pair["n_b"], pair["floor"]) == (4, 8, 0.05)
    assert len(found["matches"]) == 4 and {row["component"] for row in found["matches"]} == {"head"}
    for row in found["matches"]:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert row["excess"] == pytest.approx(row["value"] - max(row["nulls"].values()))
        assert row["excess_low"] <= row["excess"]
        assert (row["status"] in {"same", "like"}) == (row["excess_low"] >= pair["floor"])
    assert len({row["b"] for row in found["matches"]}) == 4
    assert {one["model"] for one in found["roles"]} == set(found["models"])
    held = {one["model"]: one for one in found["roles"] if one["role"] == "previous_token"}
    assert [one["n_units"] for one in held.values()] == [4, 8]
    assert found["agreements"][0]["role"] is None


def test_the_file_has_the_same_rows(found, folder):
    (path,) = (folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "match").glob("*.jsonl")
    assert "_with_shipped-l2_h64@seed0_heads" in path.name
    header, report = load_match(path)
    assert report.rows() == found["matches"] and header["agreements"] == found["agreements"]
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0 and record["data"].startswith("author:")


def test_neurons_in_a_table(stories, folder, monkeypatch):
    monkeypatch.chdir(folder)
    texts = [story.text for story in stories]
    texts += [f"{text} The end." for text in texts[:20]]
    (folder / "stories.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = run(
        "l1_h64",
        "l2_h64",
        "--stories",
        "stories.jsonl",
        "--components",
        "neurons",
        "--no-roles",
        "--out",
        "results",
    )
    assert done.exit_code == 0, done.output
    assert "2: shipped:l2_h64@seed0" in done.stdout and "the best of 256" in done.stdout
    assert "Roles of" not in done.stdout and max(map(len, done.stdout.splitlines()[:-1])) <= 100
    (path,) = (folder / "results").glob("*.jsonl")
    _, report = load_match(path)
    assert [pair.component for pair in report.pairs] == ["neuron"] and not report.roles


def test_what_is_no_match(project, monkeypatch):
    for arguments, kind, word in (
        (("l1_h64",), UsageError, "1 model"),
        (("l1_h64", "shipped:l1_h64@seed0"), UsageError, "twice"),
        (("l1_h64", "l2_h64", "--components", "mlps"), UsageError, "mlps"),
        (("l1_h64", "l2_h32"), ModelError, "different tokenizers"),
        (("l1_h64", "l9_h9"), ModelError, "l9_h9"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, kind) and word in str(done.exception), arguments
