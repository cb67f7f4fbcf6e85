"""What ``tslens link --table`` prints and writes: a table of models, and how each measure grows."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.judging import NOT_GPT4, judge_name
from tslens.cli.link_sizes import OURS, Asked, Gathering, digests_of
from tslens.errors import UsageError
from tslens.files import check_writable
from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.foreign import foreign_rows
from tslens.link.sizes.growth import Growth, growths
from tslens.link.sizes.measured import Measured, SizeRow, save_sizes
from tslens.link.sizes.read_model import BY_CHANCE, READOUTS, WRITTEN
from tslens.link.sizes.roles_beside import Beside, roles_beside_loss
from tslens.provenance import provenance, utc_now

JSON_SCHEMA = "tslens.link_table/1"
OUT = Path("runs/tables")
ALPHA = 0.05


def link_table(
    models: Sequence[str], asked: Asked, out: Path | None, *, foreign: bool, as_json: bool
) -> None:
    """Measure, write, print."""
    if len(models) < 2:
        raise UsageError("One model makes no table.", "Name two or more: tslens link --table l1_h64 l1_h256")
    if len(set(models)) < len(models):
        twice = next(model for model in models if list(models).count(model) > 1)
        raise UsageError(f"{twice} is named twice.", "Name each model once.")
    folder = out or OUT
    check_writable(folder)
    started, clock = utc_now(), time.monotonic()
    gathering = Gathering(asked, exclude=digests_of(models))
    for number, model in enumerate(models, 1):
        say(f"{number} of {len(models)}: {model}")
        gathering.add(model)
    rows = [*gathering.rows, *gathering.sides.values(), *(foreign_rows() if foreign else ())]
    source, sha256 = gathering.data
    header: dict[str, Any] = {
        "judge": judge_name(asked.judge) if asked.is_graded else None,
        "stories": source,
        "data_sha256": sha256,
        "n_stories": asked.n_stories,
        "n_pairs": asked.n_pairs,
        "samples": asked.samples if asked.is_graded else None,
        "seed": asked.seed,
    }
    record = provenance(
        command=shlex.join(["tslens", *sys.argv[1:]]),
        seed=asked.seed,
        data=source,
        data_sha256=sha256,
        started=started,
        seconds=time.monotonic() - clock,
    )
    path = folder / f"sizes_seed{asked.seed}.jsonl"
    save_sizes(rows, path, header, record)
    found, beside = growths(rows, seed=asked.seed), roles_beside_loss(gathering.rows, seed=asked.seed)
    if as_json:
        show_json(
            {
                "schema": JSON_SCHEMA,
                **header,
                "rows": [row.to_json() for row in rows],
                "growth": [one.to_json() for one in found],
                "roles_beside_loss": [one.to_json() for one in beside],
                "file": str(path),
            }
        )
        return
    show_sizes(rows)
    show_growth(found)
    show_roles(gathering.rows, beside)
    if header["judge"] == "local":
        show(NOT_GPT4)
    show(f"wrote {path}")


def show_sizes(rows: Sequence[SizeRow]) -> None:
    """For each source loss and grades, then accuracies and shares: grades of two sources do not compare."""
    for source in dict.fromkeys(row.source for row in rows):
        mine = [row for row in rows if row.source == source]
        names = [name for name in ("loss", "bits", *CRITERIA) if any(name in row.measured for row in mine)]
        show_table(
            [
                f"<{'texts of' if source == OURS else f'graded by {source}'}>",
                "parameters",
                *map(_title, names),
            ],
            [
                [
                    row.label.removeprefix("shipped:"),
                    "" if row.n_parameters is None else f"{row.n_parameters:,}",
                    *(_mean(row.measured.get(name), 3 if name in ("loss", "bits") else 2) for name in names),
                ]
                for row in mine
            ],
        )
        show("")
        for title, columns in _accuracies(mine):
            show_table(
                [f"<{title}>", *map(_title, columns)],
                [
                    [
                        row.label.removeprefix("shipped:"),
                        *(_share(row.measured.get(name)) for name in columns),
                    ]
                    for row in mine
                    if any(name in row.measured for name in columns)
                ],
            )
            show("")
    show(
        "95% intervals over stories, pairs or prompts; losses in nats per token and bits per byte of the same held-out "
        "stories.\npairs of, knowledge of: accuracy on minimal pairs, 0.5 is chance. written: answers to the paper's "
        "short prompts that\nsucceed, by rule. words, features, sentence: of what was asked for, how much is in the "
        "story; by chance: of what the\nnext prompt asked for.\n"
    )


def _accuracies(rows: Sequence[SizeRow]) -> list[tuple[str, list[str]]]:
    """Titles and measures of the tables that have any."""
    asked = ("words", "words" + BY_CHANCE, "features", "features" + BY_CHANCE, "sentence")
    of = {
        "pairs of": [*READOUTS["grammar"], *READOUTS["consistency"]],
        "knowledge of": [*READOUTS["knowledge"], *(name + WRITTEN for name in READOUTS["knowledge"])],
        "instructions by": [*READOUTS["instructions"], *asked],
    }
    found = [
        (title, [name for name in names if any(name in row.measured for row in rows)])
        for title, names in of.items()
    ]
    return [(title, names) for title, names in found if names]


def _title(name: str) -> str:
    return {"loss": "nats", "bits": "bits per byte"}.get(name, name.replace("_", " "))


def _mean(one: Measured | None, digits: int) -> str:
    if one is None:
        return ""
    ends = one.interval()
    reach = "" if ends is None else f" \N{PLUS-MINUS SIGN}{(ends.high - ends.low) / 2:.{digits}f}"
    return f"{one.mean:.{digits}f}{reach}"


def _share(one: Measured | None) -> str:
    if one is None:
        return ""
    ends = one.share_interval()
    return f"{one.mean:.2f} ({ends.low:.2f}-{ends.high:.2f})"


def show_growth(found: Sequence[Growth]) -> None:
    """How each grade grows, and where a curve would end."""
    if not found:
        show("Too few sizes to say how anything grows: a curve needs four.")
        return
    show_table(
        ["<grades of>", "<measure>", "<by>", "cells", "for a tenfold", "<ends at>", "<told>"],
        [
            [
                one.source,
                one.measure,
                one.by,
                str(one.n_cells),
                f"{one.tenfold:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
                "" if one.curve is None else _end(one),
                "" if one.curve is None else ("yes" if one.curve.told else "no"),
            ]
            for one in found
        ],
    )
    show(
        "for a tenfold: of the size, by a straight line in its logarithm; of loss: for one bit per byte less. ends at: "
        "of a saturating\ncurve. told: whether the models tell that curve from the line.\n"
    )


def show_roles(rows: Sequence[SizeRow], beside: Sequence[Beside]) -> None:
    """How many heads and neurons hold each role in each model, and which roles go with a grade beyond its loss."""
    for component in ("head", "neuron"):
        told = {
            row.label: {one.role: one for one in row.roles if one.component == component}
            for row in rows
            if row.roles
        }
        held = {
            role: sum(len(of[role].holders) for of in told.values() if role in of)
            for role in sorted({role for of in told.values() for role in of})
        }
        held = {role: n for role, n in held.items() if n}
        if not held:
            continue
        labels = [label for label, of in told.items() if of]
        show_table(
            [f"<{component}s with the role>", *(label.removeprefix("shipped:") for label in labels)],
            [
                [
                    role.replace("_", " "),
                    *(
                        f"{len(told[label][role].holders)}/{told[label][role].n_units}"
                        if role in told[label]
                        else ""
                        for label in labels
                    ),
                ]
                for role in sorted(held, key=lambda role: -held[role])
            ],
        )
        show("")
    if not any(row.roles for row in rows):
        show("No roles: tslens heads and tslens neurons find them, and the next table has them.")
    real = [one for one in beside if one.q < ALPHA]
    if beside:
        strongest = (
            "; ".join(f"{one.role} and {one.measure} {one.correlation:+.2f}" for one in real) or "none"
        )
        show(
            f"Roles that go with a grade beyond what the loss explains, of {len(beside)} pairs over "
            f"{beside[0].n_shapes} shapes: {strongest}."
        )


def _end(one: Growth) -> str:
    assert one.curve is not None
    ends = one.curve.top_interval
    return f"{one.curve.top:.2f} [{ends.low:.2f}, {ends.high:.2f}]"
