import gzip
import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.corpus import stories
from tslens.corpus.stories import describe_source, is_validation, normalise, read_stories
from tslens.errors import DataError, UsageError
from tslens.types import Story

TWO = ["Tom ran.\nHe fell.", "Zoë said “hi”."]


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def texts(path: Path | str, **options: int) -> list[str]:
    return [story.text for story in read_stories(path, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a  \t\n\n \n\t\nb", "a\nb"),
        ("\n\n a \n", "a"),
        ("a\n  b  c", "a\n  b  c"),
        ("e\u0301 \u00e9 “x”", "e\u0301 \u00e9 “x”"),
        (" \r\n\t", ""),
    ],
)
def test_normalise_tidies_white_space_and_nothing_else(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(st.text(alphabet=st.sampled_from("ab \t\r\n\u00a0.é")))
def test_normalised_text_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert "\n\n" not in once and "\r" not in once and " \n" not in once
    assert [c for c in once if not c.isspace()] == [c for c in text if not c.isspace()]


def as_jsonl(found: list[str]) -> bytes:
    return lines(*({"text": text} for text in found))


def as_text(found: list[str]) -> bytes:
    return "\n<|endoftext|>\n".join(found).encode()


@pytest.mark.parametrize("piece", [1 << 20, 7, 1])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.txt", "s.TXT.gz"])
def test_every_format_gives_the_same_stories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, start: bytes, piece: int
) -> None:
    monkeypatch.setattr(stories, "PIECE_BYTES", piece)
    if start and piece < 3:
        pytest.skip("a piece holds the whole byte-order mark")
    content = start + (as_jsonl if "jsonl" in name else as_text)(["", *TWO, " \n "])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert texts(tmp_path / name) == TWO
    assert texts(str(tmp_path / name), limit=1) == TWO[:1]
    assert texts(tmp_path / name, limit=0) == []


def test_other_fields_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"\n" + lines({"text": " a b\r\n\r\nc", "words": ["a"], "n": 3}) + b"  \n")
    [story] = read_stories(path)
    assert story == Story("a b\nc", {"words": ["a"], "n": 3})


