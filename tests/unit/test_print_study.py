"""The study of the paper's figures: what is there and made of the same is passed over, what changed is made again."""

import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def study(monkeypatch, tmp_path, capsys):
    """A function that runs the study for figures 4 and 24, and gives the groups that it made."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.syspath_prepend(str(REPOSITORY / "analysis"))
    import paper_figures

    def run(*arguments):
        monkeypatch.setattr(
            sys, "argv", ["paper_figures.py", *arguments, "--out", str(tmp_path)],
        )  # fmt: skip
        paper_figures.main()
        return [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]

    return run


def test_figures_that_are_there_are_passed_over(study, tmp_path):
    assert study("--only", "4", "24") == ["(4,)", "(24,)"]
    before = {path.name: path.read_bytes() for path in tmp_path.glob("figure[0-9]*")}
    assert len(before) == 8  # four files of each
    assert study("--only", "4") == []
    (tmp_path / "figure24.csv").unlink()
    assert study("--only", "4", "24") == ["(24,)"]
    assert {path.name: path.read_bytes() for path in tmp_path.glob("figure[0-9]*")} == before
    assert study("--only", "24", "--seed", "1") == ["(24,)"]


def test_the_report_says_what_was_not_drawn_and_the_record_what_was_read(study, tmp_path):
    study("--only", "3", "24", "--emergence", "nowhere/*.jsonl")
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Figure 3" in report and "Not drawn: nowhere/*.jsonl is not there." in report
    assert "## Figure 24" in report and "## Figure 4:" not in report
    record = json.loads((tmp_path / "figures.provenance.json").read_text(encoding="utf-8"))
    assert record["data"] == "reports/sizes/sizes.jsonl"
    assert not (tmp_path / "figure03.csv").exists()


def test_seeds_that_stop_at_other_tokens_have_one_mean(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(REPOSITORY / "analysis"))
    from paper_figures_models import draw_training

    from tslens.link.emergence.results import AtStep
    from tslens.link.emergence.trace import Reading

    def run(tokens, grades):
        return [
            AtStep(step, n, (Reading("loss", "loss", 3.0, 0.1), Reading("grammar", "grade", grade, 0.1)))
            for step, (n, grade) in enumerate(zip(tokens, grades, strict=True))
        ]

    runs = {"m@seed0": run([90, 100, 200], [3.0, 4.0, 6.0]), "m@seed1": run([110, 210], [5.0, 8.0])}
    found = draw_training(runs, tmp_path / "figure03")["grades"]["grammar"]
    assert (found["first"], found["last"]) == (4.5, 7.0)
    assert (found["tokens_first"], found["tokens_last"]) == (105, 205)
