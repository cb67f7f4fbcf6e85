"""``tslens generate``: what it prints and writes."""

import json

SHORT = ("generate", "--model", "l2_h32", "--max-tokens", 15)


def test_an_ablated_component_stays_ablated_and_is_named(tslens, project):
    plain = json.loads(tslens(*SHORT, "--prompt", "Once", "--samples", 4, "--json").out)
    asked = ("--ablate", "L0", "--ablate", "L1H1", "--ablate", "L1N3")
    without = json.loads(tslens(*SHORT, "--prompt", "Once", "--samples", 4, *asked, "--json").out)
    assert "ablated" not in plain
    shown = tslens(*SHORT, *asked)
    assert "written without L0, L1H1, L1N3" in shown.err and "without" not in shown.out
    assert "written without" not in tslens(*SHORT).err
    assert without["ablated"] == ["L0", "L1H1", "L1N3"]
    assert plain["completions"] != without["completions"]
    assert list(without["completions"][0]) == ["prompt", "completion", "sample", "seed"]


def test_components_that_are_none_are_wrong_usage(tslens, project):
    for text, told in (("L0H9", "L0H9"), ("L7", "2 layers"), ("head3", "head3")):
        done = tslens(*SHORT, "--ablate", text)
        assert done.code == 2
        assert told in done.err
        assert done.out == ""


def test_impossible_settings_and_absent_files_are_named(tslens, project):
    for arguments, told in (
        (("--temperature", -1), "temperature cannot be -1.0. Give 0 or more."),
        (("--temperature", "nan"), "temperature cannot be nan."),
        (("--samples", 0), "samples cannot be 0. Give 1 or more."),
        (("--top-k", 0), "top_k cannot be 0."),
        (("--prompts", "absent.jsonl"), "There is no file absent.jsonl."),
    ):
        done = tslens(*SHORT, *arguments)
        assert done.code in (1, 2) and told in " ".join(done.err.split()), done.err


def test_a_story_from_nothing(tslens, project):
    [found] = json.loads(tslens(*SHORT, "--prompt", "", "--json").out)["completions"]
    assert found["prompt"] == ""
    [usual] = json.loads(tslens(*SHORT, "--json").out)["completions"]
    assert usual["prompt"] == "Once upon a time"


def test_a_file_of_completions_is_read_by_other_commands(tslens, project, tmp_path):
    from tslens.corpus.diversity.sampling import read_completions

    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "new" / "out.jsonl"
    prompts.write_text('{"prompt": "Once"}\n{"prompt": ""}\n', encoding="utf-8")
    arguments = (*SHORT, "--prompts", prompts, "--samples", 3, "--ablate", "L0H0", "--out", out)
    done = tslens(*arguments)
    assert done.code == 0, done.err
    assert f"Wrote {out}" in done.out and "6 completions without L0H0" in done.out
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [(row["prompt"], row["sample"]) for row in rows] == [
        (p, s) for p in ("Once", "") for s in range(3)
    ]
    assert all(row["ablated"] == ["L0H0"] and row["model"] == "l2_h32@seed0" for row in rows)
    read = read_completions(out)
    assert [(one.prompt, one.completion) for one in read] == [(r["prompt"], r["completion"]) for r in rows]
    first = out.read_bytes()
    assert (
        json.loads(tslens(*arguments, "--json").out)["completions"][0]["completion"] == rows[0]["completion"]
    )
    assert out.read_bytes() == first


def test_a_place_that_cannot_be_written_is_said_before_the_work(tslens, project, tmp_path):
    (tmp_path / "file").write_text("")
    done = tslens(*SHORT, "--out", tmp_path / "file" / "out.jsonl")
    assert done.code == 1
    assert "Cannot write" in done.err
    assert "model: run" not in done.err
