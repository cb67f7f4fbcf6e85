"""Figures of completions for print: shares that add up, data as drawn, equal bytes."""

import csv

import numpy as np
import pytest

from tslens.corpus.diversity.estimates import SHARE_EDGES, Estimate, histogram
from tslens.viz.print_diversity import Counted, draw_frequencies, draw_shares

KINDS = (".svg", ".pdf", ".png", ".csv")


def rows_of(stem):
    with stem.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def drawn(stem):
    return {kind: stem.with_suffix(kind).read_bytes() for kind in KINDS}


VALUES = [0.01, 0.02, 0.26, 0.5, 1.0]


def shares(stem):
    counted = [
        Counted("completions", histogram("x", VALUES, SHARE_EDGES), Estimate("x", 0.358, 0.1, 0.6, 5)),
        Counted("endings", histogram("x", [0.1, 0.9], SHARE_EDGES)),
    ]
    draw_shares(counted, stem, title="title", axis="axis", of="texts")


def test_the_data_beside_are_the_shares_of_the_values(tmp_path):
    shares(tmp_path / "figure")
    rows = [row for row in rows_of(tmp_path / "figure") if row["set"] == "completions"]
    assert len(rows) == 20
    for row in rows:  # by hand: the last bin holds its upper edge
        low, high = float(row["low"]), float(row["high"])
        held = [x for x in VALUES if low - 1e-9 <= x < high - 1e-9 or (high == 1.0 and x == 1.0)]
        assert int(row["count"]) == len(held)
        assert float(row["share"]) == pytest.approx(len(held) / 5)
    assert sum(int(row["count"]) for row in rows) == 5


def test_equal_data_gives_equal_bytes(tmp_path):
    for name in ("a", "b"):
        shares(tmp_path / name)
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "mean 0.36 [0.10, 0.60]" in text and "endings (n = 2)" in text


def test_what_is_never_there_is_part_of_the_whole(tmp_path):
    edges = (-3.0, -2.0, -1.0)
    by_k = {
        k: [
            Counted("completions", histogram("x", [-2.5] * k, edges, never=1)),
            Counted("endings", histogram("x", [-1.5], edges, never=0)),
        ]
        for k in (1, 2, 3, 4)
    }
    for name in ("a", "b"):
        draw_frequencies(by_k, tmp_path / name, title="k-grams of")
    assert drawn(tmp_path / "a") == drawn(tmp_path / "b")
    rows = rows_of(tmp_path / "a")
    for k in by_k:
        mine = [row for row in rows if (row["k"], row["set"]) == (str(k), "completions")]
        assert [float(row["share"]) for row in mine] == pytest.approx([k / (k + 1), 0.0, 1 / (k + 1)])
        assert mine[-1]["low"] == "never"
    assert np.isclose(sum(float(row["share"]) for row in rows), 8)
