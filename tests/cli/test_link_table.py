"""``tslens link --table``: rows of several models, kept grades, other people's models, what is refused."""

import csv
import json
from contextlib import contextmanager

import pytest

from tslens.grading.results import load_grades
from tslens.grading.rubric import CRITERIA
from tslens.link.ngram_null import author_like
from tslens.link.sizes.measured import load_sizes
from tslens.model.load import load_model
from tslens.probes.held_out import HeldOut, loss_on
from tslens.types import Grade

SMALL = ("--stories", "author:60:7", "--n-stories", 6, "--pairs", 20)
MODELS = ("shipped:l1_h64", "shipped:l2_h64")
TABLE = ("link", "--table", *MODELS, *SMALL)
GRADED = ("--judge", "local", "--samples", 1)


class ByLength:
    """A longer text gets more points; counts what it is given."""

    name, version = "local", "by length"
    n_given = 0

    def grade(self, texts, progress=lambda n: None):
        ByLength.n_given += len(texts)
        return [self.one(text) for text in texts]

    @staticmethod
    def one(text):
        points = min(10.0, len(text.completion) / 50)
        return Grade(text, points, points / 2, points, 5.0, "B")


@contextmanager
def by_length(*_, **__):
    yield ByLength()


@pytest.fixture(autouse=True)
def small(monkeypatch, few_readouts, tmp_path):
    def stories_like(model, tokenizer, source):
        return author_like(tokenizer, n_ctx=model.cfg.n_ctx, n_counted=100, n_held_out=10)

    monkeypatch.setattr("tslens.cli.link_sizes.make_readouts", few_readouts)
    monkeypatch.setattr("tslens.cli.link_sizes.stories_like", stories_like)
    monkeypatch.setattr("tslens.cli.link_sizes.open_judge", by_length)
    ByLength.n_given = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all tests run, so that texts are written once."""
    return tmp_path_factory.mktemp("table")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_a_row_says_what_was_measured(tslens, here):
    done = tslens(*TABLE, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tslens.link_table/1"
    assert (found["judge"], found["samples"], found["n_stories"], found["n_pairs"]) == (None, None, 6, 20)
    one, two, ngram = found["rows"]
    assert [row["label"] for row in (one, two)] == ["shipped:l1_h64@seed0", "shipped:l2_h64@seed0"]
    assert [(row["n_layers"], row["d_model"], row["n_heads"]) for row in (one, two)] == [
        (1, 64, 4),
        (2, 64, 4),
    ]
    assert (one["cell"], one["n_parameters"], one["n_tokens"]) == ("l1_h64", 344_832, 10_000_508)
    assert 1e13 < one["flops"] < two["flops"] < 1e14
    model = load_model("shipped:l1_h64")
    loss = loss_on(model, list(HeldOut(model, "author:60:7", 6)))
    assert one["measured"]["loss"]["mean"] == pytest.approx(loss.loss_nats, abs=1e-4)
    assert one["measured"]["bits"]["mean"] == pytest.approx(loss.bits_per_byte, abs=1e-4)
    assert 0 <= one["measured"]["agreement"]["mean"] <= 1
    assert {"agreement nats", "lost_object", "factual"} <= one["measured"].keys()
    assert ngram["label"].endswith("-gram") and ngram["n_layers"] is None
    assert found["growth"] == []
    header, rows = load_sizes(here / found["file"])
    assert header["data_sha256"] == found["data_sha256"]
    for row, printed in zip(rows, found["rows"], strict=True):
        assert row.label == printed["label"]
        for name, measured in row.measured.items():
            assert measured.mean == pytest.approx(printed["measured"][name]["mean"], abs=1e-4)


def test_grades_are_made_once_and_then_read(tslens, here):
    done = tslens(*TABLE, *GRADED, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    one, _, *sides = found["rows"]
    assert (
        ByLength.n_given == 2 * (50 + 50) + 50
    )  # texts and true endings of both models, texts of the n-gram
    assert {row["label"] for row in sides} >= {"true ending"}
    files = sorted(
        (here / "runs" / "l1_h64-shipped" / "seed0" / "results" / "grades" / "local").glob("*n1_seed0.jsonl")
    )
    kept = load_grades(files[0])
    for name in CRITERIA:
        assert one["measured"][name]["mean"] == pytest.approx(kept.summary.means[name].mean, abs=1e-4)
        assert one["measured"][name]["low"] == pytest.approx(kept.summary.means[name].low, abs=1e-4)
    assert "factual written" in one["measured"]
    again = tslens(*TABLE, *GRADED, "--json")
    assert ByLength.n_given == 2 * 100 + 50 + 50  # of the second run the n-gram alone
    assert json.loads(again.out)["rows"] == found["rows"]


def test_the_table_fits_and_says_whose_grades_they_are(tslens, here):
    done = tslens(*TABLE, *GRADED)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 112
    for words in (
        "l1_h64 ",
        "true ending",
        "bits/byte",
        "validation",
        "pairs",
        "written",
        "not GPT-4",
        "wrote runs",
    ):
        assert words in done.out


def test_other_peoples_models_are_rows_without_their_texts(tslens, here, tmp_path, monkeypatch):
    grades = tmp_path / "grades"
    grades.mkdir()
    secret = "a text that must not be kept"
    rows = [
        {
            "model_size": size, "prompt": f"{secret} {i}", "completion": secret, "grammar": points + i % 3,
            "creativity": 5, "consistency": points, "plot_sense": points, "n_layers": layers, "d_model": 8 * layers,
            "n_heads": 2, "parameter_count": 1000 * layers,
        }
        for size, points, layers in (("xs", 3, 1), ("xl", 6, 4))
        for i in range(4)
    ]  # fmt: skip
    (grades / "gpt4o_five_sizes.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    columns = ["category", "prompt", "model_name", "Grammar_A_score", "Grammar_B_score", "Plot_A_score"]
    categories = ("Grammar", "Creativity", "Plot", "Factual Knowledge", "Reasoning", "Context-Tracking")
    with (grades / "human_scores_tinystories_1m_8m_28m.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(f"{c}_A_score" for c in categories[1:2] + categories[3:])])
        for name in ("1M", "8M"):
            for category in categories:
                scores = (
                    ["1", "0.5", "", "", "", "", ""]
                    if category == "Grammar"
                    else ["", "", "1", "0", "0", "0", "1"]
                )
                for i in range(3):
                    writer.writerow([category, f"{secret} {i}", f"roneneldan/TinyStories-{name}", *scores])
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path))
    done = tslens(*TABLE, "--foreign", "--json", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert secret not in done.out
    assert secret not in (next((tmp_path / "out").glob("sizes-*.jsonl"))).read_text(encoding="utf-8")
    found = {(row["label"], row["source"]): row["measured"] for row in json.loads(done.out)["rows"]}
    assert found["xs (of five)", "GPT-4o"]["grammar"]["mean"] == pytest.approx(3 + 3 / 4)
    assert found["xl (of five)", "GPT-4o"]["plot"]["mean"] == 6
    assert found["TinyStories-1M", "a person"]["grammar"]["mean"] == 0.75
    assert found["TinyStories-8M", "a person"]["context written"]["mean"] == 1


def test_what_cannot_be_meant_is_refused(tslens, here, tmp_path, monkeypatch):
    monkeypatch.setenv("TSLENS_DATA", str(tmp_path))
    for arguments, words in (
        (("link", "--table", "shipped:l1_h64"), "two models or more"),
        (("link", "--table", *MODELS, MODELS[0]), "named twice"),
        (("link",), "not clear what to link"),
        (("link", "shipped:l1_h64"), "Did you mean --model shipped:l1_h64?"),
        (("link", "--model", "shipped:l1_h64", "--foreign"), "--foreign is for a table"),
        ((*TABLE, "--model", "l1_h64"), "--model is for a map"),
        ((*TABLE, "--html", "map.html"), "--html is for a map"),
        ((*TABLE, "--samples", 2), "--samples is for grades"),
        ((*TABLE, "--judge", "openai:gpt-4o"), "has no grades by openai:gpt-4o"),
        ((*TABLE, "--foreign"), "Cannot read other people's grades"),
    ):
        done = tslens(*arguments)
        assert done.code in (1, 2), arguments
        assert words in done.err, (arguments, done.err)
    assert (
        "tslens grade --model shipped:l1_h64 --judge openai:gpt-4o"
        in tslens(*TABLE, "--judge", "openai:gpt-4o").err
    )


def test_another_librarys_model_is_a_row_like_ours(tslens, here, tmp_path):
    """A shipped model as transformers has it, its activation under another name: not taken for ours, same figures."""
    from tslens.model.export import export_model

    theirs = tmp_path / "their-model"
    export_model(load_model("shipped:l1_h64"), "huggingface", theirs)
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps({**config, "activation_function": "gelu_pytorch_tanh"}))
    done = tslens("link", "--table", MODELS[0], theirs, *SMALL, "--json")
    assert done.code == 0, done.err
    ours, other = json.loads(done.out)["rows"][:2]
    assert (other["label"], other["cell"], other["n_layers"], other["d_model"]) == (
        "their-model",
        "their-model",
        1,
        64,
    )
    assert other["flops"] is None and other["n_tokens"] is None
    assert other["n_parameters"] == ours["n_parameters"]
    assert ours["measured"].keys() == other["measured"].keys()
    for name, one in ours["measured"].items():
        assert other["measured"][name]["mean"] == pytest.approx(one["mean"], abs=2e-4), name
