"""Batches of servers that go wrong are held and resumed; a change of model or fingerprint in mid-job is said once."""

import json
import random
from pathlib import Path

import bad_server as BAD
import bad_ways
import pytest

from tslens.errors import RunError
from tslens.llm.calls import CallFailure, Reply


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    BAD.go_home(monkeypatch)


def ask(url, folder, **options):
    """Outcomes of three calls, and what ended the job."""
    return BAD.ask(url, folder, 3, **options)[:2]


def is_whole(outcomes):
    return BAD.are_whole(outcomes, 3)


# Another model in mid-job -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_batch", [False, True])
def test_a_change_of_model_or_fingerprint_is_said_once(tslens, tmp_path, monkeypatch, is_batch):
    monkeypatch.chdir(tmp_path)
    Path("mine.jsonl").write_text("".join(f'{{"text": "Frog {i} swam home."}}\n' for i in range(5)))
    with BAD.BadServer("drips_body", lambda n: False, None) as server:
        serve = server.serve_completion

        def changing(body, faults, batch=None):
            fault, answer = serve(body, faults, batch=batch)
            n = len(server.rows)
            new = {"system_fingerprint": "fp_new"} if n == 3 else {"model": "other"} if n > 3 else {}
            return fault, answer | new

        server.serve_completion = changing
        asked = [
            "data",
            "request",
            "--summaries",
            "mine.jsonl",
            "--model",
            "loop-1",
            "--base-url",
            server.url,
        ]
        asked += ["--price", "1,2", "--concurrency", 1, *(["--batch", "--poll", 0.01] if is_batch else [])]
        for _ in range(2):  # also where all is known
            done = tslens(*asked, "--out", "x.jsonl")
            assert done.code == 0, done.err
            (warning,) = [x for x in done.err.splitlines() if x.startswith("warning: the server changed")]
            kinds = (
                "2 of loop-1-2026-01-01 (fp_loopback)",
                "1 of loop-1-2026-01-01 (fp_new)",
                "2 of other (fp_",
            )
            assert all(kind in warning for kind in kinds)
        rows = [json.loads(line)["summary_reply"] for line in Path("x.jsonl").read_text().splitlines()]
        assert sorted(row["model"] for row in rows) == ["loop-1-2026-01-01"] * 3 + ["other"] * 2
        assert [row["fingerprint"] for row in rows].count("fp_new") == 1
        server.serve_completion = serve
        done = tslens(*asked, "--out", "y.jsonl", "--ledger", "fresh")
        assert done.code == 0 and "server changed" not in done.err


# Batches ------------------------------------------------------------------------------------------------------

STEPS = ["/files", "/batches", "/batches/batch_0", "/files/file-1/content"]
BATCH_WAYS = [
    name for name in sorted(bad_ways.WAYS) if name not in bad_ways.KEEPS_WORDS | {"answers_odd_text"}
]
BATCH_CASES = [(way, step) for way in BATCH_WAYS for step in STEPS]


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_batch_is_held_and_resumed(how_many, tmp_path, monkeypatch):
    monkeypatch.setattr("tslens.llm.batch_road.TRANSFER_S", 0.4)
    chosen = [("drips_body", "/batches/batch_0")]
    chosen += random.Random(6).sample(BATCH_CASES, how_many(4, len(BATCH_CASES)))
    for number, (way, step) in enumerate(chosen):
        folder = tmp_path / str(number)
        with BAD.BadServer(way, lambda n: True, random.Random(number), path=step, silence_s=3.0) as server:
            with BAD.Peak() as peak:
                outcomes, error = ask(server.url, folder, is_batch=True, tries=1, timeout_s=0.4)
            assert server.n_bad, (way, step)
            assert peak.mb < 150, (way, step, peak.mb)
            assert error is None or isinstance(error, RunError)
            server.is_bad = lambda n: False
            monkeypatch.setattr("tslens.llm.batch_road.TRANSFER_S", 60.0)
            outcomes, error = ask(server.url, folder, is_batch=True)
            monkeypatch.setattr("tslens.llm.batch_road.TRANSFER_S", 0.4)
            assert error is None and is_whole(outcomes), (way, step, outcomes)
            assert max(server.paid.values()) == 1, (way, step)


def test_a_batch_that_never_ends_is_left_after_its_day_and_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tslens.llm.batch.OVERDUE_S", 0.3)
    with BAD.BadServer("drips_body", lambda n: False, None) as server:
        show = server.show_batch
        server.show_batch = lambda name: {**show(name), "status": "in_progress"}
        outcomes, error = ask(server.url, tmp_path, is_batch=True)
        assert not outcomes and isinstance(error, RunError) and 'still "in_progress" after' in str(error)
        server.show_batch = show
        outcomes, error = ask(server.url, tmp_path, is_batch=True)
        assert error is None and is_whole(outcomes) and max(server.paid.values()) == 1


@pytest.mark.parametrize("name", ["..", ".", "a b", "?x", "\ud800", "", 7, None, ["x"], "x" * 999])
def test_a_name_that_leads_elsewhere_is_not_asked_for(name, tmp_path):
    def odd(handler, answer, rng):
        bad_ways.whole(handler, json.dumps({"id": name}).encode())

    with BAD.BadServer(odd, lambda n: True, None, path="/files") as server:
        _, error = ask(server.url, tmp_path, is_batch=True, tries=1)
        assert isinstance(error, RunError) and 'no "id" that can be read' in str(error)
        assert set(server.requests) == {"/files"}


def test_batch_files_of_any_form_end_in_words(how_many, tmp_path):
    for seed in range(how_many(4, 200)):
        rng = random.Random(seed)
        with BAD.BadServer("drips_body", lambda n: False, None, item_faults={"failed": 0.3}) as server:
            add_file, show = server.add_file, server.show_batch
            whole = {}  # the files as they should have been, under the same names

            def add_oddly(content, add_file=add_file, rng=rng, whole=whole):
                original = content
                if b'"custom_id"' in content and b'"url"' not in content:
                    rows = [json.loads(line) for line in content.splitlines()]
                    content = b"".join(json.dumps(BAD.mutated(row, rng)).encode() + b"\n" for row in rows)
                name = add_file(content)
                whole[name] = original
                return name

            def show_oddly(name, show=show, rng=rng):
                return BAD.mutated(show(name), rng) if rng.random() < 0.3 else show(name)

            server.add_file = add_oddly
            server.show_batch = show_oddly if seed % 2 else show
            outcomes, error = ask(server.url, tmp_path / str(seed), is_batch=True, tries=1)
            assert error is not None or all(isinstance(o, Reply | CallFailure) for o in outcomes)
            server.add_file, server.show_batch = add_file, show
            server.files |= whole
            outcomes, error = ask(
                server.url, tmp_path / str(seed), is_batch=True, retry_failed=True, tries=20
            )
            assert error is None and is_whole(outcomes), (seed, error, outcomes)
