"""What ``analysis/head_programs.py`` writes from its files: the report on programs of heads and on swaps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_table import table

from tslens.probes.programs.report import RANK, Estimate, HeadPrograms, ProgramsReport, perplexity
from tslens.probes.programs.swaps import READOUTS
from tslens.viz.heads_words import words

KINDS = {
    "even": "even attention and position 0", "profile": "distance alone", "role": "the role of the scan",
    "composed": "composed of roles", "tokens": "tokens and distance",
}  # fmt: skip
METHODS = {
    "role": "the role of the scan", "program": "composed program", "tokens": "tokens and distance",
    "profile": "distance alone", "mean": "mean by position", "other": "of another story",
    "shuffled": "own, keys shuffled", "uniform": "uniform", "zero": "nothing",
    "mean - role": "saved by the role against the mean", "mean - program": "saved by the program against the mean",
    "profile - program": "saved by the program against distance alone",
}  # fmt: skip
ALONE = {
    "profile": "distance alone", "mean": "mean", "other": "of another story", "shuffled": "own, shuffled",
    "uniform": "uniform", "zero": "nothing",
}  # fmt: skip
MOST_NAMES = 3
GROUPS = ("best quarter", "labelled", "all")
STATUSES = sorted(RANK, key=lambda status: -RANK[status])


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model. ``labels``: what its heads' roles were found on."""

    name: str
    header: Mapping[str, Any]
    report: ProgramsReport
    labels: str


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


def against(saved: Estimate, what: str) -> str:
    """Whether a pattern costs less than another, or more; ``saved``: the difference with its interval."""
    if saved.low > 0:
        return f"{interval(saved)} less than {what}"
    if saved.high < 0:
        return f"{interval(Estimate(-saved.value, -saved.high, -saved.low))} more than {what}"
    return f"as much as {what}, within {max(-saved.low, saved.high):.3f}"


def answer(saved: Sequence[Saved]) -> str:
    """The verdict over all models, in one paragraph."""
    rows = [head for one in saved for head in one.report.heads]
    of = {status: [row for row in rows if row.status == status] for status in STATUSES}
    bare = sum(not _has_steps(row) for row in of["candidate"])
    best = ", ".join(
        f"{one.name} {row.head} ({_composed(row)})"
        for one in saved
        for row in one.report.best_first()
        if row.status == "role"
    )
    return (
        f"**Are heads their roles? Of {len(rows)} heads {len(of['role'])} are a role{': ' + best if best else ''}; "
        f"{len(of['candidate'])} are candidates, {bare} of them distance alone, which is a candidate at most; "
        f"{len(of['unclear'])} are unclear, {len(of['no'])} are not.** A role's program costs less in the head's place "
        "than uniform attention, distance alone, the head's mean pattern, its pattern in another story, and its own "
        "weights shuffled.\n\n"
    )


def _composed(head: HeadPrograms) -> str:
    score = head.score("composed")
    assert score is not None
    return score.program


def _has_steps(head: HeadPrograms) -> bool:
    return " + " in _composed(head)


def headline(one: Saved) -> str:
    """The answer for a model."""
    report = one.report
    by = {kind: report.explained_by("all", kind) for kind in ("composed", "profile", "tokens")}
    every, twins = by["composed"], report.explained_by("twins", "composed")
    assert every is not None and twins is not None
    beside = {KINDS[kind]: row.share.value for kind, row in by.items() if row and row is not every}
    others = ", ".join(f"{kind} {share:.0%}" for kind, share in beside.items())
    lines = [
        f"- **{one.name}**: composed programs explain {every.share.value:.0%} [{every.share.low:.0%}, "
        f"{every.share.high:.0%}] of the attention of all {every.n_heads} heads ({others}; random twins "
        f"{max(0.0, twins.share.value):.0%}), IoU {every.iou.value:.2f}."
    ]
    for group, method, what in (
        ("labelled", "role", "labelled heads, each as its role alone"),
        ("labelled", "program", "labelled heads, each as its composed program"),
        ("all", "program", "heads, each as its composed program"),
    ):  # fmt: skip
        swapped, saved = report.swap(group, method), report.swap(group, f"mean - {method}")
        if swapped:
            effect = swapped["all"]
            n_heads = next(row.n_heads for row in report.groups if row.group == group)
            there = [name for name in READOUTS[1:] if name in saved]
            rest = "; ".join(f"at {name} {against(saved[name], 'these')}" for name in there)
            lines.append(
                f"  - All {n_heads} {what}: loss {interval(effect, signed=True)} nats (perplexity "
                f"{perplexity(effect.value):+.0%}), {against(saved['all'], 'their mean patterns')}; {rest}."
            )
    return "\n".join([*lines, *(f"  - {line}" for line in closing(report))]) + "\n"


