"""``tslens emergence`` over the checkpoints of a small run: readings, what is kept, the timeline, the figure."""

import csv
import json
import math
import shutil
from types import SimpleNamespace

import pytest

from tslens.files import write_json, write_jsonl
from tslens.link.emergence.results import load_trace
from tslens.link.measure import read_readouts
from tslens.model.load import load_model
from tslens.probes.held_out import HeldOut, loss_on
from tslens.run_folder import METRICS_SCHEMA, RunFolder
from tslens.types import HeadId, HeadScore

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*intervals are too narrow:UserWarning"),
    pytest.mark.usefixtures("small_scans"),
]
STEPS = [0, 16, 40]
SMALL = (
    "--stories",
    "author:60:7",
    "--n-stories",
    30,
    "--pairs",
    20,
    "--positions",
    30,
    "--probe",
    "previous_token",
    "--probe",
    "subject",
)
READOUTS = {"agreement", "tense", "word_order", "lost_object", "factual", "reasoning", "context"}


@pytest.fixture(autouse=True)
def small(monkeypatch, few_readouts):
    monkeypatch.setattr("tslens.cli.emergence_read.make_readouts", few_readouts)


@pytest.fixture(scope="module")
def kept(trained, tmp_path_factory):
    """Two runs that are alike but for their names, of three checkpoints."""
    folder = tmp_path_factory.mktemp("emergence")
    shutil.copytree(trained / "runs" / ".corpora", folder / "runs" / ".corpora")
    for seed in range(2):
        run = folder / "runs" / "l2_h32" / f"seed{seed}"
        shutil.copytree(trained / "runs" / "l2_h32" / "seed0", run, ignore=shutil.ignore_patterns("results"))
        settings = json.loads((run / "config.json").read_text(encoding="utf-8"))
        (run / "config.json").write_text(json.dumps({**settings, "seed": seed}), encoding="utf-8")
        for file in (run / "checkpoints").glob("step_*"):
            if int(file.stem[5:]) not in STEPS:
                file.unlink()
    return folder


@pytest.fixture
def project(kept, monkeypatch):
    monkeypatch.chdir(kept)
    return kept


@pytest.fixture
def few_heads(monkeypatch):
    """One head of one probe, whose excess is a weight of the model: what a scan would take seconds for."""

    def score_heads(model, stories, **_):
        value = float(model.embed.W_E.detach().abs().mean())
        score = HeadScore(
            HeadId(0, 0),
            *(
                "previous_token",
                "word",
                value,
                value - 0.01,
                value + 0.01,
                None,
                {"uniform": 0.0},
                value,
                0.0,
                0.01,
            ),
            *("candidate", None, None, None, (value, value), 30),
        )
        return SimpleNamespace(scores=[score])

    monkeypatch.setattr("tslens.link.emergence.trace.score_heads", score_heads)


