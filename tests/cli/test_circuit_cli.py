"""``tslens circuit`` as a user runs it."""

import json
import re
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from tslens.cli.circuit import circuit
from tslens.errors import UsageError

PROMPT = "Once upon a time, Lily had a red ball. Lily wanted to play with the"
ASKED = ("--model", "shipped:l1_h64", "--n-stories", 20)


def run(*arguments):
    app = typer.Typer()
    app.command()(circuit)
    return CliRunner().invoke(app, [*map(str, (*ASKED, *arguments))])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_json_keeps_the_contract():
    done = run("--prompt", PROMPT, "--right", "ball", "--wrong", "dog", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["schema"] == "tslens.circuit/1" and found["model"] == "shipped:l1_h64@seed0"
    assert (found["right"], found["wrong"], found["prompt"]) == (" ball", " dog", PROMPT)
    assert "over 20 stories" in found["reference"] and found["n_other_stories"] > 30
    assert found["tokens"][0] == "<|endoftext|>" and found["tokens"][-1] == " the"
    assert abs(found["share"] - 1) <= 0.1 and found["n_edges"] == len(found["edges"]) < found["n_edges_whole"]
    nats = found["logit_difference"]
    assert found["share"] == pytest.approx((nats["inside"] - nats["none"]) / (nats["whole"] - nats["none"]))
    assert 0 <= found["divergence"]["inside"] <= 0.1 * found["divergence"]["none"] + 1e-9
    assert found["random"]["n_draws"] == 200 and found["random"]["low"] <= found["random"]["high"]
    assert all(set(edge) == {"from", "to", "effect", "effect_inside"} for edge in found["edges"])
    heads = {edge["to"] for edge in found["edges"] if "H" in edge["to"]}
    assert {one["head"] for one in found["heads"]} == heads
    for one in found["heads"]:
        shares = [looks["share"] for looks in one["attends"]]
        assert shares == sorted(shares, reverse=True) and found["tokens"][one["attends"][0]["pos"]]


def test_a_table_a_page_and_a_drawing_the_same_twice(tmp_path, story_file):
    asked = ("--stories", story_file, "--prompt", PROMPT, "--right", "ball", "--wrong", "dog", "--keep", 0.8)
    done = run(*asked, "--html", "one.html", "--svg", "one.svg")
    assert done.exit_code == 0, done.output
    assert (
        "logits" in done.stdout
        and "of the way; random" in done.stdout
        and "on other stories:" in " ".join(done.stdout.split())
    )
    assert "wrote one.html" in done.stdout and "wrote one.svg" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    said = " ".join(done.stdout.split())
    assert "paths move “ball” over “dog” from" in said and "the path speaks for “dog”" in said
    assert "more path" not in said or re.search(r"\b(1 more path|[2-9]\d* more paths|1\d+ more paths):", said)
    assert "-0." not in done.stdout and "−0.00" not in done.stdout and "endoftext" not in done.stdout
    assert done.stderr.startswith("tslens circuit: loading shipped:l1_h64 (seed 0)")
    assert run(*asked, "--svg", "two.svg").exit_code == 0
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    ElementTree.parse(tmp_path / "one.svg")
    assert "What this page cannot tell you" in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_another_prompt_stands_in():
    done = run("--prompt", PROMPT, "--right", "ball", "--corrupted", PROMPT.replace("ball", "kite"), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    changed = [i for i, token in enumerate(found["tokens"]) if token == " ball"]
    assert {edge["from"] for edge in found["edges"] if edge["from"].startswith("T")} == {
        f"T{i}" for i in changed
    }
    assert found["reference"].startswith("the prompt “") and found["share_other_stories"] is None


def test_words_of_several_tokens_are_said(story_file):
    done = run(
        "--stories", story_file, "--prompt", PROMPT, "--right", "ball", "--wrong", "xylophones", "--json"
    )
    assert done.exit_code == 0, done.output
    assert "“xylophones” is " in done.stderr and "the first of them decides" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--prompt", PROMPT, "--keep", 1.5), "cannot be kept"),
        (("--prompt", f"{PROMPT} "), "ends in a blank; it belongs to the next word"),
        (("--prompt", PROMPT, "--corrupted", f"{PROMPT} "), "ends in a blank"),
        (("--prompt", PROMPT, "--right", ""), "No word is given"),
        (("--prompt", PROMPT, "--wrong", " "), "No word is given"),
        (("--prompt", ""), "is empty"),
        (("--prompt", "a " * 600 + "dog"), "context of the model"),
        (("--prompt", PROMPT, "--right", "dog", "--wrong", "ball"), "does not prefer"),
        (("--prompt", PROMPT, "--corrupted", "Once"), "the other one 2"),
        (("--prompt", PROMPT, "--svg", "circuit.png"), "no name of a drawing"),
        (("--prompt", PROMPT, "--html", "circuit.txt"), "no name of a page"),
    ],
)
def test_wrong_usage_is_refused(arguments, said, story_file):
    done = run("--stories", story_file, *arguments)
    assert isinstance(done.exception, UsageError) and said in str(done.exception), done.output


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_a_share_is_refused_before_a_model_is_looked_for(keep):
    app = typer.Typer()
    app.command()(circuit)
    done = CliRunner().invoke(app, ["--model", "none_of_this_name", "--prompt", "One", "--keep", str(keep)])
    assert isinstance(done.exception, UsageError) and "above 0 and below 1" in str(done.exception)


@pytest.mark.parametrize(
    ("right", "wrong", "said"), [("dog", "dog", "same"), ("dog", "ball", "probable next")]
)
def test_words_are_compared_before_stories_are_read(right, wrong, said):
    done = run("--stories", "missing.jsonl", "--prompt", PROMPT, "--right", right, "--wrong", wrong)
    assert isinstance(done.exception, UsageError) and said in str(done.exception)


def test_capitals_tell_words_apart():
    done = run("--stories", "missing.jsonl", "--prompt", PROMPT, "--right", "Ball", "--wrong", "ball")
    assert "“Ball” is another token than “ball”, which is more probable" in done.stderr
    done = run("--stories", "missing.jsonl", "--prompt", PROMPT, "--right", "ball", "--wrong", "Lily")
    assert "is another token" not in done.stderr


def test_help_names_the_models_that_it_takes():
    app = typer.Typer()
    app.command()(circuit)
    said = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.split())
    assert "tslens's own models only" in said and "above 0, below 1" in said and "GPT-2" not in said
