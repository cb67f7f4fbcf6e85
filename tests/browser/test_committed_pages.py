"""Every page of ``reports/`` in Chromium: quiet, offline, sorted, filtered, drawn, no wider than any screen."""

from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.browser
REPORTS = Path(__file__).parents[2] / "reports"
PAGES = sorted(REPORTS.rglob("*.html"))
DRAWN = "#pattern canvas, #pattern svg, #pattern img, #pattern table"


def asked(path):
    """The smallest page of a command, always; its others where the slow tests are asked for."""
    smallest = min(path.parent.glob("*.html"), key=lambda one: one.stat().st_size)
    marks = [] if path == smallest else [pytest.mark.slow]
    return pytest.param(path, id=str(path.relative_to(REPORTS)), marks=marks)


def test_there_are_pages():
    assert len(PAGES) >= 12


@pytest.mark.parametrize("path", [asked(path) for path in PAGES])
def test_a_page_opens_and_works(visit, until, path):
    page = visit(path, viewport={"width": 1280, "height": 900})
    assert page.locator("h1").inner_text() and page.locator("h2:visible").count() >= 2
    assert "Where this comes from" in page.locator("footer").inner_text()
    _sorts(page)
    _filters(page)
    if page.locator("#pattern").count():
        page.locator("#pattern").scroll_into_view_if_needed()
        page.wait_for_selector(DRAWN)
        _follows_links(page, until)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def _sorts(page):
    """Each heading of the first table that sorts gives another order, or the other way round, or says so."""
    heads = page.locator("th[aria-sort]:visible")
    if not heads.count():
        return
    head = heads.nth(min(2, heads.count() - 1))
    head.locator("button").click()
    first = head.get_attribute("aria-sort")
    head.locator("button").click()
    assert {first, head.get_attribute("aria-sort")} == {"ascending", "descending"}


def _filters(page):
    """What no row has leaves none."""
    field = page.locator("#filters input[type=search], #asked input[type=search]").first
    if not field.count():
        return
    table = page.locator("#scores, #matrix").first
    before = table.locator("tbody tr:visible").count()
    field.fill("zzzz")
    assert table.locator("tbody tr:visible").count() == 0
    field.fill("")
    assert table.locator("tbody tr:visible").count() == before > 0


def _follows_links(page, until):
    """Another head's card takes the place of the first one's."""
    shown = page.locator("#head").inner_text()
    others = page.locator("#heads a").evaluate_all("all => all.map((one) => one.hash)")
    page.locator(f"#heads a[href='{next(one for one in others if one[1:] not in shown)}']").click()
    until(page, "(before) => document.getElementById('head').innerText !== before", shown)
