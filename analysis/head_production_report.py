"""What the study of produced classes writes: one report of all models that its folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from markdown_table import table
from scipy.stats import spearmanr

from tslens.cli.audit_production import CASE_SCHEMA
from tslens.cli.produces import shown_class
from tslens.files import read_jsonl
from tslens.probes.production.classes import CLOSING, COPYING
from tslens.probes.production.report import RANK, Produced, Way, strength
from tslens.types import HeadId

WAYS = get_args(Way)
PAPER = {"nouns": ("NOUN",), "verbs": ("VERB",), "punctuation": ("PUNCT", CLOSING)}
STATUSES = ("role", "candidate", "unclear", "no")
MOST_WORDS = 12  # of a table
MIN_HEADS = 4  # for a rank correlation


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model and one way to read contributions."""

    name: str
    header: Mapping[str, Any]
    rows: Sequence[Produced]

    @property
    def way(self) -> str:
        """Which contributions were read."""
        way: str = self.header["way"]
        return way

    @property
    def heads(self) -> list[HeadId]:
        """In order."""
        return sorted({row.head for row in self.rows})

    def of_class(self, *names: str, kind: str = "part") -> list[Produced]:
        """The rows of some classes, best first."""
        return sorted((row for row in self.rows if row.kind == kind and row.name in names), key=strength)

    def specialists(self, *names: str) -> list[Produced]:
        """Heads with a role for one of these parts of speech, and for no other a role of larger value; best first."""
        largest: dict[HeadId, Produced] = {}
        for row in self.rows:
            if row.kind == "part" and row.status == "role":
                best = largest.get(row.head)
                largest[row.head] = row if best is None or row.value > best.value else best
        return sorted((row for row in largest.values() if row.name in names), key=strength)


def basis(row: Produced) -> str:
    """Of a candidate that was asked: what the head's value rests on."""
    return row.basis or "open"


def figures(row: Produced) -> str:
    """One row in words and figures."""
    null = max(row.nulls.values())
    told = (
        f"{row.head} {row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}] nats against {null:+.2f}, corrected lower "
        f"end of the excess {row.excess_low:+.2f}"
    )
    if row.lexical is not None:
        told += f"; the current token alone gives {row.lexical:+.2f}, so {basis(row)}"
    if row.says is not None:
        told += f"; it says so at {row.says:.0%} of them"
    if row.cause is not None:
        low = f" (lower end {row.cause['low']:+.3f})" if "low" in row.cause else ""
        told += f"; ablation there costs {row.cause['beyond']:+.3f} nats beyond the others{low}"
    return f"{told}; {row.status}"


def answers(one: Saved) -> Iterator[str]:
    """The paper's three kinds, one paragraph each."""
    for plural, names in PAPER.items():
        rows = one.of_class(*names)
        if not rows:
            yield f"- **Heads that specialise in {plural}: not asked**, as too few stories have any.\n"
            continue
        best, n_heads = one.specialists(*names), len(one.heads)
        n_roles = len({row.head for row in rows if row.status == "role"})
        if best:
            more = n_roles - len(best)
            others = f" {more} more have a role for them, and for another part a larger one." if more else ""
            yield (
                f"- **Heads that specialise in {plural}: yes**, {len(best)} of {n_heads}.{others} The best, for "
                f"{best[0].name}: {figures(best[0])}.\n"
            )
        elif n_roles:
            yield (
                f"- **Heads that specialise in {plural}: no**, but {n_roles} of {n_heads} have a role for them, and "
                f"for another part a larger one. The best, for {rows[0].name}: {figures(rows[0])}.\n"
            )
        else:
            yield (
                f"- **Heads that specialise in {plural}: no.** The nearest of {n_heads}, for {rows[0].name}: "
                f"{figures(rows[0])}.\n"
            )


def parts(one: Saved) -> str:
    """Each part of speech: how many heads of each status, specialists, the best head."""
    lines = []
    for name in dict.fromkeys(row.name for row in one.rows if row.kind == "part"):
        rows = one.of_class(name)
        status = Counter(row.status for row in rows)
        lines.append(
            [
                name, *(str(status[each]) for each in STATUSES),
                ", ".join(str(row.head) for row in one.specialists(name)) or "-", *_best(rows[0]),
            ]
        )  # fmt: skip
    return table(["next", *STATUSES, "specialists", *_BEST], lines)


