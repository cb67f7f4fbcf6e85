"""``tslens produces`` and ``tslens audit production`` as a user runs them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tslens.audit import production as audit
from tslens.cli.audit_production import production
from tslens.cli.produces import produces
from tslens.errors import UsageError
from tslens.files import read_jsonl
from tslens.probes.production.results import SCHEMA, load_production

pytestmark = pytest.mark.usefixtures("told_once", "small_scans")
ROW = {
    "head",
    "kind",
    "class",
    "value",
    "low",
    "high",
    "nulls",
    "excess",
    "excess_low",
    "p",
    "status",
    "basis",
}
ROW |= {"lexical", "says", "cause", "beside", "value_halves", "excess_halves", "n_stories"}
SCAN = ("--model", "shipped:l1_h64", "--n-stories", "40", "--n-explain", "24")


def run(command, *arguments):
    """A command by itself, as its own program."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("produces")


@pytest.fixture
def found(folder, monkeypatch):
    """The JSON of a run, made once."""
    monkeypatch.chdir(folder)
    kept = folder / "kept.json"
    if not kept.exists():
        done = run(produces, *SCAN, "--json")
        assert done.exit_code == 0, done.output
        assert done.stderr.splitlines()[0].startswith("tslens produces: ") and "(seed 0)" in done.stderr
        kept.write_text(done.stdout, encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def test_json_keeps_the_contract(found):
    assert found["schema"] == "tslens.produces/1" and found["model"] == "shipped:l1_h64@seed0"
    assert found["n_stories"] == 40 and found["way"] == "direct"
    classes = [row["class"] for row in found["heads"] if row["head"] == "L0H0"]
    assert len(found["heads"]) == 4 * len(classes) and {"NOUN", "VERB", "PUNCT"} < set(classes)
    for row in found["heads"]:
        assert set(row) == ROW and set(row["nulls"]) == {"none", "moved", "twins"}
        assert row["low"] <= row["value"] <= row["high"]
        assert row["excess"] == pytest.approx(row["value"] - max(row["nulls"].values()))
        assert (row["cause"] is not None) <= (row["status"] in {"role", "candidate"})
        assert row["status"] != "role" or row["cause"]["low"] > 0
        assert (row["says"] is not None) == (row["status"] in {"role", "candidate"})
        assert row["basis"] in {None, "lexical", "contextual"}
    copying = [row for row in found["heads"] if row["kind"] == "copying"]
    assert len(copying) == 4 and all(-1 <= row["beside"]["eigenvalues"] <= 1 for row in copying)


def test_the_file_has_the_same_rows(found, folder):
    (path,) = (folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "production").glob(
        "*_seed0_explain24.jsonl"
    )
    header, rows = read_jsonl(path, SCHEMA)
    assert rows == found["heads"]
    assert header["n_explained"] >= 24 and header["floor"] == 0.1 and header["n_counted"] == 20
    _, records = load_production(path)
    assert [one.to_json() for one in records] == rows
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0


def test_a_table_and_the_same_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = ("--model", "shipped:l1_h64", "--n-stories", 30, "--n-explain", 0, "--out")
    done = [run(produces, *scan, name) for name in ("one", "two")]
    assert all(one.exit_code == 0 for one in done), done[0].output
    assert "4 heads: 0 role" in done[0].stdout and "Causes were not tested" in done[0].stdout
    assert all(len(line) <= 100 for line in done[0].stdout.splitlines() if not line.startswith("wrote"))
    one, two = (next((tmp_path / name).glob("*.jsonl")).read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("option", ["--n-stories", "--n-explain"])
def test_what_no_number_is(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(produces, "--model", "shipped:l1_h64", option, -1)
    assert isinstance(done.exception, UsageError) and "-1" in str(done.exception)


def test_total_contributions_have_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(produces, *SCAN[:3], 30, "--n-explain", 0, "--total", "--out", "total", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["way"] == "total"
    (path,) = (tmp_path / "total").glob("*_total_explain0.jsonl")
    assert load_production(path)[0]["way"] == "total"


@pytest.mark.slow
def test_the_audit_writes_its_cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit, "QUICK", audit.ProductionSize(30, 1, 1, 30))
    monkeypatch.setattr(audit, "WAYS", ("direct",))
    monkeypatch.setattr("tslens.probes.twins.N_TWINS", {"fresh": 1, "redrawn": 1})
    done = run(production, "--quick", "--only", "hand-set", "--out", "audit.jsonl")
    header, rows = read_jsonl(tmp_path / "audit.jsonl", "tslens.audit_production_case/2")
    n_failed = sum(not one["passed"] for one in header["checks"])
    assert done.exit_code == (1 if n_failed else 0), done.output
    assert f"{10 - n_failed} of 10 checks hold." in done.stdout and n_failed <= 2
    assert len(rows) == 32 and {row["way"] for row in rows} == {"direct"}
    assert rows[0]["planted"] == {"kind": "part", "class": "NOUN", "back": 0}
    assert rows[0]["roles"] >= 1 and not rows[0]["largest_is_wrong"]
