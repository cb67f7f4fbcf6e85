"""Do the weights of a head alone tell its job: do they rank the heads as attention and intervention do?

    .venv/bin/python analysis/weights_alone.py
    .venv/bin/python analysis/weights_alone.py --models l1_h64 --stories 60 --explain 10 --heads none --out weights

For each model every head is scored by W_Q W_K and W_V W_O for every token-to-token relation (``tslens weights``), and
the ranking is compared with that by attention (rows of ``reports/heads`` where they are, else scanned here) and by the
loss that the head's edges, or the whole head, are worth. Rows: ``NAME.jsonl``; rank correlations:
``NAME.agreement.jsonl``; from these, of all models that the folder holds, ``report.md``. Stories are the offline
author's, of the validation side. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from weights_report import Saved, write_report

from tslens.cli.opening import open_for_scan
from tslens.cli.weights_scan import read_attention, scan_weights
from tslens.files import atomic_write
from tslens.model.load import find_model

MODELS = ("l1_h256", "l2_h128", "l4_h128")


def main() -> None:
    """Scan, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--explain", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--heads", type=Path, default=Path("reports/heads"), help="folder of attention scores"
    )
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/weights"))
    options = parser.parse_args()

    for name in () if options.report_only else options.models:
        source = find_model(name)
        stem = name.replace("/", "-").replace(":", "-")
        path = options.heads / f"{stem}.jsonl"
        attention = read_attention(path, source) if path.exists() else None
        opened = open_for_scan(source, None, options.stories, device=options.device)
        scan = scan_weights(
            opened,
            attention=attention,
            n_explain=options.explain,
            seed=options.seed,
            command=shlex.join(["python", *sys.argv]),
        )
        scan.save(options.out / f"{stem}.jsonl")
        sys.stderr.write(f"{name}: {scan.record.seconds:.0f} s\n")
    there = [path.name.removesuffix(".agreement.jsonl") for path in options.out.glob("*.agreement.jsonl")]
    saved = [Saved.load(options.out, options.heads, name) for name in sorted(there)]
    text = "".join(write_report(saved)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
