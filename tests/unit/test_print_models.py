"""Tables and curves of models for print: numbers as computed another way, what is missing said, equal bytes."""

import csv

import numpy as np
import pytest
from scipy.stats import t

from tslens.link.emergence.results import AtStep
from tslens.link.emergence.trace import Reading
from tslens.link.sizes.measured import Measured, SizeRow
from tslens.viz.print_head_counts import by_heads, draw_by_heads
from tslens.viz.print_tables import draw_model_table, half_width, model_lines
from tslens.viz.print_training import draw_grades_over_training, grades_over_training

KINDS = (".svg", ".pdf", ".png", ".csv")
VALUES = np.array([5.0, 6.0, 7.5, 6.5])


def rows_of(stem):
    with stem.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def drawn(stem):
    return {kind: stem.with_suffix(kind).read_bytes() for kind in KINDS}


def row(cell, heads, values, *, layers=1, instruct=False, source="ours"):
    measured = {
        "grammar": Measured.of_means({f"prompt {i}": float(x) for i, x in enumerate(values)}),
        "loss": Measured.of_means({f"story {i}": float(x) / 3 for i, x in enumerate(values)}),
    }
    width = None if layers is None else 256
    return SizeRow(
        f"{cell}@seed0", cell, source, layers, width, heads, instruct, None if layers is None else 10**6, None, None,
        measured,
    )  # fmt: skip


ROWS = [
    row("l1_h256", 16, VALUES),
    row("l1_h256_a4", 4, VALUES - 1),
    row("l2_h256", 16, VALUES + 1, layers=2),
    row("5-gram", None, VALUES - 2, layers=None),
    row("l1_h256-instruct", 16, VALUES, instruct=True),
    row("theirs", 8, VALUES, source="a person"),
]


def test_the_table_has_means_and_half_widths_of_students_t(tmp_path):
    lines = model_lines(ROWS)
    assert [one.cell for one in lines] == ["l1_h256_a4", "l1_h256", "l2_h256", "5-gram"]
    reach = t.ppf(0.975, 3) * VALUES.std(ddof=1) / 2
    assert half_width(lines[1].measured["grammar"]) == pytest.approx(reach)
    for name in ("a", "b"):
        draw_model_table(lines, tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    (mine,) = (one for one in rows_of(tmp_path / "a") if one["model"] == "l2_h256")
    assert (mine["layers"], mine["width"], mine["heads"], mine["seeds"]) == ("2", "256", "16", "1")
    assert float(mine["grammar"]) == pytest.approx(VALUES.mean() + 1)
    assert float(mine["loss half-width"]) == pytest.approx(reach / 3)
    assert mine["plot"] == ""
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert f"{VALUES.mean() + 1:.2f} ± {reach:.2f}" in text


def test_heads_that_were_not_measured_are_named(tmp_path):
    found = by_heads(ROWS, n_layers=1, d_model=256)
    assert {name: list(of) for name, of in found.items()} == {"grammar": [4, 16], "loss": [4, 16]}
    for name in ("a", "b"):
        draw_by_heads(found, (4, 8, 16), tmp_path / name, title="1 layer")
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    values = {(one["measure"], one["heads"]): float(one["mean"]) for one in rows_of(tmp_path / "a")}
    assert values["grammar", "4"] == pytest.approx(VALUES.mean() - 1)
    assert values["loss", "16"] == pytest.approx(VALUES.mean() / 3)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text.count("not measured") == 2 + 3 * 3  # two panels lack one number, three panels all


def test_grades_over_training_are_the_readings(tmp_path):
    def readings(seed, step):
        return Reading("grammar", "grade", 5 + seed + step / 10, 0.2), Reading("loss", "loss", 3.0, 0.1)

    runs = {
        f"m@seed{seed}": [AtStep(step, 100 * step, readings(seed, step)) for step in (1, 2, 3)]
        for seed in (0, 1)
    }
    found = grades_over_training(runs)
    assert list(found) == ["grammar"]
    for name in ("a", "b"):
        draw_grades_over_training(found, tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    rows = rows_of(tmp_path / "a")
    assert [(one["run"], int(one["tokens"]), float(one["value"])) for one in rows] == [
        (f"m@seed{seed}", 100 * step, pytest.approx(5 + seed + step / 10))
        for seed in (0, 1)
        for step in (1, 2, 3)
    ]
    assert grades_over_training({"m": [AtStep(1, 1, (Reading("loss", "loss", 3.0, 0.1),))]}) == {}
