"""The page of the capability map in Chromium: quiet, offline, sorted and filtered by mouse and keyboard, safe."""

from functools import partial

import pytest

from tslens.link.drops import Drop
from tslens.link.map_report import MapReport, MapRow
from tslens.viz.map_page import write_map_page
from tslens.viz.map_words import spoken

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
HOSTILE = (
    "</script><script>window.hacked=1</script>"
    '<img src="http://example.invalid/x" onerror="window.hacked=1">&amp;\u202e'
)
SEEN = HOSTILE.replace("\u202e", "\\u202e")
ROLE = f"heads:previous_token+{HOSTILE}"
SHARES = {"L0H0": 0.02, "L0H1": 0.7, "L0H10": 0.1, "L0.attn": 0.4, "L0": 0.5, ROLE: -0.3}
STATUSES = {
    "L0H0": "no",
    "L0H1": "carries",
    "L0H10": "unclear",
    "L0.attn": "general",
    "L0": "general",
    ROLE: "no",
}
READOUTS = (("agreement", "grammar"), ("tense", "grammar"), ("swapped_names", "consistency"))


def drop(value):
    return Drop(value, value - 0.05, value + 0.05, value - 0.09, value + 0.09, 0.01, (value, value))


def row(component, measure, capability, share, *, status=None, method="mean", evidence="readout"):
    return MapRow(
        component, 1, 0.1 + abs(share), evidence, measure, capability, method, drop(2 * share), 2.0, 0.2,
        drop(2 * share - 0.2) if method == "mean" else None, 0.1, status,
    )  # fmt: skip


def report():
    rows = [
        row(name, measure, capability, share - 0.01 * i, status=STATUSES[name])
        for i, (measure, capability) in enumerate(READOUTS)
        for name, share in SHARES.items()
    ]
    rows += [
        row(name, "agreement", "grammar", 0.9 * SHARES[name], method=method)
        for method in ("zero", "resample")
        for name in ("L0H1", "L0")
    ]
    rows += [row(name, "grammar", "grammar", 0.0, status="no", evidence="grade") for name in ("L0H1", "L0")]
    scores = [
        {
            "readout": name, "capability": capability, "asks": HOSTILE, "difference": 1.0, "difference_low": 0.5,
            "difference_high": 1.5, "accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": 0.95,
            "least_accuracy": accuracy - 0.15, "n_pairs": 300, "passes": accuracy > 0.6,
        }
        for name, capability, accuracy in [*((*one, 0.9) for one in READOUTS), ("factual", "knowledge", 0.55)]
    ]  # fmt: skip
    header = {
        "model": HOSTILE, "judge": "local", "judge_version": HOSTILE, "doses": {"grammar": 2.0}, "floor": 0.05,
        "agreement": [{"methods": ["mean", "zero"], "measure": "loss", "spearman": 0.8, "n_components": 5}],
    }  # fmt: skip
    return MapReport(tuple(rows), scores, {ROLE: ["L0H0", "L0H1"]}, header)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    write_map_page(report(), path)
    return path


@pytest.fixture
def visit(visit, path):
    """Open the page."""
    return partial(visit, path)


def names(page):
    """Components of the rows that are seen, in their order."""
    seen = "all => all.filter(row => !row.hidden).map(row => row.dataset.name)"
    seen_as = {name.replace(HOSTILE, SEEN): name for name in SHARES}
    return [seen_as[name] for name in page.locator("#matrix tbody tr[data-name]").evaluate_all(seen)]


def head(page, text):
    return page.locator("#matrix thead th[aria-sort]:visible", has_text=text).get_by_role("button").first


def test_every_heading_sorts_and_component_names_sort_by_number(visit):
    page = visit(viewport={"width": 1300, "height": 900})
    assert names(page) == list(SHARES)
    head(page, "readouts").click()
    assert names(page) == ["L0H1", "L0", "L0.attn", "L0H10", "L0H0", ROLE]
    head(page, "readouts").click()
    assert names(page) == [ROLE, "L0H0", "L0H10", "L0.attn", "L0", "L0H1"]
    assert page.locator("#matrix [aria-sort=ascending]").count() == 1
    head(page, "component").click()
    assert names(page) == list(SHARES)
    head(page, "graded").click()  # those that were not graded go last
    assert set(names(page)[:2]) == {"L0H1", "L0"}
    for button in page.locator(".sorts thead th[aria-sort] button:visible").all():
        button.click()


def test_fields_keep_kinds_statuses_names_and_disagreement(visit):
    page = visit()
    page.select_option("#asked [name=kind]", "head")
    assert names(page) == ["L0H0", "L0H1", "L0H10"] and page.inner_text("#found") == "3 of 6 rows"
    page.select_option("#asked [name=status]", "unclear")
    assert names(page) == ["L0H10"]
    page.select_option("#asked [name=kind]", "")
    page.select_option("#asked [name=status]", "no")  # only those that are nothing else
    assert names(page) == ["L0H0", ROLE]
    page.select_option("#asked [name=status]", "")
    page.fill("#asked [name=name]", "l0h1")
    assert names(page) == ["L0H1", "L0H10"]
    page.fill("#asked [name=name]", "")
    page.get_by_label("only where they disagree").check()
    assert names(page) == ["L0H1"]


