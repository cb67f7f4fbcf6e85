"""How much of the shipped models' attention is a program, and what do they lose when heads are swapped for theirs?

    .venv/bin/python analysis/head_programs.py
    .venv/bin/python analysis/head_programs.py --models l1_h64 --stories 60 --swap 10 --tokens 10 --out programs

For each model its rows with provenance (``NAME.jsonl``), and for all of them ``report.md``: the share of attention that
programs explain, the loss with the labelled heads, all heads, and the best quarter swapped for their programs and for
other patterns, and every head. Roles are those of ``reports/heads`` (``--heads``); a model that is not there is scanned
first. Stories are the offline author's, of a seed that neither that scan nor the models' training saw, so no role was
chosen on stories that are read here. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from head_programs_report import Saved, write_report

from tslens.cli.opening import open_for_scan
from tslens.cli.programs_scan import saved_scores, scan_programs, scan_scores
from tslens.files import atomic_write
from tslens.model.load import find_model
from tslens.probes.programs.results import load_programs
from tslens.probes.results import load_head_scores

MODELS = ("l1_h256", "l2_h128", "l4_h128")
DATA = "author:4400:2"  # the scan of heads read seed 0, the models learned from seed 1


def labels_of(scores: Path) -> str:
    """What the roles of heads were found on, in words."""
    if not scores.exists():
        return "a scan of the stories of the fit"
    header, _ = load_head_scores(scores)
    return f"{header['n_stories']} stories of {header['stories']} (`{scores.parent}`)"


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--data", default=DATA, help="source of the stories")
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--swap", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--heads", type=Path, default=Path("reports/heads"), help="saved scores of heads")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/programs"))
    options = parser.parse_args()

    for name in () if options.report_only else options.models:
        opened = open_for_scan(find_model(name), options.data, options.stories, device=options.device)
        stem = name.replace("/", "-").replace(":", "-")
        known = options.heads / f"{stem}.jsonl"
        scores = saved_scores(known, opened) if known.exists() else scan_scores(opened, seed=options.seed)
        scan = scan_programs(
            opened,
            scores=scores,
            n_tokens=options.tokens,
            n_swap=options.swap,
            seed=options.seed,
            command=shlex.join(["python", *sys.argv]),
        )
        scan.save(options.out / f"{stem}.jsonl")
        sys.stderr.write(f"{name}: {scan.record.seconds:.0f} s\n")
    saved = [
        Saved(path.stem, *load_programs(path), labels_of(options.heads / path.name))
        for path in sorted(options.out.glob("*.jsonl"))
    ]
    text = "".join(write_report(saved)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
