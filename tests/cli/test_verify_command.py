"""``tslens verify`` on a result that is really made again."""

import json
import shlex

import numpy as np
import pytest
from typer.testing import CliRunner

from tslens.cli.main import app
from tslens.config import TrainConfig
from tslens.files import write_json, write_jsonl
from tslens.model.spec import ModelSpec
from tslens.run_folder import METRICS_SCHEMA, RunFolder


@pytest.fixture
def result(tmp_path):
    """A result of tslens scaling, in a folder of results, and the runs that it was read from."""
    for model in ("l1_h16", "l1_h32", "l1_h64", "l2_h64", "l2_h128"):
        run = RunFolder(tmp_path / "runs" / model / "seed0")
        size = ModelSpec.from_name(model).n_params(4096)
        settings = TrainConfig(model=model, budget="tokens", amount=2e6, seed=0, decay="constant")
        write_json(run.config, {**settings.to_json(), "corpus_sha256": "c", "tokenizer_sha256": "t"})
        tokens = np.linspace(2e5, 2e6, 10)
        loss = 1.2 + (size / 1e6) ** -0.35 + 1.5 * (tokens / 3e6) ** -0.4
        found = [
            {"step": i, "n_tokens": int(n), "split": "validation", "loss_nats": float(one)}
            for i, (n, one) in enumerate(zip(tokens, loss, strict=True))
        ]
        header = {"model": model, "pass_tokens": 2_000_000, "flops_per_token": 6.0 * size}
        write_jsonl(run.metrics, METRICS_SCHEMA, header, found)
    out = tmp_path / "results" / "s.json"
    words = ["scaling", str(tmp_path / "runs"), "--draws", "50", "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    record = json.loads(record_of(out).read_text())
    write_json(
        record_of(out), {**record, "command": shlex.join(["tslens", *words])}
    )  # not the runner's own name
    return out


def record_of(path):
    return path.with_suffix(".provenance.json")


def verify(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_an_honest_result_is_the_same_and_a_changed_number_is_found(result, tmp_path):
    done = verify(result, "--out", tmp_path / "kept", "--json")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["results"]
    assert found["verdict"] in ("same", "same bytes") and found["n_values"] > 20
    assert (tmp_path / "kept" / "s.json").exists()

    changed = json.loads(result.read_text())
    recorded = changed["exponent"]
    changed["exponent"] = recorded + 0.01
    write_json(result, changed)
    done = verify(result, "--row", "schema=tslens.scaling/1")
    assert done.exit_code == 1
    assert f"exponent: {recorded + 0.01} recorded, {recorded} now" in done.stdout
    assert "0 of 1 file say the same" in done.stdout


def test_nothing_is_run_where_it_cannot_be(result, tmp_path):
    plan = verify(result, "--dry-run")
    assert plan.exit_code == 0 and "can be repeated" in plan.stdout
    found = json.loads(record_of(result).read_text())
    write_json(record_of(result), {**found, "data": "absent.jsonl", "data_sha256": "0" * 64})
    absent = verify(result)
    assert absent.exit_code == 3 and "absent.jsonl is not here" in absent.stdout
    mark = tmp_path / "mark"
    write_json(record_of(result), {**found, "data": "", "data_sha256": "", "command": f"touch {mark}"})
    refused = verify(result)
    assert refused.exit_code == 3 and "not repeated" in refused.stdout
    assert not mark.exists()


def test_bad_options_are_refused(result):
    for options, words in ((["--row", "head"], "names no value"), (["--with", "'"], "cannot be read")):
        done = verify(result, *options)
        assert done.exit_code != 0 and words in str(done.exception)
