"""``tslens link`` with grades of a large model behind a server on loopback: whatever happens, a text is paid once."""

import json
import shutil
import sys
from functools import partial

import pytest

from tslens.cli import main
from tslens.grading.rubric import CRITERIA
from tslens.link.map_report import load_map

pytestmark = pytest.mark.usefixtures("told_once")
COMMAND = (
    *("link", "--model", "shipped:l1_h64", "--stories", "author:60:7", "--n-stories", 6, "--pairs", 20),
    *("--prompts", "six.jsonl", "--samples", 1, "--max-tokens", 20, "--most-graded", 2),
    *("--judge", "openai:loop-1", "--price", "1,2"),
)
N_RUNGS = 3
N_SETS = 1 + 2 + N_RUNGS + 1  # the whole model, the components, random sets, the n-gram
LINK = "runs/l1_h64-shipped/seed0/results/link"
MAP = f"{LINK}/author-60-7_model_n6_seed0_pairs20_openai_loop-1.jsonl"


@pytest.fixture(scope="module")
def make_small(make_link_small):
    """Makes small what takes long: nothing here rests on who passes."""
    return partial(make_link_small, shares=(0.06,))


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_small, six_beginnings):
    """A folder with the map by readouts and all texts, as a dry run leaves it; what the dry run said."""
    folder = tmp_path_factory.mktemp("link")
    shutil.copy(six_beginnings, folder)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.chdir(folder)
        patch.delenv("OPENAI_API_KEY", raising=False)
        patch.setattr(sys, "argv", ["tslens", *map(str, COMMAND), "--dry-run", "--json"])
        with pytest.raises(SystemExit) as end:
            main.run()
    assert not end.value.code
    return folder


@pytest.fixture
def link(tslens, make_small, written, tmp_path, monkeypatch):
    """Runs the command against a server, in a folder of the test's own in which nothing is graded yet."""
    make_small(monkeypatch)
    folder = tmp_path / "project"
    shutil.copytree(written, folder)
    monkeypatch.chdir(folder)
    return lambda server, *more: tslens(*COMMAND, "--base-url", server.url, *more)


def grade(body):
    """A model that assesses in words, and gives points by the letters of what is graded."""
    if "response_format" not in body:
        return "Good."
    text = body["messages"][0]["content"].split("\nEND")[0].rpartition("***")[2]
    points = {name: sum(text.encode()) % (7 + k) for k, name in enumerate(CRITERIA)}
    return json.dumps({**points, "age_group": "B"})


@pytest.fixture
def server(serve):
    return serve(answer=grade)


def grade_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob(f"{LINK}/*_texts/grades/*/*.jsonl")}


def n_missing(found):
    return sum(n for of_set in found["failures"].values() for n in of_set.values())


def is_paid_twice(server):
    return max(server.paid.values()) > 1


