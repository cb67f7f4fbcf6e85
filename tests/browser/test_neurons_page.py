"""The page of neurons in Chromium, opened from a file: quiet, offline, usable, safe."""

from dataclasses import replace

import pytest

import tslens
from tslens.probes.neurons.classify import classify_neurons
from tslens.viz.neuron_text_page import write_neuron_text_page
from tslens.viz.neurons_page import summary, write_neuron_atlas

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("small_scans")]
HOSTILE = "</script><img src=x onerror='window.hacked=1'>"


@pytest.fixture(scope="module")
def report():
    model = tslens.load_model("shipped:l1_h64")
    stories = list(tslens.write_stories(40, seed=3))
    return model, classify_neurons(model, stories, seed=0, n_explain=12, exclude=())


@pytest.fixture(scope="module")
def pages(report, tmp_path_factory):
    model, found = report
    folder = tmp_path_factory.mktemp("pages")
    hostile = [
        replace(role, role=HOSTILE if role.role == found.labels[0].name else role.role)
        for role in found.roles
    ]
    hostile[0] = replace(hostile[0], writes={**hostile[0].writes, "promotes": (HOSTILE,) * 10}, role=HOSTILE)
    planted = replace(found, roles=tuple(hostile))
    labels = (replace(found.labels[0], name=HOSTILE, description=HOSTILE), *found.labels[1:])
    read = replace(found.read, labels=(HOSTILE, *found.read.labels[1:]))
    write_neuron_atlas(
        folder / "neurons.html",
        replace(planted, labels=labels, read=read),
        model,
        name=HOSTILE,
        header={"command": HOSTILE},
    )
    write_neuron_text_page(
        folder / "text.html", neuron="L0N3", model=HOSTILE, header={"command": HOSTILE},
        tokens=["One", " day", HOSTILE, "\u202e", "."], activations=[0.0, -0.1, 2.0, 0.5, 0.1],
        raises=[HOSTILE, " the"], lowers=["a"],
    )  # fmt: skip
    return folder


@pytest.fixture
def visit(visit, pages):
    """Open a page by its name."""
    return lambda name, *anchor, **options: visit(pages / name, *anchor, **options)


def test_the_strongest_neuron_is_shown_first(visit, report):
    page = visit("neurons.html")
    assert page.locator("#scores tbody tr").count() == 256
    first = page.locator("#scores tbody tr").first
    assert page.inner_text("#head").startswith(first.locator("th").inner_text())
    assert first.get_attribute("class") == "chosen"
    assert page.locator("#passages .text").count() == 6
    assert page.locator("#passages .asks").count() == 6
    assert page.locator("#figures .dots").count() == 2  # areas, causes
    assert page.locator(".bins rect.labelled").count() == 24
    assert page.locator("#written q").count() == 20


def test_a_row_and_an_address_choose_a_neuron(visit, until):
    page = visit("neurons.html", "#L0N18")
    assert page.inner_text("#head").startswith("L0N18")
    page.locator("#scores tbody tr", has_text="L0N174").locator("td").nth(1).click()
    until(page, "document.getElementById('head').textContent.startsWith('L0N174')")
    assert page.evaluate("location.hash") == "#L0N174"


def test_filters_narrow_the_table_and_heads_sort_it(visit):
    page = visit("neurons.html")
    page.select_option("#filters [name=status]", "role")
    n_roles = page.locator("#scores tbody tr:visible").count()
    assert 0 < n_roles < 256 and page.inner_text("#shown") == f"{n_roles} of 256 rows"
    page.select_option("#filters [name=status]", "")
    page.fill("#filters [name=neuron]", "n18")
    assert page.locator("#scores tbody tr:visible th").all_inner_texts() == ["L0N18"]
    page.fill("#filters [name=neuron]", "")
    page.locator("#scores thead button", has_text="neuron").click()
    assert page.locator("#scores tbody th").first.inner_text() == "L0N0"


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["neurons.html", "text.html"])
def test_nothing_hangs_over_the_edge(visit, name, scheme, width):
    page = visit(name, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 1300, 1920])
def test_all_columns_of_the_table_are_seen_at_once(visit, width):
    page = visit("neurons.html", viewport={"width": width, "height": 900})
    box = page.locator("#neurons .box")
    assert box.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    right = box.bounding_box()["x"] + box.bounding_box()["width"]
    heads = page.locator("#scores thead th")
    assert heads.count() == 10
    assert all(head.bounding_box()["x"] + head.bounding_box()["width"] <= right for head in heads.all())
    assert not page.locator("#sideways").is_visible()


def test_a_narrow_page_says_that_the_table_goes_on(visit, until):
    page = visit("neurons.html", viewport={"width": 400, "height": 900})
    assert page.locator("#neurons .box").evaluate("box => box.scrollWidth > box.clientWidth")
    assert "scroll it sideways" in page.locator("#sideways:visible").inner_text()
    page.set_viewport_size({"width": 1920, "height": 900})
    until(page, "document.getElementById('sideways').hidden")


def test_a_text_is_coloured_by_the_activation(visit):
    page = visit("text.html")
    tokens = page.locator(".text span")
    assert tokens.count() == 5 and tokens.nth(1).get_attribute("class") == "n"
    assert tokens.nth(2).get_attribute("style") == "--x:1.00"
    assert "is strongest at" in page.inner_text(".lead")


def test_the_lead_says_what_was_found(report):
    _, found = report
    assert "neurons have a tested role" in summary(found)
    none = replace(found, roles=tuple(replace(role, status="no") for role in found.roles))
    assert summary(none).startswith("None of 256 neurons")
