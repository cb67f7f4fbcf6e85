"""The capability map on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from tslens.cli.console import show, show_table
from tslens.cli.judging import NOT_GPT4
from tslens.link.map_report import STATUSES, Cell, Evidence, MapReport, MapRow

FIRST_ROWS = 24
MARKS = {"carries": "**", "candidate": "*", "general": "~", "unclear": "?", "no": "", "hinders": "-"}


def show_map(report: MapReport) -> None:
    """Readouts beside the n-gram, then the components that matter most by capability, then what the marks say."""
    ngram = report.header["ngram"]
    of_ngram = {one["readout"]: one for one in ngram["readouts"]}
    show_table(
        ["<readout>", "<capability>", "accuracy", "at least", "nats", "<passed>", "n-gram", "<passed>"],
        [
            [
                str(one["readout"]),
                str(one["capability"]),
                f"{one['accuracy']:.2f}",
                f"{one['least_accuracy']:.2f}",
                f"{one['difference']:+.2f}",
                _yes(one["passes"]),
                f"{of_ngram[one['readout']]['accuracy']:.2f}",
                _yes(of_ngram[one["readout"]]["passes"]),
            ]
            for one in report.readouts
        ],
    )
    show(_beside_ngram(report))
    if not report.rows:
        show("The model passes no readout, so nothing is said about its parts.")
        return
    capabilities = report.capabilities
    cells = {(cell.component, cell.capability): cell for cell in report.matrix()}
    ranked = sorted(report.components, key=lambda name: _rank([cells[name, one] for one in capabilities]))
    loss = {
        row.component: row.delta_loss_nats for row in report.rows if row.evidence == "readout" and row.status
    }
    columns = _columns(report)
    heads = [f"<{name}>" if evidence == "readout" else f"<{name}, graded>" for name, evidence in columns]
    show_table(
        ["<without>", "loss", *heads],
        [
            [
                name,
                f"{loss.get(name, float('nan')):+.3f}",
                *_told(cells, name, columns),
            ]
            for name in ranked[:FIRST_ROWS]
        ],
    )
    more = f" {len(ranked) - FIRST_ROWS} more are in the file." if len(ranked) > FIRST_ROWS else ""
    show(
        "Share of a readout's difference that is lost without a component, of the readout that says most, named;\n"
        "loss: nats per token. ** carries: by the mean surely more than random components of like cost take, and\n"
        "above zero by zero and by resampling; * candidate: not by these; ~ general: not shown to be more;\n"
        "? unclear; - hinders; no mark: nothing is lost for sure." + more
    )
    if any(evidence == "grade" for _, evidence in columns):
        disagree = sum(cell.disagrees for cell in cells.values())
        show(
            "graded: points lost, in planted faults (1: as bad as one). Readouts and grades contradict each other (one "
            f"surely\nlost, the other surely not as much) in {disagree} cells.\n"
            + (NOT_GPT4 if report.header.get("judge") == "local" else "")
        )


def _yes(passes: bool) -> str:
    return "yes" if passes else "no"


def _beside_ngram(report: MapReport) -> str:
    """Loss and grades of the whole model beside those of the n-gram."""
    header, ngram = report.header, report.header["ngram"]
    lines = [f"n-gram: of order {ngram['order']}, counted on {ngram['counted_on']}."]
    lines.append(
        f"Loss, nats per token: the model {header['loss_nats']:.3f}, the n-gram {ngram['loss_nats']:.3f}."
    )
    if "means" in header:
        whole, other = (header["means"][name]["means"] for name in ("whole", "ngram"))
        told = ", ".join(
            f"{name} {whole[name]['mean']:.1f} and {other[name]['mean']:.1f}"
            for name in whole
            if name in other
        )
        lines.append(
            f"Grades by {header['judge']}, the model and the n-gram: {told}."
            if told
            else f"Grades by {header['judge']}: too few of the model's texts or the n-gram's have one for a mean."
        )
    if ngram["loss_nats"] < header["loss_nats"]:
        lines.append(
            "The n-gram is better on these stories: those of the offline author are made of like sentences, which it "
            "has counted.\nOn real stories it is not: tslens models."
        )
    return "\n".join(lines)


def _columns(report: MapReport) -> list[tuple[str, Evidence]]:
    """Each capability by each evidence that there is."""
    there = {(row.capability, row.evidence) for row in report.rows if row.status is not None}
    return [
        (capability, evidence)
        for capability in report.capabilities
        for evidence in get_args(Evidence)
        if (capability, evidence) in there
    ]


def _rank(cells: Sequence[Cell]) -> tuple[int, float]:
    """The strongest status of a component, then its largest share."""
    rows = [row for cell in cells for row in (cell.readout, cell.grade) if row is not None]
    statuses = [STATUSES.index(row.status) for row in rows if row.status is not None]
    return min(statuses, default=len(STATUSES)), -max((row.share.value for row in rows), default=0.0)


def _told(
    cells: Mapping[tuple[str, str], Cell], component: str, columns: Sequence[tuple[str, Evidence]]
) -> list[str]:
    return [
        _share(cell.readout if evidence == "readout" else cell.grade)
        for capability, evidence in columns
        for cell in [cells[component, capability]]
    ]


def _share(row: MapRow | None) -> str:
    """Of a readout its name with it, where it says anything; of a grade in planted faults."""
    if row is None or row.status is None:
        return ""
    if row.evidence == "grade":
        return f"{row.share.value:+.2f}{MARKS[row.status]}"
    name = "" if row.status == "no" else f"{row.measure} "
    return f"{name}{row.share.value:+.0%}{MARKS[row.status]}"
