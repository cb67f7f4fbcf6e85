"""The page of a reproduction: what its verdicts are made of, and what stays of a run that was stopped."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tslens.files import write_json, write_jsonl

ANALYSIS = Path(__file__).parents[2] / "analysis"


@pytest.fixture(scope="module")
def page():
    return opened("reproduce_page")


@pytest.fixture(scope="module")
def work(page):
    return opened("reproduce")


def opened(name):
    """A study as a module, under its own name, as its neighbours import it."""
    spec = importlib.util.spec_from_file_location(name, ANALYSIS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def item(page, shipped, anew):
    return page.Item("x", "y", page.Evidence(shipped, ""), page.Evidence(anew, ""))


def test_a_verdict_needs_one_that_speaks_and_none_against(page):
    told = "cannot be told"
    for shipped, anew, verdict in (
        ("holds", told, "reproduced"),
        (told, "holds", "reproduced"),
        ("holds", "fails", "not decidable"),
        (told, "fails", "contradicted"),
        (told, told, "not decidable"),
    ):
        assert item(page, shipped, anew).verdict == verdict


def readings(folder, seed, values):
    rows = [
        {"step": i, "n_tokens": i, "series": name, "kind": "grade", "value": value + 0.01 * seed * i, "se": 0.1}
        for i, value in enumerate(values)
        for name in ("grammar", "consistency")
    ]  # fmt: skip
    write_jsonl(folder / f"l1@seed{seed}.jsonl", "tslens.emergence/1", {"model": f"l1@seed{seed}"}, rows)


def test_grades_rise_where_all_seeds_agree(page, tmp_path):
    assert page.grades_rise(tmp_path).told == "cannot be told"
    for seed in range(3):
        readings(tmp_path, seed, [4.0, 5.0, 5.5])
    found = page.grades_rise(tmp_path)
    assert found.told == "holds" and "grammar +1.52" in found.words  # 1.5, 1.52, 1.54
    for seed in range(3):
        readings(tmp_path, seed, [5.5, 5.0, 4.0])
    assert page.grades_rise(tmp_path).told == "fails"
    readings(tmp_path, 0, [4.0, 8.0])
    assert page.grades_rise(tmp_path).told == "cannot be told"


def test_shares_are_held_against_a_half(page):
    def told(low, high):
        figure = {"means": {"completions": {"mean": 0.5, "low": low, "high": high, "n": 9}}}
        return page.below_half(figure, "completions").told

    assert (told(0.1, 0.3), told(0.6, 0.8), told(0.4, 0.6)) == ("holds", "fails", "cannot be told")
    assert page.below_half({}, "completions") is page.ABSENT
    grams = {"by_k": {"5": {"mean_never": {"mean": 0.7, "low": 0.6, "high": 0.8}}}}
    assert page.new_grams(grams).told == "holds"


def test_a_claim_is_read_with_its_numbers_and_written_as_a_page(page, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "REPORTS", tmp_path / "none")
    estimate = {"value": 0.5, "low": 0.3, "high": 0.7}
    claim = {
        "claim": 10,
        "says": "size grows <fast>",
        "verdict": "holds",
        "evidence": [{"part": "power", "source": "ours", "estimate": estimate, "verdict": "holds"}],
    }
    write_json(tmp_path / "sizes" / "claims.json", {"claims": [claim]})
    pages = page.write_pages(tmp_path, budget="cpu")
    text = (tmp_path / "report.md").read_text()
    assert "power (ours) +0.50 [+0.30, +0.70]" in text
    assert "| Claim 10 (Figure 23) | size grows <fast> | **reproduced** |" in text
    html = (tmp_path / "index.html").read_text()
    assert "1 reproduced, 0 contradicted" in html and "size grows &lt;fast&gt;" in html
    before = [path.read_bytes() for path in pages]
    assert [path.read_bytes() for path in page.write_pages(tmp_path, budget="cpu")] == before


def test_a_stage_is_done_until_its_files_change(work, tmp_path):
    assert not work.is_done(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "a.provenance.json").write_text(json.dumps({"seconds": 1}))
    work.mark_done(tmp_path)
    assert work.is_done(tmp_path)
    (tmp_path / "a.provenance.json").write_text(json.dumps({"seconds": 2}))
    assert work.is_done(tmp_path)
    (tmp_path / "rows.jsonl").write_text("{ }\n")
    assert not work.is_done(tmp_path)


def test_a_run_that_is_stopped_goes_on_with_the_stage_that_it_was_in(work, page, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "REPORTS", tmp_path / "none")
    made = []

    def stages(_):
        def make(name):
            def write(folder):
                made.append(name)
                if made == ["training", "scaling"]:
                    raise KeyboardInterrupt
                (folder / "x.json").write_text("1")

            return write

        return [work.Stage(name, make(name)) for name in ("training", "scaling", "sizes")]

    monkeypatch.setattr(work.Reproduction, "stages", stages)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="the same command goes on"):
        work.main()
    assert not (tmp_path / "out" / "index.html").exists()
    work.main()
    assert made == ["training", "scaling", "scaling", "sizes"]
    assert (tmp_path / "out" / "index.html").exists()
