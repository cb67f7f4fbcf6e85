"""Tables and drawings in a notebook: complete, escaped, and shut off from the network; the tour runs."""

import html
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import tslens
from tslens.errors import ModelError, UsageError
from tslens.types import Grade, Graded, GradeFailure, HeadId, HeadScore, NeuronId, NeuronRole
from tslens.viz.notebook import Table, look, show
from tslens.viz.page import circuitsvis_script

TOUR = Path(__file__).parents[2] / "examples" / "tour.ipynb"
EVIL = '<script>window.hacked = 1</script>"&amp;'


def page_of(shown):
    """The page inside the frame, as a browser reads it."""
    (srcdoc,) = re.findall(r'srcdoc="([^"]*)"', shown)
    return html.unescape(srcdoc)


def without_bundle(page):
    """A page without CircuitsVis' script, which names addresses of standards and never asks for them."""
    bundle = circuitsvis_script()
    assert page.count(bundle) == 1
    return page.replace(bundle, "")


def data_of(shown):
    """What the drawing is of."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page_of(shown))
    return json.loads(text)


# Tables -----------------------------------------------------------------------------------------------------------


def score(value, basis="positional"):
    return HeadScore(
        HeadId(0, 1), "previous_token", "word", value, 0.1, 0.3, None, {"uniform": 0.05}, 0.15, -0.1, 0.001,
        "role", basis, None, None, (0.1, 0.2), 30,
    )  # fmt: skip


def test_scores_of_heads_are_a_table():
    table = show([score(0.25), score(0.5, None)])
    assert isinstance(table, Table)
    shown = table._repr_html_()
    assert shown.count("<tr>") == 3
    assert "<th>head</th><th>probe</th>" in shown
    assert "<th>nulls</th>" not in shown and "<th>mul</th>" not in shown
    assert ">0.250</td>" in shown and ">\N{MINUS SIGN}0.100</td>" in shown
    assert "None" not in shown
    assert show([score(0.25)], ["head", "nulls"])._repr_html_().count("uniform 0.050") == 1
    assert list(table.to_pandas()["value"]) == [0.25, 0.5]
    assert "L0H1 previous_token" in repr(table)


def test_roles_grades_failures_and_plain_records_are_tables():
    assert "L0N7" in show([NeuronRole.none(NeuronId(0, 7))])._repr_html_()
    graded = Graded("Once", " there was.", "b1", 0)
    shown = show(
        [Grade(graded, 7.0, 6.0, 5.0, 4.0, "B"), GradeFailure(graded, "cut", "too long")]
    )._repr_html_()
    assert "<th>grammar</th>" in shown and "too long" in shown

    @dataclass(frozen=True)
    class Mine:
        name: str
        n: int

    assert "<th>n</th>" in show([Mine("a", 3)])._repr_html_()
    assert show([])._repr_html_().count("<tr>") == 1


def test_text_in_a_table_is_text():
    shown = show([{"completion": EVIL}])._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_what_is_no_record_and_a_column_that_is_not_there_are_refused():
    with pytest.raises(UsageError, match="int is no record"):
        show([3])
    with pytest.raises(UsageError, match="head, probe"):
        show([score(0.2)], ["head", "nonsense"])


# Drawings ---------------------------------------------------------------------------------------------------------


def test_a_head_on_a_text_is_its_pattern(tiny_model):
    text = "Then they found the kite. Tom was happy."
    drawing = look(tiny_model, text, "L1H2")
    found = data_of(drawing._repr_html_())
    ids = [tiny_model.tokenizer.start_id, *tiny_model.tokenizer.encode(text)]
    _, cache = tiny_model.run_with_cache(torch.tensor([ids]))
    pattern = cache["blocks.1.attn.hook_pattern"][0, 2].detach().numpy()
    assert found["element"] == "AttentionPattern"
    np.testing.assert_allclose(found["properties"]["attention"], pattern, atol=6e-5)
    assert found["properties"]["tokens"][1:3] == tiny_model.tokenizer.token_strings(ids)[1:3]
    best = max((pattern[query, key], query, key) for query in range(len(ids)) for key in range(1, query))
    assert f"({best[0]:.2f})" in drawing.lead
    assert look(tiny_model, text, HeadId(1, 2)) == drawing


def test_a_neuron_on_a_text_is_coloured_tokens(tiny_model):
    text = "Then they found the kite."
    found = data_of(look(tiny_model, text, "L1N5")._repr_html_())
    ids = [tiny_model.tokenizer.start_id, *tiny_model.tokenizer.encode(text)]
    _, cache = tiny_model.run_with_cache(torch.tensor([ids]))
    expected = cache["blocks.1.mlp.hook_post"][0, :, 5].detach().numpy()
    assert found["element"] == "ColoredTokens"
    np.testing.assert_allclose(found["properties"]["values"], expected, atol=6e-5)
    assert found["properties"]["maxValue"] == pytest.approx(np.abs(expected).max(), abs=1e-4)
    assert (
        found["properties"]["tokens"][0] == "&lt;|endoftext|&gt;"
    )  # CircuitsVis would take it for an element


@pytest.mark.parametrize("at", ["L0H1", "L0N1"])
def test_a_drawing_asks_for_nothing_and_runs_nothing_else(tiny_model, at):
    shown = look(tiny_model, f"Tom saw {EVIL} in the park.", at)._repr_html_()
    page = page_of(shown)
    assert "default-src 'none'; script-src 'sha256-" in page
    assert 'sandbox="allow-scripts"' in shown
    rest = without_bundle(page)
    assert "http" not in rest.replace("http-equiv", "")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=\"(?!data:,)", rest)
    assert "hacked = 1</script>" not in rest
    assert len(shown) < 1_500_000


def test_what_cannot_be_drawn_is_said(tiny_model, monkeypatch):
    for at, word in (
        ("L7H0", "no L7H0"),
        ("L0H9", "no L0H9"),
        ("L0N999", "no L0N999"),
        ("banana", "no attention head"),
    ):
        with pytest.raises(UsageError, match=word):
            look(tiny_model, "Tom had a cat.", at)
    with pytest.raises(UsageError, match="fewer than two tokens"):
        look(tiny_model, "", "L0H0")
    assert "The first 96 of" in look(tiny_model, "Tom had a cat. " * 40, "L0H0").lead
    monkeypatch.setattr(tiny_model, "tokenizer", None)
    with pytest.raises(ModelError, match="no tokenizer"):
        look(tiny_model, "Tom had a cat.", "L0H0")


def test_a_browser_draws_it(tiny_model, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    import shutil

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on this machine")
    text = f"Tom saw {EVIL} in the park."
    cells = "".join(look(tiny_model, text, at)._repr_html_() for at in ("L0H1", "L0N1"))
    page_file = tmp_path / "cells.html"
    page_file.write_text(f"<!doctype html><meta charset='utf-8'><body>{cells}", encoding="utf-8")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page, noise = browser.new_page(), []
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda asked: noise.append(asked.url) if asked.url != page_file.as_uri() else None)
        page.goto(page_file.as_uri())
        _, head, neuron = page.frames
        head.wait_for_selector("#drawing canvas")
        neuron.wait_for_selector("#drawing .colored-tokens")
        assert "<script>" in neuron.inner_text("#drawing .colored-tokens").replace("\xa0", " ")
        assert [frame.evaluate("window.hacked") for frame in page.frames] == [None] * 3
        browser.close()
    assert noise == []


# The tour ---------------------------------------------------------------------------------------------------------


def test_the_tour_is_kept_without_outputs():
    cells = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
    assert all(
        not cell["outputs"] and cell["execution_count"] is None
        for cell in cells
        if cell["cell_type"] == "code"
    )


@pytest.mark.filterwarnings("default")  # of the packages that run a notebook
def test_the_tour_runs_and_asks_for_nothing(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    import nbformat

    tour = nbformat.read(TOUR, 4)
    nbclient.NotebookClient(tour, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        out["data"]["text/html"] for cell in tour.cells for out in cell.get("outputs", ()) if "data" in out
    ]
    table, head, neuron, ablation = shown
    assert table.startswith("<table") and "previous_token" in table
    assert data_of(head)["element"] == "AttentionPattern"
    assert data_of(neuron)["element"] == "ColoredTokens"
    assert "L0H3" in ablation
    for one in (table, ablation, *(without_bundle(page_of(drawn)) for drawn in (head, neuron))):
        assert "http" not in one.replace("http-equiv", "")
    assert list(tmp_path.iterdir()) == []


def test_the_package_offers_them():
    assert tslens.show is show
    assert tslens.look is look


def test_what_holds_no_records_is_refused_and_tables_of_pandas_are_shown():
    import pandas as pd

    import tslens
    from tslens.errors import UsageError

    assert "<td" in tslens.show(pd.DataFrame([{"head": "L0H0", "value": 0.5}]))._repr_html_()
    for wrong in ("L0H0", 3, None):
        with pytest.raises(UsageError, match="holds no records"):
            tslens.show(wrong)
