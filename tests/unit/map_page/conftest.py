"""What the tests of the map's page share: a map of which every number is known, and its parts."""

from dataclasses import replace

import numpy as np
import pytest

from tslens.link.drops import Drop
from tslens.link.map_report import MapReport, MapRow
from tslens.link.map_status import status_of

READOUTS = (
    ("agreement", "grammar", "the number of a verb, as its subject has it", 0.91, 2.1),
    ("tense", "grammar", "a verb in the tense of the story", 0.83, 1.4),
    ("word_order", "grammar", "words in order", 0.97, 4.0),
    ("swapped_names", "consistency", "the name of who is there", 0.71, 0.6),
    ("lost_object", "consistency", "an object that was named before", 0.53, 0.05),
    ("factual", "knowledge", "the right answer", 0.48, -0.02),
)
PASSED = READOUTS[:4]
ROLES = {
    "heads:previous_token": ["L0H1", "L1H2"],
    "heads:subject+action": ["L0H3", "L1H0"],
    "neurons:pos:NOUN": [f"L0N{i}" for i in range(40)],
}
SURE, WEAK = 0.06, 0.4  # half width of a corrected interval, of a share


def a_drop(value, reach, halves=None):
    return Drop(
        value, value - 0.6 * reach, value + 0.6 * reach, value - reach, value + reach,
        0.0004 if value > reach else 0.4, halves or (0.95 * value, 1.05 * value),
    )  # fmt: skip


def a_report(*, n_heads=8, n_layers=2, judge="local", roles=ROLES, seed=0):
    """Numbers of a seed; L0H3 carries agreement by plan, and L1 takes much of everything, as any that costs so much."""
    rng = np.random.default_rng(seed)
    heads = [f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)]
    layers = [f"L{layer}{part}" for layer in range(n_layers) for part in (".attn", ".mlp", "")]
    components = [*heads, *layers, *roles]
    cost = {
        one: float(rng.uniform(0.3, 2.5) if one in layers else rng.lognormal(-4, 1.0)) for one in components
    }
    sizes = {one: len(roles.get(one, "1")) for one in components}

    def row(component, measure, capability, whole, share, method="mean", evidence="readout", reach=SURE):
        lost = a_drop(share * whole, reach * whole)
        expected = 0.35 * cost[component] ** 0.5 * whole
        beyond = a_drop(lost.value - expected, 0.8 * reach * whole)
        mean = method == "mean"
        found = MapRow(
            component, sizes[component], cost[component], evidence, measure, capability, method, lost, whole,
            expected if mean else None, beyond if mean else None, 0.1 * whole if mean else None, None,
        )  # fmt: skip
        if not mean:
            return found
        others = (a_drop(0.9 * lost.value, reach), a_drop(0.8 * lost.value, reach))
        return replace(found, status=status_of(found, others))

    rows = []
    for name, capability, _, _, whole in PASSED:
        for one in components:
            share = float(rng.normal(0.0, 0.015)) + 0.3 * cost[one] ** 0.5
            if (one, name) in {("L0H3", "agreement"), ("L1H5", "swapped_names"), (heads[-1], "tense")}:
                share += 0.6
            rows.append(row(one, name, capability, whole, share))
    read = {one.component for one in rows if one.drop.low_corrected > 0}
    for method, factor in (("zero", 1.2), ("resample", 0.8)):
        for one in [one for one in rows if one.method == "mean" and one.component in read]:
            share = factor * one.share.value
            rows.append(row(one.component, one.measure, one.capability, one.whole, share, method))
    header = {
        "model": "l2_h128@seed1", "checkpoint": "step_1000.safetensors", "weights_sha256": "ab" * 32,
        "stories": "2,000 stories of the offline author", "n_stories": 150, "n_pairs": 300, "seed": 0, "floor": 0.05,
        "loss_nats": 2.31,
        "agreement": [
            {"methods": ways, "measure": name, "spearman": round(float(rng.uniform(0.6, 1)), 3), "n_components": 14}
            for ways in (["mean", "zero"], ["mean", "resample"], ["zero", "resample"])
            for name in ("loss", *(one[0] for one in PASSED))
        ],
    }  # fmt: skip
    if judge is not None:
        graded = ["L0H3", "L1H5", heads[-1], "L0", "L0.mlp", "L1", "L1.mlp", "neurons:pos:NOUN"]
        doses = {"grammar": 2.4, "consistency": 0.9, "plot": 1.1}
        for name in ("grammar", "creativity", "consistency", "plot"):
            for one in [one for one in graded if one in cost]:
                share = 0.3 * cost[one] ** 0.5 + float(rng.normal(0, 0.05))
                rows.append(row(one, name, name, doses.get(name, 1.0), share, evidence="grade", reach=WEAK))
        header |= {
            "judge": judge, "judge_version": "tslens local judge 1, not GPT-4", "prompts": "beginnings, version 1",
            "n_prompts": 50, "doses": doses, "not_graded": ["L0.attn"],
        }  # fmt: skip
    return MapReport(tuple(rows), [scored(*one) for one in READOUTS], roles, header)


