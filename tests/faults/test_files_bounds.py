"""Short files that take much: values by the million, holes of gigabytes, lines without an end, pipes beside reports."""

import os
import threading

import files_fuzz as fuzz
import pytest

MILLIONS = 2_200_000  # values, each with two of the characters that are counted
ROWS = 8_500_000  # likewise, in a file of rows
HEADER = b'{"schema": "tslens.x/1"}\n'
LONG = 1_500_000_000  # bytes of a hole


def _bombs():
    """By name: the ending of a file, what it holds and who reads it."""
    from tslens.audit.differences import compare_files
    from tslens.audit.judge_people import read_scores
    from tslens.cli.generate import _read_prompts
    from tslens.corpus.diversity.sampling import read_completions
    from tslens.files import read_json, read_jsonl
    from tslens.grading.completions_file import read_texts
    from tslens.grading.prompts import read_beginnings
    from tslens.grading.short import read_short_prompts

    lists, rows = b"[" + b"[]," * MILLIONS + b"[]]", b"{}\n" * ROWS
    return {
        "json": (".json", lists, read_json),
        "objects": (".json", b"[" + b"{}," * MILLIONS + b"{}]", read_json),
        "rows": (".jsonl", HEADER + rows, lambda path: read_jsonl(path, "tslens.x/1")),
        "prompts": (".json", lists, read_beginnings),
        "prompts by lines": (".jsonl", rows, read_beginnings),
        "short prompts": (".json", b'{"prompts": ' + lists + b"}", read_short_prompts),
        "generated": (".jsonl", b'{"prompt": "a"}\n' + b"\n" * 2 * ROWS, _read_prompts),
        "completions": (".jsonl", rows, read_texts),
        "measured completions": (".jsonl", rows, read_completions),
        "scores": (".csv", b"category\n" + b"a," * 2 * MILLIONS, read_scores),
        "compared": (".csv", b"a\n" * 2 * MILLIONS, lambda path: compare_files(path, path, tolerance=0)),
    }


def test_values_by_the_million_are_counted_before_they_are_made(tmp_path):
    """Unchecked, lists take 29 times their text and rows 50 times; a text alone is held some times over."""
    for name, (ending, held, read) in _bombs().items():
        path = tmp_path / f"bomb{ending}"
        path.write_bytes(held)
        try:
            with fuzz.little_memory(6 * len(held)):
                assert not fuzz.survives(lambda read=read, path=path: read(path), tmp_path)
        except BaseException as error:
            raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error


def test_as_many_values_as_results_may_have_are_read(tmp_path):
    """A list of a million numbers, seven times what our largest result holds, and a text full of commas."""
    from tslens.files import read_json, read_jsonl, write_json
    from tslens.reading import MOST_VALUES

    path = tmp_path / "whole.json"
    write_json(path, list(range(1_000_000)))
    assert len(read_json(path)) == 1_000_000
    path.write_bytes(HEADER + b'{"text": "' + b"," * (MOST_VALUES - 1000) + b'"}\n')
    assert len(read_jsonl(path, "tslens.x/1")[1][0]["text"]) == MOST_VALUES - 1000


@pytest.mark.parametrize("held", [b"- a\n" * 20_000, b"- " + b"a " * 600_000], ids=["texts", "bytes"])
def test_yaml_that_takes_minutes_is_refused(tmp_path, held):
    from tslens.errors import DataError
    from tslens.grading.prompts import YAML_TEXTS, read_beginnings

    path = tmp_path / "long.yaml"
    path.write_bytes(held)
    with pytest.raises(DataError, match=f"more than {YAML_TEXTS:,} texts|longer than"):
        read_beginnings(path)
    path.write_text("".join(f"- Once there was a dog number {number}.\n" for number in range(500)))
    assert len(read_beginnings(path)) == 500


