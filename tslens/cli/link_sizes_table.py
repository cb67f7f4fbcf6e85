"""What ``tslens link --table`` prints and writes: a table of models, and how each measure grows."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.judging import NOT_GPT4, judge_name
from tslens.cli.link_sizes import OURS, Asked, Gathering, digests_of
from tslens.errors import UsageError
from tslens.files import check_writable
from tslens.grading.rubric import CRITERIA
from tslens.link.sizes.claim_contrasts import puts_people_first
from tslens.link.sizes.foreign import foreign_rows
from tslens.link.sizes.growth import Growth, growths
from tslens.link.sizes.measured import Measured, SizeRow, save_sizes
from tslens.link.sizes.read_model import BY_CHANCE, READOUTS, WRITTEN
from tslens.link.sizes.roles_beside import Beside, roles_beside_loss
from tslens.provenance import command_line, provenance, utc_now

JSON_SCHEMA = "tslens.link_table/1"
OUT = Path("runs/tables")
ALPHA = 0.05
PAIRS, KNOWLEDGE, ASKED = "pairs", "knowledge", "instructions"
"""Titles of tables."""


def link_table(
    models: Sequence[str], asked: Asked, out: Path | None, *, foreign: bool, as_json: bool
) -> None:
    """Measure, write, print."""
    if len(models) < 2:
        raise UsageError(
            "A table needs two models or more.", "Name two or more: tslens link --table l1_h64 l1_h256"
        )
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
        command=command_line(),
        seed=asked.seed,
        data=source,
        data_sha256=sha256,
        started=started,
        seconds=time.monotonic() - clock,
    )
    path = folder / f"sizes-{_hash([*models, foreign, *header.values()])}.jsonl"
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


def _hash(values: Sequence[object]) -> str:
    """Of what was asked for, so that another table does not take its place."""
    return hashlib.sha256(repr(list(values)).encode()).hexdigest()[:8]


def show_sizes(rows: Sequence[SizeRow]) -> None:
    """For each source loss and grades, then accuracies and shares: grades of two sources do not compare."""
    shown: set[str] = set()
    for source in dict.fromkeys(row.source for row in rows):
        mine = [row for row in rows if row.source == source]
        short = _shortened(mine)
        names = [name for name in ("loss", "bits", *CRITERIA) if any(name in row.measured for row in mine)]
        known = any(row.validation_bits is not None for row in mine)
        show_table(
            [
                f"<{'model' if source == OURS else f'graded by {source}'}>",
                "parameters",
                *(["validation"] if known else []),
                *map(_title, names),
            ],
            [
                [
                    short[row.label],
                    "" if row.n_parameters is None else f"{row.n_parameters:,}",
                    *([_validation(row)] if known else []),
                    *(_mean(row.measured.get(name), name) for name in names),
                ]
                for row in mine
            ],
        )
        show("")
        for title, columns in _accuracies(mine):
            shown |= {title}
            show_table(
                [f"<{title}>", *map(_title, columns)],
                [
                    [short[row.label], *(_share(row.measured.get(name)) for name in columns)]
                    for row in mine
                    if any(name in row.measured for name in columns)
                ],
            )
            show("")
    show("\n".join(_legend(rows, shown)))


def _legend(rows: Sequence[SizeRow], shown: set[str]) -> Iterator[str]:
    yield "95% intervals over stories, pairs or prompts. nats per token, bits per byte: of the same held-out stories."
    yield "validation: bits per byte on held-out stories of what the model was trained on."
    if shown & {PAIRS, KNOWLEDGE}:
        yield "Pairs, knowledge: accuracy on minimal pairs, 0.5 is chance."
    if any(name.endswith(WRITTEN) for row in rows for name in row.measured):
        yield "written: answers to short prompts that succeed, by rule."
    if ASKED in shown:
        yield "words, features, sentence: how much of what was asked for is in the story; by chance: of another's."
    for name in CRITERIA:
        if not puts_people_first(rows, name):
            yield f"The judge does not put true endings above the n-gram in {name}: there it does not order such texts."
    yield ""


def _shortened(rows: Sequence[SizeRow]) -> dict[str, str]:
    """Labels without what all have: that they are shipped, their seed."""
    plain = {row.label: row.label.removeprefix("shipped:") for row in rows}
    if len({name.partition("@")[2] for name in plain.values() if "@" in name}) > 1:
        return plain
    return {label: name.partition("@")[0] for label, name in plain.items()}


def _validation(row: SizeRow) -> str:
    return "" if row.validation_bits is None else f"{row.validation_bits:.3f}"


def _accuracies(rows: Sequence[SizeRow]) -> list[tuple[str, list[str]]]:
    """Titles and measures of the tables that have any."""
    asked = ("words", "words" + BY_CHANCE, "features", "features" + BY_CHANCE, "sentence")
    of = {
        PAIRS: [*READOUTS["grammar"], *READOUTS["consistency"]],
        KNOWLEDGE: [*READOUTS["knowledge"], *(name + WRITTEN for name in READOUTS["knowledge"])],
        ASKED: [*READOUTS["instructions"], *asked],
    }
    found = [
        (title, [name for name in names if any(name in row.measured for row in rows)])
        for title, names in of.items()
    ]
    return [(title, names) for title, names in found if names]


def _title(name: str) -> str:
    return {"loss": "nats", "bits": "bits/byte"}.get(name, name.replace("_", " "))


def _mean(one: Measured | None, name: str) -> str:
    """With half of its interval; nats without, as bits say the same."""
    if one is None:
        return ""
    digits = 3 if name in ("loss", "bits") else 2
    ends = one.interval()
    if ends is None or name == "loss":
        return f"{one.mean:.{digits}f}"
    return f"{one.mean:.{digits}f} \N{PLUS-MINUS SIGN}{(ends.high - ends.low) / 2:.{digits}f}"


def _share(one: Measured | None) -> str:
    if one is None:
        return ""
    ends = one.share_interval()
    return f"{one.mean:.2f} {ends.low:.2f}-{ends.high:.2f}"


def show_growth(found: Sequence[Growth]) -> None:
    """How each grade grows, and where a curve would end."""
    if not found:
        show("How grades grow takes four models with grades, of four sizes.")
        return
    has_curves = any(one.curve is not None for one in found)
    show_table(
        [
            "<grades of>",
            "<grade>",
            "<by>",
            "sizes",
            "for ten times",
            *(["curve ends at", "<told>"] * has_curves),
        ],
        [
            [
                one.source,
                one.measure,
                one.by,
                str(one.n_cells),
                f"{one.tenfold:+.2f} [{one.low:+.2f}, {one.high:+.2f}]",
                *([_end(one), "yes" if one.curve and one.curve.told else "no"] if has_curves else []),
            ]
            for one in found
        ],
    )
    show(
        "for ten times the size, by a straight line in its logarithm; of loss: for one bit per byte less."
        + (
            "\ntold: whether the models tell a saturating curve, which ends there, from the line."
            if has_curves
            else ""
        )
        + "\n"
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
    if one.curve is None:
        return ""
    ends = one.curve.top_interval
    return f"{one.curve.top:.2f} [{ends.low:.2f}, {ends.high:.2f}]"
