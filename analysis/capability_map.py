"""Which heads, layers and roles do grammar, consistency and instructions depend on, in three shipped models?

    tslens link --model shipped:l1_h256 --roles reports/heads/l1_h256.jsonl --roles reports/neurons/l1_h256.jsonl \
        --judge local --samples 4 --most-graded 10
    .venv/bin/python analysis/capability_map.py --maps runs/*-shipped/seed0/results/link/*_local.jsonl
    .venv/bin/python analysis/capability_map.py

The first command, once for each model, makes a map; the second copies maps with
provenance to ``reports/link``, draws a page of each and writes ``report.md``; the third does so from what lies there.
``analysis/capability_map_audit.py`` makes the audit that the report quotes.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from capability_map_audit import SCHEMA as AUDIT_SCHEMA
from capability_map_audit import table as audit_table

from tslens.files import atomic_write, read_jsonl
from tslens.grading.local.trust import agreement_told
from tslens.link.map_report import STATUSES, MapReport, MapRow, load_map
from tslens.viz.map_page import counts_at_floors, write_map_page
from tslens.viz.map_tables import measures_of

OUT = Path("reports/link")
MOST_NAMED = 12  # components of one status in a row


def main() -> None:
    """Copy maps, draw pages, write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", nargs="*", type=Path, default=[])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    for path in asked.maps:
        name = load_map(path).header["model"].removeprefix("shipped:").partition("@")[0]
        target = asked.out / f"{name}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        shutil.copyfile(path.with_suffix(".provenance.json"), target.with_suffix(".provenance.json"))
    files = [one for one in sorted(asked.out.glob("*.jsonl")) if one.stem != "audit"]
    maps = {path.stem: load_map(path) for path in files}
    for name, report in maps.items():
        write_map_page(report, asked.out / f"{name}.html")
    with atomic_write(asked.out / "report.md") as file:
        file.writelines(_report(maps, asked.out / "audit.jsonl"))


def _report(maps: dict[str, MapReport], audit: Path) -> Iterator[str]:
    yield "# Which parts does each capability depend on?\n\n"
    yield (
        "Written by `python analysis/capability_map.py`; measures, nulls, floors and statuses: `docs/methods.md`, "
        "Capability map. Shares are of a readout's difference, with intervals that are corrected for all "
        "components and readouts of the model; 'expected' is what random components that cost as much loss take. "
        "Rows: `MODEL.jsonl`; pages: `MODEL.html`.\n\n"
    )
    for name, report in maps.items():
        yield from _of_model(name, report)
    if audit.exists():
        yield "## Where the truth is known\n\n"
        yield audit_table(read_jsonl(audit, AUDIT_SCHEMA)[1]) + "\n"


def _of_model(name: str, report: MapReport) -> Iterator[str]:
    header = report.header
    yield f"## {name}\n\n"
    yield (
        f"{header['n_stories']} author stories for total loss ({header['loss_nats']:.3f} nats per token), "
        f"{len(report.components)} components.\n\n"
    )
    yield "| readout | capability | accuracy | passed | n-gram | passed |\n|---|---|---|---|---|---|\n"
    of_ngram = {one["readout"]: one for one in header["ngram"]["readouts"]}
    for one in report.readouts:
        other = of_ngram[one["readout"]]
        cells = [one["readout"], one["capability"], _accuracy(one), _yes(one), _accuracy(other), _yes(other)]
        yield f"| {' | '.join(cells)} |\n"
    ngram = header["ngram"]
    yield (
        f"\nn-gram: order {ngram['order']}, counted on {ngram['counted_on']}; loss {ngram['loss_nats']:.3f} nats per "
        "token on the same stories.\n\n"
    )
    yield from _by_measure(report)
    yield from _ways(report)
    if any(row.evidence == "grade" for row in report.rows):
        yield from _grades(report)
    floors = ", ".join(f"{count} at {floor:g}" for floor, count in counts_at_floors(report).items())
    random = header["random"]
    yield (
        f"Components that carry any measure, by the floor: {floors}. Random sets held against the other draws: "
        f"{random['n_more']} of {random['n']} (sets times readouts) would count as taking more than random.\n\n"
    )


