"""Which heads of the shipped models specialise in producing nouns, verbs or punctuation, as the paper says?

    .venv/bin/python analysis/head_production.py
    .venv/bin/python analysis/head_production.py --models l1_h64 --stories 60 --explain 20 --out production

For each model its rows with provenance, of direct contributions (``NAME.direct.jsonl``) and of total ones
(``NAME.total.jsonl``), and of all models that the folder holds ``report.md``: a yes or no for nouns, verbs and
punctuation, with figures; every part of speech with its best head; frequent words; copying, with eigenvalues beside. A
*specialist* is a head with a role for a part of speech that has no role of larger value, in nats, for another; nats of
different classes are not on one scale. Stories are the offline author's, of the validation side. ``--report-only``
writes the report again, with the audit where that is in the folder (``tslens audit production --out
reports/production/audit.jsonl``). Total contributions take longest:
the model runs on from every head, and so do its random twins.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

from head_production_report import WAYS, Saved, audited, write_report

from tslens.cli.opening import open_for_scan, record_of
from tslens.files import atomic_write
from tslens.model.load import find_model
from tslens.probes.production.produce import score_production
from tslens.probes.production.results import load_production, save_production
from tslens.provenance import utc_now

MODELS = ("l1_h256", "l2_h128", "l4_h128")


def main() -> None:
    """Read, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--stories", type=int, default=300)
    parser.add_argument("--explain", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/production"))
    options = parser.parse_args()

    for name in () if options.report_only else options.models:
        source = find_model(name)
        opened = open_for_scan(source, None, options.stories, device=options.device)
        stories = list(opened.held_out)
        for way in options.ways:
            opened = replace(opened, started=utc_now(), clock=time.monotonic())
            report = score_production(
                opened.model,
                stories,
                seed=options.seed,
                way=way,
                n_explain=options.explain,
                others=opened.held_out.others,
            )
            record = record_of(opened, command=shlex.join(["python", *sys.argv]), seed=options.seed)
            path = options.out / f"{name.replace('/', '-').replace(':', '-')}.{way}.jsonl"
            save_production(report, path, model=source.label, checkpoint=source.path.name, record=record)
            sys.stderr.write(f"{name}, {way}: {record.seconds:.0f} s\n")
    paths = sorted(path for way in WAYS for path in options.out.glob(f"*.{way}.jsonl"))
    saved = [Saved(path.name.rsplit(".", 2)[0], *load_production(path)) for path in paths]
    text = ("".join(write_report(saved)) + audited(options.out / "audit.jsonl")).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
