"""The report in Chromium: quiet, offline, links lead on and back, by mouse, keyboard and search; texts are data."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tslens.grading.results import GradedModel
from tslens.link.joined.model_part import ModelPart, Origin
from tslens.link.joined.samples import Sample
from tslens.link.map_report import load_map
from tslens.probes.neurons.results import load_neuron_roles
from tslens.probes.results import load_head_scores
from tslens.types import Grade, Graded, HeadId
from tslens.viz.report.page import write_report_page
from tslens.viz.report.studies import find_studies

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
REPORTS = Path(__file__).parents[2] / "reports"
HOSTILE = "<script>window.hacked=1</script>\"'&amp;🙂 שלום \u202e" + "a" * 10_000
WORDS = ["<|endoftext|>", "Once", " upon", " a", " time", ",", " Tom", " had", HOSTILE, "."]
HEADS = [HeadId(0, index) for index in range(16)]


def sample(consistency, number):
    """Head L0H3 costs token 6 most, head L0H5 helps it."""
    rng = np.random.default_rng(number)
    changes = rng.normal(0, 0.01, (len(HEADS) + 1, len(WORDS)))
    changes[3, 6], changes[5, 6] = 1.25, -0.5
    pattern = np.tril(np.ones((len(WORDS), len(WORDS))))
    text = Graded("Once upon a time,", " Tom had it.", f"b{number:02}", 0)
    grade = Grade(text, 5.0, 5.0, consistency, 5.0, "B", assessment=HOSTILE)
    return Sample(
        grade,
        WORDS,
        6,
        len(WORDS) + 7,
        np.array([np.nan, *rng.uniform(0, 5, len(WORDS) - 1)]),
        [*map(str, HEADS), "L0.mlp"],
        changes,
        {head: pattern / pattern.sum(1, keepdims=True) for head in (HEADS[:4] if number else HEADS)},
        {},
    )


def part(label, *, is_measured):
    samples = [sample(2.0, 0), sample(7.0, 1)]
    heads, neurons = REPORTS / "heads/l1_h256.jsonl", REPORTS / "neurons/l1_h256.jsonl"
    header = {"model": label, "judge": "local", "judge_version": "1", "prompts": "beginnings"}
    return ModelPart(
        label, 1, 256 if is_measured else 64, 16, 10**6 if is_measured else 10**5, 0.8, 1.1,
        load_head_scores(heads) if is_measured else None,
        load_neuron_roles(neurons) if is_measured else None,
        load_map(REPORTS / "link/l1_h256.jsonl") if is_measured else None,
        GradedModel(label, header, tuple(one.outcome for one in samples)),
        samples,
        {"heads": Origin("heads.jsonl", {"command": HOSTILE[:40], "data_sha256": "ab" * 32, "seed": 0})},
        {} if is_measured else {"grades": "tslens grade --model l1_h64"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    parts = [part("shipped:l1_h256@seed0", is_measured=True), part("l1_h64@seed0", is_measured=False)]
    write_report_page(path, parts, find_studies([REPORTS / "scaling"]), header={"command": HOSTILE[:40]})
    return path


@pytest.fixture
def visit(visit, path):
    return partial(visit, path)


def wait_for(page, address, shown):
    """The page follows its address, a moment after a click or a key has changed it."""
    sync_api.expect(page).to_have_url(re.compile(rf"{re.escape(address)}$"))
    sync_api.expect(page.locator(shown).first).to_be_visible()


def test_first_sight_tells_all_models_and_sorts(visit, until):
    page = visit()
    names = page.locator("#all-models tbody th")
    assert names.all_text_contents() == ["l1_h256", "l1_h64"]  # as they were named
    page.locator("#all-models thead button", has_text="parameters").click()
    assert names.all_text_contents() == ["l1_h256", "l1_h64"]
    assert "tense" in page.locator("#carriers").inner_text()
    drawings = page.locator("#studies img")
    assert drawings.count() >= 2
    drawings.first.scroll_into_view_if_needed()
    until(page, "document.querySelector('#studies img').naturalWidth > 0")
    assert page.locator("#studies figure details table tbody tr").count() > 5


def test_from_a_low_grade_to_a_head_and_back(visit, until):
    page = visit("#m/l1_h256/texts")
    rows = page.locator("table.list tbody tr")
    assert [row.split("\t")[1].strip() for row in rows.all_inner_texts()] == ["2.0", "7.0"]
    rows.first.locator("a").click()
    page.locator(".reading span").nth(6).click()
    until(page, "location.hash.endsWith('/6') && document.querySelector('.card h2 q')")
    assert "Tom" in page.locator(".card h2").inner_text()
    first = page.locator(".bars li").first
    assert "L0H3" in first.inner_text() and "+1.25" in first.inner_text()
    assert "−0.50" in page.locator(".bars li").nth(1).inner_text()
    first.locator("a").first.click()
    page.locator("a.tile").first.wait_for()
    card = page.locator(".card")
    assert card.locator("h2").inner_text().startswith("L0H3")
    card.locator("a", has_text="text b").first.click()
    page.locator(".reading").wait_for()
    assert page.locator("select").input_value() == "change L0H3"
    for address, shown in (("/texts", "table.list"), ("#m/l1_h256", "#part"), ("#models", "#overview")):
        page.keyboard.press("Escape")
        wait_for(page, address, shown)


def test_heads_and_what_they_carry_lead_to_each_other(visit):
    page = visit("#m/l1_h256/heads/L0H15")
    assert page.locator("a.tile").count() == 16
    page.locator(".card a", has_text="tense").first.click()
    wait_for(page, "#m/l1_h256/map/L0H15", "table.map")
    assert page.locator("table.map tr.chosen th").inner_text().startswith("L0H15")
    page.locator(".card a", has_text="What L0H15 looks at").click()
    wait_for(page, "#m/l1_h256/heads/L0H15", "a.tile")
    page.keyboard.press("k")
    sync_api.expect(page.locator(".card h2")).to_have_text(re.compile(r"^L0H14\b"))
    assert page.url.endswith("#m/l1_h256/heads/L0H14")


def test_costs_are_those_of_the_map_and_what_is_cut_is_said(visit):
    page = visit("#m/l1_h256/map/L0H15")
    rows = load_map(REPORTS / "link/l1_h256.jsonl").rows
    costs = {one.component: one.delta_loss_nats for one in rows if one.status and one.evidence == "readout"}
    told = page.locator("table.map tr", has_text="L0H15").locator("td").first.inner_text()
    assert float(told.replace("−", "-")) == pytest.approx(costs["L0H15"], abs=6e-4)
    page.goto(page.url.replace("map/L0H15", "texts/0"))
    sync_api.expect(page.locator("#part")).to_contain_text("cut at 10 of 17 tokens")
    page.keyboard.press("j")
    wait_for(page, "#m/l1_h256/texts/1", ".reading")
    page.goto(page.url.split("#")[0] + "#m/l9/heads")
    wait_for(page, "#m/l9/heads", "#lost")


def test_patterns_are_drawn(visit):
    page = visit("#m/l1_h256/heads/L0H3")
    page.locator(".pattern").scroll_into_view_if_needed()
    page.wait_for_selector(".pattern canvas, .pattern svg, .pattern img, .pattern table")
    page.goto(page.url.replace("heads/L0H3", "texts/1/head L0H3/8"))
    page.locator(".reading").wait_for()
    shares = page.locator(".reading span").evaluate_all(
        "all => all.map((one) => one.style.getPropertyValue('--x'))"
    )
    assert shares == ["0.11"] * 9 + ["0.00"]  # from token 8 the head looks evenly at nine tokens


def test_neurons_are_filtered(visit):
    page = visit("#m/l1_h256/neurons")
    total = int(page.locator("output").inner_text().split(" of ")[1])
    page.locator("select").nth(1).select_option("role")
    n_roles = int(page.locator("output").inner_text().split(" of ")[0])
    assert 0 < n_roles < total
    assert set(page.locator("table.neurons tbody tr td:nth-child(3)").all_inner_texts()) == {"◆ role"}


def test_search_finds_heads_parts_and_words_of_texts(visit):
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("l0h15")
    results = page.locator("#results li")
    assert "l1_h256 L0H15" in results.first.inner_text()
    page.locator("#search").fill("tense carries")
    assert results.count() >= 1
    page.locator("#search").fill("upon time")
    results.first.locator("a").click()
    sync_api.expect(page).to_have_url(re.compile("#m/"))
    sync_api.expect(page.locator("#results")).to_be_hidden()
    page.locator("#search").fill("l0h15 l1_h256")
    page.locator("#search").press("Enter")
    wait_for(page, "#m/l1_h256/map/L0H15", "table.map")  # what carries something comes first
    page.locator("#search").fill("<script>")
    assert "<script>window.hacked=1</script>" in results.first.inner_text()


def test_what_was_not_measured_says_how_to(visit):
    page = visit("#m/l1_h64/heads")
    assert "tslens heads --model l1_h64" in page.locator("#part").inner_text()
    page.goto(page.url.replace("heads", "map"))
    sync_api.expect(page.locator("#part")).to_contain_text("tslens link --model l1_h64")


def test_each_figure_says_where_it_comes_from(visit):
    page = visit()
    panel = page.locator("#source")
    assert not panel.is_visible()
    page.keyboard.press("s")
    page.locator("#all-models td[data-from='l1_h256/heads']").hover()
    told = panel.inner_text()
    assert told.startswith("l1_h256, heads: heads.jsonl") and "abababababab" in told and "seed 0" in told
    assert "<script>" in told  # as text
    page.goto(page.url + "#m/l1_h256/map/L0H15")
    page.locator("table.map td").first.hover()
    assert "l1_h256, what parts carry: not measured" in panel.inner_text()  # its record is not there
    page.locator(".card ol a").first.hover()
    assert "texts, read anew: this page" in panel.inner_text()
    panel.locator("a").click()
    wait_for(page, "#m/l1_h256/origin", "#part")
    page.locator("#sources").click()
    sync_api.expect(panel).to_be_hidden()
    assert "tslens grade --model l1_h64" in visit("#models").locator("#lacking").inner_html()


def test_hostile_text_is_text(visit):
    page = visit("#m/l1_h64/texts/0")
    word = page.locator(".reading span").nth(8)
    assert word.inner_text() == HOSTILE.replace("\u202e", "\\u202e")
    assert "🙂 שלום" in page.locator("#part p", has_text="window.hacked").inner_text()


@pytest.mark.parametrize(
    "anchor",
    ["", "#m/l1_h256/heads/L0H3", "#m/l1_h256/neurons", "#m/l1_h256/map/L0H15", "#m/l1_h256/texts/0/loss/8"],
)
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(visit, anchor, width):
    page = visit(anchor, viewport={"width": width, "height": 800}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h2:visible").count() > 0
