"""How much of the shipped models' attention is a program, and what do they lose when heads are swapped for theirs?

    .venv/bin/python analysis/head_programs.py
    .venv/bin/python analysis/head_programs.py --models l1_h64 --stories 60 --swap 10 --tokens 10 --out programs

For each model its rows with provenance (``NAME.jsonl``), and for all of them ``report.md``: the share of attention that
programs explain, the loss with the labelled heads, all heads, and the best quarter swapped for their programs and for
other patterns, and every head. Roles are those of ``reports/heads`` (``--heads``); a model that is not there is scanned
first. Stories are the offline author's, of the validation side. ``--report-only`` writes the report again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.cli.opening import open_for_scan
from tslens.cli.programs_scan import saved_scores, scan_programs, scan_scores
from tslens.files import atomic_write
from tslens.model.load import find_model
from tslens.probes.programs.report import RANK, Estimate, HeadPrograms, ProgramsReport, perplexity
from tslens.probes.programs.results import load_programs
from tslens.viz.heads_words import words

MODELS = ("l1_h256", "l2_h128", "l4_h128")
KINDS = {
    "even": "even attention and position 0", "profile": "distance alone", "role": "the role of the scan",
    "composed": "composed of roles", "tokens": "tokens and distance",
}  # fmt: skip
METHODS = {
    "role": "the role of the scan", "program": "composed program", "tokens": "tokens and distance",
    "profile": "distance alone", "mean": "mean by position", "other": "of another story",
    "shuffled": "own, keys shuffled", "uniform": "uniform", "zero": "nothing",
    "mean - role": "saved by the role against the mean", "mean - program": "saved by the program against the mean",
}  # fmt: skip
GROUPS = ("best quarter", "labelled", "all")
STATUSES = sorted(RANK, key=lambda status: -RANK[status])


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model."""

    name: str
    header: Mapping[str, Any]
    report: ProgramsReport


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def interval(one: Estimate | None, *, signed: bool = False) -> str:
    """An estimate with its interval, nothing if there is none."""
    if one is None:
        return ""
    sign = "+" if signed else ""
    return f"{one.value:{sign}.3f} [{one.low:{sign}.3f}, {one.high:{sign}.3f}]"


def of_role(name: str) -> str:
    """A role in words."""
    probe = name.removesuffix(" before")
    return words(probe) + (" before" if name != probe else "")


def shares(saved: Sequence[Saved]) -> str:
    """How much programs explain, model by model."""
    rows = []
    for one in saved:
        for group, kinds in (
            ("all", ("even", "profile", "composed", "tokens")),
            ("labelled", ("role", "profile", "composed", "tokens")),
            ("twins", ("profile", "composed")),
        ):
            for kind in kinds:
                row = one.report.explained_by(group, kind)
                if row is not None:
                    ends = (interval(row.share), interval(row.iou), interval(row.distance))
                    rows.append([one.name, f"{group} ({row.n_heads})", KINDS[kind], *ends])
    return table(["model", "heads", "program", "share explained", "IoU", "Jensen-Shannon distance"], rows)


def headline(one: Saved) -> str:
    """The answer for a model, in one paragraph."""
    report = one.report
    by = {kind: report.explained_by("all", kind) for kind in ("composed", "profile", "tokens")}
    every, twins = by["composed"], report.explained_by("twins", "composed")
    assert every is not None and twins is not None
    others = ", ".join(
        f"{KINDS[kind]} {row.share.value:.0%}" for kind, row in by.items() if row and row is not every
    )
    text = (
        f"- **{one.name}**: composed programs explain {every.share.value:.0%} [{every.share.low:.0%}, "
        f"{every.share.high:.0%}] of the attention of all {every.n_heads} heads ({others}; random twins "
        f"{max(0.0, twins.share.value):.0%}), IoU {every.iou.value:.2f}."
    )
    for group, method, what in (
        ("labelled", "role", "labelled heads, each as its role alone"),
        ("labelled", "program", "labelled heads, each as its composed program"),
        ("all", "program", "heads, each as its composed program"),
    ):  # fmt: skip
        swapped, saved = report.swap(group, method), report.swap(group, f"mean - {method}")
        if swapped:
            effect, uniform = swapped["all"], report.swap(group, "uniform")["all"]
            n_heads = next(row.n_heads for row in report.groups if row.group == group)
            text += (
                f" All {n_heads} {what}: loss {interval(effect, signed=True)} nats (perplexity "
                f"{perplexity(effect.value):+.0%}); against their mean patterns this saves "
                f"{interval(saved['all'], signed=True)} (uniform attention: {uniform.value:+.3f})."
            )
    return text + "\n"


