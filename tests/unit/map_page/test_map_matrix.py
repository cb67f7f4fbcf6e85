"""The matrix of the map: every cell, its mark, its colour, and what an opened row says."""

import re
from dataclasses import replace

import pytest

from tslens.link.map_report import MapReport
from tslens.viz.map_details import details, says
from tslens.viz.map_matrix import columns_of, matrix_section
from tslens.viz.map_words import Amounts, in_order, kind_of, percent


def page_rows(html):
    """Cells of each row of the matrix, tags taken away, by component."""
    found = {}
    for name, inside in re.findall(r'<tr data-name="([^"]*)"[^>]*>(.*?)</tr>', html):
        found[name] = [
            re.sub("<.*?>", "", cell)
            for cell in re.findall(r"<t[dh][^>]*>.*?</t[dh]>", inside.replace("\n", ""))
        ]
    return found


def test_components_stand_by_layer_then_halves_then_roles():
    names = ["L1H0", "neurons:a+b", "L0H10", "L0.attn", "L0H9", "L0.mlp", "L0", "heads:x"]
    assert in_order(names) == ["L0H9", "L0H10", "L1H0", "L0.attn", "L0.mlp", "L0", "neurons:a+b", "heads:x"]
    assert [kind_of(name) for name in ("L0H9", "L0.attn", "L0.mlp", "L0", "heads:x", "neurons:L0H1", "x")] == [
        "head", "attention", "MLP", "layer", "role of heads", "role of neurons", "other",
    ]  # fmt: skip


def test_columns_put_readout_and_grade_side_by_side_and_keep_those_not_passed(report):
    found = [(one.capability, one.kind, one.measure) for one in columns_of(report)]
    assert found == [
        ("grammar", "readout", None), ("grammar", "grade", None),
        ("grammar", "one", "agreement"), ("grammar", "one", "tense"), ("grammar", "one", "word_order"),
        ("consistency", "readout", "swapped_names"), ("consistency", "grade", None),
        ("consistency", "closed", "lost_object"),
        ("knowledge", "closed", "factual"),
        ("creativity", "grade", None), ("plot", "grade", None),
    ]  # fmt: skip
    html = matrix_section(report)
    assert (
        html.count("not passed: nothing is said, accuracy 0.53") == 2
    )  # its head, and what it says at the mouse
    assert html.count("<td class=closed></td>") == 2 * len(report.components)


def test_every_cell_has_its_share_its_interval_and_its_mark(report, row_of):
    """Each number of the matrix, found again from the rows."""
    html = matrix_section(report)
    rows = page_rows(html)
    assert list(rows) == in_order(report.components)
    by_place = {
        (row.component, row.evidence, row.measure): row for row in report.rows if row.method == "mean"
    }
    for name, cells in rows.items():
        for cell, measure in zip(cells[4:7], ("agreement", "tense", "word_order"), strict=True):
            row = by_place[name, "readout", measure]
            mark = {"carries": "◆", "candidate": "●", "general": "≈", "unclear": "○", "no": ""}[row.status]
            value = round(100 * row.drop.value / row.whole)
            assert cell == (f"{value:+d}%".replace("-", "\u2212") if value else "0%") + mark
        assert len(cells) == 2 + 11 and cells[9:11] == ["", ""]
        assert (cells[12] == "\N{EN DASH}") == ((name, "grade", "plot") not in by_place)
    low, high = (
        percent(end / 2.1)
        for end in (row_of("agreement").drop.low_corrected, row_of("agreement").drop.high_corrected)
    )
    assert f"{low} to {high}, carries" in html


def test_only_what_is_sure_has_colour(one_row, drop):
    sides = {"p": drop(1.0, 0.9), "n": drop(-1.0, 0.9), "unsure": drop(1.0, 1.1)}
    for side, lost in sides.items():
        html = matrix_section(MapReport((one_row("L0H1", "no", drop=lost),), [], {}, {"floor": 0.05}))
        cell = re.search('<td class="([^"]*)"([^>]*) title="L0H1, tense: ', html)
        assert cell[1].split()[0] == side and ("--x:" in cell[2]) == (side != "unsure")


def test_cells_that_disagree_are_marked(one_row, drop):
    """One row says that it matters, the other surely lies below the floor of a twentieth of 2.0."""
    grade, little = {"evidence": "grade", "measure": "grammar"}, {"drop": drop(0.02, 0.05)}
    rows = (
        one_row("L0H1", "carries"), one_row("L0H1", "no", **grade, **little),
        one_row("L0H2", "candidate"), one_row("L0H2", "carries", **grade),
        one_row("L0H3", "no", **little), one_row("L0H3", "general", **grade),
        one_row("L0H4", "carries"), one_row("L0H4", "no", **grade, drop=drop(0.02, 0.3)),
        one_row("L0H5", "unclear", **little), one_row("L0H5", "carries", **grade),
    )  # fmt: skip
    html = matrix_section(MapReport(rows, [], {}, {"floor": 0.05}))
    marked = {name: "≠" in "".join(cells) for name, cells in page_rows(html).items()}
    assert marked == {"L0H1": True, "L0H2": False, "L0H3": False, "L0H4": False, "L0H5": True}
    assert re.findall(r'data-name="(\w+)"[^>]* data-differs', html) == ["L0H1", "L0H5"]


def test_a_criterion_without_a_fault_is_said_in_points(report, row_of):
    amounts = Amounts.of(report)
    assert amounts.in_points == {"creativity"}
    assert amounts.amount(row_of("creativity", evidence="grade"), -0.004) == "+0.00"
    assert amounts.amount(row_of("plot", evidence="grade"), -0.104) == "\u221210%"
    assert page_rows(matrix_section(report))["L0H3"][11].startswith(("+0.", "\u22120."))


def test_an_opened_row_tells_all_ways(report, row_of, one_row, drop):
    found = details(report)["L0H3"]
    assert found["kind"] == "head" and [one["name"] for one in found["measures"]][:3] == [
        "agreement",
        "tense",
        "word order",
    ]
    first = found["measures"][0]
    row = row_of("agreement")
    assert first["share"][0] == pytest.approx(row.drop.value / 2.1, abs=1e-4)
    assert first["expected"] == pytest.approx(row.expected / 2.1, abs=1e-4)
    told = says(row, [one_row("L0H3", None, method="zero", drop=drop(1.5, 0.5))], Amounts(frozenset()))
    assert "by zero +75% [+60%, +90%]" in told and "p < 0.001" in told
    assert f"at least {percent(row.beyond.low_corrected / 2.1)}" in told
    assert "no random set costs as much" in says(
        replace(row, expected=None, beyond=None), [], Amounts(frozenset())
    )
