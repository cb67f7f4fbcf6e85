"""``tslens compare`` without a judge: roles of two models."""

import json

import pytest

from tslens import write_stories
from tslens.types import HeadId

pytestmark = pytest.mark.filterwarnings("ignore:.*below 30 intervals are too narrow")
OF_AUTHOR = ("--stories", "author:40:7", "--n-stories", 40)


def test_a_model_against_itself(tslens, make_scans_small, monkeypatch):
    make_scans_small(monkeypatch)
    done = tslens("compare", "shipped:l1_h64", "shipped:l1_h64@seed0", *OF_AUTHOR, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["schema"] == "tslens.compare_roles/1" and told["n_stories"] == 40 and told["seed"] == 0
    assert told["a"] == told["b"] == "shipped:l1_h64@seed0" and told["causes"] == "not tested"
    assert [one["unit"] for one in told["losses"]] == ["bits per byte", "nats per token"]
    assert len(told["roles"]) > 20 and not told["probes_left_out"]
    for one in told["losses"] + told["roles"]:
        assert one["difference"]["mean"] == 0 and not one["is_real"] and one["a"] == one["b"]
    for one in told["roles"]:
        assert all(HeadId.parse(head).layer == 0 for head in one["a"]["best"])
        assert one["corrected_low"] == one["corrected_high"] == 0


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A file of stories of a few sentences, which fit a context where tokens are few letters each."""
    texts = [" ".join(story.text.split()[:60]) for story in write_stories(40, seed=7)]
    path = tmp_path_factory.mktemp("short") / "short.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def test_a_checkpoint_and_a_model_with_other_tokens(tslens, project, short, make_scans_small, monkeypatch):
    make_scans_small(monkeypatch)
    checkpoint = "runs/l2_h32/seed0/checkpoints/step_000008.safetensors"
    done = tslens("compare", checkpoint, "shipped:l1_h64", "--stories", short, "--n-stories", 40)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert (
        lines[0].startswith("A: l2_h32@seed0 step_000008, ")
        and lines[1] == "B: shipped:l1_h64@seed0, 4 heads"
    )
    assert max(map(len, lines)) <= 100
    (loss,) = [line for line in lines if line.startswith("bits per byte")]
    assert loss.rstrip().endswith("*") and " -" in loss and "nats" not in done.out
    (role,) = [line for line in lines if line.startswith("previous_token")]
    assert role.split()[1] == "0"
    assert role.rstrip().endswith("*") and "+0." in role
    assert "causes are not tested" in done.out and "*: real, " in done.out
    assert "not trained as far" in done.err and "stories: 40 of " in done.err


def test_what_is_said_where_nothing_differs(tslens, project, short):
    beginning = "runs/l2_h32/seed0/checkpoints/step_000000.safetensors"
    done = tslens("compare", beginning, beginning, "--stories", short, "--n-stories", 20)
    assert done.code == 0, done.err
    assert "Neither model holds a role: no real difference." in done.out and "*" not in done.out
    assert "previous_token" in done.out and max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("l1_h64",), "not 1."),
        (("l1_h64", "l1_h128", "l2_h64"), "grades of several are compared with --judge"),
        (("l1_h64", "l1_h128", "--html", "p.html"), "tslens heads --model l1_h64 --html p.html"),
        (("a.jsonl", "b.jsonl"), "--judge local"),
        (("l1_h64", "l1_h128", "--samples", 3), "--samples is for grades"),
        (("l1_h64", "l1_h128", "--out", "there"), "--out is for grades"),
        (("l1_h64", "l1_h128", "--judge", "local", "--n-stories", 9), "--n-stories is for roles"),
        (("l1_h64", "l1_h128", "--device", "abacus"), 'no device "abacus"'),
    ],
)
def test_what_is_no_comparison(tslens, arguments, word):
    done = tslens("compare", *arguments)
    assert done.code == 2 and word in done.err and done.out == ""


def test_a_model_that_is_not_there(tslens):
    done = tslens("compare", "l1_h64", "l9_h9")
    assert done.code == 1 and "l9_h9" in done.err