def test_every_checkpoint_is_read(tslens, project, tmp_path, few_readouts):
    done = tslens("emergence", "runs/l2_h32/seed0", *SMALL, "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["schema"] == "tslens.emergence_timeline/1" and found["runs"] == ["l2_h32@seed0"]
    header, steps = load_trace(tmp_path / "l2_h32@seed0.jsonl")
    assert [one.step for one in steps] == STEPS
    tokens = [one.n_tokens for one in steps]
    assert tokens[0] == 0 and tokens == sorted(tokens) and tokens[-1] > 10_000
    assert header["n_stories"] == 30
    last = {reading.series: reading for reading in steps[-1].readings}
    assert {f"near {order}-gram" for order in range(1, 6)} < last.keys() and last.keys() > READOUTS
    model = load_model("runs/l2_h32/seed0")
    loss = loss_on(model, list(HeldOut(model, "author:60:7", 30)))
    assert last["loss"].value == pytest.approx(loss.loss_nats, abs=1e-3)
    readouts = few_readouts(model.tokenizer, n_ctx=model.cfg.n_ctx, instruct=False, seed=0, n_pairs=20)
    for score in read_readouts(model, readouts, seed=0):
        assert last[score.readout].value == pytest.approx(score.difference, abs=1e-3)
    roles = [reading for reading in steps[-1].readings if reading.kind == "role"]
    assert [one.series for one in roles] == ["role previous_token", "role subject", "role subject before"]
    assert {one.unit for one in roles} <= {"L0H0", "L0H1", "L1H0", "L1H1"}
    near = [reading.value for reading in steps[-1].readings if reading.kind == "ngram"]
    before = [reading.value for reading in steps[0].readings if reading.kind == "ngram"]
    assert all(0 <= one <= 1 for one in near) and sum(near) < sum(before)
    (change,) = (one for one in found["changes"] if one["series"] == "loss")
    losses = [one.readings[0].value for one in steps]
    assert [change[name] for name in ("start", "peak", "end")] == [losses[0], min(losses), losses[-1]]
    assert found["lags"] == []


def test_a_stopped_run_goes_on_and_ends_alike(tslens, project, few_heads, tmp_path, monkeypatch):
    arguments = ("emergence", "runs/l2_h32/seed0", *SMALL, "--json", "--out")
    whole = tslens(*arguments, tmp_path / "whole")
    from tslens.cli import emergence_read

    real, n_read = emergence_read.read_checkpoint, []

    def stopping(model, asked):
        n_read.append(1)
        if len(n_read) == 2:
            raise KeyboardInterrupt
        return real(model, asked)

    monkeypatch.setattr(emergence_read, "read_checkpoint", stopping)
    assert tslens(*arguments, tmp_path / "parts").code != 0
    assert len(load_trace(tmp_path / "parts" / "l2_h32@seed0.jsonl")[1]) == 1
    again = tslens(*arguments, tmp_path / "parts")
    assert again.code == 0 and "1 read before" in again.err
    assert len(n_read) == 2 + 2
    first, second = (folder / "l2_h32@seed0.jsonl" for folder in (tmp_path / "whole", tmp_path / "parts"))
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(again.out)["changes"] == json.loads(whole.out)["changes"]


def test_seeds_give_lags_and_a_figure(tslens, project, few_heads, tmp_path):
    done = tslens("emergence", "runs/l2_h32", *SMALL, "--figure", tmp_path / "fig", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["runs"] == [f"l2_h32@seed{seed}" for seed in range(2)]
    assert all(one["n_seeds"] == 2 for one in found["lags"])
    for ending in (".svg", ".pdf", ".png", ".csv"):
        assert (tmp_path / f"fig{ending}").stat().st_size > 1000
    with (tmp_path / "fig.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == set(found["runs"])
    assert len([row for row in rows if row["series"] == "loss"]) == 2 * len(STEPS)
    table = tslens("emergence", "runs/l2_h32", *SMALL)
    assert table.code == 0 and "loss" in table.out and "half of its rise" in table.out
    assert "3 read before" in table.err


def test_grades_begin_where_the_model_is_better_than_the_ngram(
    tslens, project, few_heads, tmp_path, monkeypatch
):
    """And they are added to what was read before without them."""
    from tslens.cli import emergence_read
    from tslens.link.emergence.trace import Reading

    graded = []

    def grades_of(model, wanted):
        graded.append(wanted.samples)
        return [Reading("grammar", "grade", 5.0, 0.1)]

    def steps_with_grades():
        steps = load_trace(tmp_path / "l2_h32@seed0.jsonl")[1]
        assert [one.step for one in steps] == STEPS
        return [one.step for one in steps if any(r.kind == "grade" for r in one.readings)]

    monkeypatch.setattr(emergence_read, "grades_of", grades_of)
    command = ("emergence", "runs/l2_h32/seed0", *SMALL, "--graded", "--samples", 1, "--out", tmp_path)
    plant_validation("runs/l2_h32/seed0", bits={16: 1.2, 40: 1.0}, ngram=1.1)
    done = tslens(*command, "--json")
    assert done.code == 0, done.err
    assert steps_with_grades() == [40] and graded == [1]
    plant_validation("runs/l2_h32/seed0", bits={16: 1.2, 40: 1.0}, ngram=1.3)
    again = tslens(*command, "--json")
    assert again.code == 0 and "3 read before, 1 to be graded" in again.err
    assert steps_with_grades() == [16, 40] and graded == [1, 1]


def plant_validation(folder, bits, ngram):
    """What the evaluations of a run said, and the 4-gram's bits per byte."""
    run = RunFolder(folder)
    rows = [
        {"step": step, "split": "validation", "n_tokens": step, "loss_nats": 2.0, "bits_per_byte": bits[step]}
        for step in bits
    ]
    write_jsonl(run.metrics, METRICS_SCHEMA, {}, rows)
    write_json(run.yardstick, {"nats": ngram * math.log(2) * 100, "n_bytes": 100})


def test_what_holds_no_run_is_refused(tslens, project, tmp_path):
    for argument, words in ((tmp_path / "none", "is no folder"), (tmp_path, "no run in")):
        done = tslens("emergence", argument)
        assert done.code == 2 and words in done.err