def test_end_of_text_inside_json_is_text(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(as_jsonl(["a<|endoftext|>b"]))
    assert texts(path) == ["a<|endoftext|>b"]


def test_folder_is_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.jsonl").write_bytes(as_jsonl(["first"]))
    (tmp_path / "readme.md").write_text("no story")
    assert texts(tmp_path) == ["first", "second"]
    name, sha256 = describe_source(tmp_path)
    (tmp_path / "b.txt").write_text("changed")
    assert name == tmp_path.name and describe_source(tmp_path)[1] != sha256


def test_streams(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    with path.open("wb") as file:
        for i in range(300):
            file.write(f"{i} ".encode() * 25_000 + b"<|endoftext|>")
    size = path.stat().st_size
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_stories(path)) == 300
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 3


GZIPPED = gzip.compress(as_jsonl(["story " * 50] * 2000), mtime=0)

BAD = {
    "empty.jsonl": (b"", "no story"),
    "empty.txt": (b"", "no story"),
    "empty.jsonl.gz": (b"", "no story"),
    "blank.jsonl": (b"\n \n", "no story"),
    "no_text_in_stories.jsonl": (lines({"text": " \n"}), "no story"),
    "separators.txt": (b"<|endoftext|>\n<|endoftext|>", "no story"),
    "latin1.txt": ("Zoë".encode("latin-1"), "story 1 is no UTF-8"),
    "junk.jsonl": (b"\x89PNG\r\n\x1a\n\xff\xfe\x00", "no UTF-8"),
    "nul.txt": (b"a\0b", "story 1 holds NUL"),
    "utf16.txt": ("Tom ran.".encode("utf-16-le"), "NUL"),
    "nul.jsonl": (lines({"text": "a\0b"}), "line 1 holds NUL"),
    "surrogate.jsonl": (b'{"text": "a\\ud800b"}', "surrogate"),
    "broken.jsonl": (lines({"text": "a"}) + b'\n{"text": "b\n', "line 3 is no JSON"),
    "deep.jsonl": (b"[" * 100_000, "line 1 is no JSON"),
    "field.jsonl": (lines({"text": "a"}, {"story": "b"}), 'line 2 has no field "text"'),
    "number.jsonl": (lines({"text": 3}), 'no field "text"'),
    "array.jsonl": (lines(["a"]), 'no field "text"'),
    "plain.jsonl.gz": (b'{"text": "a"}\n', "broken or cut off"),
    "cut.jsonl.gz": (GZIPPED[: len(GZIPPED) // 2], "broken or cut off"),
    "flipped.jsonl.gz": (GZIPPED[:40] + b"\0\xff\0\xff" + GZIPPED[44:], "broken or cut off|no UTF-8|NUL"),
    "long.jsonl": (lines({"text": "a" * 10_000_001}), "Record 1 .* longer than 10,000,000"),
    "long.txt": (b"a<|endoftext|>" + b"a " * 5_000_001, "Record 2 .* longer"),
    "bomb.jsonl.gz": (gzip.compress(b" " * 40_000_000, 1), "Record 1 .* longer"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    found = read_stories(tmp_path / name)  # what is inside is checked while reading
    with pytest.raises(DataError, match=message) as caught:
        list(found)
    assert name in caught.value.message
    assert caught.value.hint.endswith((".", "}."))
    assert "\n" not in str(caught.value)


def test_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 200_000_000, 1))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="longer"):
            list(read_stories(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000


def test_stories_before_a_broken_line_are_given(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_bytes(lines({"text": "a"}) + b"{")
    found = read_stories(path)
    assert next(found).text == "a"
    with pytest.raises(DataError, match="line 2"):
        next(found)


def test_absent_files_are_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_bytes(as_jsonl(["a"]))
    (tmp_path / "photo.png").write_bytes(b"a")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError) as caught:
        read_stories(tmp_path / "storys.jsonl")
    assert "storys.jsonl" in caught.value.message
    assert caught.value.hint == f"Did you mean {tmp_path / 'stories.jsonl'}?"
    with pytest.raises(DataError, match="no folder"):
        read_stories(tmp_path / "nowhere" / "s.jsonl")
    with pytest.raises(DataError, match="unknown kind"):
        read_stories(tmp_path / "photo.png")
    with pytest.raises(DataError, match="no story file"):
        read_stories(tmp_path / "none")
    with pytest.raises(DataError):
        read_stories("x" * 5000 + ".txt")


@pytest.mark.parametrize(
    "source", ["author:", "author:0", "author:-1", "author:x", "author:5:", "author:5:1:2", "author:1e3"]
)
def test_impossible_author_sources(source: str) -> None:
    for function in (read_stories, describe_source):
        with pytest.raises(UsageError, match="no source of stories"):
            function(source)


def test_limit_below_zero(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_stories("author:5", limit=-1)


def test_author_is_a_source() -> None:
    author = pytest.importorskip("tslens.corpus.author")
    expected = [story.text for story in author.write_stories(4, seed=7)]
    assert texts("author:4:7") == expected
    assert texts("author:4:7", limit=2) == expected[:2]
    assert texts("author:3") == [story.text for story in author.write_stories(3, seed=0)]


def test_description_is_name_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    path.write_bytes(b"a")
    assert describe_source(path) == ("s.txt", hashlib.sha256(b"a").hexdigest())
    assert describe_source("author:5") == describe_source("author:5:0")
    assert describe_source("author:5")[0] == "author:5:0"
    assert describe_source("author:5")[1] != describe_source("author:5:1")[1]


def test_validation_side_is_five_percent_and_goes_by_the_text() -> None:
    side = [is_validation(Story(f"Story {i}.")) for i in range(8000)]
    assert 0.042 < sum(side) / len(side) < 0.058
    assert is_validation(Story("Story 3.", {"x": 1})) == side[3]
