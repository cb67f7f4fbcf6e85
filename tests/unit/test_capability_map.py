"""The map on models of which it is known what carries a readout; statuses; what is saved is what is read."""

import json
from dataclasses import replace
from itertools import islice

import pytest

from tslens.errors import DataError, UsageError
from tslens.link.capability_map import map_readouts
from tslens.link.drops import Drop
from tslens.link.groups import every_head, random_share
from tslens.link.map_report import MapReport, MapRow, load_map, save_map
from tslens.link.map_status import status_of, with_statuses
from tslens.link.planted import plant_capability
from tslens.link.random_sets import random_rungs
from tslens.link.readouts import author_stories, make_readouts
from tslens.link.story_costs import CostStories
from tslens.model.load import find_model, open_model
from tslens.provenance import provenance


@pytest.fixture(scope="module")
def tokenizer():
    return open_model(find_model("shipped:l1_h64"), device="cpu").tokenizer


@pytest.fixture(scope="module")
def readouts(tokenizer):
    told = list(islice(author_stories(), 60))
    made = make_readouts(tokenizer, n_ctx=512, instruct=False, seed=0, n_pairs=60, stories=told)
    return {one.name: one for one in made}


@pytest.fixture(scope="module")
def stories():
    return list(islice(author_stories(), 5))


@pytest.fixture(scope="module")
def mapped(tokenizer, readouts, stories):
    def run(kind, seed=3, readout=None):
        planted = plant_capability(kind, tokenizer=tokenizer, seed=seed)
        model = planted.model
        found = map_readouts(
            model,
            [readouts[readout or planted.readout]],
            CostStories(model, stories),
            every_head(model),
            seed=0,
            rungs=random_rungs(model, seed=0, shares=(0.4,)),
        )
        return planted, found

    return run


@pytest.fixture(scope="module")
def carried(mapped):
    return mapped("carried")


def by_status(found):
    return {row.component: row.status for row in found.rows if row.status is not None}


def test_the_planted_head_is_found_and_no_other(carried):
    planted, found = carried
    statuses = by_status(found)
    assert statuses.pop(str(planted.carrier)) == "carries"
    assert set(statuses.values()) == {"no"}
    (row,) = [r for r in found.rows if r.component == str(planted.carrier) and r.method == "mean"]
    assert row.share.value == pytest.approx(1, abs=0.25)
    assert row.drop.value == pytest.approx(row.share.value * found.scores[0].difference)


def test_where_no_part_carries_it_none_is_found(mapped):
    _, found = mapped("spread")
    assert found.scores[0].passes
    assert set(by_status(found).values()) <= {"no", "unclear"}


def test_of_a_readout_that_is_not_passed_nothing_is_said(mapped):
    _, found = mapped("none")
    assert not found.scores[0].passes and found.rows == ()


def test_what_passes_and_ten_others_are_ablated_in_all_ways(carried):
    planted, found = carried
    ways = {(row.component, row.method) for row in found.rows}
    assert len(ways) == 8 * 3 == len(found.rows)  # eight heads: the carrier and ten or fewer others
    rungs = random_rungs(planted.model, seed=0, shares=(0.4,))
    holds = sum(planted.carrier in rung.components for rung in rungs)
    assert 0 < found.random.n <= len(rungs) and found.random.n_more <= holds < len(rungs)
    assert {one.measure for one in found.agreement} == {"loss", "changed_pronoun"}
    assert all(-1 <= one.spearman <= 1 for one in found.agreement)


def test_groups_of_several_draws_are_refused(tokenizer, readouts, stories):
    model = plant_capability("none", tokenizer=tokenizer, seed=0).model
    with pytest.raises(UsageError, match="nothing to map"):
        map_readouts(
            model,
            [readouts["agreement"]],
            CostStories(model, stories),
            [random_share(model, 0.5, seed=0)],
            seed=0,
        )


# Statuses -------------------------------------------------------------------------------------------------


def drop(low, *, value=0.4, halves=(0.3, 0.5)):
    return Drop(value, low, 2 * value - low, low, 2 * value - low, 0.01, halves)


ABOVE, BELOW = drop(0.1), drop(-0.1)


