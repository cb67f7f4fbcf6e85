"""kill -9 at random moments of seven commands: the same command again ends as if nothing had happened.

Half of the kills come from outside after a random time, half from inside at a random event: before a file below the
job's folder is opened, moved, removed or flushed, or in the middle of a piece that is written. A job is killed one to
three times in the same folder, then left to end. The jobs run in children of ``kill_jobs.py``.
"""

import fcntl
import gzip
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import loopback
import numpy as np
import pytest
from safetensors import safe_open

HERE = Path(__file__).parent
SHIPPED = ("--model", "shipped:l1_h64", "--judge", "local", "--prompts", "few.jsonl", "--samples", "1")
SMALL = ("--data", "stories.jsonl", "--vocab-size", "300", "--batch-tokens", "256", "--device", "cpu")
JOBS = {
    "train": ("train", "--model", "l1_h32", *SMALL, "--steps", "24", "--resume"),
    "grid": ("train", "--grid", "layers=1 hidden=16,32", *SMALL, "--steps", "6"),
    "request": (
        *("data", "request", "--stories", "12", "--model", "loop-1", "--price", "1,2"),
        *("--out", "told.jsonl"),
    ),
    "annotate": ("data", "annotate", "stories.jsonl", "--stories", "24", "--out", "labelled.jsonl.gz"),
    "grade": ("grade", *SHIPPED, "--max-tokens", "16", "--html", "grades.html"),
    "link": (
        *("link", *SHIPPED, "--max-tokens", "8", "--most-graded", "1", "--pairs", "20", "--n-stories", "4"),
        *("--stories", "stories.jsonl"),
    ),
    "report": ("report", "shipped:l1_h64", "--texts", "2", "--html", "report.html"),
}
KILLS = {"train": 40, "grid": 30, "request": 35, "annotate": 25, "grade": 25, "link": 25, "report": 20}  # 200
SAMPLE = {"grid": 1, "link": 1, "report": 1, "request": 3}  # of the others two
CHAIN = (2, 3, 1)  # kills in one folder, before the job may end
FINISHED = "holds a finished run"  # what train --resume says to one that was killed after its last file
OF_TIMES = re.compile(r"(^|[./])provenance\.json$|_state\.pt$|\.lock$|\.ledger/|annotations\.sqlite")
"""Files with times, counters of seconds, or in the order in which replies came."""


@dataclass
class Job:
    """One command that is killed again and again. ``seconds``, ``counts``: of the undisturbed run."""

    name: str
    folder: Path
    run: object
    arguments: tuple
    seconds: float = 0.0
    counts: dict = field(default_factory=dict)


