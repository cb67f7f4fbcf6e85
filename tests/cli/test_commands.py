"""Each command as a user runs it: what it prints, the JSON it promises, the files it leaves."""

import json
import subprocess
import sys

import pytest

from tslens.corpus.author import write_stories
from tslens.files import read_jsonl
from tslens.probes.base import find_probes

pytestmark = pytest.mark.usefixtures("small_scans")


ROW = {"head", "probe", "position", "value", "low", "high", "mul", "nulls", "excess", "excess_low", "p"}
ROW |= {"status", "basis", "cause"}
N_ROWS = sum(len(getattr(probe, "positions", ["word"])) for probe in find_probes().values())


def test_train(tslens, story_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tslens(
        "train", "--model", "l1_h32", "--data", story_file, "--steps", 12, "--vocab-size", 300, "--json"
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert set(found) == {"run", "steps", "tokens", "seconds", "val_loss_nats", "val_bits_per_byte"}
    assert found["steps"] == 12
    assert (tmp_path / "runs" / "l1_h32" / "seed0" / "DONE").exists()


def test_train_shows_the_yardstick(tslens, story_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = tslens("train", "--model", "l1_h32", "--data", story_file, "--steps", 5, "--vocab-size", 300)
    assert "4-gram" in done.out
    assert "bits per byte" in done.out


def test_an_imported_folder_is_a_source(tslens, story_file, tmp_path):
    folder = tmp_path / "corpus"
    done = tslens("data", "import", story_file, "--out", folder, "--vocab-size", 300, "--json")
    assert done.code == 0, done.err
    splits = {split["split"]: split["stories"] for split in json.loads(done.out)["splits"]}
    assert sum(splits.values()) == 60
    done = tslens("train", "--model", "l1_h32", "--data", folder, "--steps", 3, "--out", tmp_path / "run")
    assert done.code == 0, done.err


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")  # few of 40 stories have direct speech
def test_heads_json_keeps_the_contract(tslens, project, story_file):
    arguments = ("--stories", "author:1200:7", "--n-stories", 40, "--n-explain", 10, "--json")
    done = tslens("heads", "--model", "l2_h32", *arguments)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tslens.heads/1"
    assert found["n_stories"] == 40
    assert len(found["heads"]) == 2 * 2 * N_ROWS
    for row in found["heads"]:
        assert set(row) >= ROW
        assert row["position"] in {"word", "before"}
        assert row["status"] in {"role", "candidate", "unclear", "no"}
        assert row["cause"] is None or row["status"] in {"role", "candidate"}
        assert row["status"] != "role" or row["cause"]["edge_low"] > 0
        assert row["cause"] is None or set(row["cause"]) >= {"edge", "zero", "mean", "resample"}
        assert row["basis"] is not None or row["status"] in {"unclear", "no"}
        assert row["low"] <= row["value"] <= row["high"]
        assert row["excess"] == pytest.approx(row["value"] - max(row["nulls"].values()), abs=1e-6)
        assert row["excess_low"] <= row["excess"]
        assert "twins" in row["nulls"]


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_heads_leaves_rows_and_page_and_repeats_them_byte_for_byte(tslens, project, tmp_path):
    arguments = (
        "heads",
        "--model",
        "l2_h32",
        "--stories",
        "author:300",
        "--n-stories",
        35,
        "--n-explain",
        5,
        "--html",
    )
    first = tslens(*arguments, tmp_path / "one.html", "--out", tmp_path / "one")
    assert first.code == 0, first.err
    assert "candidate" in first.out
    tslens(*arguments, tmp_path / "two.html", "--out", tmp_path / "two")
    one, two = (next((tmp_path / name).glob("*.jsonl")) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    header, rows = read_jsonl(one, "tslens.head_score/1")
    assert header["n_stories"] == 35
    assert len(rows) == 2 * 2 * N_ROWS
    assert (tmp_path / "one.html").stat().st_size < 5_000_000


@pytest.mark.filterwarnings("ignore:.*below 30 intervals:UserWarning")
def test_without_a_parser_probes_that_need_one_are_left_out_and_it_says_so(
    tslens, project, tmp_path, monkeypatch
):
    monkeypatch.setattr("tslens.probes.scan.parser_is_missing", lambda: "no parser")
    bare = tmp_path / "bare.jsonl"
    lines = [json.dumps({"text": story.text}) for story in write_stories(40, seed=3)]
    bare.write_text("\n".join(lines), encoding="utf-8")
    done = tslens("heads", "--model", "l2_h32", "--stories", bare, "--n-explain", 0, "--json")
    assert done.code == 3
    assert "subject" in done.err
    assert {"previous_token", "sentence_end"} <= {row["probe"] for row in json.loads(done.out)["heads"]}


@pytest.mark.filterwarnings("default")
def test_training_stories_are_left_out_and_counted(tslens, project, story_file):
    done = tslens("heads", "--model", "l2_h32", "--stories", story_file, "--probe", "first_token", "--json")
    assert done.code == 0, done.err
    assert "training stories left out" in done.err
    assert "below 30" in done.err  # few held-out stories: said, not hidden
    assert json.loads(done.out)["n_stories"] < 20


def test_stories_unlike_the_training_data_are_said(tslens, project, tmp_path):
    odd = tmp_path / "odd.jsonl"
    lines = [json.dumps({"text": f"ZZQ {i} KX WVB QQJ XZK" * 3}) for i in range(40)]
    odd.write_text("\n".join(lines), encoding="utf-8")
    done = tslens("heads", "--model", "l2_h32", "--stories", odd, "--probe", "first_token")
    assert "times the validation figure" in done.err


def test_generate_is_seeded_and_does_not_depend_on_company(tslens, project, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "Once upon"}\n{"prompt": "Then they found the kite"}\n', encoding="utf-8")
    arguments = ("generate", "--model", "l2_h32", "--max-tokens", 25, "--json")
    several = json.loads(tslens(*arguments, "--prompts", prompts, "--samples", 3).out)["completions"]
    again = json.loads(tslens(*arguments, "--prompts", prompts, "--samples", 2).out)["completions"]
    assert len(several) == 6
    same = [c for c in several if c["sample"] < 2]
    assert [c["completion"] for c in same] == [c["completion"] for c in again]


def test_look(tslens, project, tmp_path):
    text = "One day, Tom ate a <b>banana</b> in the park."
    done = tslens("look", text, "--model", "l2_h32", "--head", "L1H0", "--html", tmp_path / "look.html")
    assert done.code == 0, done.err
    assert "L1H0 looks at" in done.out
    assert "<b>banana</b>" not in (tmp_path / "look.html").read_text(encoding="utf-8")
    assert "L1H1" in tslens("look", text, "--model", "l2_h32").out
    patterns = json.loads(tslens("look", text, "--model", "l2_h32", "--head", "L0H1", "--json").out)[
        "patterns"
    ]
    assert list(patterns) == ["L0H1"]


@pytest.mark.parametrize("to", ["huggingface", "hooked-transformer"])
def test_export(tslens, project, tmp_path, to):
    done = tslens("export", tmp_path / "out", "--model", "l2_h32@seed0", "--to", to)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert tslens("export", tmp_path / "out", "--model", "l2_h32", "--to", to).code == 1  # never over another


def test_author_writes_the_same_stories_again(tslens, tmp_path):
    for name in ("one", "two"):
        assert tslens("data", "author", "--stories", 30, "--out", tmp_path / f"{name}.jsonl").code == 0
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_help_imports_nothing_heavy():
    heavy = "('torch', 'transformer_lens', 'numpy', 'tokenizers')"
    code = f"import sys; import tslens.cli.main; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_every_command_has_an_example(tslens):
    for command in (
        "train",
        "heads",
        "look",
        "generate",
        "export",
        "demo",
        "data import",
        "data author",
        "data annotate",
    ):
        shown = tslens(*command.split(), "--help")
        assert shown.code == 0
        assert "Example: tslens" in " ".join(shown.out.split()), command


def test_every_command_is_in_a_group_of_the_help() -> None:
    from tslens.cli.main import app

    assert [c.callback.__name__ for c in app.registered_commands if not c.rich_help_panel] == []
    assert [g.name for g in app.registered_groups if not g.rich_help_panel] == []