def _by_measure(report: MapReport) -> Iterator[str]:
    yield f"| measure | {' | '.join(STATUSES)} |\n|---{'|---' * len(STATUSES)}|\n"
    for (evidence, measure), rows in measures_of(report).items():
        told = [_named([row for row in rows if row.status == status]) for status in STATUSES[:2]]
        counts = [str(sum(row.status == status for row in rows)) for status in STATUSES[2:]]
        yield f"| {measure}{' (graded)' if evidence == 'grade' else ''} | {' | '.join([*told, *counts])} |\n"
    yield "\n"


def _named(rows: Sequence[MapRow]) -> str:
    """Components with what they take, and what is expected of random ones, those that take most first."""
    ranked = sorted(rows, key=lambda row: -row.share.value)
    told = [_took(row) for row in ranked[:MOST_NAMED]]
    more = len(ranked) - len(told)
    return "; ".join([*told, f"{more} more"] if more else told) or "none"


def _took(row: MapRow) -> str:
    share = row.share
    expected = "" if row.expected is None else f", expected {row.expected / row.whole:+.0%}"
    return f"{row.component} {share.value:+.0%} [{share.low_corrected:+.0%}, {share.high_corrected:+.0%}]{expected}"


def _ways(report: MapReport) -> Iterator[str]:
    agreement = report.header["agreement"]
    if not agreement:
        return
    measures = list(dict.fromkeys(one["measure"] for one in agreement))
    yield "Rank correlation of two ways of ablating, over the components read in all three "
    yield f"({agreement[0]['n_components']}):\n\n"
    yield f"| ways | {' | '.join(measures)} |\n|---{'|---' * len(measures)}|\n"
    for ways in dict.fromkeys(tuple(one["methods"]) for one in agreement):
        found = {one["measure"]: one["spearman"] for one in agreement if tuple(one["methods"]) == ways}
        told = ["" if found[name] is None else f"{found[name]:.2f}" for name in measures]
        yield f"| {' and '.join(ways)} | {' | '.join(told)} |\n"
    yield "\n"


def _grades(report: MapReport) -> Iterator[str]:
    header = report.header
    drawing = header["drawing"]
    doses = ", ".join(f"{name} {dose:.2f} points" for name, dose in header["doses"].items())
    yield (
        f"Graded by {header['judge_version']}: {drawing['samples']} texts of each of {header['n_prompts']} prompts; "
        f"{len(header['not_graded'])} components that pass were not graded. {agreement_told()} What one planted fault "
        f"costs with this judge: {doses}.\n\n"
    )
    yield "| texts of | grammar | creativity | consistency | plot |\n|---|---|---|---|---|\n"
    for who, means in header["means"].items():
        cells = [
            f"{one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" for one in means["means"].values()
        ]
        yield f"| {'the whole model' if who == 'whole' else 'the n-gram'} | {' | '.join(cells)} |\n"
    disagree = [cell for cell in report.matrix() if cell.disagrees]
    yield f"\nReadouts and grades contradict each other in {len(disagree)} cells: "
    yield (
        "; ".join(
            f"{cell.component}, {cell.capability} ({cell.readout.measure} {cell.readout.status} "
            f"{cell.readout.share.value:+.0%}, graded {cell.grade.status} {cell.grade.share.value:+.0%} "
            f"[{cell.grade.share.low_corrected:+.0%}, {cell.grade.share.high_corrected:+.0%}])"
            for cell in disagree
            if cell.readout is not None and cell.grade is not None
        )
        or "none"
    )
    yield ".\n\n"


def _accuracy(one: Mapping[str, Any]) -> str:
    return f"{one['accuracy']:.2f} [{one['accuracy_low']:.2f}, {one['accuracy_high']:.2f}]"


def _yes(one: Mapping[str, Any]) -> str:
    return "yes" if one["passes"] else "no"


if __name__ == "__main__":
    main()