def test_all_is_graded_and_a_second_run_sends_nothing(link, server, fast, tmp_path):
    planned = json.loads(link(server, "--dry-run", "--json").out)
    assert not server.rows and not (tmp_path / "project" / MAP).exists()
    done = link(server, "--json", "--html", "map.html")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["judge"] == "openai:loop-1" and "at http://127.0.0.1" in found["judge_version"]
    assert found["failures"] == {} and {name: one["n"] for name, one in found["means"].items()} == {
        "whole": 6,
        "ngram": 6,
    }
    graded = [row for row in found["rows"] if row["evidence"] == "grade"]
    assert [row["measure"] for row in graded] == [name for name in CRITERIA for _ in range(2)]
    files = grade_files(tmp_path / "project")
    assert len(files) == N_SETS + 1 and {"doses.jsonl", "whole.jsonl", "ngram.jsonl"} <= set(files)
    n_texts = sum(content.count(b"\n") - 1 for content in files.values())
    assert planned["calls"] == planned["to_ask"] + 2 * (n_texts - len(server.rows) // 2) == 2 * n_texts
    assert server.usd <= planned["worst_usd"] and not is_paid_twice(server)
    assert "loop-1" in (tmp_path / "project" / "map.html").read_text(encoding="utf-8")

    n_sent, content = len(server.rows), (tmp_path / "project" / MAP).read_bytes()
    again = link(server, "--json")
    assert (again.code, again.out, len(server.rows)) == (0, done.out, n_sent)
    shutil.rmtree(tmp_path / "project" / "runs" / ".ledger")  # what is kept beside the map needs no ledger
    assert link(server).code == 0 and len(server.rows) == n_sent
    assert grade_files(tmp_path / "project") == files
    assert (tmp_path / "project" / MAP).read_bytes() == content
    every = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(every) > 20 and not any(server.key.encode() in content for content in every)
    assert server.key not in done.out + done.err


def test_the_budget_is_held_and_a_higher_one_goes_on(link, server, fast, tmp_path):
    done = link(server, "--json", "--budget", 0.03)
    assert done.code == 3 and "higher --budget" in done.err and 0 < server.usd <= 0.03
    found = json.loads(done.out)
    assert {reason for of_set in found["failures"].values() for reason in of_set} == {"budget"}
    assert f"{n_missing(found)} texts without a grade ({n_missing(found)} budget)" in done.err
    assert found["failures"]["ngram"] == {"budget": 6} and found["means"]["ngram"]["means"] == {}
    kept = grade_files(tmp_path / "project")
    assert kept and "ngram.jsonl" not in kept  # only sets that are whole
    assert load_map(tmp_path / "project" / MAP).header["failures"] == found["failures"]
    shown = link(server, "--budget", 0.03, "--html", "partly.html")
    assert shown.code == 3 and "too few" in shown.out and "wrote partly.html" in shown.out
    n_sent = len(server.rows)
    done = link(server, "--json", "--budget", 1)
    assert done.code == 0, done.err
    assert json.loads(done.out)["failures"] == {} and len(server.rows) > n_sent
    assert not is_paid_twice(server) and kept.items() <= grade_files(tmp_path / "project").items()


def test_a_server_that_dies_ends_the_run_and_the_next_goes_on(link, serve, fast, tmp_path):
    is_down, n_served = [True], [0]

    def fail(handler, path, body):
        n_served[0] += 1
        if is_down[0] and n_served[0] > 60:
            handler.fail(500, "The server had an error.", "server_error")
            return True
        return False

    server = serve(answer=grade, before=fail)
    done = link(server, "--json")
    assert done.code == 1 and done.out == "" and "the same command resumes" in done.err
    kept = grade_files(tmp_path / "project")
    assert "doses.jsonl" in kept and len(kept) < N_SETS and not (tmp_path / "project" / MAP).exists()
    is_down[0] = False
    done = link(server, "--json")
    assert done.code == 0 and json.loads(done.out)["failures"] == {} and not is_paid_twice(server)
    assert kept.items() <= grade_files(tmp_path / "project").items()


def test_texts_that_the_server_never_takes_are_counted(link, serve, fast, monkeypatch):
    monkeypatch.setattr("tslens.llm.pace.MAX_BACKOFF_S", 0.01)
    is_odd = [True]

    def fail(handler, path, body):
        is_lost = is_odd[0] and b"Lily had a red" in body
        if is_lost:
            handler.fail(500, "The server had an error.", "server_error")
        return is_lost

    server = serve(answer=grade, before=fail)
    done = link(server, "--json")
    found = json.loads(done.out)
    assert done.code == 3 and "The same command asks again for what did not come." in done.err
    assert found["failures"] == {name: {"unreachable": 1} for name in found["failures"]}
    assert len(found["failures"]) == N_SETS  # a text of each; the doses begin otherwise
    assert f"{N_SETS} texts without a grade ({N_SETS} unreachable)" in done.err
    assert found["means"]["whole"]["failures"] == {"unreachable": 1}
    is_odd[0] = False
    done = link(server, "--json")
    assert done.code == 0 and json.loads(done.out)["failures"] == {} and not is_paid_twice(server)


def test_what_is_refused_is_counted_and_not_asked_again(link, serve, fast):
    """Of one text in seven the model gives no grades, but words."""

    def odd(body):
        said = grade(body)
        return said if "response_format" not in body or json.loads(said)["grammar"] else "Seven of ten."

    server = serve(answer=odd)
    done = link(server, "--json")
    assert done.code == 3 and "--retry-failed" in done.err
    found = json.loads(done.out)
    assert {reason for of_set in found["failures"].values() for reason in of_set} == {"schema"}
    n_sent = len(server.rows)
    again = link(server, "--json")
    assert (again.code, again.out, len(server.rows)) == (3, done.out, n_sent)


def test_stopped_it_goes_on_and_pays_nothing_twice(link, server, fast, monkeypatch, tmp_path):
    from tslens.cli.asking import answer_all

    n_rounds = []

    def stop(*arguments, **options):
        n_rounds.append(1)
        if len(n_rounds) == 6:  # the grades of the third set
            raise KeyboardInterrupt
        return answer_all(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("tslens.cli.judging.answer_all", stop)
        done = link(server, "--json")
    assert done.code == 3 and done.out == "" and "goes on from here" in done.err
    assert len(grade_files(tmp_path / "project")) == 2 and not (tmp_path / "project" / MAP).exists()
    done = link(server, "--json")
    assert done.code == 0 and json.loads(done.out)["failures"] == {} and not is_paid_twice(server)


def test_a_batch_is_of_all_texts(link, server, fast):
    """A batch may take a day, so there are two, not two for each set."""
    done = link(server, "--json", "--batch", "--poll", 0.05)
    assert done.code == 0, done.err
    assert len(server.batches) == 2 and json.loads(done.out)["failures"] == {}
    assert {row["batch"] for row in server.rows} == set(server.batches) and not is_paid_twice(server)
    n_sent = len(server.rows)
    assert link(server, "--json").out == done.out and len(server.rows) == n_sent