_BEST = ("best head", "value", "excess, lower end", "its current token alone", "says so", "ablation")


def _best(row: Produced) -> list[str]:
    return [
        str(row.head),
        f"{row.value:+.2f} [{row.low:+.2f}, {row.high:+.2f}]",
        f"{row.excess_low:+.2f}",
        "" if row.lexical is None else f"{row.lexical:+.2f} ({basis(row)})",
        "" if row.says is None else f"{row.says:.0%}",
        "" if row.cause is None else f"{row.cause['beyond']:+.3f}",
    ]


def words(one: Saved) -> str:
    """The words that heads raise most beyond words of the same part of speech."""
    names = dict.fromkeys(row.name for row in one.rows if row.kind == "word")
    best = sorted((one.of_class(name, kind="word") for name in names), key=lambda rows: strength(rows[0]))
    lines = [
        [f"`{shown_class(rows[0])}`", str(sum(row.status == "role" for row in rows)), *_best(rows[0])]
        for rows in best[:MOST_WORDS]
    ]
    n_found = sum(rows[0].status == "role" for rows in best)
    return f"{n_found} of {len(best)} words have a head with a role.\n\n" + table(
        ["next", "roles", *_BEST], lines
    )


def copying(one: Saved) -> str:
    """Heads that raise what they attend to, and whether weights alone tell them."""
    rows = one.of_class(COPYING, kind="copying")
    status = Counter(row.status for row in rows)
    counted = ", ".join(f"{status[each]} {each}" for each in STATUSES)
    told = f"Heads that raise what they attend to: {counted}.\n\n"
    both = np.array([(row.value, row.beside["eigenvalues"]) for row in rows if row.beside]).reshape(-1, 2)
    if len(both) >= MIN_HEADS:
        rank = float(spearmanr(both[:, 0], both[:, 1]).statistic)
        most = next(row.beside["eigenvalues_twins"] for row in rows if row.beside)
        above = int((both[:, 1] > most).sum())
        told += (
            f"By the eigenvalues of the OV circuit, {above} of {len(both)} are above the largest of the twins "
            f"({most:+.2f}); rank correlation with the value on stories {rank:+.2f}.\n\n"
        )
    lines = [
        [
            *_best(row)[:3], f"{row.nulls['moved']:+.2f}",
            f"{row.beside['eigenvalues']:+.2f}" if row.beside else "", row.status, _best(row)[5],
        ]
        for row in rows[:6]
    ]  # fmt: skip
    names = ["head", *_BEST[1:3], "other tokens of the story", "eigenvalues", "status", _BEST[5]]
    return told + table(names, lines)


def summary(saved: Sequence[Saved]) -> str:
    """The paper's claim, model by model, and heads by their best row."""
    lines, counts = [], []
    for one in saved:
        cells = []
        for names in PAPER.values():
            with_role = {row.head for row in one.of_class(*names) if row.status == "role"}
            cells.append(f"{len(one.specialists(*names))} ({len(with_role)})")
        lines.append([one.name, one.way, str(len(one.heads)), *cells])
        best = Counter(
            max(
                (row.status for row in one.rows if row.head == head and row.kind == "part"),
                key=RANK.__getitem__,
            )
            for head in one.heads
        )
        at = one.header["counts_at_floors"]
        floors = [str(at[name]) for name in ("half", "floor", "double")]
        counts.append([one.name, one.way, *(str(best[status]) for status in STATUSES), *floors])
    floor_names = ("at half the floor", "at the floor", "at double")
    return (
        "Specialists, and in brackets all heads with a role for it:\n\n"
        + table(["model", "contribution", "heads", *PAPER], lines)
        + "Heads by their best part of speech; candidates for anything (words and copying too) by floor:\n\n"
        + table(["model", "contribution", *STATUSES, *floor_names], counts)
    )


