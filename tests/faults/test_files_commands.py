"""The same at the command line: two lines and an exit code, no traceback, nothing written but below the folder."""

import json
from pathlib import Path

import files_fuzz as fuzz
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.timeout(1500)
REPORTS = Path(__file__).parents[2] / "reports"
MODEL = "shipped:l1_h64"


@pytest.fixture
def run(tslens, tmp_path, monkeypatch):
    """Runs a command line in a folder of its own, watched; its exit code, after checks of what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def command(*arguments):
        with fuzz.watched(tmp_path):
            done = tslens(*arguments)
        lines = [line for line in done.err.splitlines() if line.strip()]
        assert done.code in {0, 1, 2, 3} and "Traceback" not in done.err, done.err
        if done.code in {1, 2} and "error:" in done.err:
            start = next(i for i, line in enumerate(lines) if line.startswith("error:"))
            assert len(lines) - start == 2, lines
        assert "\x1b" not in done.err
        return done.code

    return command


def spoilt(rows, edits):
    return fuzz.spoil_rows(rows, edits).encode("utf-8", "surrogatepass")


def rows_of(name, n):
    with (REPORTS / name).open(encoding="utf-8") as file:
        return [json.loads(next(file)) for _ in range(n + 1)]


def test_records_of_strangers_are_told_and_not_run(how_many, run, tmp_path):
    """``tslens verify --dry-run`` of a record that asks for anything."""
    commands = ["tslens heads --model l1_h64", "rm -rf /", "tslens runs --remove x", "python -c 1", "'", ""]
    commands += [
        "tslens heads --out=/etc/x --html /x",
        "python analysis/../../x.py",
        "tslens link --judge openai:x",
    ]
    rows = [{"schema": "x/1", "a": 1}, {"b": 2}]
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    @fuzz.tries(how_many(4, 250))
    @given(
        edits=fuzz.json_edits,
        command=st.sampled_from(commands),
        data=st.sampled_from(["author:5:0", "../x", "/"]),
    )
    def recorded(edits, command, data):
        record = {"command": command, "data": data, "data_sha256": "ab" * 32, "seconds": 1.0}
        text = fuzz.spoil_json(record, edits).encode("utf-8", "surrogatepass")
        (folder / "x.provenance.json").write_bytes(text)
        run("verify", folder, "--dry-run")

    recorded()


def test_prompts_and_completions(how_many, run, tmp_path):
    """Prompts that a model goes on from, and completions that are graded."""
    file = tmp_path / "p.jsonl"

    @fuzz.tries(how_many(1, 60))
    @given(edits=fuzz.json_edits)
    def asked(edits):
        file.write_bytes(spoilt([{"prompt": "Tom had"}, {"prompt": "Mia saw"}], edits))
        run("generate", "--model", MODEL, "--prompts", file, "--max-tokens", 3)
        file.write_bytes(spoilt([{"prompt": "Tom had", "completion": " a cat."}] * 2, edits))
        run("grade", "--completions", file, "--judge", "local")

    asked()


def test_models_and_stories(how_many, run, tmp_path):
    """A run whose settings and metrics are a stranger's, and stories of one."""
    from tslens.model.load import find_model

    source = find_model(MODEL)
    folder = tmp_path / "runs" / "l1_h64" / "seed0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "step_000001.safetensors").write_bytes(source.path.read_bytes())
    (folder / "tokenizer.json").write_bytes(source.shipped.tokenizer_file.read_bytes())
    stories = tmp_path / "s.jsonl"
    header = {"schema": "tslens.metrics/1", "model": "l1_h64", "pass_tokens": 9, "flops_per_token": 9.0}
    row = {"step": 1, "n_tokens": 9, "split": "validation", "loss_nats": 2.0, "bits_per_byte": 1.0}

    @fuzz.tries(how_many(2, 60))
    @given(edits=fuzz.json_edits, others=fuzz.json_edits, which=st.integers(0, 2))
    def strange(edits, others, which):
        config = fuzz.spoil_json({"model": "l1_h64", "seed": 0}, edits if which == 0 else [])
        (folder / "config.json").write_bytes(config.encode("utf-8", "surrogatepass"))
        (folder / "metrics.jsonl").write_bytes(spoilt([header, row, row], edits if which == 1 else []))
        stories.write_bytes(spoilt([{"text": f"Tom had {n} cats. He ran."} for n in range(6)], others))
        run("runs")
        run("look", "Tom had a cat.", "--model", folder, "--head", "L0H1")
        run("data", "import", stories, "--out", tmp_path / "corpus", "--vocab-size", 300)

    strange()


def test_results_in_a_report_and_in_a_comparison(how_many, run, tmp_path):
    """Rows of results with other shapes: a page is written, or the file is refused."""
    named = {
        "heads": ("heads/l1_h256.jsonl", 40),
        "neurons": ("neurons/l1_h256.jsonl", 20),
        "map": ("link/l1_h256.jsonl", 30),
    }
    rows = {kind: rows_of(*what) for kind, what in named.items()}
    for kind in rows:
        rows[kind][0] |= {"model": "shipped:l1_h256@seed0", "checkpoint": "model.safetensors"}
    folder = tmp_path / "results"
    folder.mkdir()

    @fuzz.tries(how_many(1, 60))
    @given(edits=fuzz.json_edits, which=st.sampled_from(sorted(rows)))
    def joined(edits, which):
        for kind, own in rows.items():
            (folder / f"{kind}.jsonl").write_bytes(spoilt(own, edits if kind == which else []))
        run("report", "l1_h256", "--results", folder, "--texts", 0, "--html", tmp_path / "r.html")

    joined()
