"""``tslens data author`` and ``tslens look --labels``: wishes, twins, labels, and what is refused."""

import gzip
import json

import pytest

from tslens.corpus.check_features import has_feature, has_word
from tslens.corpus.corrupt import FAULTS
from tslens.corpus.faults.check import find_fault
from tslens.corpus.labelled import read_labels
from tslens.corpus.words import find_units
from tslens.types import Story


def rows_of(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def story_of(row):
    return Story(row.pop("text"), row)


def test_wishes_are_met(tslens, tmp_path):
    out = tmp_path / "stories.jsonl"
    wishes = ("--words", "swim,frog,sad", "--features", "twist,bad_ending")
    done = tslens("data", "author", "--stories", 5, "--seed", 2, *wishes, "--out", out)
    assert done.code == 0, done.err
    for row in rows_of(out):
        story = story_of(row)
        assert story.extra["words"] == ["swim", "frog", "sad"]
        assert sorted(story.extra["features"]) == ["bad_ending", "twist"]
        labels = read_labels(story)
        assert has_feature("twist", story.text) and has_feature("bad_ending", story.text)
        assert all(has_word(w, p, labels) for w, p in zip(row["words"], row["words_pos"], strict=True))


def test_processes_and_packing_change_nothing(tslens, tmp_path):
    assert (
        tslens("data", "author", "--stories", 60, "--processes", 2, "--out", tmp_path / "a.jsonl.gz").code
        == 0
    )
    assert (
        tslens("data", "author", "--stories", 60, "--processes", 1, "--out", tmp_path / "b.jsonl").code == 0
    )
    assert rows_of(tmp_path / "a.jsonl.gz") == rows_of(tmp_path / "b.jsonl")


def test_json_is_one_object(tslens, tmp_path):
    facts = json.loads(tslens("data", "author", "--stories", 2, "--json").out)
    assert len(facts["stories"]) == 2
    facts = json.loads(tslens("data", "author", "--stories", 2, "--json", "--out", tmp_path / "x.jsonl").out)
    assert facts["n_stories"] == 2 and facts["seed"] == 0


@pytest.mark.parametrize("kind", FAULTS)
def test_twins_hold_the_fault_where_they_say(tslens, tmp_path, kind):
    out = tmp_path / "twins.jsonl"
    done = tslens(
        "data", "author", "--stories", 25, "--seed", 4, "--corrupt", f"{kind}:medium", "--out", out, "--json"
    )
    assert done.code == 0, done.err
    twins = rows_of(out)
    assert (
        len(twins)
        == json.loads(done.out)["corruption"]["corrupted"]
        >= {"object_back": 3, "swapped_names": 8}.get(kind, 20)
    )
    originals = tmp_path / "originals.jsonl"
    assert tslens("data", "author", "--stories", 25, "--seed", 4, "--out", originals).code == 0
    stories = {row["text"]: row for row in rows_of(originals)}
    for twin in twins:
        assert twin["text"] != twin["original"] and twin["corruption"]["kind"] == kind
        original = stories[twin["original"]]
        labels = read_labels(Story(twin["original"], original))
        assert "labels" not in twin
        found = find_fault(kind, twin["original"], twin["text"], labels, words=original["words"])
        assert len(found) >= twin["corruption"]["n_sites"] >= 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--words", "swimm"), "swim"),
        (("--words", "frog:verb"), "frog"),
        (("--features", "sadness"), "no feature"),
        (("--features", "bad_ending,happy_ending"), "at once"),
        (("--corrupt", "tense:huge"), "tense"),
        (("--corrupt", "grammar"), "word_order"),
        (("--stories", "0"), "none"),
        (("--out", "stories.csv"), ".jsonl"),
    ],
)
def test_bad_wishes_are_refused(tslens, tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    done = tslens("data", "author", *arguments)
    assert done.code == 2, done.err
    assert word in done.err and "Traceback" not in done.err
    assert len([line for line in done.err.splitlines() if line.strip()]) <= 3
    assert not list(tmp_path.iterdir())


def test_look_shows_the_labels_of_a_story(tslens, tmp_path):
    page = tmp_path / "labels.html"
    done = tslens("look", "--labels", "--stories", "author:20:3", "--number", 7, "--html", page)
    assert done.code == 0, done.err
    assert "protagonist" in done.out and "sentences" in done.out
    text = page.read_text(encoding="utf-8")
    assert 'class="subject' in text and "http" not in text.split("</style>")[1]
    again = tmp_path / "again.html"
    assert tslens("look", "--labels", "--stories", "author:20:3", "--number", 7, "--html", again).code == 0
    strip = lambda page: page.read_text(encoding="utf-8").replace("again.html", "labels.html")  # noqa: E731
    assert strip(again) == text


def test_look_as_json(tslens):
    shown = json.loads(tslens("look", "--labels", "--stories", "author:20:3", "--number", 7, "--json").out)
    assert shown["made_by"] == "author"
    assert len(shown["units"]) == len(find_units(shown["text"])) == len(shown["labels"]["pos"])
    assert {"subject", "antecedent", "topic"} <= set(shown["relations"])


def test_look_parses_a_text_of_a_user(tslens, monkeypatch, tmp_path):
    pytest.importorskip("spacy", reason="the parser is not installed")
    monkeypatch.setenv("TSLENS_CACHE", str(tmp_path))
    done = tslens("look", "--labels", "Tom had a dog. It barked.", "--json")
    assert done.code == 0, done.err
    shown = json.loads(done.out)
    assert [shown["units"][key] for _, (key,) in shown["relations"]["antecedent"]] == ["dog"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--labels",), 2),
        (("Tom ran.", "--labels", "--stories", "author:3"), 2),
        (("--labels", "--stories", "author:3", "--number", "3"), 2),
        (("--labels", "--stories", "absent.jsonl"), 1),
        ((), 2),
        (("Tom ran.",), 2),
    ],
)
def test_look_without_a_story_says_what_to_do(tslens, arguments, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no run is
    done = tslens("look", *arguments)
    assert done.code == code, done.err
    assert "error:" in done.err and "Traceback" not in done.err