@pytest.mark.parametrize(
    ("share", "beyond", "reach", "others", "evidence", "expected"),
    [
        (drop(-0.9, value=-0.5), ABOVE, 0.1, (ABOVE, ABOVE), "readout", "hinders"),
        (BELOW, ABOVE, 0.1, (ABOVE, ABOVE), "readout", "no"),
        (drop(0.04), ABOVE, 0.1, (ABOVE, ABOVE), "readout", "unclear"),
        (drop(0.2, halves=(0.3, -0.1)), ABOVE, 0.1, (ABOVE, ABOVE), "readout", "unclear"),
        (drop(0.2, halves=(0.3, None)), ABOVE, 0.1, (ABOVE, ABOVE), "readout", "unclear"),
        (drop(0.2), None, None, (ABOVE, ABOVE), "readout", "unclear"),
        (drop(0.2), BELOW, 0.1, (ABOVE, ABOVE), "readout", "general"),
        (drop(0.2), ABOVE, 0.5, (ABOVE, ABOVE), "readout", "general"),  # one more random set may take as much
        (drop(0.2), ABOVE, 0.1, (ABOVE, BELOW), "readout", "candidate"),
        (drop(0.2), ABOVE, 0.1, None, "readout", "candidate"),
        (drop(0.2), ABOVE, 0.1, (ABOVE, ABOVE), "readout", "carries"),
        (drop(0.2), ABOVE, 0.1, None, "grade", "carries"),
    ],
)
def test_statuses(share, beyond, reach, others, evidence, expected):
    row = replace(row_of("L0H1", None, evidence=evidence), drop=share, whole=1.0, beyond=beyond, reach=reach)
    assert status_of(row, others) == expected


def test_statuses_of_a_map_take_the_other_ways_from_its_rows():
    row = replace(row_of("L0H1", None), drop=drop(0.2), whole=1.0, beyond=ABOVE, reach=0.1)
    ways = [replace(row, method=method, beyond=None, reach=None) for method in ("zero", "resample")]
    assert [one.status for one in with_statuses([row, *ways])] == ["carries", None, None]
    assert [one.status for one in with_statuses([row, ways[0]])] == ["candidate", None]
    assert [one.status for one in with_statuses([row, *ways], floor=0.3)] == ["unclear", None, None]
    graded = replace(row, evidence="grade")
    assert with_statuses([graded])[0].status is None  # a criterion without a unit stays without


# Reports --------------------------------------------------------------------------------------------------


def row_of(component, status, *, evidence="readout", measure="tense", capability="grammar", value=0.4):
    """A row whose interval of the drop ends 0.3 below its value."""
    return MapRow(
        component=component,
        n_components=1,
        delta_loss_nats=0.1,
        evidence=evidence,
        measure=measure,
        capability=capability,
        method="mean",
        drop=drop(value - 0.3, value=value),
        whole=2.0,
        expected=0.1,
        beyond=drop(0.05, value=0.3),
        reach=0.1,
        status=status,
    )


ROWS = (
    row_of("L0H1", "no"),
    row_of("L0H1", "candidate", measure="agreement", value=0.2),
    row_of("L0H1", "no", evidence="grade", measure="grammar", value=-0.25),
    row_of("L0H2", "general"),
    row_of("L0H2", "general", measure="agreement", value=0.9),
    row_of("L0H2", "no", evidence="grade", measure="plot", capability="plot"),
)


def test_a_cell_is_the_strongest_row_of_either_evidence():
    report = MapReport(ROWS, [], {}, {"floor": 0.05})
    cells = {(cell.component, cell.capability): cell for cell in report.matrix()}
    assert list(cells) == [(c, k) for c in ("L0H1", "L0H2") for k in ("grammar", "plot")]
    first, second = cells["L0H1", "grammar"], cells["L0H2", "grammar"]
    assert first.readout.measure == "agreement" and first.disagrees
    assert second.readout.drop.value == 0.9 and second.grade is None and not second.disagrees
    assert cells["L0H1", "plot"].readout is None is cells["L0H1", "plot"].grade
    unsure = replace(first, grade=row_of("L0H1", "no", evidence="grade", measure="grammar", value=0.1))
    assert not unsure.disagrees  # its interval does not say that nothing is lost


def test_what_is_saved_is_what_is_read(tmp_path, carried):
    _, found = carried
    report = MapReport(
        (*ROWS, *found.rows), [one.to_json() for one in found.scores], {"heads:x": ["L0H1"]}, {"seed": 0}
    )
    path = tmp_path / "map.jsonl"
    record = provenance(command="", seed=0, data="", data_sha256="", started="", seconds=0.0)
    save_map(report, path, record)
    read = load_map(path)
    assert read.rows == report.rows and read.members == report.members and read.header == report.header
    assert list(read.readouts) == json.loads(json.dumps(report.readouts))
    assert len(report.to_pandas()) == len(report.rows) and "share lost" in report._repr_html_()
    path.write_text(path.read_text().replace('"whole"', '"hole"'))
    with pytest.raises(DataError, match="no row of a capability map"):
        load_map(path)
