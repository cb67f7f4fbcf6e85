"""Chromium, and how every test opens a page in it: from a file, listening for all that the page says or asks for."""

import shutil
import time
from pathlib import Path

import pytest

LUMINANCE = """
      const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      const light = (colour, below) => {
        for (const fill of [below, colour]) { context.fillStyle = fill; context.fillRect(0, 0, 1, 1); }
        const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
"""


def _chromium():
    """Path of a Chromium: of the system, else the newest that playwright installed; None where there is neither."""
    names = ("chromium", "chromium-browser", "google-chrome")
    own = sorted(Path.home().glob(".cache/ms-playwright/chromium-*/chrome-linux*/chrome"))
    return next(filter(None, map(shutil.which, names)), str(own[-1]) if own else None)


@pytest.fixture(scope="module")
def browser():
    """Chromium; the test skips where there is none, or no playwright.

    Of a module, not of the session: playwright keeps an event loop running in this thread for as long as it is open.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect.set_options(timeout=30_000)  # where other tests are slow too
    path = _chromium()
    if path is None:
        pytest.skip("no Chromium on this machine; make browser installs one")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def _is_inside(url, itself):
    """Whether a request stays in the file: the page itself, or a picture that stands in it."""
    return url in itself or url.startswith("data:image/")


@pytest.fixture
def visit(browser):
    """Open a page from its file; afterwards it must have said nothing, asked for nothing and run nothing foreign.

    A module that has one page, or a folder of them, gives its own ``visit``, which calls this one.
    """
    opened = []

    def go(path, anchor="", **options):
        page = browser.new_page(**options)
        noise, itself = [], (path.as_uri(), path.as_uri() + anchor)
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on(
            "request", lambda request: None if _is_inside(request.url, itself) else noise.append(request.url)
        )
        page.goto(path.as_uri() + anchor)
        opened.append((page, noise))
        return page

    yield go
    for page, noise in opened:
        assert page.evaluate("window.hacked") is None
        assert noise == []
        page.close()


@pytest.fixture
def with_luminance():
    """Makes a function of JavaScript of its lines, which have ``light(colour, below)``.

    That is the relative luminance, 0 to 1, of a colour on another, as WCAG 2.2 defines it. A canvas mixes the two, so
    that a colour may be given in any way and may let the other through.
    """
    return lambda lines: f"() => {{{LUMINANCE}{lines}}}"


@pytest.fixture(scope="session")
def until():
    """Waits until a script is true of a page. Playwright's own way evaluates text in the page, which its policy forbids
    from the second look on."""

    def wait(page, script, argument=None):
        deadline = time.monotonic() + 30
        while not page.evaluate(script, argument):
            assert time.monotonic() < deadline, script
            page.wait_for_timeout(20)

    return wait
