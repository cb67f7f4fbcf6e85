"""Stories from Parquet files and from the hub; the hub is played by a server on loopback."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tslens.corpus import hub
from tslens.corpus.stories import describe_source, read_stories
from tslens.errors import DataError, UsageError

COMMIT = "a" * 40
VALID = "Once there was a frog.\n<|endoftext|>\nThe frog swam home.\n<|endoftext|>\n"


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_parquet_is_a_source(tmp_path):
    path = parquet(
        tmp_path / "s.parquet", [{"text": "A  \n\nB", "mood": ["x", "y"]}, {"text": "C", "mood": []}]
    )
    stories = list(read_stories(path))
    assert [story.text for story in stories] == ["A\nB", "C"]
    assert stories[0].extra == {"mood": ["x", "y"]}
    name, digest = describe_source(path)
    assert name == "s.parquet" and digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_columns_that_json_has_not_become_text(tmp_path):
    row = {
        "text": "A",
        "day": datetime(2026, 1, 2),
        "n": float("nan"),
        "raw": b"x",
        "deep": [{"d": date(2026, 1, 2)}],
    }
    (story,) = read_stories(parquet(tmp_path / "s.parquet", [row]))
    assert story.extra == {
        "day": "2026-01-02 00:00:00", "n": None, "raw": "b'x'", "deep": [{"d": "2026-01-02"}]
    }  # fmt: skip
    json.dumps(story.extra, allow_nan=False)


def test_folders_may_hold_parquet(tmp_path):
    parquet(tmp_path / "a.parquet", [{"text": "A"}])
    (tmp_path / "b.jsonl").write_text('{"text": "B"}\n')
    assert [story.text for story in read_stories(tmp_path)] == ["A", "B"]


def test_parquet_without_text_names_the_row(tmp_path):
    path = parquet(tmp_path / "s.parquet", [{"story": "A"}])
    with pytest.raises(DataError, match="row 1"):
        list(read_stories(path))


def test_torn_parquet_is_refused(tmp_path):
    path = parquet(tmp_path / "s.parquet", [{"text": "A" * 1000}])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="no whole Parquet"):
        list(read_stories(path))


@pytest.mark.parametrize("source", ["hub:", "hub:TinyStories", "hub:a/b/c", "hub:a/b:c:d", "hub:a /b"])
def test_other_hub_sources_are_refused(source):
    with pytest.raises(UsageError, match="no data set of the hub"):
        read_stories(source)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as one file needs."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        headers, body, code = {}, b"", 404
        if self.path.startswith("/api/datasets/roneneldan/TinyStories"):
            files = [{"rfilename": hub.RELEASES["v2"].validation, "size": len(VALID)}]
            body = json.dumps({"id": "roneneldan/TinyStories", "sha": COMMIT, "siblings": files}).encode()
            headers, code = {"Content-Type": "application/json"}, 200
        elif self.path.endswith(f"/resolve/{COMMIT}/{hub.RELEASES['v2'].validation}"):
            body, code = VALID.encode(), 200
            headers = {"ETag": '"' + hashlib.sha1(body).hexdigest() + '"', "X-Repo-Commit": COMMIT}
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def run(endpoint, tmp_path, *arguments):
    """A command in a process of its own: the hub's address is read when its library is loaded."""
    plain = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    environment = {**plain, "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf")}
    code = "import sys; sys.argv[0] = 'tslens'; from tslens.cli.main import run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )


def test_download_puts_the_files_in_a_folder(endpoint, tmp_path):
    done = run(endpoint, tmp_path, "data", "download", "v2", "--side", "validation", "--json")
    assert done.returncode == 0, done.stderr
    (file,) = json.loads(done.stdout)["files"]
    assert file["commit"] == COMMIT and file["bytes"] == len(VALID)
    assert [s.text for s in read_stories(tmp_path / file["file"])] == [
        "Once there was a frog.",
        "The frog swam home.",
    ]


def test_a_file_that_is_gone_is_named(endpoint, tmp_path):
    done = run(endpoint, tmp_path, "data", "download", "v1")
    assert (
        done.returncode == 1 and "TinyStories-train.txt" in done.stderr and not (tmp_path / "data").exists()
    )


def test_without_a_network_it_says_so(tmp_path):
    done = run("http://127.0.0.1:9", tmp_path, "data", "download", "instruct")
    assert done.returncode == 1 and "Check the network" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "data").exists()
    done = run("http://127.0.0.1:9", tmp_path, "data", "import", "hub:a/b", "--out", "corpus")
    assert done.returncode == 1 and "Check the network" in done.stderr and not (tmp_path / "corpus").exists()


def test_unknown_release_is_wrong_usage(tmp_path):
    done = run("http://127.0.0.1:9", tmp_path, "data", "download", "v3")
    assert done.returncode == 2 and "v1, v2, instruct" in done.stderr


def test_a_data_set_of_the_hub_is_a_source(monkeypatch):
    import datasets
    import huggingface_hub

    rows = datasets.Dataset.from_list([{"text": "A", "n": 1}, {"text": "B", "n": 2}])
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return rows.to_iterable_dataset()

    class Api:
        def dataset_info(self, repository, **_):
            return huggingface_hub.hf_api.DatasetInfo(
                id=repository, sha=COMMIT, private=False, downloads=0, likes=0, tags=[]
            )

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(datasets, "load_dataset", load)
    stories = list(read_stories("hub:a/b:validation"))
    assert [(story.text, story.extra) for story in stories] == [("A", {"n": 1}), ("B", {"n": 2})]
    assert asked == [("a/b", {"split": "validation", "revision": COMMIT, "streaming": True})]
    name, digest = describe_source("hub:a/b")
    assert name == "hub:a/b:train" and digest == hashlib.sha256(f"{name}@{COMMIT}".encode()).hexdigest()
