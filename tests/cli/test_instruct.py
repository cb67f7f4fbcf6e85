"""``tslens data instruct`` as a user runs it."""

import gzip
import json

import pytest

from tslens.corpus.instructions.form import Instruction, parse_prompt
from tslens.corpus.stories import is_validation, read_stories
from tslens.types import Story


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


def test_texts_and_prompts_of_author_stories(tslens, tmp_path):
    out, prompts = tmp_path / "texts.jsonl", tmp_path / "prompts.jsonl"
    done = tslens(
        "data", "instruct", "author:400:1", "--out", out, "--prompts-out", prompts, "--prompts", 8, "--json"
    )
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    rows, asked = rows_of(out), rows_of(prompts)
    assert facts["n_stories"] == len(rows)
    assert facts["n_prompts"] == len(asked) == 8
    assert facts["n_stories"] + facts["n_left_out"] + facts["n_without_instruction"] == 400
    assert facts["held_out"] == ["words+summary"]
    for row in rows:
        parsed = parse_prompt(row["text"])
        assert parsed.story == row["story"]
        instruction = Instruction.from_json(row["instruction"])
        assert parsed.instruction == instruction.as_prompted()
        assert {"words", "summary"} - set(instruction.kinds)
        assert row["source"] == "author"
        assert not is_validation(Story(row["story"]))
    for row in asked:
        parsed = parse_prompt(row["prompt"])
        assert parsed.story == ""
        assert {"words", "summary"} <= set(parsed.instruction.kinds)
        assert parsed.instruction == Instruction.from_json(row["instruction"]).as_prompted()
        assert is_validation(Story(row["story"]))
        assert set(row) == {"prompt", "instruction", "story", "index", "summary_labels"}
    assert not {row["story"] for row in rows} & {row["story"] for row in asked}
    kinds = [kind for row in rows for kind in row["instruction"] if kind != "words_pos"]
    assert facts["kinds"] == {
        kind: kinds.count(kind) for kind in ("words", "sentence", "features", "summary")
    }


def test_the_same_bytes_in_any_number_of_processes(tslens, tmp_path):
    contents = []
    for number in (1, 2):
        out, prompts = tmp_path / f"{number}.jsonl", tmp_path / f"p{number}.jsonl"
        options = ("--seed", 7, "--processes", number, "--prompts-out", prompts, "--prompts", 3)
        assert tslens("data", "instruct", "author:200", "--out", out, *options).code == 0
        contents.append((out.read_bytes(), prompts.read_bytes()))
    assert contents[0] == contents[1]


def test_number_of_texts(tslens, tmp_path):
    out = tmp_path / "texts.jsonl.gz"
    done = tslens("data", "instruct", "author:100", "--stories", 20, "--out", out)
    assert done.code == 0, done.err
    assert len(rows_of(out)) == 20
    assert "20 texts" in done.out
    assert "sentence" in done.out


def test_stories_of_a_file(tslens, tmp_path, story_file):
    out = tmp_path / "texts.jsonl"
    done = tslens("data", "instruct", story_file, "--out", out, "--hold-out", "words+features", "--json")
    assert done.code == 0, done.err
    rows = rows_of(out)
    texts = [story.text for story in read_stories(story_file)]
    assert rows
    for row in rows:
        assert row["source"] == story_file.name
        assert texts[row["index"]] == row["story"]
        assert "summary" not in row["instruction"]
        assert {"words", "features"} - set(row["instruction"])
    assert [story.text for story in read_stories(out)] == [row["text"] for row in rows]


def test_too_few_are_said(tslens, tmp_path, story_file):
    out, prompts = tmp_path / "texts.jsonl", tmp_path / "prompts.jsonl"
    done = tslens("data", "instruct", story_file, "--out", out, "--prompts-out", prompts, "--prompts", 5)
    assert done.code == 3
    assert "0 of 5 prompts" in done.err
    assert "--hold-out" in done.err
    assert not prompts.exists()
    done = tslens("data", "instruct", story_file, "--out", out, "--stories", 5000)
    assert done.code == 3
    assert "of 5000 texts" in done.err


def test_nothing_to_ask_for(tslens, tmp_path):
    source = tmp_path / "short.jsonl"
    source.write_text('{"text": "Hm."}\n')
    done = tslens("data", "instruct", source, "--out", tmp_path / "out.jsonl")
    check_error(done, "No training text", "1 stories offer nothing")
    assert not (tmp_path / "out.jsonl").exists()


def test_what_fails_leaves_what_is_there(tslens, tmp_path, story_file):
    out, prompts = tmp_path / "out.jsonl", tmp_path / "prompts.jsonl"
    source = tmp_path / "short.jsonl"
    source.write_text('{"text": "Hm."}\n')
    for path in (out, prompts):
        path.write_text("precious\n")
    assert tslens("data", "instruct", source, "--out", out).code == 1
    assert out.read_text() == "precious\n"
    done = tslens("data", "instruct", story_file, "--out", tmp_path / "o.jsonl", "--prompts-out", prompts)
    assert done.code == 3 and prompts.read_text() == "precious\n"


def test_an_instruction_file_is_no_source(tslens, tmp_path, story_file):
    assert tslens("data", "instruct", story_file, "--out", tmp_path / "a.jsonl").code == 0
    done = tslens("data", "instruct", tmp_path / "a.jsonl", "--out", tmp_path / "b.jsonl")
    check_error(done, "behind an instruction already")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "a.txt"), ".jsonl"),
        (("--out", "a.jsonl", "--prompts-out", "p.txt"), ".jsonl"),
        (("--out", "a.jsonl", "--prompts-out", "a.jsonl"), "both"),
        (("--out", "a.jsonl", "--stories", "0"), "0 stories"),
        (("--out", "a.jsonl", "--prompts", "3"), "--prompts-out"),
        (("--out", "a.jsonl", "--hold-out", "words"), "words+summary"),
        (("--out", "a.jsonl", "--hold-out", "words+plot"), '"words+plot"'),
    ],
)
def test_wrong_use(tslens, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    check_error(tslens("data", "instruct", "author:20", *options), said, code=2)
    assert not list(tmp_path.iterdir())


def test_the_source_is_not_replaced(tslens, story_file):
    before = story_file.read_bytes()
    check_error(tslens("data", "instruct", story_file, "--out", story_file), "replace", code=2)
    assert story_file.read_bytes() == before


def test_an_absent_file(tslens, tmp_path):
    check_error(
        tslens("data", "instruct", tmp_path / "none.jsonl", "--out", tmp_path / "a.jsonl"), "none.jsonl"
    )
