"""``tslens data annotate`` as a user runs it."""

import gzip
import json

import pytest

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.errors import DataError
from tslens.types import Labels


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLENS_CACHE", str(tmp_path / "cache"))


def rows_of(path):
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [json.loads(line) for line in text.splitlines()]


def check_error(done, *words, code=1):
    assert done.code == code, done.err
    lines = [line for line in done.err.splitlines() if line.strip()]
    assert lines[-2].startswith("error:")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err, done.err


def test_annotate(tslens, parser, story_file, tmp_path):
    out = tmp_path / "labelled.jsonl"
    done = tslens("data", "annotate", story_file, "--out", out, "--stories", 7, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["stories"] == 7
    assert facts["words"] > facts["clauses"] > facts["stories"]
    assert facts["sentences"] >= 7 * 4
    assert 0.5 < facts["share_with_protagonist"] <= 1
    assert facts["words_and_marks_per_second"] > 0
    rows = rows_of(out)
    assert len(rows) == 7
    assert all(Labels.from_json(row["labels"]).made_by == facts["parser"] == parser.version for row in rows)


def test_the_table_and_the_packed_file(tslens, parser, story_file, tmp_path):
    plain, packed, again = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz", tmp_path / "c.jsonl.gz"
    done = tslens("data", "annotate", story_file, "--out", plain, "--stories", 5)
    assert "share with protagonist" in done.out
    assert f"wrote {plain}" in done.out
    assert tslens("data", "annotate", story_file, "--out", packed, "--stories", 5, "--processes", 2).code == 0
    assert tslens("data", "annotate", story_file, "--out", again, "--stories", 5, "--no-cache").code == 0
    assert rows_of(packed) == rows_of(plain)
    assert packed.read_bytes() == again.read_bytes()


def test_no_cache_keeps_nothing(tslens, parser, story_file, tmp_path):
    assert (
        tslens(
            "data", "annotate", story_file, "--out", tmp_path / "a.jsonl", "--stories", 2, "--no-cache"
        ).code
        == 0
    )
    assert not (tmp_path / "cache").exists()
    assert tslens("data", "annotate", story_file, "--out", tmp_path / "a.jsonl", "--stories", 2).code == 0
    assert (tmp_path / "cache" / "annotations.sqlite").exists()


def with_columns(tmp_path, *columns):
    path = tmp_path / "mine.jsonl"
    rows = [{"text": "Tom's dog ran, too.", "mood": column} for column in columns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_of_a_user_are_checked_and_kept(tslens, parser, tmp_path):
    out = tmp_path / "out.jsonl"
    four, six = ["a"] * 4, ["b"] * 6  # words; words and marks
    done = tslens("data", "annotate", with_columns(tmp_path, four, six), "--out", out, "--label", "mood")
    assert done.code == 0, done.err
    assert [row["mood"] for row in rows_of(out)] == [four, six]


def test_columns_that_fit_nothing_are_refused(tslens, parser, tmp_path):
    out = tmp_path / "out.jsonl"
    source = with_columns(tmp_path, ["a"] * 4, ["a"] * 5)
    done = tslens("data", "annotate", source, "--out", out, "--label", "mood")
    check_error(done, "story 2", "5 values", "4 words", "6 words and marks")
    done = tslens("data", "annotate", source, "--out", out, "--label", "tone")
    check_error(done, "story 1", '"tone"')
    assert not out.exists()


def test_wrong_use(tslens, story_file, tmp_path):
    done = tslens("data", "annotate", story_file, "--out", tmp_path / "a.txt")
    check_error(done, ".jsonl", code=2)
    done = tslens("data", "annotate", story_file, "--out", tmp_path / "a.jsonl", "--stories", 0)
    check_error(done, "0 stories", code=2)
    done = tslens("data", "annotate", story_file, "--out", tmp_path / "a.jsonl", "--label", "labels")
    check_error(done, '"labels"', code=2)
    done = tslens("data", "annotate", tmp_path / "none.jsonl", "--out", tmp_path / "a.jsonl")
    check_error(done, "none.jsonl")


def test_without_a_parser(tslens, story_file, tmp_path, monkeypatch):
    from tslens.corpus import annotate

    def missing():
        raise DataError("Stories without labels need a parser.", "Install one.")

    monkeypatch.setattr(annotate, "open_parser", missing)
    done = tslens("data", "annotate", story_file, "--out", tmp_path / "a.jsonl")
    check_error(done, "need a parser", "Install")
    assert not (tmp_path / "a.jsonl").exists()


def test_a_column_comes_back_aligned_to_two_tokenizers(tslens, parser, tmp_path, stories):
    for name, vocab_size in (("small", 300), ("large", 600)):
        StoryTokenizer.train(stories, vocab_size=vocab_size).save(tmp_path / f"{name}.json")
    source = with_columns(tmp_path, ["sad"] * 4, ["glad", None, "x", "y"])
    out = tmp_path / "out.jsonl"
    paths = [tmp_path / "small.json", tmp_path / "large.json"]
    done = tslens(
        "data",
        "annotate",
        source,
        "--out",
        out,
        "--label",
        "mood",
        "--tokenizer",
        paths[0],
        "--tokenizer",
        paths[1],
    )
    assert done.code == 0, done.err
    for line in out.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        words = row["text"].split()
        for path in paths:
            found = row["tokenized"][str(path)]
            assert "".join(found["tokens"]) == row["text"]
            assert {len(values) for values in found["labels"].values()} == {len(found["tokens"])}
            at = 0  # each token has the value of the word that holds its last character
            for token, value in zip(found["tokens"], found["labels"]["mood"], strict=True):
                at += len(token)
                if token.strip():
                    word = len(row["text"][:at].split()) - 1
                    assert value == row["mood"][word], (token, words[word])
        assert len(row["tokenized"][str(paths[0])]["tokens"]) > len(row["tokenized"][str(paths[1])]["tokens"])


def test_a_tokenizer_that_is_none_is_refused(tslens, parser, tmp_path):
    source = with_columns(tmp_path, ["a"] * 4)
    done = tslens(
        "data", "annotate", source, "--out", tmp_path / "o.jsonl", "--tokenizer", tmp_path / "absent.json"
    )
    check_error(done, "absent.json")
    assert not (tmp_path / "o.jsonl").exists()
