"""Does the capability map find what carries a capability, and nothing else? On models of which it is known.

    .venv/bin/python analysis/capability_map_audit.py
    .venv/bin/python analysis/capability_map_audit.py --models 3 --out audit

Models are planted (``docs/methods.md``, Audit of the capability map): in ``carried`` one head alone carries a readout,
in ``spread`` it is passed and no part carries it, in ``none`` it is not passed. Each is mapped as ``tslens link`` maps
a model, every head, on the planted readout. Writes ``audit.jsonl``, a row a model, with provenance, and prints the
table for ``report.md``: planted heads found, and models in which anything else was.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tslens.corpus.tokenizer import StoryTokenizer
from tslens.files import read_jsonl, write_json, write_jsonl
from tslens.link.capability_map import map_readouts
from tslens.link.groups import every_head
from tslens.link.planted import PLANTED_KINDS, Planted, plant_capability
from tslens.link.readouts import author_stories, make_readouts
from tslens.link.story_costs import CostStories
from tslens.model.load import find_model, open_model
from tslens.provenance import provenance, utc_now
from tslens.stats import share_interval
from tslens.types import Story

SCHEMA = "tslens.capability_map_audit/1"
TOKENIZER_OF = "shipped:l1_h64"
N_MODELS, N_PAIRS, N_STORIES, N_SOURCE = 30, 80, 15, 80


def main() -> None:
    """Map the models, save a row of each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=N_MODELS, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/link"))
    asked = parser.parse_args()
    started, clock = utc_now(), time.monotonic()
    tokenizer = open_model(find_model(TOKENIZER_OF), device="cpu").tokenizer
    if not isinstance(tokenizer, StoryTokenizer):
        raise SystemExit("A shipped model has a tokenizer of stories.")
    source = author_stories()
    rows: list[dict[str, Any]] = []
    for kind in PLANTED_KINDS:
        for number in range(asked.models):
            planted = plant_capability(kind, tokenizer=tokenizer, seed=asked.seed + number)
            found = mapped(planted, list(islice(source, N_SOURCE)), asked.seed + number)
            rows.append({"seed": asked.seed + number, **found})
            print(".", end="", flush=True, file=sys.stderr)
    print(file=sys.stderr)
    path = asked.out / "audit.jsonl"
    write_jsonl(path, SCHEMA, {"n_pairs": N_PAIRS, "n_stories": N_STORIES}, rows)
    record = provenance(
        command=shlex.join(["python", *sys.argv]),
        seed=asked.seed,
        data=f"{len(rows)} planted models",
        data_sha256="",
        started=started,
        seconds=time.monotonic() - clock,
    )
    write_json(path.with_suffix(".provenance.json"), record.to_json())
    print(table(read_jsonl(path, SCHEMA)[1]))


def mapped(planted: Planted, told: Sequence[Story], seed: int) -> dict[str, Any]:
    """What the map says of a planted model, on stories of its own: whether it passes, and the status of every head."""
    model = planted.model
    assert model.tokenizer is not None
    readouts = make_readouts(
        model.tokenizer, n_ctx=model.cfg.n_ctx, instruct=False, seed=seed, n_pairs=N_PAIRS, stories=told
    )
    found = map_readouts(
        model,
        [one for one in readouts if one.name == planted.readout],
        CostStories(model, told[:N_STORIES]),
        every_head(model),
        seed=seed,
    )
    return {
        "kind": planted.kind,
        "readout": planted.readout,
        "carrier": None if planted.carrier is None else str(planted.carrier),
        "passes": bool(found.rows),
        "statuses": {row.component: row.status for row in found.rows if row.status is not None},
        "shares": {row.component: row.share.value for row in found.rows if row.status is not None},
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: by kind, how many planted heads are found, and in how many models anything else is."""
    lines = [
        "| kind | models | readout passed | planted head carries | other heads | of these carries or candidate | "
        "above zero for sure | models with any above zero, 95% |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in PLANTED_KINDS:
        of_kind = [row for row in rows if row["kind"] == kind]
        asked = [row for row in of_kind if row["passes"]]
        carriers = [row["statuses"][row["carrier"]] for row in asked if row["carrier"]]
        others = [
            [status for head, status in row["statuses"].items() if head != row["carrier"]] for row in asked
        ]
        false = sum(status in ("carries", "candidate") for of_one in others for status in of_one)
        above = [sum(status not in ("no", "hinders") for status in of_one) for of_one in others]
        n_wrong = sum(n > 0 for n in above)
        ends = share_interval(n_wrong / len(above), 0.0, len(above), len(above)) if above else None
        told = "" if ends is None else f"{n_wrong} of {len(above)} ({ends.low:.2f} to {ends.high:.2f})"
        found = f"{carriers.count('carries')} of {len(carriers)}" if carriers else "none planted"
        lines.append(
            f"| {kind} | {len(of_kind)} | {len(asked)} | {found} | {sum(map(len, others))} | {false} | {sum(above)} | "
            f"{told} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
