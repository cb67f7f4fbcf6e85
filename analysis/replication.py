"""Is it the same head, or neuron, in another seed or size? And which roles replicate where identities do not?

    .venv/bin/python analysis/replication.py
    .venv/bin/python analysis/replication.py --groups l1_h64@seed0+l2_h64@seed0 --stories 80 --out replication

For each group of models ``GROUP.jsonl``: all of them matched two at a time, heads and neurons, with the roles that
they hold; for the heads of all shipped models ``roles.jsonl``: who holds which role. From these files
``report.md`` (written by ``replication_report.py``): how like matched units are, against nulls and their own programs;
whether matched units share roles; which roles every seed has; roles by width and depth. Stories are the offline
author's, of the validation side. ``--keep-roles`` takes ``roles.jsonl`` as it is, ``--report-only`` all files.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from replication_report import write_report
from replication_roles import Group

from tslens.cli.match_scan import open_together, scan_match
from tslens.cli.opening import record_of
from tslens.files import atomic_write, read_jsonl, write_json, write_jsonl
from tslens.model.load import find_model
from tslens.model.shipped import shipped_models
from tslens.probes.matching.report import Component
from tslens.probes.matching.results import load_match
from tslens.probes.matching.roles import RoleHolders, head_roles, neuron_roles, role_agreements
from tslens.probes.neurons.classify import classify_neurons
from tslens.probes.scan import score_heads

GROUPS = (
    "l1_h256@seed0+l1_h256@seed1+l1_h256@seed2",
    "l2_h128@seed0+l2_h128@seed1+l2_h128@seed2",
    "l1_h256@seed0+l2_h128@seed0+l4_h128@seed0",
)
ROLES_SCHEMA = "tslens.role_holders/1"
NEURON_SAMPLE = 32_768  # tokens that the roles of neurons are decided on


def scan_roles(names: Sequence[str], options: argparse.Namespace, command: str) -> None:
    """Score the heads of all these models on the same stories, and write who holds which role."""
    opened = open_together(list(map(find_model, names)), None, options.stories, device=options.device)
    stories, holders = list(opened[0].held_out), []
    for one in opened:
        began = time.monotonic()
        report = score_heads(
            one.model,
            stories,
            seed=options.seed,
            n_explain=options.explain,
            others=one.held_out.others,
        )
        holders += head_roles(one.source.label, report.scores)
        record = record_of(opened[0], command=command, seed=options.seed)
        header = {
            "stories": record.data,
            "data_sha256": record.data_sha256,
            "n_stories": len(stories),
            "n_explained": options.explain,
            "seed": options.seed,
        }
        write_jsonl(options.out / "roles.jsonl", ROLES_SCHEMA, header, (row.to_json() for row in holders))
        write_json(options.out / "roles.provenance.json", record.to_json())
        sys.stderr.write(f"roles of {one.source.label}: {time.monotonic() - began:.0f} s\n")


def scan_group(group: str, options: argparse.Namespace, command: str) -> None:
    """Match the models of a group, with the roles of their heads from ``roles.jsonl``.

    Neurons, and their roles on the first 200 stories, where the models differ in the seed alone: the roles of neurons
    take minutes a model.
    """
    began = time.monotonic()
    opened = open_together(
        list(map(find_model, group.split("+"))), None, options.stories, device=options.device
    )
    is_seeds = "+" not in file_stem(group)
    components: Sequence[Component] = ("head", "neuron") if is_seeds else ("head",)
    scan = scan_match(opened, components=components, roles=False, seed=options.seed, command=command)
    sys.stderr.write(f"{group}: matched, {time.monotonic() - began:.0f} s\n")
    labels = {one.source.label for one in opened}
    roles = [one for one in load_roles(options.out)[1] if one.model in labels]
    stories = opened[0].held_out.first
    for one in opened if is_seeds else ():
        found = classify_neurons(
            one.model, stories, seed=options.seed, sample_tokens=NEURON_SAMPLE, n_explain=0
        )
        roles += neuron_roles(one.source.label, found.roles)
    agreements = [
        one for pair in scan.report.pairs for one in role_agreements(pair, roles, seed=options.seed)
    ]
    report = replace(scan.report, roles=tuple(roles), agreements=tuple(agreements))
    record = record_of(opened[0], command=command, seed=options.seed)
    replace(scan, report=report, record=record).save(options.out / f"{file_stem(group)}.jsonl")
    sys.stderr.write(f"{group}: {time.monotonic() - began:.0f} s\n")


def file_stem(group: str) -> str:
    """Of the file of a group: the model's name where it is one in several seeds, else all names."""
    names = [name.removeprefix("shipped:") for name in group.split("+")]
    shapes = list(dict.fromkeys(name.partition("@")[0] for name in names))
    return shapes[0] if len(shapes) == 1 else "+".join(shapes)


def load_roles(folder: Path) -> tuple[Mapping[str, object], list[RoleHolders]]:
    """Header and rows of ``roles.jsonl``."""
    header, rows = read_jsonl(folder / "roles.jsonl", ROLES_SCHEMA)
    return header, [RoleHolders.from_json(row) for row in rows]


def main() -> None:
    """Scan, match, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), help="models joined by +")
    parser.add_argument(
        "--models", nargs="+", help="models of the table of roles; all shipped ones if absent"
    )
    parser.add_argument("--stories", type=int, default=150)
    parser.add_argument("--explain", type=int, default=0, help="stories of causes; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--keep-roles", action="store_true", help="read the roles that are there")
    parser.add_argument("--report-only", action="store_true", help="read the files that are there")
    parser.add_argument("--out", type=Path, default=Path("reports/replication"))
    options = parser.parse_args()

    command = shlex.join(["python", *sys.argv])
    if not options.report_only and not options.keep_roles:
        shipped = [f"shipped:{one.label}" for one in shipped_models() if one.packaged]
        scan_roles(options.models or shipped, options, command)
    for group in () if options.report_only else options.groups:
        scan_group(group, options, command)
    groups = []
    for path in sorted(options.out.glob("*.jsonl")):
        if path.name != "roles.jsonl":
            header, report = load_match(path)
            groups.append(Group(path.stem, str(header["stories"]), report))
    text = "".join(write_report(groups, *load_roles(options.out))).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
