"""Rows of results that anyone may have written: heads, neurons, maps, grades and the rest. Read or refused."""

import json
from itertools import islice
from pathlib import Path

import files_fuzz as fuzz
import pytest
from hypothesis import given

REPORTS = Path(__file__).parents[2] / "reports"
GRADES = "grades/l1_h256/local/beginnings-2_model_n10_seed0.jsonl"


def rows_of(name, n):
    """The header and the first rows of a file that stands in the reports."""
    with (REPORTS / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in islice(file, n + 1)]


def ablations():
    effect = {
        "delta_loss_nats": 0.1,
        "low": 0.05,
        "high": None,
        "low_corrected": 0.0,
        "high_corrected": 0.2,
        "p": 0.01,
        "n_stories": 9,
    }
    row = {"component": "L0H0", "method": "mean", **effect, "n_components": 1, "halves": [0.1, None]}
    row |= {"by_class": {"noun": effect}, "spread": None, "beyond_random": effect}
    return [{"schema": "tslens.ablation/1", "model": "l1_h64", "checkpoint": "model.safetensors"}, row, row]


def _heads(path):
    from tslens.probes.results import load_head_scores

    header, rows = load_head_scores(path)
    assert all(isinstance(row.value, float | int) for row in rows) and isinstance(header, dict)
    return [json.dumps(row.to_json()) for row in rows]


def _neurons(path):
    from tslens.probes.neurons.results import load_neuron_roles

    return [json.dumps(row.to_json()) for row in load_neuron_roles(path)[1]]


def _map(path):
    from tslens.link.map_report import load_map

    report = load_map(path)
    return report.matrix, report.capabilities, report.components, report.to_pandas()


def _grades(path):
    from tslens.grading.results import load_grades

    found = load_grades(path)
    return found.summary, found.to_pandas(), found._repr_html_()


def _ablations(path):
    from tslens.link.ablation_report import load_ablations

    return [json.dumps(row.to_json()) for row in load_ablations(path)[1]]


def _kinds(path):
    from tslens.probes.kinds.report import load_head_kinds

    return [json.dumps(row.to_json()) for row in load_head_kinds(path)[1]]


def _programs(path):
    from tslens.probes.programs.results import load_programs

    return [json.dumps(row.to_json()) for row in load_programs(path)[1].heads]


def _match(path):
    from tslens.probes.matching.results import load_match

    return list(load_match(path)[1].rows())


def _weights(path):
    from tslens.probes.weights.results import agreement_path, load_weights

    agreement = agreement_path(path)
    if not agreement.exists():
        about = {"schema": "tslens.weights_agreement/1", "model": "x", "seed": 0}
        agreement.write_text(json.dumps(about) + "\n", encoding="utf-8")
    return load_weights(path)


def _production(path):
    from tslens.probes.production.results import load_production

    return [json.dumps(row.to_json()) for row in load_production(path)[1]]


def _trace(path):
    from tslens.link.emergence.results import load_trace, series_of

    return series_of(load_trace(path)[1])


def _sizes(path):
    from tslens.link.sizes.measured import load_sizes

    return [json.dumps(row.to_json()) for row in load_sizes(path)[1]]


def _compositions(path):
    from tslens.link.composition.report import load_compositions

    return [json.dumps(row.to_json()) for row in load_compositions(path)[1].paths]


KINDS = {
    "heads": ("heads/l1_h256.jsonl", _heads),
    "neurons": ("neurons/l1_h256.jsonl", _neurons),
    "map": ("link/l1_h256.jsonl", _map),
    "grades": (None, _grades),
    "ablations": (None, _ablations),
    "kinds": ("kinds/l1_h64_seed0.jsonl", _kinds),
    "programs": ("programs/l1_h256.jsonl", _programs),
    "match": ("replication/l1_h256+l2_h128+l4_h128.jsonl", _match),
    "weights": ("weights/l1_h256.jsonl", _weights),
    "production": ("production/l1_h256.direct.jsonl", _production),
    "trace": ("emergence/l2_h128@seed0.jsonl", _trace),
    "sizes": ("sizes/sizes.jsonl", _sizes),
    "compositions": ("composition/l1_h256.jsonl", _compositions),
}


def grades():
    graded = {"prompt": "Tom", "completion": " ran.", "prompt_id": "b01", "seed": 0, "instructions": None}
    marks = {"grammar": 7.0, "creativity": 5, "consistency": 6.5, "plot": 4, "age_group": "B"}
    found = [
        {**graded, "sample": n, "repeat": n // 3, "ended": None, **marks, "assessment": None}
        | {"intervals": {"plot": [3.0, 5.0]}, "flags": []}
        for n in range(4)
    ]
    failure = {**graded, "sample": 9, "repeat": 0, "reason": "empty", "detail": "no reply"}
    header = {
        "schema": "tslens.grades/1",
        "model": "x",
        "judge": "local",
        "judge_version": "1",
        "prompts": "b",
    }
    return [header, *found, failure]


def sound(kind):
    """The header and a few rows of a sound file."""
    made = {"grades": grades, "ablations": ablations}
    return made[kind]() if kind in made else rows_of(KINDS[kind][0], 40 if kind in ("match", "trace") else 3)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_results(how_many, tmp_path, kind):
    path, read, rows = tmp_path / "r.jsonl", KINDS[kind][1], sound(kind)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    if kind != "match":  # its rows have to fit its header
        assert fuzz.survives(lambda: read(path), tmp_path)

    @fuzz.tries(how_many(4, 300))
    @given(edits=fuzz.json_edits)
    def of_other_shape(edits):
        path.write_bytes(fuzz.spoil_rows(rows, edits).encode("utf-8", "surrogatepass"))
        fuzz.survives(lambda: read(path), tmp_path)

    @fuzz.tries(how_many(2, 100))
    @given(edits=fuzz.byte_edits)
    def spoiled(edits):
        path.write_bytes(fuzz.spoil(text.encode(), edits))
        fuzz.survives(lambda: read(path), tmp_path)

    of_other_shape()
    spoiled()