def scored(name, capability, asks, accuracy, difference):
    return {
        "readout": name, "capability": capability, "asks": asks, "difference": difference,
        "difference_low": difference - 0.2, "difference_high": difference + 0.2, "accuracy": accuracy,
        "accuracy_low": accuracy - 0.04, "accuracy_high": accuracy + 0.03, "least_accuracy": accuracy - 0.05,
        "accuracy_halves": [accuracy, accuracy], "n_pairs": 300, "n_items": 150, "n_clusters": 140,
        "passes": accuracy - 0.05 > 0.5,
    }  # fmt: skip


def beside_an_ngram(report):
    ngram = {
        "order": 4, "counted_on": "4,000 stories of the offline author", "loss_nats": 3.07, "bits_per_byte": 1.21,
        "readouts": [scored(name, of, asks, 0.77 if name == "tense" else 0.51, 0.3) for name, of, asks, *_ in READOUTS],
    }  # fmt: skip
    means = {"whole": summary_of(6.4), "ngram": summary_of(3.2)} if "judge" in report.header else {}
    return replace(report, header={**report.header, "ngram": ngram, "means": means})


def summary_of(value):
    means = {
        name: {"mean": value - i, "low": value - i - 0.3, "high": value - i + 0.3, "n_prompts": 50, "n": 250}
        for i, name in enumerate(("grammar", "creativity", "consistency", "plot"))
    }
    return {"means": means, "ages": {}, "n": 250, "failures": {}, "failure_rate": 0.0}


def a_row(component, status, **more):
    fields = {
        "n_components": 1, "delta_loss_nats": 0.1, "evidence": "readout", "measure": "tense", "capability": "grammar",
        "method": "mean", "drop": a_drop(1.0, 0.2), "whole": 2.0, "expected": 0.1,
        "beyond": a_drop(0.9, 0.2), "reach": 0.3,
    }  # fmt: skip
    return MapRow(component=component, status=status, **{**fields, **more})


# Fixtures -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def drop():
    """Makes a drop of a value, with how far its corrected interval reaches."""
    return a_drop


@pytest.fixture(scope="session")
def one_row():
    """Makes a row of a component with a status."""
    return a_row


@pytest.fixture(scope="session")
def make_report():
    """Makes a map; L0H3 carries agreement."""
    return a_report


@pytest.fixture(scope="session")
def with_ngram():
    """Puts an n-gram beside a map."""
    return beside_an_ngram


@pytest.fixture(scope="session")
def report():
    return beside_an_ngram(a_report())


@pytest.fixture(scope="session")
def row_of(report):
    """Finds the row of a measure in the report."""

    def find(measure, component="L0H3", evidence="readout"):
        place = component, measure, evidence
        return next(row for row in report.rows if (row.component, row.measure, row.evidence) == place)

    return find
