"""Contrasts of cells: intervals hold the truth, models on the same prompts are paired, seeds count."""

import numpy as np
import pytest

from tslens.errors import ProbeInputError
from tslens.link.sizes.contrasts import Quantity, cells_of, linear, slope_coefficients, smooth
from tslens.link.sizes.measured import Measured, SizeRow, load_sizes, save_sizes
from tslens.provenance import provenance


def row(label, measured, *, cell=None, layers=1, width=64, source="ours", **more):
    return SizeRow(
        label, cell or label, source, layers, width, 4, False, 1000 * width, None, None, measured, **more
    )


def measured(values, names=None):
    names = names or [f"prompt {i}" for i in range(len(values))]
    return Measured.of_means(dict(zip(names, map(float, values), strict=True)))


def test_a_mean_is_a_ratio_over_clusters():
    one = Measured(("a", "b", "c"), np.array([4.0, 9.0, 2.0]), np.array([2.0, 3.0, 1.0]))
    assert one.mean == pytest.approx(15 / 6)
    assert one.influence.sum() == pytest.approx(0)
    # equal counts: Student's t of the mean
    same = measured([1, 2, 4, 7])
    ends = same.interval()
    spread = np.std([1, 2, 4, 7], ddof=1) / 2
    assert (ends.high - ends.low) / 2 == pytest.approx(3.182446 * spread, rel=1e-5)
    assert measured([1.0]).interval() is None


def test_what_is_paired_is_known_better():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=50)
    first, second = prompts + rng.normal(size=50) * 0.1, prompts + rng.normal(size=50) * 0.1
    a, b = (row(name, {"grammar": measured(v)}) for name, v in (("a", first), ("b", second)))
    other = row("b", {"grammar": measured(second, [f"other {i}" for i in range(50)])})
    paired = linear([Quantity((a,), "grammar"), Quantity((b,), "grammar")], [1, -1])
    apart = linear([Quantity((a,), "grammar"), Quantity((other,), "grammar")], [1, -1])
    assert paired.se_clusters == pytest.approx(np.std(first - second, ddof=1) / 50**0.5)
    assert apart.se_clusters > 5 * paired.se_clusters
    assert paired.conditional and paired.se_seeds is None


def test_intervals_hold_the_truth_over_clusters_and_seeds():
    rng = np.random.default_rng(1)
    n_held, n_runs = 0, 400
    for _ in range(n_runs):
        prompts, cells = rng.normal(size=40), []
        for cell, level in (("a", 5.0), ("b", 5.4)):
            rows = []
            for seed in range(3):
                run = level + rng.normal() * 0.15
                values = run + prompts + rng.normal(size=40) * 0.4
                rows.append(row(f"{cell}@seed{seed}", {"g": measured(values)}, cell=cell))
            cells.append(tuple(rows))
        found = linear([Quantity(cells[1], "g"), Quantity(cells[0], "g")], [1, -1], cells)
        assert not found.conditional
        n_held += found.low <= 0.4 <= found.high
    assert 0.92 * n_runs <= n_held <= n_runs  # wide rather than narrow


def test_without_the_seeds_the_interval_is_too_short():
    """The test above can fail: with clusters alone far fewer intervals hold the truth."""
    rng = np.random.default_rng(2)
    n_held = 0
    for _ in range(200):
        prompts = rng.normal(size=40)
        a, b = (
            row(n, {"g": measured(level + rng.normal() * 0.15 + prompts + rng.normal(size=40) * 0.4)})
            for n, level in (("a", 5.0), ("b", 5.4))
        )
        found = linear([Quantity((b,), "g"), Quantity((a,), "g")], [1, -1])
        n_held += found.low <= 0.4 <= found.high
    assert n_held < 0.8 * 200


def test_a_smooth_function_has_the_interval_of_its_gradient():
    rng = np.random.default_rng(3)
    a, b = (row(n, {"g": measured(rng.normal(m, 1, 60))}) for n, m in (("a", 4.0), ("b", 8.0)))
    quantities = [Quantity((a,), "g"), Quantity((b,), "g")]
    straight = linear(quantities, [2, -1])
    same = smooth(quantities, lambda m: 2 * m[0] - m[1])
    assert same.value == pytest.approx(straight.value)
    assert same.se_clusters == pytest.approx(straight.se_clusters, rel=1e-6)
    ratio = smooth(quantities, lambda m: m[0] / m[1])
    assert ratio.low < ratio.value < ratio.high


def test_slopes_are_those_of_least_squares():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 2)), rng.normal(size=9)
    design = np.column_stack([np.ones(9), x])
    wanted = np.linalg.lstsq(design, y, rcond=None)[0]
    assert [slope_coefficients(x, i) @ y for i in range(2)] == pytest.approx(wanted[1:].tolist())
    with pytest.raises(ProbeInputError, match="cannot tell 2 predictors apart"):
        slope_coefficients(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), 0)


def test_one_cluster_has_no_interval():
    a, b = (row(n, {"g": measured([1.0])}) for n in "ab")
    with pytest.raises(ProbeInputError, match="one cluster"):
        linear([Quantity((a,), "g"), Quantity((b,), "g")], [1, -1])


def test_cells_hold_the_rows_that_have_all_measures():
    rows = [
        row("a@seed0", {"g": measured([1, 2])}, cell="a"),
        row("a@seed1", {"g": measured([1, 3])}, cell="a"),
        row("b", {"h": measured([1, 2])}),
    ]
    assert {name: len(of) for name, of in cells_of(rows, "g").items()} == {"a": 2}
    assert cells_of(rows, "g", "h") == {}


def test_a_table_is_read_as_it_was_written(tmp_path):
    rows = [row("a", {"g": measured([1.25, 2, 3])}), row("b", {}, layers=None, width=1)]
    record = provenance(command="x", seed=0, data="d", data_sha256="", started="", seconds=0)
    save_sizes(rows, tmp_path / "sizes.jsonl", {"seed": 0}, record)
    header, found = load_sizes(tmp_path / "sizes.jsonl")
    assert header["seed"] == 0
    assert [one.label for one in found] == ["a", "b"]
    assert found[0].measured["g"].mean == pytest.approx(rows[0].measured["g"].mean)
    assert found[0].measured["g"].clusters == rows[0].measured["g"].clusters
