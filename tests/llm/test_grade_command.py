"""``tslens grade`` by a large model behind a server that misbehaves, on the wire and in its answers."""

import json
from collections import Counter

import bench_grades as bench
import loopback
import pytest

from tslens.grading.prompts import load_beginnings, load_short_prompts
from tslens.grading.rubric import PROTOCOLS
from tslens.types import Grade

N_TEXTS = 60
FAULTS = {"busy": 0.08, "error": 0.05, "reset": 0.05, "truncated": 0.05}
PRICE = ("--price", "1,2")


@pytest.fixture
def grade(tslens, tmp_path, monkeypatch):
    """Grade the file ``texts.jsonl`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(server, *more, texts="texts.jsonl"):
        options = ("--judge", "openai:loop-1", "--base-url", server.url, "--out", "grades")
        return tslens("grade", "--completions", texts, *options, *more)

    return run


@pytest.fixture
def texts(tmp_path):
    bench.write_texts(tmp_path / "texts.jsonl", N_TEXTS)


@pytest.fixture
def serve_grades(serve, monkeypatch):
    """Servers whose model grades by the number of a text, and oddly where the benchmark says so."""
    monkeypatch.setattr(loopback, "Loopback", bench.GradingServer)

    def start(**options):
        return serve(**{"answer": bench.answer, "price": (1.0, 2.0), **options})

    return start


def rows_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("grades/*/*.jsonl"))}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_text_once_and_failures_by_reason(protocol, grade, texts, serve_grades, fast, tmp_path):
    server = serve_grades(faults=FAULTS)
    command = ("--protocol", protocol, "--no-teacher", "--again", 0, *PRICE, "--budget", 1)
    done = grade(server, *command, "--json")
    assert done.code == 3, done.err
    facts = bench.grades_of(done.out, N_TEXTS)
    assert facts["each_once"] and facts["right"] == N_TEXTS
    assert facts["failures"] == facts["expected_failures"] == {"schema": 4}
    found = json.loads(done.out)
    assert found["judge"] == "openai:loop-1" and found["answered_by"] == ["loop-1-2026-01-01"]
    assert (
        f"rubric 1, {protocol}, at http://127.0.0.1" in found["judge_version"]
        and found["teacher"] == "not asked"
    )
    assert found["means"]["grammar"]["n"] == N_TEXTS - 4 and "note" not in found
    held = bench.held_against_ledger(tmp_path, server.rows)
    assert held["answered"] == (2 * N_TEXTS - 4 if protocol == "two_turns" else N_TEXTS - 4)
    assert held["recorded_twice"] == held["paid_though_recorded"] == 0
    assert held["server_usd"] <= held["counted_usd"] <= 1
    assert found["spent_usd"] == pytest.approx(held["counted_usd"])
    n_asked, rows = len(server.rows), rows_of(tmp_path)
    again = grade(server, *command, "--json")
    assert (again.code, again.out, len(server.rows), rows_of(tmp_path)) == (3, done.out, n_asked, rows)
    shown = grade(server, *command)
    assert "4 schema" in shown.out and "answered by loop-1-2026-01-01" in shown.out
    assert not bench.has_key(tmp_path, server.key) and server.key not in done.out + done.err + shown.out


def test_what_is_refused_is_told(grade, serve_grades, fast, tmp_path):
    row = {"prompt": "Tom had a", "completion": " red ball 88."}
    (tmp_path / "texts.jsonl").write_text(json.dumps(row) + "\n")
    done = grade(serve_grades(), "--no-teacher", "--json")
    found = json.loads(done.out)
    assert done.code == 3 and "--retry-failed" in done.err and "above 10%: no mean" in done.err
    assert found["failures_by_reason"] == {"refusal": 1} and found["means"] == {}


def test_the_budget_is_held_and_a_higher_one_goes_on(grade, texts, serve_grades, fast, tmp_path):
    server = serve_grades(faults=FAULTS)
    command = ("--no-teacher", "--again", 0, *PRICE, "--json")
    done = grade(server, *command, "--budget", 0.03)
    found = json.loads(done.out)
    assert done.code == 3 and "higher --budget" in done.err and found["failures_by_reason"]["budget"] > 4
    assert 0 < server.usd <= found["spent_usd"] <= 0.03
    done = grade(server, *command, "--budget", 1)
    assert bench.grades_of(done.out, N_TEXTS)["right"] == N_TEXTS
    assert bench.held_against_ledger(tmp_path, server.rows)["paid_though_recorded"] == 0


def test_a_dry_run_asks_nothing_and_is_the_worst_case(grade, texts, serve_grades, fast, tmp_path):
    server = serve_grades()
    planned = json.loads(grade(server, *PRICE, "--no-teacher", "--dry-run", "--json").out)
    assert not server.rows and not (tmp_path / "grades").exists()
    n_given = N_TEXTS + 6  # a tenth is given again
    assert planned["calls"] == planned["to_ask"] == 2 * n_given and "BEGIN" in planned["first"]
    grade(server, *PRICE, "--no-teacher", "--json")
    assert server.usd <= planned["worst_usd"]


@pytest.mark.slow
def test_killed_twice_it_ends_as_if_nothing_had_happened(tmp_path):
    facts = bench.run_scenario(
        tmp_path, n_texts=N_TEXTS, n_kills=2, seed=1, protocol="two_turns", silence_s=5.0, timeout_s=0.7
    )
    assert facts["killed"] >= 1 and facts["exit_code"] == 3  # one may end before its moment has come
    assert facts["each_once"] and facts["right"] == N_TEXTS and facts["failures"] == {"schema": 4}
    assert facts["answered"] == 2 * N_TEXTS - 4
    assert facts["recorded_twice"] == facts["paid_though_recorded"] == 0
    assert 0 < facts["server_usd"] <= facts["counted_usd"] <= facts["budget_usd"]
    assert facts["equal_to_calm"] and facts["second_run_equal"] and facts["asked_by_second_run"] == 0
    assert not facts["key_in_a_file"]


# All rows of a table ----------------------------------------------------------------------------------------------


def kind(body):
    """A model that writes and grades: by the length of what stands behind the mark."""
    text = body["messages"][0]["content"]
    if "response_format" not in body:
        return "ran home, and all was well." if "Write only" in text else "Good."
    if "success:" in text:
        return json.dumps({"why": "So it is.", "outcome": "partial"})
    worked = text.split("\nEND")[0].rpartition("***")[2]
    points = dict.fromkeys(("grammar", "creativity", "consistency", "plot"), len(worked) % 11)
    return json.dumps({**points, "age_group": "B"})


@pytest.fixture
def beginnings(tmp_path):
    rows = [
        {"prompt": one.text, "completion": f" and{' ran' * i}."}
        for one in load_beginnings()[:4]
        for i in range(3)
    ]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("batch", [(), ("--batch", "--poll", 0.05)])
def test_the_teacher_and_true_endings_stand_beside_the_model(grade, beginnings, serve, fast, tmp_path, batch):
    server = serve(answer=kind, faults=FAULTS)
    done = grade(server, *batch, "--again", 0.5, *PRICE, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["grades"]) == 12 and found["true_ending"]["n"] == 4
    written = found["teacher"]["means"]["plot"]
    assert (written["n"], written["mean"]) == (12, len(" ran home, and all was well.") % 11)
    assert found["given_again"]["plot"]["n"] == 6
    assert found["given_again"]["plot"]["ac2"]["value"] == pytest.approx(1.0)
    (file,) = (tmp_path / "grades").rglob("*.teacher.jsonl")
    header, *rows = map(json.loads, file.read_text().splitlines())
    assert header["model"] == "teacher" and header["written_by"] == "openai:loop-1"
    assert all(Grade.from_json(row).graded.completion == " ran home, and all was well." for row in rows)
    n_sent = 12 + 2 * (12 + 6 + 4) + 2 * 4  # equal texts of a prompt are graded once
    whole = [row for row in server.rows if row["fault"] is None]
    assert len(whole) == n_sent
    shown = grade(server, *batch, "--again", 0.5, *PRICE)
    assert "6 texts were given a second time" in shown.out and "teacher" in shown.out
    assert len([row for row in server.rows if row["fault"] is None]) == n_sent
    planned = grade(server, *batch, "--again", 0.5, *PRICE, "--dry-run", "--json")
    assert json.loads(planned.out)["to_ask"] == 0
    shown = " ".join(grade(server, *batch, "--again", 0.5, *PRICE, "--dry-run").out.split())
    named = "(12 by texts, 6 of these given again, 4 true endings, 12 by loop-1)"
    assert f"for each of 34 texts {named}, and 12 in which loop-1 writes." in shown
    assert "Calls: 2 (an assessment, then grades)" in shown
    assert json.loads(planned.out)["calls"] == 2 * 34 + 12
    one = grade(server, "--no-teacher", "--again", 0, "--protocol", "one_call", *PRICE, "--dry-run")
    assert "Calls: 1 for each of 16 texts (12 by texts, 4 true endings)." in one.out


def test_short_prompts_are_told_by_rule_and_by_the_model(tslens, serve, fast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server = serve(answer=kind)
    command = ("grade", "--model", "shipped:l1_h64", "--judge", "openai:loop-1", "--base-url", server.url)
    command += ("--prompts", "short", "--samples", 1, "--max-tokens", 8, *PRICE, "--json")
    planned = json.loads(tslens(*command, "--dry-run").out)
    assert not server.rows
    done = tslens(*command)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    by = Counter(row["by"] for row in found["answers"])
    n_asked = sum(not one.by_rule for one in load_short_prompts())
    assert by["openai:loop-1"] <= n_asked and by.total() == 60
    assert {row["outcome"] for row in found["answers"] if row["by"] != "rule"} <= {"partial"}
    assert found["teacher"]["all"]["n"] == 60 and server.usd <= planned["worst_usd"]
    n_calls = len(server.rows)
    assert tslens(*command).out == done.out and len(server.rows) == n_calls
