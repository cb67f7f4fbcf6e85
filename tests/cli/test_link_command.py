"""``tslens link`` as a user runs it: the map by readouts, roles, options. Grades: ``test_link_grades.py``."""

import json
from functools import partial

import pytest

from tslens.link.map_report import STATUSES, load_map

pytestmark = pytest.mark.usefixtures("told_once")
MODEL = ("link", "--model", "shipped:l1_h64", "--stories", "author:60:7", "--n-stories", 6, "--pairs", 40)
HEADER = {
    *("schema", "model", "checkpoint", "weights_sha256", "stories", "data_sha256", "n_stories", "n_pairs"),
    *("seed", "floor", "loss_nats", "agreement", "ngram", "readouts", "members"),
}
ROW = {
    *("component", "n_components", "delta_loss_nats", "evidence", "measure", "capability", "method", "drop"),
    *("whole", "share", "expected", "beyond", "status"),
}
DROP = {"value", "low", "high", "low_corrected", "high_corrected", "p", "halves"}
PARTS = ["L0H0", "L0H1", "L0H2", "L0H3", "L0.attn", "L0.mlp", "L0"]


@pytest.fixture(autouse=True)
def small(monkeypatch, make_link_small):
    make_link_small(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all tests of the shipped model run, so that the readouts are read once."""
    return tmp_path_factory.mktemp("link")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(link_json, here):
    """Runs the command on the shipped model; its JSON."""
    return partial(link_json, *MODEL)


def results(folder):
    return folder / "runs" / "l1_h64-shipped" / "seed0" / "results" / "link"


def is_refused(*_, **__):
    raise AssertionError("this was made before")


# Readouts -----------------------------------------------------------------------------------------------------


def test_json_keeps_the_contract(run, here):
    found = run()
    assert found["schema"] == "tslens.link/1" and set(found) >= HEADER | {"rows"}
    assert (found["model"], found["checkpoint"]) == ("shipped:l1_h64@seed0", "model.safetensors")
    assert (found["n_stories"], found["n_pairs"], found["seed"], found["floor"]) == (6, 40, 0, 0.05)
    assert found["members"] == {} and 2 < found["loss_nats"] < 5 and found["bits_per_byte"] > 0
    asked = [one["readout"] for one in found["readouts"] if one["is_asked"]]
    assert {"agreement", "word_order"} <= set(asked) < {one["readout"] for one in found["readouts"]}
    by_mean = [row for row in found["rows"] if row["method"] == "mean"]
    assert [(row["measure"], row["component"]) for row in by_mean] == [
        (one, part) for one in asked for part in PARTS
    ]
    for row in found["rows"]:
        assert set(row) >= ROW and set(row["drop"]) == DROP and row["evidence"] == "readout"
        for name, end in (("value", "value"), ("low", "low_corrected"), ("high", "high_corrected")):
            assert row["share"][name] == pytest.approx(row["drop"][end] / row["whole"])
        (score,) = (one for one in found["readouts"] if one["readout"] == row["measure"])
        assert row["whole"] == pytest.approx(score["difference"], rel=1e-4)
        assert row["capability"] == score["capability"]
        if row["method"] == "mean":
            assert row["status"] in STATUSES
        else:
            assert row["status"] is row["expected"] is row["beyond"] is None
        if row["beyond"] is not None:
            assert set(row["beyond"]) == DROP
            assert row["beyond"]["value"] == pytest.approx(row["drop"]["value"] - row["expected"])
    cost = {row["component"]: row["delta_loss_nats"] for row in by_mean}
    assert max(cost, key=cost.get) == "L0" and cost["L0"] > 1
    (path,) = results(here).glob("*.jsonl")
    read = load_map(path)
    assert [row.to_json() for row in read.rows] == found["rows"] and read.header["ngram"] == found["ngram"]
    record = json.loads(path.with_suffix(".provenance.json").read_text(encoding="utf-8"))
    assert record["seed"] == 0 and record["command"].startswith("tslens ")


def test_the_n_gram_and_how_the_ways_agree(run):
    found = run()
    ngram = found["ngram"]
    assert ngram["order"] in range(2, 6) and ngram["counted_on"] == "100 stories of the offline author"
    assert min(ngram["held_out_nats"], key=ngram["held_out_nats"].get) == str(ngram["order"])
    assert [one["readout"] for one in ngram["readouts"]] == [one["readout"] for one in found["readouts"]]
    assert all(set(one) == set(found["readouts"][0]) for one in ngram["readouts"])
    assert ngram["loss_nats"] > 1 and ngram["n_stories"] == 100
    asked = {row["measure"] for row in found["rows"]}
    pairs = [("mean", "zero"), ("mean", "resample"), ("zero", "resample")]
    said = {(*one["methods"], one["measure"]): one for one in found["agreement"]}
    assert set(said) == {(*pair, measure) for pair in pairs for measure in {"loss", *asked}}
    assert all(-1 <= one["spearman"] <= 1 and 4 <= one["n_components"] <= 7 for one in said.values())
    assert said["mean", "zero", "loss"]["spearman"] > 0.5


def test_a_second_run_takes_what_is_kept(run, tslens, here, monkeypatch):
    first = run()
    (path,) = (one for one in results(here).glob("*_pairs40.jsonl"))
    assert path.name == "author-60-7_model_n6_seed0_pairs40.jsonl"
    before = path.read_bytes()
    for name in ("make_readouts", "map_readouts", "stories_like"):
        monkeypatch.setattr(f"tslens.cli.link_run.{name}", is_refused)
    assert run() == first and path.read_bytes() == before
    done = tslens(*MODEL, "--html", "map.html")
    assert done.code == 0 and f"readouts: kept in {path.relative_to(here)}" in done.err
    assert path.read_bytes() == before and f"wrote {path.relative_to(here)}\nwrote map.html" in done.out
    assert "** carries: " in done.out and "n-gram: of order" in done.out
    page = (here / "map.html").read_text(encoding="utf-8")
    assert "shipped:l1_h64@seed0" in page and "L0.attn" in page and 'src="' not in page


def test_what_is_asked_otherwise_is_another_file(tslens, here, monkeypatch):
    paths = []

    def tell(opened, wanted, path, record):
        paths.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr("tslens.cli.link_run.map_of_readouts", tell)
    for more in ((), ("--seed", 1), ("--pairs", 20), ("--n-stories", 5), ("--stories", "author:60:8")):
        assert tslens(*MODEL, *more).code == 1
    tslens(*MODEL, "--out", "there")
    assert len(set(paths)) == len(paths) == 6
    assert paths[-1].name == "shipped-l1_h64@seed0_author-60-7_model_n6_seed0_pairs40.jsonl"


@pytest.mark.parametrize("part", ["half a line", "no end", "another model"])
def test_what_is_broken_or_of_something_else_is_made_again(run, here, monkeypatch, part):
    first = run()
    (path,) = results(here).glob("*_pairs40.jsonl")
    whole = path.read_bytes()
    broken = {
        "half a line": whole[: len(whole) // 2],
        "no end": whole.replace(b'"share"', b'"shape"').replace(b'"drop"', b'"drip"'),
        "another model": whole.replace(first["weights_sha256"].encode(), b"0" * 64),
    }
    path.write_bytes(broken[part])
    made = []

    def remade(*arguments, **options):
        made.append(1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tslens.cli.link_run.make_readouts", remade)
        with pytest.raises(AssertionError, match="Interrupted"):
            run()
    path.write_bytes(whole)
    assert made == [1]


# Roles --------------------------------------------------------------------------------------------------------


FOUND = {
    "previous_token": {"L0H0": "role", "L0H1": "candidate", "L0H2": "no"},
    "first_token": {"L0H1": "role", "L0H0": "role"},
    "sentence_end": {"L0H2": "role", "L0H3": "role"},
    "same_token": {"L0H3": "role"},  # one alone is a component already
}


def test_roles_are_groups_and_equal_ones_are_one(run, here, tmp_path, of_heads, of_neurons):
    heads = of_heads(tmp_path / "heads.jsonl", FOUND)
    neurons = of_neurons(tmp_path / "neurons.jsonl", {"noun": {3: "role", 5: "candidate", 7: "no"}})
    found = run("--roles", heads, "--roles", neurons, "--out", "roles")
    both = "heads:first_token+previous_token"
    members = {
        both: ["L0H0", "L0H1"],
        "heads:sentence_end": ["L0H2", "L0H3"],
        "neurons:noun": ["L0N3", "L0N5"],
    }
    assert found["members"] == members
    mapped = {row["component"]: row["n_components"] for row in found["rows"]}
    assert set(mapped) == {*PARTS, *members} and all(mapped[name] == 2 for name in members)
    alone = {(row["measure"], row["component"]): row for row in run()["rows"] if row["method"] == "mean"}
    together = {(row["measure"], row["component"]): row for row in found["rows"] if row["method"] == "mean"}
    for place, row in alone.items():  # what stands beside a component does not change what it loses
        assert together[place]["drop"]["value"] == pytest.approx(row["drop"]["value"], abs=1e-3)
    (path,) = (here / "roles").glob("*.jsonl")
    assert load_map(path).members == members


def test_the_newest_roles_of_the_model_are_taken_by_themselves(tslens, here, monkeypatch, of_heads):
    seen = []

    def tell(path, header, members):
        seen.append(members)
        raise KeyboardInterrupt

    monkeypatch.setattr("tslens.cli.link_run._kept", tell)
    file = of_heads(results(here).parent / "heads" / "some.jsonl", {"sentence_end": FOUND["sentence_end"]})
    try:
        done = tslens(*MODEL)
    finally:
        file.unlink()
    assert seen == [{"heads:sentence_end": ["L0H2", "L0H3"]}] and "roles: 1 of heads in " in done.err


def test_files_of_roles_that_cannot_be_meant(tslens, here, tmp_path, of_heads):
    other = of_heads(tmp_path / "other.jsonl", {"sentence_end": {"L0H0": "role", "L0H3": "role"}})
    heads = of_heads(tmp_path / "heads.jsonl", FOUND)
    done = tslens(*MODEL, "--roles", heads, "--roles", other)
    assert done.code == 2 and "heads:sentence_end" in done.err and "one file of each kind" in done.err
    foreign = of_heads(tmp_path / "foreign.jsonl", {"sentence_end": {"L0H0": "role", "L5H0": "role"}})
    done = tslens(*MODEL, "--roles", foreign)
    assert done.code == 2 and "no L5H0" in done.err and "making" not in done.err
    plain = tmp_path / "plain.jsonl"
    plain.write_text('{"prompt": "One day"}\n', encoding="utf-8")
    for wrong in (plain, tmp_path / "absent.jsonl"):
        done = tslens(*MODEL, "--roles", wrong)
        assert done.code == 1 and wrong.name in done.err and done.out == ""
        assert "Traceback" not in done.err


# Options ------------------------------------------------------------------------------------------------------

OF_ASKING = [
    *(("--budget", 5), ("--price", "1,2"), ("--concurrency", 32), ("--timeout", 120), ("--poll", 1)),
    *(("--ledger", "runs/.ledger"), ("--base-url", "http://localhost/v1"), ("--retry-failed",), ("--batch",)),
]
OF_GRADES = [("--samples", 5), ("--max-tokens", 200), ("--most-graded", 12), ("--prompts", "beginnings")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        *((words, f"{words[0]} is for grades") for words in (*OF_GRADES, *OF_ASKING)),
        *((("--judge", "local", *words), f"{words[0]} is for a large model") for words in OF_ASKING),
        (("--dry-run",), "for a large model"),
        (("--judge", "local", "--dry-run"), "for a large model"),
        (("--judge", "gpt-4o"), 'no judge "gpt-4o"'),
        (("--judge", "local", "--prompts", "short"), "not graded as stories"),
        (("--judge", "local", "--prompts", "absent.jsonl"), "absent.jsonl"),
        (("--html", "page.txt"), "no name of a page"),
        (("--pairs", 10), "--pairs"),
        (("--n-stories", 1), "--n-stories"),
        (("--model", "shipped:l9_h9"), "l9_h9"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(tslens, here, monkeypatch, arguments, said):
    monkeypatch.setattr("tslens.cli.opening.open_model", is_refused)
    done = tslens(*MODEL, *arguments)
    assert done.code in (1, 2) and said in " ".join(done.err.split()) and done.out == ""
    assert "Traceback" not in done.err
