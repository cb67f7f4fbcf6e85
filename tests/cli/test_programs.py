"""``tslens programs`` as a user runs it."""

import json

import pytest

from tslens.probes.programs.results import load_programs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*intervals are:UserWarning"),
    pytest.mark.usefixtures("told_once", "small_scans"),
]
RUN = ("programs", "--model", "l2_h32", "--n-stories", 44, "--n-swap", 3, "--n-tokens", 0)


def test_json_and_the_file_have_the_same_rows(tslens, project):
    done = tslens(*RUN, "--json", "--out", "here")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == "tslens programs: loading l2_h32 (seed 0)"
    found = json.loads(done.out)
    assert found["schema"] == "tslens.programs/1" and found["n_stories"] == 44
    assert set(found) == {"schema", "model", "n_stories", "heads", "groups", "explained", "clean"}
    (path,) = (project / "here").glob("*_n44_seed0_swap3_tokens0.jsonl")
    header, report = load_programs(path)
    assert json.loads(json.dumps([head.to_json() for head in report.heads])) == found["heads"]
    assert {row["status"] for row in found["heads"]} <= {"role", "candidate", "unclear", "no"}
    names = {program["name"] for program in found["heads"][0]["programs"]}
    assert {"uniform", "even", "profile", "composed", "subject", "subject before", "induction"} <= names
    swaps = {(row["method"], row["readout"]) for row in found["heads"][0]["swaps"]}
    assert (
        "tokens" not in names
        and {("other", "all"), ("shuffled", "names"), ("zero", "closing marks")} <= swaps
    )
    assert header["n_tokens"] == 0 and header["model"] == found["model"] and found["clean"]["names"] > 0
    assert json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))["seed"] == 0


def test_saved_scores_are_taken_and_others_refused(tslens, project):
    done = tslens(
        "heads",
        "--model",
        "l2_h32",
        "--n-stories",
        40,
        "--n-explain",
        0,
        "--probe",
        "subject",
        "--out",
        "scores",
    )
    assert done.code == 0, done.err
    (scores,) = (project / "scores").glob("*.jsonl")
    done = tslens(*RUN, "--scores", scores)
    assert done.code == 0, done.err
    assert "composed program" in done.out and "of what there is to explain" in done.out
    assert "random" in done.out and "than distance alone, which a\nprogram without steps is" in done.out
    *lines, last = done.out.splitlines()
    assert last.startswith("wrote ") and max(map(len, lines)) <= 100
    refused = tslens(*RUN[:1], "--model", "shipped:l1_h64", *RUN[3:], "--scores", scores)
    assert refused.code == 1 and "not of shipped:l1_h64" in refused.err