def test_a_hole_of_gigabytes_is_not_read(tmp_path):
    """A sparse file costs its sender nothing: no more of it is read than the longest line or list of prompts."""
    from tslens.cli.grade_prompts import _of_file
    from tslens.link.sizes.foreign import GPT4O_FILE, PERSON_FILE, foreign_rows
    from tslens.llm.ledger import Ledger

    graded = tmp_path / "data" / GPT4O_FILE
    readers = {
        tmp_path / "prompts.json": _of_file,
        tmp_path / "ledgers" / "other.jsonl": lambda path: Ledger(path.parent, "job", read_only=True),
        graded: lambda path: foreign_rows(tmp_path / "data"),
        tmp_path / "data" / PERSON_FILE: lambda path: foreign_rows(tmp_path / "data"),
    }
    for path, read in readers.items():
        path.parent.mkdir(exist_ok=True, parents=True)
        with path.open("wb") as file:
            file.write(b'{"schema": "')
            file.truncate(LONG)
        with fuzz.little_memory(150_000_000):
            assert not fuzz.survives(lambda path=path, read=read: read(path), tmp_path), path
        path.unlink()


@pytest.mark.parametrize("name", ["report.md", "figure1.svg", "figure1.csv"])
def test_a_report_waits_for_no_pipe(tmp_path, name):
    """``tslens report`` shows studies that others may have sent: what is no file, or too long, is left out."""
    from tslens.viz.report.studies import find_studies, studies_section

    folder = tmp_path / "study"
    folder.mkdir()
    for other in ("report.md", "figure1.svg", "figure2.svg", "figure1.csv"):
        (folder / other).write_text("# A study\n\nIt found this.\n")
    assert "It found this." in studies_section(find_studies([tmp_path]))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    found = []
    thread = threading.Thread(target=lambda: found.append(studies_section(find_studies([tmp_path]))))
    thread.start()
    thread.join(10)
    if not found:
        os.close(os.open(folder / name, os.O_WRONLY | os.O_NONBLOCK))
        thread.join()
        raise AssertionError("it waits for ever")
    assert "Figure 2" in found[0]


# Ledgers --------------------------------------------------------------------------------------------------------


LEDGER = b'{"schema": "tslens.ledger/1", "job": "job", "id": "0", "started": "2026"}\n'


def _opens(folder):
    from tslens.llm.ledger import Ledger

    with Ledger(folder, "job") as ledger:
        ledger.sync()


@pytest.mark.parametrize("place", ["link", "link to nowhere", "pipe", "folder"])
def test_a_ledger_is_a_file_of_its_own(tmp_path, place):
    """A link would have a file elsewhere cut to its whole lines, and written; a pipe would be waited for."""
    folder = tmp_path / "ledgers"
    folder.mkdir()
    path, secret = folder / "job.jsonl", tmp_path / "secret"
    if place.startswith("link"):
        path.symlink_to("../secret")
    elif place == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    if place == "link":
        secret.write_text("precious, without a line end")
    assert not fuzz.survives(lambda: _opens(folder), tmp_path)
    assert secret.exists() == (place == "link")
    assert not secret.exists() or secret.read_text() == "precious, without a line end"


def test_a_file_that_is_no_ledger_is_not_cut(tmp_path):
    """What a kill cut off begins as a ledger does; another text without a whole line is somebody's."""
    path = tmp_path / "job.jsonl"
    for text in (b"precious, without a line end", b'{"schema": "tslens.grades/1", "model": "l1'):
        path.write_bytes(text)
        assert not fuzz.survives(lambda: _opens(tmp_path), tmp_path)
        assert path.read_bytes() == text
    for cut in (1, 20, 40, len(LEDGER) - 1):
        path.write_bytes(LEDGER[:cut])
        _opens(tmp_path)
        assert path.read_bytes() == b""
    path.write_bytes(LEDGER + b'{"event": "se')
    _opens(tmp_path)
    assert path.read_bytes() == LEDGER
