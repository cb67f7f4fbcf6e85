"""``tslens audit heads`` as a user runs it, on a small part."""

import json

import pytest

from tslens.audit import heads, neurons
from tslens.audit.heads import AuditSize
from tslens.audit.report import AuditReport, Case, Check
from tslens.files import read_jsonl


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(heads, "QUICK", AuditSize(32, (0.3,), ("near",), 1, 1, 32))


def report(found, missing=()):
    case = Case("planted", "name", "name", "word", "no", 0.1, 0.02, -0.01, "twins", 60, "near", 0.3)
    check = Check("planted", "relations at 0.3, gold labels", "at least", 0.98, found, 1)
    return AuditReport((case,), (check,), missing, 0, "author:60:10000")


def test_a_part_of_it(tslens, tmp_path, make_scans_small, monkeypatch):
    make_scans_small(monkeypatch)
    done = tslens("audit", "heads", "--quick", "--only", "random", "--json")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0].startswith("tslens audit heads: ") and "(seed 0)" in done.err
    value = json.loads(done.out)
    assert value["schema"] == "tslens.audit_heads/1"
    assert {check["name"] for check in value["checks"]} == {"models with a candidate", "models with a role"}
    assert len(value["cases"]) == 1
    header, rows = read_jsonl(tmp_path / "runs" / "audit" / "heads.jsonl", "tslens.audit_heads_case/1")
    assert rows == value["cases"] and header["checks"] == value["checks"]
    record = json.loads((tmp_path / "runs" / "audit" / "heads.provenance.json").read_text(encoding="utf-8"))
    assert record["data"] == "author:32:10000" and record["seed"] == 0


@pytest.mark.parametrize(
    ("made", "code"),
    [(report(1.0), 0), (report(0.5), 1), (report(1.0, ("no parser",)), 3), (report(None), 1)],
)
def test_the_exit_code_says_how_it_went(tslens, monkeypatch, made, code):
    monkeypatch.setattr(heads, "audit_heads", lambda **_: made)
    done = tslens("audit", "heads", "--out", "found.jsonl")
    assert done.code == code, done.err
    assert ("FAILS" in done.out) == (code == 1)
    assert ("not run: no parser" in done.out) == (code == 3)
    assert "wrote found.jsonl" in done.out


def test_the_table_fits_a_terminal_and_shows_surprises(tslens, monkeypatch):
    monkeypatch.setattr(heads, "audit_heads", lambda **_: report(0.0))
    done = tslens("audit", "heads", "--out", "found.jsonl")
    assert "name" in done.out and "near" in done.out and "0 of 1 checks hold." in done.out
    assert max(map(len, done.out.splitlines())) <= 90


def test_an_unknown_part_is_refused(tslens):
    done = tslens("audit", "heads", "--only", "nonsense")
    assert done.code == 2
    assert "planted" in done.err


def test_a_part_of_the_audit_of_neurons(tslens, tmp_path, monkeypatch):
    monkeypatch.setattr(neurons, "QUICK", neurons.NeuronAuditSize(150, 80, 2, 40, 2, 40))
    done = tslens("audit", "neurons", "--quick", "--only", "hand-set", "--json")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0].startswith("tslens audit neurons: ") and "(seed 0)" in done.err
    value = json.loads(done.out)
    assert value["schema"] == "tslens.audit_neurons/1" and value["passed"]
    header, rows = read_jsonl(tmp_path / "runs" / "audit" / "neurons.jsonl", "tslens.audit_neurons_case/1")
    assert rows == value["cases"] and header["checks"] == value["checks"]
    assert {row["truth"] for row in rows} == {"lexical", "silent", "positional", "dead"}


def test_the_audit_of_neurons_says_how_it_went(tslens, monkeypatch):
    for found, code in ((0.0, 0), (0.5, 1)):
        check = Check("random", "models with a candidate", "at most", 0.05, found, 40)
        made = neurons.NeuronAudit((), (check,), 0, "author:40:10000")
        monkeypatch.setattr(neurons, "audit_neurons", lambda made=made, **_: made)
        done = tslens("audit", "neurons", "--out", "found.jsonl")
        assert done.code == code, done.err
        assert ("FAILS" in done.out) == (code == 1) and "wrote found.jsonl" in done.out