# The fork server, and what the jobs need ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """A function that runs a command line in a child; a dictionary of what became of it, its output as ``said``."""
    log = tmp_path_factory.mktemp("log") / "log.txt"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "sk-loopback-0123456789"}
    for name in (
        "OPENAI_BASE_URL",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        environment.pop(name, None)
    server = subprocess.Popen(
        [sys.executable, HERE / "kill_jobs.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert server.stdout.readline() == "ready\n"

    def run(arguments, folder, **moment):
        job = {"arguments": arguments, "folder": str(folder), "log": str(log), **moment}
        job["environment"] = {"TSLENS_CACHE": str(folder / "cache"), "TMPDIR": str(folder.parent)}
        server.stdin.write(json.dumps(job) + "\n")
        server.stdin.flush()
        return {**json.loads(server.stdout.readline()), "said": log.read_text()}

    yield run
    server.stdin.close()
    server.wait()
    server.stdout.close()


@pytest.fixture(scope="module")
def told_by_server(stories):
    """The server of stories: which one it tells depends on the prompt alone."""

    def tell(body):
        return stories[sum(body["messages"][-1]["content"].encode()) % len(stories)].text

    def start():
        return loopback.Loopback(answer=tell, latency_s=0.01)

    return start


@pytest.fixture
def begin(tmp_path, story_file, six_beginnings):
    """A function that makes a new folder for a job, with what it reads."""

    def make():
        folder = tmp_path / "job"  # the name of a ledger depends on it
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        shutil.copy(story_file, folder / "stories.jsonl")
        lines = six_beginnings.read_text().splitlines(keepends=True)
        (folder / "few.jsonl").write_text("".join(lines[:3]))
        return folder

    return make


# What must hold after each kill ---------------------------------------------------------------------------------


def broken_files(folder):
    """Files under their final names that cannot be read whole."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith((".unfinished", ".lock", "-journal")):
            try:
                read_whole(path)
            except Exception as error:
                found.append(f"{path.relative_to(folder)}: {error!r}")
    return found


def read_whole(path):
    """Read a file to its end, by the kind that its name says. Raises one of many errors where it is cut off."""
    may_be_empty = ".ledger" in path.parts or path.suffix == ".sqlite"
    assert path.stat().st_size or may_be_empty, "it is empty"
    if path.suffix == ".npy":
        np.load(path)
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    elif path.suffix == ".pt":
        with zipfile.ZipFile(path) as whole:
            assert whole.testzip() is None
    elif path.suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>")
    elif path.suffix == ".gz":
        check_lines(gzip.decompress(path.read_bytes()).decode())
    elif path.suffix == ".jsonl":
        text = path.read_text()
        check_lines(
            text[: text.rfind("\n") + 1] if ".ledger" in path.parts else text
        )  # which mends its last line
    elif path.suffix == ".sqlite":
        with (
            tempfile.TemporaryDirectory() as folder
        ):  # what was cut off is rolled back by the next who opens it
            for part in path.parent.glob(f"{path.name}*"):
                shutil.copy(part, folder)
            with closing(sqlite3.connect(Path(folder) / path.name)) as database:
                assert [row[0] for row in database.execute("PRAGMA integrity_check")] == ["ok"]
    else:
        json.loads(path.read_text())


def check_lines(text):
    *lines, rest = text.split("\n")
    assert rest == "", "its last line is cut off"
    assert all(isinstance(json.loads(line), dict) for line in lines)


def held_locks(folder):
    """Locks below a folder that some process still holds."""
    return [path for path in folder.rglob("*.lock") if not is_free(path)]


def is_free(path):
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def unfinished(folder):
    return {path for path in folder.rglob("*") if path.name.endswith((".unfinished", "-journal"))}


def results(folder):
    """All that a job has written, by name: bytes, or rows without their speed; of files with times, that they exist."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file():
            continue
        if OF_TIMES.search(name):
            found[name] = "has times"
        elif path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows]
        else:
            found[name] = path.read_bytes()
    return found


def bill(folder, server):
    """Replies that are recorded twice, and sends that were paid though their reply was recorded before."""
    (path,) = (folder / "runs" / ".ledger").glob("*.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    recorded = [int(row["id"].removeprefix("chatcmpl-")) for row in rows if row.get("event") == "reply"]
    prompts = [row["prompt"] for row in server.rows]
    first = {}
    for seq in recorded:
        first.setdefault(prompts[seq], seq)
    paid_again = [row["seq"] for row in server.rows if row["seq"] > first.get(row["prompt"], row["seq"])]
    return {"recorded": len(first), "twice": len(recorded) - len(first), "paid_again": paid_again}


# The kills --------------------------------------------------------------------------------------------------------


def draw_moment(rng, job, number):
    """When to kill: every other time after a time in the length of the job, else at an event."""
    if number % 2:
        return {"after": rng.uniform(0, job.seconds)}
    kind = "edge" if rng.random() < 0.6 else "piece"
    return {"event": [kind, rng.randint(1, max(1, job.counts[kind]))]}


def run_killed(job, folder, rng, most, facts):
    """Kill the job up to ``most`` times in a folder, look at what is left each time, and let it end."""
    for _ in range(most):
        moment = draw_moment(rng, job, facts["kills"])
        before = unfinished(folder)
        ended = job.run(job.arguments, folder, **moment)
        if ended["code"] != -9:
            facts["ended before its kill"] += 1
            break
        facts["kills"] += 1
        facts["in a write"] += bool(unfinished(folder) - before) or "write" in ended.get("last", "")
        assert not broken_files(folder), (moment, ended, broken_files(folder))
        assert not held_locks(folder), (moment, ended)
        if job.name == "grid" and (folder / "runs").exists():
            seen = job.run(("runs", "--json"), folder)
            assert seen["code"] == 0, (moment, ended, seen)
    else:
        ended = job.run(job.arguments, folder)
    assert ended["code"] == 0 or (job.name == "train" and FINISHED in ended["said"]), ended


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_is_killed_ends_as_if_nothing_had_happened(name, forked, begin, how_many, told_by_server):
    arguments, wanted = JOBS[name], how_many(SAMPLE.get(name, 2), KILLS[name])
    if name in {"annotate", "grade", "link"}:
        pytest.importorskip("spacy", reason="spaCy is not installed")
    rng = random.Random(f"kills of {name}")
    facts = Counter(kills=0)
    with told_by_server() as server:
        if name == "request":
            arguments = (*arguments, "--base-url", server.url)
        job = Job(name, begin(), forked, arguments)
        ended = job.run(arguments, job.folder)
        assert ended["code"] == 0, ended
        job.seconds, job.counts = ended["seconds"], ended["counts"]
        whole = results(job.folder)
        assert not unfinished(job.folder) and not broken_files(job.folder)
        for number in range(20 * wanted):
            if facts["kills"] >= wanted:
                break
            folder = begin()
            server.rows.clear()
            most = min(CHAIN[number % len(CHAIN)], wanted - facts["kills"])
            run_killed(job, folder, rng, most, facts)
            found = results(folder)
            assert sorted(found) == sorted(whole), number
            assert [one for one in whole if found[one] != whole[one]] == [], number
            assert list(folder.parent.iterdir()) == [folder], number
            if name == "request":
                assert bill(folder, server) == {"recorded": 12, "twice": 0, "paid_again": []}
    print(f"{name}: {dict(facts)}, {job.seconds:.1f} s undisturbed, {job.counts}")
    assert facts["kills"] == wanted and (wanted < 20 or facts["in a write"])
