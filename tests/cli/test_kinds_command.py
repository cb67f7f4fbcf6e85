"""``tslens kinds`` as a user runs it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from tslens.cli.kinds import kinds
from tslens.errors import UsageError
from tslens.probes.kinds.report import KINDS, SHARES, load_head_kinds

pytestmark = pytest.mark.usefixtures("told_once")
SCAN = ("--model", "shipped:l1_h64", "--n-stories", "24")


def run(*arguments):
    app = typer.Typer()
    app.command()(kinds)
    return CliRunner().invoke(app, [*SCAN, *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


def test_json_keeps_the_contract_and_the_file_has_the_same_rows(folder):
    done = run("--json", "--out", folder / "one")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["schema"] == "tslens.kinds/1" and found["model"] == "shipped:l1_h64@seed0"
    assert found["n_stories"] == 24 and [row["head"] for row in found["heads"]] == [
        "L0H0",
        "L0H1",
        "L0H2",
        "L0H3",
    ]
    for row in found["heads"]:
        assert row["kind"] in KINDS and row["nearest"] in KINDS and set(row["shares"]) == set(SHARES)
        assert row["total"]["low"] <= row["total"]["value"] <= row["total"]["high"]
        # Tokens and positions decide all of layer 0; a dozen stories teach a part of it.
        assert row["shares"]["unexplained"]["value"] < 0.9
        assert row["beyond_twins"] == (row["total"]["low"] > found["twins"] > 0)
    (path,) = (folder / "one").glob("*.jsonl")
    header, rows = load_head_kinds(path)
    assert [row.to_json() for row in rows] == found["heads"] and header["n_stories"] == 24


def test_a_table_and_a_drawing(folder):
    done = run("--out", folder / "two", "--figure", folder / "kinds.svg")
    assert done.exit_code == 0, done.output
    assert "4 heads: " in done.stdout and "beyond the random twins: " in done.stdout
    assert "wrote " in done.stdout and "L0H3" in done.stdout
    assert max(map(len, done.stdout.replace(str(folder), "").splitlines())) <= 100
    assert "L0H0: " in (folder / "kinds.svg").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [("--n-stories", 0), ("--figure", "kinds.png")])
def test_wrong_usage_is_refused(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == 1 and isinstance(done.exception, UsageError)
    assert not list(tmp_path.iterdir())
