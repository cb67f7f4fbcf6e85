"""Pages as commands make them: the demo's, and those of a story that would break a page, at two sizes of screen."""

import json

import pytest

from tslens.corpus.author import write_stories

pytestmark = pytest.mark.usefixtures("small_scans")


STRANGE = (
    "Tom said, \"<script>alert(1); window.hacked = 1</script>\" & '</textarea>' to the cat 🙂. "
    f"שלום עולם, said Mia \u202e backwards. The word was {'a' * 10_000}. It was a good day."
)
WIDTHS = (1280, 390)


@pytest.fixture
def strange(tmp_path):
    """Forty stories, the first of which is strange."""
    path = tmp_path / "strange.jsonl"
    texts = [STRANGE, *(story.text for story in write_stories(39, seed=3))]
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    return path


def opened(visit, path):
    """The text of a page that fits both screens."""
    page = visit(path, viewport={"width": WIDTHS[0], "height": 900})
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.name, width)
    return page


def test_the_demo_ends_with_a_page_that_works(tslens, tmp_path, request, monkeypatch):
    monkeypatch.setattr("tslens.cli.heads.N_STORIES", 120)  # else it reads 500
    done = tslens("demo", "--out", tmp_path / "demo", "--minutes", 0.05, "--stories", 400)
    assert done.code == 0, done.err
    assert "Try next" in done.out
    pages = sorted((tmp_path / "demo").rglob("*.html"))
    assert [path.name for path in pages] == ["heads.html"]
    page = opened(request.getfixturevalue("visit"), pages[0])  # skips here where there is no Chromium
    head = page.locator("#scores th[aria-sort] button").first
    head.click()
    assert page.locator("#scores th[aria-sort=ascending], #scores th[aria-sort=descending]").count() == 1
    page.locator("#heads a").last.click()
    page.locator("#pattern").scroll_into_view_if_needed()
    page.wait_for_selector("#pattern canvas, #pattern svg, #pattern img, #pattern table")


@pytest.mark.browser
@pytest.mark.parametrize(
    "command",
    [
        ("heads", "--model", "shipped:l1_h64", "--n-stories", 30, "--probe", "previous_token"),
        ("look", STRANGE, "--model", "shipped:l1_h64"),
        ("look", "--labels"),
        ("data", "diversity"),
    ],
    ids=["heads", "look", "labels", "diversity"],
)
def test_a_strange_story_is_text(tslens, visit, strange, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.html"
    source = [strange] if command[0] == "data" else ["--stories", strange] if STRANGE not in command else []
    done = tslens(*command, *source, "--html", page)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out and "\u202e" not in done.out
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert opened(visit, page).locator("h1").inner_text()