def _confirmed(saved: Sequence[Saved]) -> str:
    """How many candidates the ablation confirms after either way, in words."""
    told = []
    for way in WAYS:
        rows = [row for one in saved if one.way == way for row in one.rows if row.cause is not None]
        n_roles = sum(row.status == "role" for row in rows)
        told.append(f"{n_roles} of {len(rows)} candidates by {way} contributions")
    return f"The ablation confirms {' and '.join(told)}."


def _by_total_alone(saved: Sequence[Saved]) -> str:
    """Models that have specialists by total contributions and none by direct ones, in words."""
    paper = [name for names in PAPER.values() for name in names]
    found = {(one.name, one.way): len(one.specialists(*paper)) for one in saved}
    alone = [
        f"`{name}` ({n})"
        for (name, way), n in found.items()
        if way == "total" and n and found.get((name, "direct")) == 0
    ]
    return (
        f", and all specialists of nouns, verbs or punctuation in {', '.join(alone)} come from it alone"
        if alone
        else ""
    )


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the heads of the shipped models produce\n\n"
    yield (
        "Written by `analysis/head_production.py`. Terms: `docs/methods.md`, *What heads produce*. Nats of logit at "
        "places where the class comes next, beyond like places of the same story. *Direct*: what the head adds by "
        "itself, the scale of the last LayerNorm frozen. *Total*: what the logits lose when the head's mean is put in "
        "its place, MLPs and later layers included.\n\n"
    )
    yield (
        "How to read it. A *role* asks that ablation costs loss where the head says so. After *direct* contributions "
        "that is a test by another intervention. After *total* ones it is nearly circular: it is the same ablation, "
        "read in the loss of the same tokens, at places that were chosen as it raised their logits. So a role by "
        f"*total* is no independent finding of a cause{_by_total_alone(saved)}. {_confirmed(saved)} "
        "A *specialist* is counted under the part of speech of its largest role in raw nats. Nats of different "
        "classes are not on one scale (a narrow class can be raised further than a broad one), so under which part a "
        "head with several roles is counted is a convention. *Open*: neither the value that the current token alone "
        "gives nor the value beyond it could be shown to reach the floor, nor that the second does not.\n\n"
    )
    yield summary(saved)
    for one in saved:
        header = one.header
        yield f"## {one.name}, {one.way}\n\n"
        yield (
            f"{header['n_stories']} stories of {header['stories']} (sha256 {header['data_sha256']}), basis and causes "
            f"on {header['n_explained']}, a 4-gram counted on {header['n_counted']} others, seed {header['seed']}, "
            f"floor {header['floor']:g} nats. Rows: `{one.name}.{one.way}.jsonl`.\n\n"
        )
        if header["left_out"]:
            names = ", ".join(f"`{name}`" for name in header["left_out"])
            yield f"Left out, as too few stories have them with a match: {names}.\n\n"
        yield f"### The paper's heads\n\n{''.join(answers(one))}\n"
        yield f"### Parts of speech\n\n{parts(one)}"
        yield f"### Words, against words of the same part of speech\n\n{words(one)}"
        yield f"### Copying\n\n{copying(one)}"


def audited(path: Path) -> str:
    """What the audit found, where it was run into the same folder."""
    if not path.exists():
        return ""
    header, cases = read_jsonl(path, CASE_SCHEMA)
    lines = []
    for one in header["checks"]:
        sign = ">=" if one["sense"] == "at least" else "<="
        found = "none" if one["found"] is None else f"{one['found']:.3f}"
        outcome = "holds" if one["passed"] else "**FAILS**"
        lines.append(
            [
                one["part"],
                one["name"],
                f"{sign} {one['asked']:g}",
                found,
                str(one["n_cases"]),
                outcome,
                one["note"],
            ]
        )
    n_failed = sum(not one["passed"] for one in header["checks"])
    size = Counter((one["part"], one["way"]) for one in cases)
    told = ", ".join(f"{n} cases {part} ({way})" for (part, way), n in size.items())
    return (
        "## Where the truth is known (`tslens audit production`)\n\n"
        f"Stories {header['stories']}, seed {header['seed']}: {told}. "
        f"{len(lines) - n_failed} of {len(lines)} checks hold; {n_failed} failed.\n\n"
    ) + table(["part", "check", "asked", "found", "of", "outcome", "note"], lines)