def statuses(saved: Sequence[Saved]) -> str:
    """Heads by status and by floor."""
    rows = []
    for one in saved:
        counts, at = one.report.statuses, one.report.counts_at_floors
        numbers = [*(counts[status] for status in STATUSES), *at.values()]
        rows.append([one.name, str(len(one.report.heads)), *map(str, numbers), f"{one.report.twins:.2f}"])
    return table(["model", "heads", *STATUSES, "share 0.25", "share 0.5", "share 0.75", "twins reach"], rows)


def swaps(report: ProgramsReport) -> str:
    """Groups of heads swapped at once."""
    rows = []
    for group in GROUPS:
        n_heads = next((row.n_heads for row in report.groups if row.group == group), 0)
        for method, what in METHODS.items():
            found = report.swap(group, method)
            if found:
                effect = found["all"]
                rest = [
                    interval(found.get(name), signed=True) for name in ("names", "pronouns", "closing marks")
                ]
                rows.append(
                    [
                        f"{group} ({n_heads})", what, interval(effect, signed=True),
                        "" if " - " in method else f"{perplexity(effect.value):+.1%}", *rest,
                    ]
                )  # fmt: skip
    return table(
        ["heads", "pattern", "loss", "perplexity", "at names", "at pronouns", "at closing marks"], rows
    )


def heads(report: ProgramsReport) -> str:
    """Every head, best explained first."""
    rows = []
    for head in report.best_first():
        composed = head.score("composed")
        assert composed is not None
        rows.append(
            [
                str(head.head), head.status, f"{head.total.value:.2f}", composed.program,
                f"{composed.iou.value:.2f}", _nulls(composed.nulls),
                "nothing to explain" if composed.share is None else f"{composed.share.value:.2f}",
                "" if head.support is None else f"{head.support:.2f}", *_effects(head),
            ]
        )  # fmt: skip
    names = ["head", "status", "total", "composed program", "IoU", "nulls", "share", "lower end"]
    return table([*names, "program", "mean", "uniform", "nothing"], rows)


def _nulls(nulls: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in nulls.items())


def _effects(head: HeadPrograms) -> list[str]:
    effects = [head.effect(method) for method in ("program", "mean", "uniform", "zero")]
    return ["" if effect is None else f"{effect.value:+.3f}" for effect in effects]


def roles(report: ProgramsReport) -> str:
    """The labelled heads: their role as a program of one step, and in their place."""
    rows = []
    for head in report.heads:
        score = None if head.role is None else head.score(head.role)
        if head.role is None or score is None:
            continue
        n_more = f"{score.excess_low:+.3f}" if score.excess_low is not None else ""
        served = head.effect("role", "served")
        rows.append(
            [
                str(head.head), of_role(head.role), score.program, interval(score.iou), _nulls(score.nulls), n_more,
                interval(score.share), interval(head.effect("role"), signed=True), interval(served, signed=True),
            ]
        )  # fmt: skip
    names = [
        "head",
        "role",
        "program",
        "IoU",
        "nulls",
        "excess, lower end",
        "share",
        "swap: all",
        "swap: served",
    ]
    return table(names, rows) if rows else "No head is labelled.\n\n"


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# Heads as programs\n\n"
    yield "Written by `analysis/head_programs.py`. Terms: `docs/methods.md`, *Programs of heads*.\n\n"
    yield "".join(map(headline, saved)) + "\n"
    yield f"Heads by status, and how many reach each share (lower end):\n\n{statuses(saved)}"
    yield f"What programs explain, on stories that they were not fitted on:\n\n{shares(saved)}"
    for one in saved:
        header, report = one.header, one.report
        clean = ", ".join(f"{name} {value:.3f}" for name, value in report.clean.items())
        yield f"## {one.name}\n\n"
        yield (
            f"{report.n_stories} stories of {header['stories']} (sha256 {header['data_sha256']}): fitted on "
            f"{report.n_fitted}, read on {report.n_read}, swapped on {report.n_swapped}, seed {report.seed}. "
            f"Clean loss in nats: {clean}. Rows: `{one.name}.jsonl`.\n\n"
        )
        yield f"### Heads swapped at once\n\nLoss minus clean loss, nats per target.\n\n{swaps(report)}"
        yield (
            "### Every head\n\nThe last four columns: loss with this head alone swapped for its composed program, its "
            f"mean pattern, uniform attention, nothing.\n\n{heads(report)}"
        )
        yield f"### The labelled heads, each as its role alone\n\n{roles(report)}"


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=list(MODELS))
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
        opened = open_for_scan(find_model(name), None, options.stories, device=options.device)
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
    saved = [Saved(path.stem, *load_programs(path)) for path in sorted(options.out.glob("*.jsonl"))]
    text = "".join(write_report(saved)).rstrip() + "\n"
    with atomic_write(options.out / "report.md") as file:
        file.write(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
