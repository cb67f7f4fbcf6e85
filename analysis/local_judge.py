"""How far the local judge can be trusted: writes ``reports/judge/report.md`` and ``results.json``.

    python analysis/local_judge.py [--stories 200] [--processes 2] [--cache runs/.judge] [--out reports/judge]

1. Against GPT-4o on 200 completions by five models (``$TSLENS_DATA/grades/gpt4o_five_sizes.jsonl``): bases fitted anew
   without the text's prompt, and also without its model; Spearman's correlation pooled, within each model, and partial
   on the size of the model, with 95% bootstrap intervals over prompts; beside the size of the model alone and the share
   of different triples of words alone; and all of it without completions that loop.
2. Against a person on 339 completions by three models, whose scores are left out of the fit, too.
3. Planted faults in held-out stories: the area under the curve, with the fault in the fit and without it; cross-talk.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))
from local_judge_data import (
    SEED,
    Measured,
    MeasuredPairs,
    Scaled,
    gather_graded,
    gather_person,
    gather_planted,
    scaled,
)
from local_judge_report import BY_BOTH, BY_PROMPT, SIZE, TRIPLES, write_report
from scipy.stats import rankdata

from tslens.files import write_json
from tslens.grading.expected import EXPECTED
from tslens.grading.local.fit import POINTS, PlantedEvidence, fit_base, fit_detectors, stillness
from tslens.grading.local.heads import Detector, likeliest_fault
from tslens.grading.local.held_out import held_out_grades, partial, pooled, within
from tslens.grading.rubric import CRITERIA

Fitted = tuple[dict[str, Detector], np.ndarray]
N_BOOTSTRAP = 1000
FEWEST = 20  # stories of a fault that are told of
LOOPING = 0.25  # share of triples of words that were used before


def interval(
    statistic: Callable[[np.ndarray], float], clusters: Sequence[str], seed: int = SEED
) -> tuple[float, float]:
    """95% percentile interval of a statistic of chosen texts, by resampling clusters."""
    dice = np.random.default_rng(seed)
    names = sorted(set(clusters))
    of = {name: np.flatnonzero(np.array(clusters) == name) for name in names}
    found = []
    for _ in range(N_BOOTSTRAP):
        drawn = dice.choice(len(names), len(names))
        found.append(statistic(np.concatenate([of[names[one]] for one in drawn])))
    low, high = np.nanquantile(found, [0.025, 0.975])
    return float(low), float(high)


def area(clean: np.ndarray, twin: np.ndarray) -> float:
    """Area under the curve of clean stories above twins; ties count half."""
    ranks = rankdata(np.concatenate((clean, twin)))
    n = len(clean)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(twin)))


# Against GPT-4o -------------------------------------------------------------------------------------------------


def against_gpt4o(name: str, found: Scaled, measured: Measured, fitted: Fitted) -> dict[str, Any]:
    """Correlations of one criterion, of the judge and of two baselines."""
    groups, given = measured.groups, measured.given[name]
    again = measured.rows[:, measured.names.index("triples of words used again")]
    sides: dict[str, np.ndarray] = {
        side: held_out_grades(
            name, found.sets[0], groups, found.sets[1:], *fitted, without_model=without_model
        )
        for side, without_model in ((BY_PROMPT, False), (BY_BOTH, True))
    }
    sides |= {SIZE: np.array(groups.size), TRIPLES: -again}
    report: dict[str, Any] = {}
    for part, chosen in (("all", again >= 0), ("not looping", again < LOOPING)):
        report[part] = {"n": int(chosen.sum())}
        for side, values in sides.items():
            report[part][side] = correlations(values, given, groups, chosen, has_size=side != SIZE)
    return report


def correlations(
    values: np.ndarray, given: np.ndarray, groups: Any, chosen: np.ndarray, *, has_size: bool
) -> dict[str, Any]:
    """Pooled, within model and partial on size, with intervals over prompts."""
    at = np.flatnonzero(chosen)
    prompts, models = np.array(groups.prompt)[at], np.array(groups.model)[at]
    size = np.array(groups.size)[at]
    one, other = values[at], given[at]

    def middle(rows: np.ndarray) -> float:
        return float(np.nanmean(within(one[rows], other[rows], list(models[rows]))))

    report: dict[str, Any] = {
        "pooled": pooled(one, other),
        "pooled_interval": interval(lambda rows: pooled(one[rows], other[rows]), list(prompts)),
    }
    if has_size:
        everyone = np.arange(len(at))
        report |= {
            "within": middle(everyone),
            "within_interval": interval(middle, list(prompts)),
            "within_each": within(one, other, list(models)),
            "partial": partial(one, other, list(size)),
            "partial_interval": interval(
                lambda rows: partial(one[rows], other[rows], list(size[rows])), list(prompts)
            ),
        }
    return report


# Against a person -----------------------------------------------------------------------------------------------


def against_person(found: Scaled, person: Measured, fitted: Fitted) -> dict[str, Any]:
    """Correlations with one person's scores, by criterion, of a judge fitted on GPT-4o's grades alone."""
    detectors, still = fitted
    report: dict[str, Any] = {}
    for name in CRITERIA:
        base = fit_base(name, found.sets[:1], detectors, still)
        there = np.flatnonzero(np.isfinite(person.given[name]))
        rows = found.sets[1].rows[there]
        values = base.says(rows) - POINTS * likeliest_fault(name, detectors, rows)
        given = person.given[name][there]
        models = [person.groups.model[number] for number in there]
        prompts = [person.groups.prompt[number] for number in there]

        def middle(at: np.ndarray, values: np.ndarray = values, given: np.ndarray = given) -> float:
            return pooled(values[at], given[at])

        report[name] = {
            "n": len(there),
            "pooled": pooled(values, given),
            "pooled_interval": interval(middle, prompts),
            "within": float(np.nanmean(within(values, given, models))),
            "size alone": pooled(np.array(person.groups.size)[there], given),
        }
    return report


# Planted faults -------------------------------------------------------------------------------------------------


def planted_areas(found: Scaled, test: MeasuredPairs, names: Sequence[str]) -> list[dict[str, Any]]:
    """Areas under the curve in held-out stories, with each fault in the fit and without it."""
    clean, twin = found.rows(test.clean), found.rows(test.twin)
    held_out = PlantedEvidence(test.kind, test.strength, test.source, clean, twin)

    def judge(without: str | None) -> Callable[[str, np.ndarray], np.ndarray]:
        detectors = fit_detectors(found.planted, names, without=without)
        still = stillness(found.planted, without=without)
        bases = {name: fit_base(name, found.sets, detectors, still) for name in CRITERIA}
        return lambda name, rows: bases[name].says(rows) - POINTS * likeliest_fault(name, detectors, rows)

    seen = judge(None)
    report = []
    for kind, expected in EXPECTED.items():
        name, unseen = expected.criterion, judge(kind)
        for source in ("author", "real"):
            for strength in ("low", "medium", "high"):
                at = held_out.places(kind, source, strength)
                if len(at) < FEWEST:
                    continue
                whole, broken = clean[at], twin[at]
                stories = [test.story[number] for number in at]

                def of(
                    rows: np.ndarray, name: str = name, whole: np.ndarray = whole, broken: np.ndarray = broken
                ) -> float:
                    return area(seen(name, whole[rows]), seen(name, broken[rows]))

                report.append(
                    {
                        "kind": kind,
                        "criterion": name,
                        "source": source,
                        "strength": strength,
                        "n": len(at),
                        "area": of(np.arange(len(at))),
                        "interval": interval(of, stories),
                        "unseen": area(unseen(name, whole), unseen(name, broken)),
                        "drop": {
                            other: float(np.mean(seen(other, whole) - seen(other, broken)))
                            for other in CRITERIA
                        },
                    }
                )
    return report


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=200, help="held-out stories of each source")
    parser.add_argument("--fitted-on", type=int, default=300, help="stories of each source in the fit")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("runs/.judge"))
    parser.add_argument("--out", type=Path, default=Path("reports/judge"))
    options = parser.parse_args()
    data = Path(os.environ.get("TSLENS_DATA", "../shared/data"))
    gpt4o = gather_graded(data, options.cache, options.processes)
    person = gather_person(data, options.cache, options.processes)
    fit = gather_planted(data, options.cache, options.processes, n_stories=options.fitted_on, part="fit")
    test = gather_planted(data, options.cache, options.processes, n_stories=options.stories, part="test")
    found = scaled(fit, gpt4o, person)
    fitted = fit_detectors(found.planted, gpt4o.names), stillness(found.planted)
    results = {
        "gpt4o": {name: against_gpt4o(name, found, gpt4o, fitted) for name in CRITERIA},
        "person": against_person(found, person, fitted),
        "planted": planted_areas(found, test, gpt4o.names),
    }
    write_json(options.out / "results.json", results)
    write_report(options.out / "report.md", results)
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
