"""Completions read from a file: names of prompts, and what is refused before anything is graded."""

import json
from dataclasses import replace

import pytest

from tslens.errors import DataError
from tslens.grading.completions import name_of, name_of_package, prompts_of, text_of
from tslens.grading.completions_file import read_texts
from tslens.grading.prompts import load_beginnings, load_instruction_sets


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_texts_of_a_file_have_the_names_of_their_prompts(tmp_path):
    beginning, asked = load_beginnings()[4], load_instruction_sets()[2]
    rows = [
        {"schema": "tslens.completions/1"},
        {"prompt": "Tom", "completion": " ran."},
        {"prompt": beginning.text, "completion": " or", "seed": 5, "ended": False},
        {"prompt": "Ann", "completion": " sat.", "prompt_id": 12, "sample": 7},
        {"prompt": "Tom", "completion": " fell."},
        {"prompt": text_of(asked), "completion": "\nA story."},
        {"prompt": "", "completion": "Another.", "instructions": asked.instruction.to_json()},
        {"prompt": "Words: cat\nStory:", "completion": " Meow."},
    ]
    found = read_texts(write(tmp_path / "c.jsonl", rows))
    assert [one.key for one in found] == [
        "p001/0",
        f"{beginning.id}/0",
        "12/7",
        "p001/1",
        f"{asked.id}/0",
        f"{asked.id}/1",
        "p002/0",
    ]
    assert (found[1].seed, found[1].ended, found[0].ended) == (5, False, None)
    assert found[4].prompt == "" and found[4].completion == "A story."
    assert found[4].instructions["words"] == list(asked.instruction.words)
    assert found[6].instructions == {"words": ["cat"]} and found[6].completion == "Meow."


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "holds no text"),
        ([{"prompt": "x"}], "line 1: 'completion' is missing"),
        ([{"prompt": "x", "completion": 3}], "line 1"),
        ([{"prompt": "x", "completion": "y", "sample": "one"}], "whole number"),
        ([{"prompt": "x", "completion": "y", "instructions": {"moves": 3}}], "no instruction"),
        ([{"prompt": "x", "completion": "half a pair \ud83d"}], "line 1.*surrogate"),
        ([{"prompt": "x", "completion": "y", "prompt_id": 1.5}], "text or a number"),
        ([{"prompt": "x", "completion": "y", "sample": 0}] * 2, 'line 2: it holds two texts "p001/0"'),
        ([{"prompt": "x", "completion": "y", "prompt_id": "p\ud83d"}], "line 1.*surrogate"),
        (
            [{"prompt": "", "completion": "y", "instructions": {"words": ["cat"], "summary": "\udc00"}}],
            "line 1.*surrogate",
        ),
        ([{"prompt": "x", "completion": "y"}, {"prompt": "\ud83d", "completion": "y"}], "line 2.*surrogate"),
        (
            [
                {"prompt": "x", "completion": "y", "prompt_id": "a"},
                {"prompt": "z", "completion": "y", "prompt_id": "a"},
            ],
            'line 2: the prompt "a" is another',
        ),
        ([{"prompt": "x", "completion": "y", "prompt_id": True}], "text or a number"),
        (["text"], "no object"),
    ],
)
def test_what_are_no_completions_is_refused(rows, said, tmp_path):
    with pytest.raises(DataError, match=said):
        read_texts(write(tmp_path / "c.jsonl", rows))


def test_files_that_are_absent_or_no_json_are_told_so(tmp_path):
    path = tmp_path / "c.jsonl"
    with pytest.raises(DataError, match=r"There is no file .*c\.jsonl\.") as caught:
        read_texts(path)
    assert "Errno" not in str(caught.value)
    path.write_text('{"prompt": "x", "completion": "y"}\n\noops\n')
    with pytest.raises(DataError, match="line 3 is no JSON: expecting value at character 1"):
        read_texts(path)
    with pytest.raises(DataError, match="no file of completions: Is a directory"):
        read_texts(tmp_path)


@pytest.mark.parametrize("field", ["instructions", "other"])
def test_what_is_nested_without_end_is_refused(field, tmp_path):
    deep = "[" * 100_000 + "]" * 100_000
    lines = ['{"prompt": "x", "completion": "y"}', f'{{"prompt": "x", "completion": "y", "{field}": {deep}}}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"c\.jsonl.*line 2"):
        read_texts(tmp_path / "c.jsonl")


def test_names_of_prompts_do_not_depend_on_the_order_of_lines(tmp_path):
    rows = [{"prompt": text, "completion": " ran."} for text in ("Tom", "Ann", "One day")]
    rows += [{"prompt": "Ben", "completion": " sat.", "prompt_id": name} for name in ("p001", 0)]
    found, back = (read_texts(write(tmp_path / "c.jsonl", some)) for some in (rows, rows[::-1]))
    assert [one.prompt_id for one in found] == ["p004", "p002", "p003", "p001", "0"]
    assert {one.key: one.prompt for one in found} == {one.key: one.prompt for one in back}
    names = [name_of(prompts_of(texts), "of the file") for texts in (found, back, found[:2])]
    assert names[0] == names[1] != names[2] and names[0][0] == "of the file"
    renamed = [replace(one, prompt_id=f"{one.prompt_id}x") for one in found]
    assert name_of(prompts_of(renamed), "of the file") != names[0], "grades compare by the ids of prompts"
    assert name_of(load_beginnings()[::-3], "x") == name_of_package("beginnings")
    assert name_of(load_instruction_sets()[:2], "x")[0] == "instructions-v1"