def test_a_capability_opens_its_readouts(visit):
    page = visit(viewport={"width": 1300, "height": 900})
    tense = page.locator("#matrix thead th[data-single]", has_text="tense")
    assert not tense.is_visible() and page.locator("#matrix td.one:visible").count() == 0
    opens = page.locator(".opens")
    opens.focus()
    page.keyboard.press("Enter")
    assert tense.is_visible() and opens.get_attribute("aria-expanded") == "true"
    assert page.locator("#matrix td.one:visible").count() == 2 * len(SHARES)
    left = lambda cell: cell.bounding_box()["x"]  # noqa: E731
    assert left(tense) == left(page.locator("#matrix tbody tr").first.locator("td.one").nth(1))
    consistency = page.locator("#matrix .group", has_text="consistency")
    assert left(consistency) == left(page.locator("#matrix thead th", has_text="swapped names"))
    head(page, "tense").click()
    assert names(page)[0] == "L0H1"
    opens.click()
    assert not tense.is_visible()
    assert left(consistency) == left(page.locator("#matrix thead th", has_text="swapped names"))


def test_a_row_opens_by_mouse_keyboard_and_address(visit):
    page = visit("#L0.attn", viewport={"width": 1300, "height": 900})
    opened = page.locator("#matrix .opened")
    assert opened.locator("h3").inner_text().startswith("L0.attn")
    page.locator("#matrix tr[data-name=L0H1] td").nth(1).click()
    assert opened.count() == 1 and opened.locator("h3").inner_text().startswith("L0H1")
    assert opened.locator("li").count() == 4 and opened.locator(".whisker").count() == 4
    assert "agreement (readout of grammar), carries: +70%" in opened.inner_text()
    assert "by zero +63% [+60%, +66%]" in opened.inner_text() and page.url.endswith("#L0H1")
    button = page.locator("#matrix tr[data-name=L0H1] button")
    assert button.get_attribute("aria-expanded") == "true"
    button.focus()
    page.keyboard.press("Enter")
    assert opened.count() == 0 and button.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    head(page, "loss").click()  # sorting closes it
    assert opened.count() == 0 and len(names(page)) == len(SHARES)
    page.evaluate("location.hash = '#%E0%A4%A'")  # no address at all
    page.evaluate("location.hash = '#L0'")
    sync_api.expect(opened.locator("h3")).to_contain_text("L0")


def test_a_field_chooses_the_readout_that_is_drawn_and_listed(visit):
    page = visit()
    assert page.locator("#drawings figure:visible").count() == 1
    page.select_option("#costs select", "tense")
    assert page.locator("#drawings svg:visible").get_attribute("aria-label").startswith("tense: ")
    assert page.locator("#ways-table tbody tr:visible").count() == 2


def test_hostile_text_is_text(visit):
    page = visit()
    assert page.locator("img").count() == 0 and page.locator("script:not([type])").count() == 2
    assert SEEN in page.inner_text("h1") and SEEN in page.inner_text("#judge")
    page.locator("#matrix tr[data-kind='role of heads'] button").click()
    assert spoken(SEEN) in page.inner_text(".opened h3")


def test_without_scripts_the_tables_stand(browser, path):
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(path.as_uri())
    assert page.locator("#matrix tbody tr").count() == len(SHARES)
    assert page.locator("#matrix td.one:visible").count() == 2 * len(SHARES)
    assert page.locator("#drawings svg:visible").count() == 3 and not page.locator("#asked").is_visible()
    page.context.close()


@pytest.mark.parametrize("width", [360, 700, 1300])
def test_it_scrolls_only_downwards(visit, width):
    page = visit("#L0H1", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box, inside = (page.locator(one).bounding_box() for one in ("#capabilities .box", ".opened td > div"))
    assert inside["x"] >= box["x"] and inside["x"] + inside["width"] <= box["x"] + box["width"] + 1


def test_cells_read_in_light_and_dark(visit, with_luminance):
    contrast = with_luminance("""
      const card = getComputedStyle(document.querySelector("#capabilities .box")).backgroundColor;
      const cells = document.querySelectorAll("#matrix td, #matrix th, #capabilities .swatches span, .lined td");
      return [...cells].filter((one) => one.textContent).map((one) => {
        const style = getComputedStyle(one);
        const [paper, ink] = [light(style.backgroundColor, card), light(style.color, card)];
        return [(Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05), one.className, one.textContent];
      });
    """)
    for scheme in ("light", "dark"):
        found = visit(color_scheme=scheme).evaluate(contrast)
        assert len(found) > 50
        assert min(found)[0] >= 4.5, min(found)
