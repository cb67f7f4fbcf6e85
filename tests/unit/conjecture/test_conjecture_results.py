"""Files of the conjecture give back what was saved."""

import pytest

from tslens.errors import DataError
from tslens.link.conjecture.figures import Contrast, contrast_of
from tslens.link.conjecture.labels import Labelling
from tslens.link.conjecture.matching import Matched
from tslens.link.conjecture.results import (
    ByGrades,
    ByReadouts,
    Found,
    load_by_grades,
    load_by_readouts,
    save_conjecture,
)
from tslens.types import Provenance


def test_files_give_back_what_was_saved(tmp_path, two, planted, measures_of, permutation_of):
    contrast = contrast_of(measures_of(planted, n=20, noise=0.3), seed=0)
    found = Found(two, "", Matched((0.3, 0.1), (0.5, 1.0), (0.1, 0.1)), contrast)
    left_out = Found(Labelling((), two.semantic), "0 distance heads")
    record = Provenance("run", "1", 0, "author:9:0", "ab", "2026-01-01T00:00:00+00:00", 1.0, "3", "2", "here")
    labels = permutation_of(0.4, [0.1, 0.2])
    readouts = ByReadouts(found, [{"readout": "tense"}], ["tense"], None, left_out, labels, "3 labellings")
    save_conjecture(readouts, tmp_path / "a.json", {"model": "l1"}, record)
    assert load_by_readouts(tmp_path / "a.json") == ({"model": "l1"}, readouts)
    by_grades = ByGrades(found, 9, 10, {"grammar": 1.5})
    save_conjecture(by_grades, tmp_path / "b.json", {"model": "l1"}, record)
    assert load_by_grades(tmp_path / "b.json") == ({"model": "l1"}, by_grades)
    with pytest.raises(DataError, match="its schema is not"):
        load_by_grades(tmp_path / "a.json")
    assert isinstance(Contrast.from_json(contrast.to_json()), Contrast)
