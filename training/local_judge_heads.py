"""The heads of the local judge: writes ``tslens/assets/grading/local_heads.json``.

    python training/local_judge_heads.py [--stories 300] [--processes 2] [--cache runs/.judge]

Fitted (``grading.local.fit``) on twins of stories of ours and of real ones with one planted fault each, and on the
200 completions that GPT-4o graded (``$TSLENS_DATA/grades/gpt4o_five_sizes.jsonl``), with the 339 that a person scored
beside them (``human_scores_tinystories_1m_8m_28m.csv``). Real stories are those of the training side that the tables
have not seen; the validation side is for the audit. The reach of the intervals is the 95th percentile of the errors on
GPT-4o's completions whose prompt and whose model were both left out.
``analysis/local_judge.py`` measures what comes of it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from local_judge_data import gather_graded, gather_person, gather_planted, scaled

from tslens.files import write_json
from tslens.grading.local.fit import POINTS, fit_base, fit_detectors, stillness
from tslens.grading.local.heads import FILE, Heads
from tslens.grading.local.held_out import held_out_grades
from tslens.grading.rubric import CRITERIA

VERSION = 1
COVERAGE = 0.95


def main() -> None:
    """Measure, fit, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stories", type=int, default=300, help="of each source")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path("runs/.judge"))
    parser.add_argument("--out", type=Path, default=Path("tslens/assets/grading") / FILE)
    options = parser.parse_args()
    data = Path(os.environ.get("TSLENS_DATA", "../shared/data"))
    gpt4o = gather_graded(data, options.cache, options.processes)
    person = gather_person(data, options.cache, options.processes)
    planted = gather_planted(data, options.cache, options.processes, n_stories=options.stories, part="fit")
    found = scaled(planted, gpt4o, person)
    detectors, still = fit_detectors(found.planted, gpt4o.names), stillness(found.planted)
    bases = {name: fit_base(name, found.sets, detectors, still) for name in CRITERIA}
    bases["age"] = fit_base("age", found.sets[:1], detectors, still)
    reach = {}
    for name in CRITERIA:
        given = gpt4o.given[name]
        left_out = held_out_grades(
            name, found.sets[0], gpt4o.groups, found.sets[1:], detectors, still, without_model=True
        )
        reach[name] = float(np.quantile(np.abs(np.clip(left_out, 0, 10) - given), COVERAGE))
        print(f"{name}: 95% of {len(given)} left-out grades within {reach[name]:.2f}")
    heads = Heads(VERSION, gpt4o.names, found.centre, found.scale, bases, detectors, POINTS, reach)
    write_json(options.out, heads.to_json())
    for name, head in {**bases, **detectors}.items():
        best = np.argsort(-np.abs(head.weights))[:8]
        print(f"{name}: " + ", ".join(f"{gpt4o.names[i]} {head.weights[i]:+.2f}" for i in best))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
