"""Records of results, what of them may be run again, and how two files are compared."""

import json
import sys

import pytest

from tslens.audit.differences import compare_files, relative, rows_where
from tslens.audit.recorded import PROJECT, absent_data, find_records, to_repeat
from tslens.corpus.stories import describe_source
from tslens.errors import DataError, UsageError


def record(folder, name, command, **more):
    (folder / name).write_text(json.dumps({"command": command, **more}))


def one_record(folder, command, **more):
    (folder / "a.jsonl").write_text("{}\n")
    record(folder, "a.provenance.json", command, **more)
    return find_records(folder / "a.jsonl")[0]


# Records ------------------------------------------------------------------------------------------------------


def test_files_of_one_command_are_of_one_run(tmp_path):
    for name in ("a.jsonl", "a.more.jsonl", "b.jsonl", "report.md", "page.html"):
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "c.json").write_text(json.dumps({"provenance": {"command": "tslens scaling runs"}}))
    record(tmp_path, "a.provenance.json", "tslens heads --model l1_h64", seconds=3)
    record(tmp_path, "b.provenance.json", "tslens heads --model l1_h64", seconds=5)
    found = {one.typed: one for one in find_records(tmp_path)}
    assert set(found) == {"tslens heads --model l1_h64", "tslens scaling runs"}
    heads = found["tslens heads --model l1_h64"]
    assert {file.name for file in heads.files} == {"a.jsonl", "a.more.jsonl", "b.jsonl", "report.md"}
    assert heads.seconds == 5


def test_what_has_no_record_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}\n")
    for path in (tmp_path, tmp_path / "a.jsonl", tmp_path / "absent.jsonl"):
        with pytest.raises(DataError):
            find_records(path)
    record(tmp_path, "a.provenance.json", ["rm"])
    with pytest.raises(DataError, match="names no command"):
        find_records(tmp_path)


def test_data_is_checked_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path))
    author = describe_source("author:5:1")[1]
    assert absent_data(one_record(tmp_path, "tslens heads", data="author:5:1", data_sha256=author)) is None
    assert "another here" in absent_data(
        one_record(tmp_path, "tslens heads", data="author:5:2", data_sha256=author)
    )
    assert "not here" in absent_data(
        one_record(tmp_path, "tslens heads", data="real.jsonl", data_sha256="0" * 64)
    )
    (tmp_path / "real.jsonl").write_text('{"text": "A cat."}\n')
    sha256 = describe_source(tmp_path / "real.jsonl")[1]
    assert absent_data(one_record(tmp_path, "tslens heads", data="real.jsonl", data_sha256=sha256)) is None


# What is run --------------------------------------------------------------------------------------------------


def test_a_command_writes_to_our_folder_alone(tmp_path):
    found = one_record(tmp_path, "tslens heads --model m --out runs/x --html page.html --seed 3")
    words, where = to_repeat(found, tmp_path / "new", ["--probe", "subject"])
    ours = str((tmp_path / "new").resolve())
    assert words[:5] == [sys.executable, "-P", "-m", "tslens", "heads"]
    assert words[5:] == ["--model", "m", "--seed", "3", "--probe", "subject", "--out", ours]
    assert not where.is_absolute()
    words, _ = to_repeat(one_record(tmp_path, "tslens scaling r --out=s.json --figure f"), tmp_path)
    assert words[4:] == ["scaling", "r", "--out", str(tmp_path / "s.json")]
    words, where = to_repeat(one_record(tmp_path, "python analysis/head_atlas.py --seed 1"), tmp_path)
    assert words == [sys.executable, "analysis/head_atlas.py", "--seed", "1", "--out", str(tmp_path)]
    assert where == PROJECT


