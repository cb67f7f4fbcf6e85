"""Files that grow, and the cache, where a file may not grow beyond a size: a line is whole or absent."""

import json
from contextlib import contextmanager

import pytest

from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.author import write_stories
from tslens.corpus.labelled import read_labels
from tslens.errors import RunError
from tslens.files import append_line

resource = pytest.importorskip("resource", reason="no limits of file sizes here")


@contextmanager
def files_up_to(n_bytes):
    """No file of this process grows beyond so many bytes; nothing may be printed meanwhile."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_line_is_added_whole_or_not_at_all(tmp_path, how_many):
    path = tmp_path / "metrics.jsonl"
    for n_bytes in range(40, 140, how_many(30, 1)):
        path.write_text("")
        failed = False
        with files_up_to(n_bytes):
            for step in range(8):
                try:
                    append_line(path, json.dumps({"step": step, "loss": 1.0}))
                except RunError as error:
                    failed, message = True, error.message
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert failed and str(path) in message and len(rows) < 8
        assert [row["step"] for row in rows] == list(range(len(rows)))
        assert path.read_text() == "" or path.read_text().endswith("\n")
        append_line(path, json.dumps({"step": 99}))
        assert json.loads(path.read_text().splitlines()[-1]) == {"step": 99}


def test_a_file_that_is_absent_gets_no_line(tmp_path):
    with pytest.raises(RunError, match="none"):
        append_line(tmp_path / "none.jsonl", "{}")


def test_a_cache_that_cannot_grow_is_no_error(tmp_path, how_many):
    stories = list(write_stories(12, seed=1, n_processes=1))
    rows = [(story.text, read_labels(story)) for story in stories]
    cache = AnnotationCache(tmp_path)
    cache.put(rows[0][1].made_by, rows[:2])
    assert len(cache.get(rows[0][1].made_by, stories)) == 2
    for n_bytes in range(0, 40_000, how_many(16_000, 2_000)):
        with files_up_to(n_bytes):
            cache.put(rows[0][1].made_by, rows)
            found = cache.get(rows[0][1].made_by, stories)
        assert len(found) >= 2 and all(found[text] == labels for text, labels in rows if text in found)
    cache.put(rows[0][1].made_by, rows)
    assert len(cache.get(rows[0][1].made_by, stories)) == 12
