"""``tslens data diversity`` as a user runs it."""

import json

import pytest

from tslens.corpus.diversity.sampling import split_story
from tslens.corpus.words import find_words


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def completions_file(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def copies(stories, n):
    """The first stories' own endings as completions, then one of nonsense."""
    rows = []
    for story in stories[:n]:
        prompt, ending = split_story(story.text)
        rows.append({"prompt": prompt, "completion": ending})
    return [*rows, {"prompt": "Zig zag", "completion": "zog zug zig zag zog zug zig zag zog zug."}]


def test_a_corpus(tslens, story_file):
    done = tslens("data", "diversity", story_file, "--stories", 40, "--json")
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == f"tslens data diversity: reading {story_file} (seed 0)"
    facts = json.loads(done.out)
    assert facts["schema"] == "tslens.diversity/1" and facts["kind"] == "corpus"
    assert facts["n"] == 40 and facts["n_corpus"] == 60 and len(facts["stories"]) == 40
    for row in facts["measures"]:
        assert row["n"] == 40 and row["low"] <= row["mean"] <= row["high"], row
    for row in facts["histograms"]:
        assert len(row["counts"]) == len(row["edges"]) - 1
    for counts in facts["grades"]["against all other stories"].values():
        assert sum(counts.values()) == 40
    assert all(row["nearest_story"] != row["story"] for row in facts["stories"])
    again = tslens("data", "diversity", story_file, "--stories", 40, "--json")
    assert again.out == done.out
    other = tslens("data", "diversity", story_file, "--stories", 40, "--seed", 1, "--json")
    assert other.out != done.out


def test_copied_endings_are_found(tslens, story_file, stories, tmp_path):
    path = completions_file(tmp_path / "done.jsonl", copies(stories, 5))
    done = tslens("data", "diversity", story_file, "--completions", path, "--json")
    assert done.code == 0, done.err
    assert "warning: 1 of 6 prompts begin no story" in done.err
    assert "warning: under 30 stories" in done.err
    facts = json.loads(done.out)
    rows = facts["completions"]
    assert [row["story"] for row in rows] == [0, 1, 2, 3, 4, None]
    assert [row["grade"] for row in rows] == ["exact"] * 5 + ["none"]
    for row, story in zip(rows[:5], stories, strict=False):
        assert row["R_2p"] == 1.0
        assert row["longest_run"]["words"] == len(find_words(split_story(story.text)[1]))
        assert row["own_story_left_out"]["nearest_story"] != row["story"]
        assert row["own_story_left_out"]["R_2p"] <= 1.0
    assert rows[5]["R_2p"] == 0.0 and rows[5]["longest_run"]["story"] is None
    means = {row["name"]: row for row in facts["measures"]}
    assert means["R_2p with the true ending"]["n"] == 5
    assert means["R_2p with the true ending"]["mean"] == 1.0


def test_a_true_story_may_be_given(tslens, story_file, stories, tmp_path):
    text = stories[3].text
    prompt, _ = split_story(text)
    rows = [{"prompt": prompt, "completion": "The end.", "story": text}] * 2
    path = completions_file(tmp_path / "done.jsonl", rows)
    facts = json.loads(tslens("data", "diversity", story_file, "--completions", path, "--json").out)
    assert facts["completions"][0]["story"] == 3
    assert sum(facts["grades"]["true endings"]["as defined"].values()) == 2


def test_tables_and_page(tslens, story_file, stories, tmp_path):
    path = completions_file(tmp_path / "done.jsonl", copies(stories, 5))
    page = tmp_path / "pages" / "diversity.html"
    done = tslens("data", "diversity", story_file, "--completions", path, "--html", page)
    assert done.code == 0, done.err
    for word in ("R_2p with the true ending", "own story left out", "█", "never", "nearest story: ", "exact"):
        assert word in done.out, word
    assert f"wrote {page}" in done.out
    assert max(map(len, done.out.splitlines()[:30])) <= 100
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 11 and "<mark>" in text


def test_two_corpora(tslens, tmp_path, monkeypatch):
    from tslens.cli import diversity_results

    monkeypatch.setattr(diversity_results, "N_PERMUTATIONS", 50)
    page = tmp_path / "both.html"
    done = tslens("data", "diversity", "author:60", "author:40:1", "--stories", 50, "--json", "--html", page)
    assert done.code == 0, done.err
    assert "40 stories of both: the smaller corpus has no more" in done.err
    facts = json.loads(done.out)
    assert facts["kind"] == "comparison" and facts["n"] == 40 and page.exists()
    for row in facts["differences"]:
        assert row["null_low"] <= 0 <= row["null_high"] and 1 / 51 <= row["p"] <= 1
        assert row["difference"]["mean"] == pytest.approx(row["first"]["mean"] - row["second"]["mean"])
    shown = tslens("data", "diversity", "author:60", "author:40:1", "--stories", 40)
    assert "swapped" in shown.out and "labels" in shown.out and "distinct-2" in shown.out


def test_a_model(tslens, project, story_file, tmp_path):
    done = tslens("data", "diversity", story_file, "--model", "l2_h32", "--stories", 8, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["completions_of"] == "l2_h32@seed0" and facts["n"] == 8
    assert len({row["story"] for row in facts["completions"]}) == 8
    assert set(facts["grades"]) == {"all stories", "own story left out", "true endings"}
    none = tslens("data", "diversity", "author:30", "--model", "l2_h32", "--json")
    assert none.code == 1 and "is a training story of l2_h32@seed0" in none.err


def test_wrong_usage(tslens, story_file, tmp_path):
    path = completions_file(tmp_path / "done.jsonl", [{"prompt": "a", "completion": "b"}])
    for arguments in (
        ["--model", "x", "--completions", path],
        [story_file, "--model", "x"],
        [story_file, "--completions", path],
        ["--stories", 0],
    ):
        done = tslens("data", "diversity", story_file, *arguments)
        assert done.code == 2, arguments
        assert "error:" in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    "text",
    ["", "no json", '{"prompt": "a"}', '{"prompt": 1, "completion": "b"}', "[]",
     '{"prompt": "a", "completion": "b", "story": "c"}'],
)  # fmt: skip
def test_a_broken_file_of_completions(tslens, story_file, tmp_path, text):
    path = tmp_path / "done.jsonl"
    path.write_text(text, encoding="utf-8")
    done = tslens("data", "diversity", story_file, "--completions", path)
    assert done.code == 1
    assert str(path) in done.err and "Traceback" not in done.err


def test_a_broken_index_is_named(tslens, story_file, tmp_path):
    assert tslens("data", "diversity", story_file, "--stories", 5).code == 0
    broken = next((tmp_path / "runs" / ".indexes").glob("*-plain-*/words.npy"))
    broken.write_bytes(broken.read_bytes()[:100])
    done = tslens("data", "diversity", story_file, "--stories", 5)
    assert done.code == 1 and "is broken" in done.err
