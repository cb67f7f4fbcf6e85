"""What do width, depth, heads and loss do for each capability, and which of the paper's ten claims hold here?

    .venv/bin/python analysis/sizes.py
    .venv/bin/python analysis/sizes.py --models shipped:l1_h64 shipped:l2_h64 shipped:l4_h64 --samples 2 --out sizes
    .venv/bin/python analysis/sizes.py --report-only

Every shipped model whose weights are here is measured as ``tslens link --table`` does it: loss on held-out real
stories, readouts, grades by the local judge, short answers, instructions; beside them the n-gram, the true endings,
and other people's models by their grades. A model that is measured is kept in ``sizes.jsonl``: a stopped run goes on.
From the rows: ``claims.json`` (each contrast of each claim), ``report.md`` (written by ``sizes_report.py``), figures.
Roles of heads are those of ``reports/replication``. What each claim is, was written before: ``docs/methods.md``.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sizes_report import write_figures, write_report

from tslens.cli.link_sizes import NGRAM, Asked, Gathering, digests_of
from tslens.errors import DataError
from tslens.files import data_dir, read_json, read_jsonl, sha256_file, write_json
from tslens.link.sizes.claim_contrasts import find_evidence
from tslens.link.sizes.claims import Evidence, rule
from tslens.link.sizes.contrasts import Estimate
from tslens.link.sizes.foreign import foreign_rows
from tslens.link.sizes.measured import SizeRow, load_sizes, save_sizes
from tslens.model.load import find_model
from tslens.model.shipped import shipped_models
from tslens.probes.matching.roles import RoleHolders
from tslens.provenance import provenance, utc_now

STORIES = "tinystories.jsonl.gz"
ROLES = Path("reports/replication/roles.jsonl")
ROLES_SCHEMA = "tslens.role_holders/1"
CLAIMS_SCHEMA = "tslens.claims/1"


def main() -> None:
    """Measure what is not there yet, rule, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    here = [f"shipped:{one.label}" for one in shipped_models() if one.weights is not None]
    parser.add_argument("--models", nargs="+", default=here)
    parser.add_argument(
        "--stories", default=str(data_dir() / STORIES), help="a source that none was trained on"
    )
    parser.add_argument("--n-stories", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ours-only", action="store_true", help="leave out other people's models")
    parser.add_argument("--report-only", action="store_true", help="read the rows that are there")
    parser.add_argument("--scaling", type=Path, default=Path("reports/scaling/all.json"))
    parser.add_argument("--out", type=Path, default=Path("reports/sizes"))
    asked = parser.parse_args()
    path = asked.out / "sizes.jsonl"
    if not asked.report_only:
        measure(path, asked)
    header, rows = load_sizes(path)
    rulings = rule([*find_evidence(rows, judge="local judge"), *exponent(asked.scaling)])
    write_json(
        asked.out / "claims.json",
        {"schema": CLAIMS_SCHEMA, **header, "claims": [one.to_json() for one in rulings]},
    )
    write_figures(rows, asked.out)
    write_report(rows, rulings, header, asked.out / "report.md", seed=asked.seed)


def exponent(path: Path) -> list[Evidence]:
    """What the scaling study says of claim 10; nothing where it was not run."""
    if not path.exists():
        return []
    found = read_json(path)
    value, low, high = found["exponent"], found["interval"]["low"], found["interval"]["high"]
    reach = max(high - value, value - low)
    estimate = Estimate(value, value - reach, value + reach, reach / 2, None, 60.0, True, found["n_runs"])
    return [Evidence(10, "exponent", "power of FLOPs of the best size", "ours, author stories", estimate)]


def measure(path: Path, asked: argparse.Namespace) -> None:
    """Measure the models that are not in the file yet, and write it after each."""
    settings = {
        "n_stories": asked.n_stories,
        "n_pairs": asked.pairs,
        "samples": asked.samples,
        "seed": asked.seed,
    }
    kept = kept_rows(path, settings)
    roles = roles_by_model()
    gathering = Gathering(
        Asked(True, None, asked.stories, asked.n_stories, asked.pairs, asked.samples, asked.seed, "cpu"),
        exclude=digests_of([f"shipped:{one.label}" for one in shipped_models()]),
    )
    gathering.sides |= {
        NGRAM if row.cell.endswith("-gram") else row.cell: row
        for row in kept
        if row.source == "ours" and row.n_layers is None
    }
    done = {row.label: row for row in kept if row.n_layers is not None and row.source == "ours"}
    started, clock = utc_now(), time.monotonic()
    for model in asked.models:
        label = model if "@" in model else f"{model}@seed0"
        weights = find_model(model).path
        if label not in done or done[label].weights_sha256 != sha256_file(weights):
            gathering.add(model)
            row = gathering.rows[-1]
            done[row.label] = replace(row, roles=tuple(roles.get(row.label, row.roles)))
            print(f"{row.label}: {time.monotonic() - clock:.0f} s so far", file=sys.stderr, flush=True)
            source, sha256 = gathering.data
            record = provenance(
                command=shlex.join(["python", *sys.argv]),
                seed=asked.seed,
                data=source,
                data_sha256=sha256,
                started=started,
                seconds=time.monotonic() - clock,
            )
            header = {"judge": "local", "stories": source, "data_sha256": sha256, **settings}
            rows = [*done.values(), *gathering.sides.values()]
            rows += [] if asked.ours_only else foreign_rows()
            save_sizes(sorted(rows, key=_order), path, header, record)


def kept_rows(path: Path, settings: dict[str, int]) -> Sequence[SizeRow]:
    """Rows that were measured with the same settings."""
    try:
        header, rows = load_sizes(path)
    except DataError:
        return []
    return rows if all(header.get(name) == value for name, value in settings.items()) else []


def roles_by_model() -> dict[str, list[RoleHolders]]:
    """Who holds which role in each shipped model."""
    found: dict[str, list[RoleHolders]] = {}
    for row in read_jsonl(ROLES, ROLES_SCHEMA)[1]:
        one = RoleHolders.from_json(row)
        found.setdefault(one.model, []).append(one)
    return found


def _order(row: SizeRow) -> tuple[str, bool, int, int, int, str]:
    ours = "" if row.source == "ours" else row.source
    shape = (row.n_layers or 99, row.d_model or 0, row.n_heads or 0)
    return (ours, row.instruct, *shape, row.label)


if __name__ == "__main__":
    main()