def test_the_folder_of_data_is_put_in(tmp_path, monkeypatch):
    monkeypatch.setenv("TSLENS_DATA", "/somewhere")
    words, _ = to_repeat(one_record(tmp_path, "tslens heads --stories '$TSLENS_DATA/a.jsonl'"), tmp_path)
    assert "/somewhere/a.jsonl" in words


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf runs",
        "python -c 'import os'",
        "python /tmp/analysis/head_atlas.py",
        "python analysis/../setup.py",
        "python analysis/absent.py",
        "analysis/annotator_audit.py draw; judged by hand; analysis/annotator_audit.py score",
        "tslens train --model l1_h64",
        "tslens export --model l1_h64 --to huggingface folder",
        "tslens",
        "tslens link --model m --judge openai:gpt-4o",
        "tslens link --model m --judge local --base-url http://here",
        "tslens link --model m --judge=openai:gpt-4o",
        "tslens link --model m --judge local --base-url=http://here",
        "python analysis/scaling.py --runs /elsewhere",
        "python analysis/emergence.py --run=/elsewhere",
        "",
    ],
)
def test_nothing_else_is_ever_run(command, tmp_path):
    with pytest.raises(UsageError):
        to_repeat(one_record(tmp_path, command), tmp_path)


# Comparison ---------------------------------------------------------------------------------------------------


def compared(folder, name, recorded, repeated, tolerance=1e-4):
    (folder / name).write_text(recorded)
    (folder / f"new_{name}").write_text(repeated)
    return compare_files(folder / name, folder / f"new_{name}", tolerance=tolerance)


def rows(*values):
    return "".join(json.dumps(value) + "\n" for value in values)


def test_when_and_how_long_are_no_results(tmp_path):
    mine = rows({"schema": "s", "seconds": 3, "x": [1.0, 2.0]})
    found = compared(tmp_path, "a.jsonl", mine, mine.replace("3", "99", 1))
    assert found.is_same and not found.same_bytes
    assert found.n_values == 3


def test_the_largest_difference_comes_first(tmp_path):
    found = compared(
        tmp_path,
        "a.jsonl",
        rows({"x": 1.0, "y": 1e-9, "z": "role"}),
        rows({"x": 1.1, "y": 2e-9, "z": "no"}),
    )
    assert [one.place for one in found.differing] == ["[0].z", "[0].x", "[0].y"]
    assert (found.differing[0].recorded, found.differing[0].repeated) == ("role", "no")
    assert found.differing[1].size == pytest.approx(0.1 / 1.1)
    assert compared(tmp_path, "a.jsonl", rows({"x": 1.0}), rows({"x": 1.00001})).is_same
    assert not compared(tmp_path, "a.jsonl", rows({"x": 1.0}), rows({"x": 1.00001}), 1e-6).is_same


def test_rows_that_came_or_went_differ(tmp_path):
    one, two = rows({"x": 1}), rows({"x": 1}, {"x": 2})
    assert [d.place for d in compared(tmp_path, "a.jsonl", one, two).differing] == ["[1].x"]
    assert [d.place for d in compared(tmp_path, "a.jsonl", two, one).differing] == ["[1].x"]


def test_of_text_the_words_and_the_numbers_count(tmp_path):
    mine = "# Heads\n\n12 of 1,024 heads, +0.31 [0.2, 0.4].\n"
    assert compared(tmp_path, "a.md", mine, mine).same_bytes
    other = compared(tmp_path, "a.md", mine, mine.replace("0.31", "0.33"))
    assert [(d.recorded, d.repeated) for d in other.differing] == [(0.31, 0.33)]
    assert compared(tmp_path, "a.md", mine, mine.replace("heads,", "neurons,")).differing[0].place == "line 3"


def test_a_table_is_compared_cell_by_cell(tmp_path):
    found = compared(tmp_path, "a.csv", "model,loss\nl1,2.0\n", "model,loss\nl1,2.5\n")
    assert [(d.place, d.repeated) for d in found.differing] == [("line 2, column 2", 2.5)]


def test_numbers_about_zero_and_not_numbers():
    assert relative(0.0, 1e-12) < 1e-4
    assert relative(float("nan"), float("nan")) == 0
    assert relative(True, 1.5) == relative("a", "b") == relative(None, 1.0) == float("inf")


def test_broken_files_are_named(tmp_path):
    with pytest.raises(DataError, match="is no JSON"):
        compared(tmp_path, "a.jsonl", "{", "{")


def test_rows_are_found_by_their_fields(tmp_path):
    (tmp_path / "a.jsonl").write_text(rows({"head": "L0H1", "layer": 0}, {"head": "L0H2", "layer": 0}))
    assert [row["head"] for row in rows_where(tmp_path / "a.jsonl", {"layer": "0", "head": "L0H2"})] == [
        "L0H2"
    ]
    with pytest.raises(DataError):
        rows_where(tmp_path / "a.md", {})
