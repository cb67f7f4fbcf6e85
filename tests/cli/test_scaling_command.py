"""``tslens scaling``: from run folders to an exponent, a figure, and errors that say what to do."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tslens.cli.main import app
from tslens.config import TrainConfig
from tslens.files import write_json, write_jsonl
from tslens.model.spec import ModelSpec
from tslens.run_folder import METRICS_SCHEMA, RunFolder

MODELS = ("l1_h16", "l1_h32", "l1_h64", "l2_h64", "l2_h128")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Five runs whose losses are a function of size and tokens."""
    root, rng = tmp_path_factory.mktemp("scaling"), np.random.default_rng(0)
    for model in MODELS:
        run = RunFolder(root / model / "seed0")
        size = ModelSpec.from_name(model).n_params(4096)
        settings = TrainConfig(model=model, budget="tokens", amount=2e6, seed=0, decay="constant")
        write_json(run.config, {**settings.to_json(), "corpus_sha256": "c", "tokenizer_sha256": "t"})
        tokens = np.linspace(2e5, 2e6, 10)
        loss = (1.2 + (size / 1e6) ** -0.35 + 1.5 * (tokens / 3e6) ** -0.4) * np.exp(rng.normal(0, 0.003, 10))
        rows = [
            {"step": i, "n_tokens": int(n), "split": "validation", "loss_nats": float(one)}
            for i, (n, one) in enumerate(zip(tokens, loss, strict=True))
        ]
        header = {"model": model, "pass_tokens": 2_000_000, "flops_per_token": 6.0 * size}
        write_jsonl(run.metrics, METRICS_SCHEMA, header, rows)
    return root


def run(*arguments):
    return CliRunner().invoke(app, ["scaling", *map(str, arguments)])


def test_a_grid_gives_an_exponent_and_a_figure(runs, tmp_path):
    result = run(runs, "--draws", 50, "--figure", tmp_path / "fig", "--out", tmp_path / "s.json", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["schema"] == "tslens.scaling/1"
    assert found["interval"]["low"] <= 0.4 / 0.75 <= found["interval"]["high"]
    assert (found["n_runs"], found["n_sizes"], found["n_points"]) == (5, 5, 50)
    assert all(
        (tmp_path / f"fig{ending}").stat().st_size > 1000 for ending in (".svg", ".pdf", ".png", ".csv")
    )
    with (tmp_path / "fig.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sum(row["what"] == "run" for row in rows) == 50
    saved = json.loads((tmp_path / "s.json").read_text())
    assert saved["exponent"] == found["exponent"]
    assert "provenance" not in saved  # equal runs give equal bytes
    assert json.loads((tmp_path / "s.provenance.json").read_text())["command"].startswith("tslens")


def test_the_table_says_the_exponent_in_words(runs):
    result = run(runs, "--draws", 50)
    assert result.exit_code == 0, result.output
    found = json.loads(run(runs, "--draws", 50, "--json").stdout)
    low, high = found["interval"]["low"], found["interval"]["high"]
    if high - low > 0.5:
        assert f"cannot tell the exponent: its interval is {low:.2f} to {high:.2f}" in result.stdout
        assert "warning: the interval of the exponent is wider" in result.stdout
    else:
        assert f"FLOPs to the power {found['exponent']:.2f} [{low:.2f}, {high:.2f}]" in result.stdout
    blocks = json.loads(run(runs, "--draws", 50, "--count", "blocks", "--json").stdout)
    assert blocks["count"] == "blocks" and blocks["exponent"] != found["exponent"]


def test_the_figure_of_equal_runs_has_equal_bytes(runs, tmp_path):
    for name in ("a", "b"):
        assert run(runs, "--draws", 50, "--figure", tmp_path / name).exit_code == 0
    for ending in (".svg", ".pdf", ".png", ".csv"):
        assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_what_holds_no_run_is_refused(runs, tmp_path):
    for argument, words in ((tmp_path / "none", "is no folder"), (tmp_path, "no run in")):
        result = run(argument)
        assert result.exit_code != 0
        assert words in str(result.exception)
    few = run(runs / "l1_h16", runs / "l1_h32")
    assert few.exit_code != 0
    assert "20 points of 2 sizes" in str(few.exception)
    assert "--decay constant" in few.exception.hint
