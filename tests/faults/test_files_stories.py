"""Story files of strangers: spoiled, bombs, half characters, in all four forms. Read or refused in two lines."""

import gzip
import io
import json

import files_fuzz as fuzz
import pytest
from hypothesis import given

TEXTS = [f"Once upon a time, Tom had {n} cats.\nHe was “happy” – very.\n" for n in range(1, 6)]
ROWS = [
    {"text": text, "words": ["cat", "happy"], "n": n, "extra": {"a": [1, None]}}
    for n, text in enumerate(TEXTS)
]


def as_parquet(rows):
    """A sound Parquet file with nested columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    return file.getvalue()


def sound(name):
    """A sound file of five stories, by its ending."""
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    return {
        "s.jsonl": lines,
        "s.jsonl.gz": gzip.compress(lines, mtime=0),
        "s.txt": "<|endoftext|>".join(TEXTS).encode(),
        "s.txt.gz": gzip.compress("<|endoftext|>".join(TEXTS).encode(), mtime=0),
        "s.parquet": as_parquet(ROWS),
    }[name]


def read(path):
    """Every story, as a command reads them: its text, its digest, its other fields."""
    from tslens.corpus.stories import describe_source, read_stories

    describe_source(path)
    for story in read_stories(path):
        assert isinstance(story.text, str) and story.digest >= 0
        story.text.encode()
        assert isinstance(story.extra, dict)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.txt", "s.txt.gz", "s.parquet"])
def test_spoiled_stories(how_many, tmp_path, name):
    path, data = tmp_path / name, sound(name)
    path.write_bytes(data)
    assert fuzz.survives(lambda: read(path), tmp_path)

    @fuzz.tries(how_many(12, 1400))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        path.write_bytes(fuzz.spoil(data, edits))
        fuzz.survives(lambda: read(path), tmp_path)

    spoiled()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_other_shapes(how_many, tmp_path, packed):
    path = tmp_path / ("s.jsonl.gz" if packed else "s.jsonl")

    @fuzz.tries(how_many(12, 900))
    @given(edits=fuzz.json_edits)
    def spoiled(edits):
        data = fuzz.spoil_rows(ROWS, edits).encode("utf-8", "surrogatepass")
        path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)
        fuzz.survives(lambda: read(path), tmp_path)

    spoiled()


@pytest.mark.parametrize("start", [b"", b'{"text": "', b"["])
@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.txt.gz"])
def test_a_gzip_bomb_is_given_up_early(tmp_path, name, start):
    """10 GB in a file of 10 MB: a thousand parts of equal bytes. What is longer than a story is given up."""
    path = tmp_path / name
    part = gzip.compress((b"[" if start == b"[" else b"a") * 10_000_000, 9, mtime=0)
    path.write_bytes(gzip.compress(start, mtime=0) + part * 1000)
    assert path.stat().st_size < 15_000_000
    with fuzz.little_memory(120_000_000):
        assert not fuzz.survives(lambda: read(path), tmp_path)


def test_a_line_without_end_is_refused_at_the_limit(tmp_path):
    """A line of 10 GB: a file with a hole, which takes no space."""
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        file.truncate(10_000_000_000)
    from tslens.corpus.stories import read_stories
    from tslens.errors import DataError

    with fuzz.little_memory(120_000_000), pytest.raises(DataError, match="10,000,000"):
        list(read_stories(path))


def write_texts(path, texts, **how):
    """A Parquet file with one column of texts, a row group for each list of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), compression="zstd", **how) as writer:
        for group in texts:
            writer.write_table(pa.table({"text": pa.array(group)}))


def test_parquet_files_that_unfold(tmp_path):
    """A text of a megabyte that a few kilobytes name again and again; and row groups that unfold one by one."""
    path = tmp_path / "b.parquet"
    write_texts(path, [["a" * 1_000_000] * 150])
    assert path.stat().st_size < 20_000
    with fuzz.little_memory(180_000_000):
        assert fuzz.survives(lambda: read(path), tmp_path)
    write_texts(path, [["a" * 4_000_000 + str(n)] for n in range(20)], use_dictionary=False)
    with fuzz.little_memory(70_000_000):
        assert fuzz.survives(lambda: read(path), tmp_path)


def test_a_parquet_column_that_says_it_unfolds_to_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tslens.corpus.parquet.PART_BYTES", 1_000_000)
    path = tmp_path / "b.parquet"
    write_texts(path, [["a" * 1_000_000 + str(n) for n in range(3)]], use_dictionary=False)
    assert not fuzz.survives(lambda: read(path), tmp_path)


@pytest.mark.parametrize(
    ("value", "n"), [("a" * 900_000, 3_000_000), (7, 3_000_000), ({"said": ["b" * 300_000]}, 200)]
)
def test_a_list_in_parquet_that_unfolds_is_refused(tmp_path, value, n):
    """One row, whose list names one value again and again, in less than a megabyte; short lists are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, one = tmp_path / "b.parquet", pa.array([value])
    for n_values, is_read in ((n, False), (3, True)):
        index = pa.DictionaryArray.from_arrays(pa.array([0] * n_values, pa.int32()), one)
        tags = pa.ListArray.from_arrays(pa.array([0, n_values], pa.int32()), index)
        if isinstance(value, dict):
            tags = pa.array([[value] * n_values])
        pq.write_table(pa.table({"text": ["Tom ran."], "tags": tags}), path, store_schema=False)
        assert path.stat().st_size < 1_000_000
        with fuzz.little_memory(200_000_000):
            assert fuzz.survives(lambda: read(path), tmp_path) is is_read


class Trap:
    """Unpickled, it would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_an_extension_type_of_parquet_is_not_unpickled(tmp_path):
    """Pandas and older Arrow kept Python types as pickles in the schema: here they are plain bytes."""
    import pickle

    import pyarrow as pa
    import pyarrow.parquet as pq

    mark = tmp_path / "code-ran"
    names = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Trap(mark)),
    }
    field = pa.field("text", pa.string(), metadata=names)
    path = tmp_path / "e.parquet"
    pq.write_table(pa.table([pa.array(["Tom had a cat."])], schema=pa.schema([field])), path)
    fuzz.survives(lambda: read(path), tmp_path)
    assert not mark.exists()
