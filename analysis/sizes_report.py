"""For ``sizes.py``: the report and the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_table import table

from tslens.files import atomic_write
from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.claims import CLAIMS, Evidence, Ruling
from tslens.link.sizes.growth import growths
from tslens.link.sizes.measured import Measured, SizeRow
from tslens.link.sizes.read_model import BY_CHANCE, READOUTS, WRITTEN
from tslens.link.sizes.roles_beside import roles_beside_loss
from tslens.viz.size_figures import draw_grades_by_loss, draw_grades_by_shape, draw_roles_by_shape

MOST_ROLES = 12


def write_figures(rows: Sequence[SizeRow], folder: Path) -> None:
    """Grades by loss, grades by width and depth, roles by width and depth; each with its data."""
    draw_grades_by_loss(rows, folder / "grades_by_loss")
    draw_grades_by_shape(rows, folder / "grades_by_shape")
    draw_roles_by_shape(rows, folder / "roles_by_shape")


def write_report(
    rows: Sequence[SizeRow], rulings: Sequence[Ruling], header: Mapping[str, Any], path: Path, *, seed: int
) -> None:
    """Claims first, then the tables."""
    with atomic_write(path) as file:
        file.writelines(_report(rows, rulings, header, seed))


def _report(
    rows: Sequence[SizeRow], rulings: Sequence[Ruling], header: Mapping[str, Any], seed: int
) -> Iterator[str]:
    yield "# Width, depth, heads, loss: the paper's claims, each with a verdict\n\n"
    yield (
        "Written by `python analysis/sizes.py`. What each contrast is, and what decides, was written before any was "
        "computed: `docs/methods.md`, The paper's claims. The local judge is not GPT-4: it sees faults better than it "
        "ranks good texts (`reports/judge`). Losses on the first "
        f"{header['n_stories']} held-out stories of {header['stories']}.\n\n"
    )
    yield from _claims(rulings)
    yield from _tables(rows)
    yield from _growth(rows, seed)
    yield from _roles(rows, seed)


# Claims -----------------------------------------------------------------------------------------------------


def _claims(rulings: Sequence[Ruling]) -> Iterator[str]:
    yield table(
        ["", "claim", "verdict", "decided by", "what it says"],
        [
            [
                str(one.claim),
                CLAIMS[one.claim],
                _verdict(one),
                "; ".join(dict.fromkeys(f"{evidence.source}{_how(evidence)}" for evidence in one.deciding)),
                "; ".join(f"{aspect}: {said}" for aspect, said in one.by_aspect.items()),
            ]
            for one in rulings
        ],
    )
    yield (
        "*These runs*: a contrast that decides has a cell of fewer than three seeds. A claim holds where all that it "
        "says holds by some source and fails by none. To fail is corrected for the contrasts of a claim; nothing is "
        "corrected over the ten claims. GPT-4o graded five models of one study, a person three: their losses are not "
        "known, so size stands for loss, and no other seeds of theirs are at hand.\n\n## The contrasts\n\n"
        "Above zero where the claim is right.\n\n"
    )
    yield table(
        [
            "claim",
            "part",
            "source",
            "contrast [95%]",
            "error by prompts or stories, by seeds",
            "fewest",
            "part",
        ],
        [_part(one) for ruling in rulings for one in ruling.evidence],
    )
    yield "*fewest*: prompts, stories or pairs of a measure; below 30 an interval is rough.\n\n"


def _how(one: Evidence) -> str:
    return " (by size)" if "parameters" in one.part else ""


def _verdict(one: Ruling) -> str:
    if one.verdict == "cannot be told" or not one.conditional:
        return f"**{one.verdict}**"
    return f"**{one.verdict}** (these runs)"


def _part(one: Evidence) -> list[str]:
    if one.estimate is None:
        return [str(one.claim), one.part, one.source, one.why_not, "", "", "cannot be told"]
    found = one.estimate
    seeds = "not known" if found.se_seeds is None else f"{found.se_seeds:.3f}"
    return [
        str(one.claim),
        one.part,
        one.source,
        f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]",
        f"{found.se_clusters:.3f}, {seeds}",
        str(found.n_clusters),
        one.verdict,
    ]


# Tables -----------------------------------------------------------------------------------------------------


def _tables(rows: Sequence[SizeRow]) -> Iterator[str]:
    yield "## Every model\n\n"
    for source, instruct in dict.fromkeys((row.source, row.instruct) for row in rows):
        mine = [row for row in rows if (row.source, row.instruct) == (source, instruct)]
        title = "Ours, by the local judge" if source == "ours" else f"Graded by {source}"
        yield f"**{title}{', on instructions: other prompts' if instruct else ''}**\n\n"
        columns = [name for name in ("loss", "bits", *CRITERIA) if any(name in row.measured for row in mine)]
        titles = {"loss": "nats per token", "bits": "bits per byte"}
        yield table(
            ["model", "parameters", "FLOPs", *(titles.get(name, name) for name in columns)],
            [
                [
                    row.label.removeprefix("shipped:"),
                    "" if row.n_parameters is None else f"{row.n_parameters:,}",
                    "" if row.flops is None else f"{row.flops:.2e}",
                    *(_mean(row.measured.get(name), 3 if name in titles else 2) for name in columns),
                ]
                for row in mine
            ],
        )
    for title, names in (
        ("Minimal pairs: accuracy", [*READOUTS["grammar"], *READOUTS["consistency"]]),
        (
            "Knowledge: accuracy on pairs, and answers that succeed",
            [*READOUTS["knowledge"], *(n + WRITTEN for n in READOUTS["knowledge"])],
        ),
        (
            "Instructions: accuracy on pairs, and share of what was asked for that is in the story",
            [*READOUTS["instructions"], "words", "words" + BY_CHANCE, "features", "features" + BY_CHANCE],
        ),
    ):
        there = [row for row in rows if any(name in row.measured for name in names)]
        yield f"**{title}**\n\n"
        yield table(
            ["model", *(name.replace("_", " ") for name in names)],
            [
                [row.label.removeprefix("shipped:"), *(_share(row.measured.get(name)) for name in names)]
                for row in there
            ],
        )


def _mean(one: Measured | None, digits: int) -> str:
    if one is None:
        return ""
    ends = one.interval()
    return f"{one.mean:.{digits}f}" + (
        "" if ends is None else f" [{ends.low:.{digits}f}, {ends.high:.{digits}f}]"
    )


def _share(one: Measured | None) -> str:
    if one is None:
        return ""
    ends = one.share_interval()
    return f"{one.mean:.2f} [{ends.low:.2f}, {ends.high:.2f}]"


# Growth, roles ----------------------------------------------------------------------------------------------


def _growth(rows: Sequence[SizeRow], seed: int) -> Iterator[str]:
    yield "## How grades grow\n\n"
    yield (
        "For ten times the size, by a straight line in its logarithm (of loss: for one bit per byte less); width and "
        "depth at equal values of the other. The end is that of a saturating curve; *told*: whether the models tell "
        "the curve from the line. Our grid has three widths and three depths, too few for a curve; of other people's "
        "models depth and width grow together.\n\n"
    )
    found = growths(rows, seed=seed)
    yield table(
        ["grades of", "grade", "by", "cells", "for ten times", "ends at", "told"],
        [
            [
                one.source,
                one.measure,
                one.by,
                str(one.n_cells),
                f"{one.tenfold:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
                ""
                if one.curve is None
                else f"{one.curve.top:.2f} [{one.curve.top_interval.low:.2f}, {one.curve.top_interval.high:.2f}]",
                "" if one.curve is None else ("yes" if one.curve.told else "no"),
            ]
            for one in found
        ],
    )


def _roles(rows: Sequence[SizeRow], seed: int) -> Iterator[str]:
    mine = [row for row in rows if row.source == "ours" and not row.instruct and row.roles]
    yield "## Roles by width and depth\n\n"
    yield "Heads that hold a role (role or candidate) of all heads; the figure has every role.\n\n"
    names = sorted({one.role for row in mine for one in row.roles if one.component == "head"})
    yield table(
        ["model", *(name.replace("_", " ") for name in names)],
        [
            [
                row.label.removeprefix("shipped:"),
                *(
                    next(
                        (
                            f"{len(one.holders)}/{one.n_units}"
                            for one in row.roles
                            if one.role == name and one.component == "head"
                        ),
                        "",
                    )
                    for name in names
                ),
            ]
            for row in mine
        ],
    )
    found = roles_beside_loss(mine, seed=seed)
    yield "**Does a role go with a grade beyond what the loss explains?** "
    if not found:
        yield "Too few models to say.\n"
        return
    real = [one for one in found if one.q < 0.05]
    yield (
        f"Partial rank correlations over {found[0].n_shapes} shapes, {len(found)} of roles and grades, corrected "
        f"together: {len(real)} below 0.05. The strongest:\n\n"
    )
    yield table(
        ["role", "grade", "beyond loss", "with loss left in", "p", "corrected"],
        [
            [
                one.role.replace("_", " "),
                one.measure,
                f"{one.correlation:+.2f}",
                f"{one.plain:+.2f}",
                f"{one.p:.4f}",
                f"{one.q:.3f}",
            ]
            for one in found[:MOST_ROLES]
        ],
    )