def closing(report: ProgramsReport) -> Iterator[str]:
    """What the steps do at closing marks, and which heads do it; nothing without swaps."""
    whole = report.swap("all", "profile - program").get("closing marks")
    if whole is None:
        return
    text = f"At closing marks the steps of all programs cost {against(whole, 'distance alone')}."
    alone = ((head.effect("profile - program", "closing marks"), head) for head in report.heads)
    found = [(saved, head) for saved, head in alone if saved is not None and saved.high < 0]
    worse = sorted(found, key=lambda one: one[0].value)
    if whole.high < 0 and worse:
        named = "; ".join(_at_closing(head, saved) for saved, head in worse[:MOST_NAMES])
        text += (
            f" Of heads swapped alone the steps of {len(worse)} cost more there (intervals not corrected), "
            f"{-sum(saved.value for saved, _ in worse):.3f} in sum; the most: {named}."
        )
    yield text


def _at_closing(head: HeadPrograms, saved: Estimate) -> str:
    own, distance = (head.effect(method, "closing marks") for method in ("program", "profile"))
    assert own is not None and distance is not None
    return (
        f"{head.head} ({_composed(head)}) {against(saved, 'that')}: {own.value:+.3f} instead of {distance.value:+.3f} "
        "from the clean loss"
    )


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
                rest = [interval(found.get(name), signed=True) for name in READOUTS[1:]]
                rows.append(
                    [
                        f"{group} ({n_heads})", what, interval(effect, signed=True),
                        "" if " - " in method else f"{perplexity(effect.value):+.1%}", *rest,
                    ]
                )  # fmt: skip
    at = [f"at {name}" for name in READOUTS[1:]]
    return table(["heads", "pattern", "loss", "perplexity", *at], rows)


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
    return table([*names, "program", *ALONE.values()], rows)


def heads_at_readouts(report: ProgramsReport) -> str:
    """Every head alone at each readout, those whose programs have steps first."""
    rows = []
    for head in sorted(report.best_first(), key=_has_steps, reverse=True):
        cells = [
            *(interval(head.effect("program", name), signed=True) for name in READOUTS[1:]),
            *(interval(head.effect("mean - program", name), signed=True) for name in READOUTS[1:]),
            interval(head.effect("profile - program", "closing marks"), signed=True),
        ]
        rows.append([str(head.head), _composed(head), *cells])
    names = [f"{what} at {name}" for what in ("cost", "against the mean") for name in READOUTS[1:]]
    return table(["head", "composed program", *names, "against distance alone at closing marks"], rows)


def _nulls(nulls: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in nulls.items())


def _effects(head: HeadPrograms) -> list[str]:
    effects = [head.effect(method) for method in ("program", *ALONE)]
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
    names = ["head", "role", "program", "IoU", "nulls", "excess, lower end", "share"]
    return table([*names, "swap: all", "swap: served"], rows) if rows else "No head is labelled.\n\n"


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# Heads as programs\n\n"
    yield "Written by `analysis/head_programs.py`. Terms: `docs/methods.md`, *Programs of heads*.\n\n"
    yield answer(saved)
    read = (f"{one.report.n_stories} stories of {one.header['stories']}" for one in saved)
    labels = "; ".join(dict.fromkeys(one.labels for one in saved))
    yield f"Roles of labelled heads: from {labels}. Programs: of {'; '.join(dict.fromkeys(read))}.\n\n"
    yield "".join(map(headline, saved)) + "\n"
    yield f"Heads by status, and how many reach each share (lower end):\n\n{statuses(saved)}"
    yield f"What programs explain, on stories that they were not fitted on:\n\n{shares(saved)}"
    for one in saved:
        header, report = one.header, one.report
        clean = ", ".join(f"{name} {value:.3f}" for name, value in report.clean.items())
        yield f"## {one.name}\n\n"
        yield (
            f"{report.n_stories} stories of {header['stories']} (sha256 {header['data_sha256']}): fitted on "
            f"{report.n_fitted} (the predictor from tokens and distance on {report.n_tokens} of them), read on "
            f"{report.n_read} others, swapped on {report.n_swapped} of these, {report.n_excluded} training stories "
            f"left out, seed {report.seed}. Clean loss in nats: {clean}. Rows: `{one.name}.jsonl`.\n\n"
        )
        yield f"### Heads swapped at once\n\nLoss minus clean loss, nats per target.\n\n{swaps(report)}"
        yield (
            "### Every head\n\nThe last columns: loss with this head alone swapped for its composed program or another "
            "pattern. Distance alone: only where the program has steps, as it is the program elsewhere.\n\n"
            f"{heads(report)}"
        )
        yield (
            "### Every head alone, at names, pronouns, closing marks\n\nCost: loss with the composed program minus "
            "clean loss. Against: what the program saves, negative where it costs more.\n\n"
            f"{heads_at_readouts(report)}"
        )
        yield f"### The labelled heads, each as its role alone\n\n{roles(report)}"
