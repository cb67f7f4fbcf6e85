"""The report of ``head_kinds.py``: kinds by model and layer, the test of two kinds, what it could have seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markdown_table import table

from tslens.probes.kinds.report import KINDS, SHARES, HeadKind, Interval, Share
from tslens.probes.kinds.rule import kind_numbers
from tslens.probes.kinds.two_kinds import TwoKinds

STRONGEST = 3
LABELS = {
    "unique_distance": "distance alone",
    "unique_tokens": "tokens alone",
    "shared": "shared",
    "unexplained": "unexplained",
}


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model."""

    label: str
    header: Mapping[str, Any]
    heads: Sequence[HeadKind]

    @property
    def shape(self) -> str:
        """The model without its seed."""
        return self.label.partition("@")[0]

    def mean(self, share: Share) -> str:
        """Mean over heads that are not even, and the spread."""
        values = np.array([one.shares[share].value for one in self.heads if one.nearest != "even"])
        return f"{values.mean():.2f} ± {values.std():.2f}" if len(values) else ""


def kinds_by_model(saved: Sequence[Saved]) -> str:
    """How many heads of each kind, how many beyond the random twins, and what explains them on average."""
    rows = []
    for one in saved:
        count = Counter(head.kind for head in one.heads)
        shares: list[Share] = list(SHARES[:4])
        rows.append(
            [
                one.label, str(len(one.heads)), str(sum(head.beyond_twins for head in one.heads)),
                *(str(count[kind]) for kind in KINDS), *(one.mean(share) for share in shares),
            ]
        )  # fmt: skip
    return table(["model", "heads", "beyond twins", *KINDS, *LABELS.values()], rows)


def at_floors(saved: Sequence[Saved]) -> str:
    """Kinds without regard to errors, at half, once and double the floors."""
    rows = []
    for name, floors in (("half the floors", 0.5), ("the floors", 1.0), ("double", 2.0)):
        count: Counter[str] = Counter()
        for one in saved:
            total = np.array([head.total.value for head in one.heads])
            shares = np.array([[head.shares[share].value for share in SHARES] for head in one.heads])
            count.update(KINDS[i] for i in kind_numbers(total, shares, floors=floors))
        rows.append([name, *(str(count[kind]) for kind in KINDS if kind != "unclear")])
    return table(["", *(kind for kind in KINDS if kind != "unclear")], rows)


def by_layer(saved: Sequence[Saved]) -> str:
    """What explains the heads of each layer, by depth of the model."""
    rows = []
    for n_layers in sorted({1 + max(head.head.layer for head in one.heads) for one in saved}):
        mine = [one for one in saved if 1 + max(head.head.layer for head in one.heads) == n_layers]
        for layer in range(n_layers):
            heads = [head for one in mine for head in one.heads if head.head.layer == layer]
            kept = Saved("", {}, heads)
            shares: list[Share] = list(SHARES[:4])
            count = Counter(head.kind for head in heads)
            rows.append(
                [
                    str(n_layers), str(layer), str(len(heads)), str(sum(head.beyond_twins for head in heads)),
                    *(kept.mean(share) for share in shares), *(str(count[kind]) for kind in KINDS),
                ]
            )  # fmt: skip
    return table(["layers", "layer", "heads", "beyond twins", *LABELS.values(), *KINDS], rows)


def strongest(saved: Sequence[Saved]) -> Iterator[str]:
    """The clearest heads of each kind."""
    names: dict[str, Share] = {
        "positional": "unique_distance",
        "syntactic": "parts_of_speech",
        "semantic": "words",
        "mixed": "unexplained",
    }
    for kind, share in names.items():
        heads = [(head, one) for one in saved for head in one.heads if head.kind == kind]
        heads.sort(key=lambda found: -found[0].shares[share].value)
        if heads:
            told = ", ".join(
                f"{head.head} of {one.label} ({head.shares[share].value:.2f}; {head.total.value:.1f} nats)"
                for head, one in heads[:STRONGEST]
            )
            yield f"- {kind}, most {share.replace('_', ' ')}: {told}\n"


def interval(value: Interval) -> str:
    """A value with its 95% interval."""
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def of_test(axis: str, found: TwoKinds) -> list[str]:
    """A row of the table of the test."""
    return [
        axis, f"{found.n_heads} in {found.n_strata}", f"{found.p:.3f}", f"{found.pooled_p:.3f}",
        interval(found.between), f"{found.components_p:.3f}", interval(found.ashman),
        "none" if found.seen_from is None else f"{found.seen_from:g}", found.verdict,
    ]  # fmt: skip


def planted(found: TwoKinds) -> str:
    """How often the dip test rejects one mode where the truth is known."""
    rows = [
        [one.truth, "" if one.distance is None else f"{one.distance:g}", f"{100 * one.found:.0f}%"]
        for one in found.planted
    ]
    return table(["truth", "distance of the clusters", "one mode rejected"], rows)


def growth(few: Sequence[HeadKind], more: Sequence[HeadKind]) -> str:
    """How shares change with more stories."""
    rows = []
    for share in SHARES:
        change = np.array(
            [b.shares[share].value - a.shares[share].value for a, b in zip(few, more, strict=True)]
        )
        mean = np.mean([one.shares[share].value for one in few])
        rows.append(
            [share.replace("_", " "), f"{mean:.3f}", f"{change.mean():+.3f}", f"{np.abs(change).max():.3f}"]
        )
    same = sum(a.nearest == b.nearest for a, b in zip(few, more, strict=True))
    return (
        table(["share", "mean", "mean change", "largest change of a head"], rows)
        + f"Of {len(few)} heads {same} keep their kind, errors left aside.\n\n"
    )


def of_kinds(saved: Sequence[Saved]) -> str:
    """How many heads of each kind are beyond the random twins, in words."""
    heads = [head for one in saved for head in one.heads]
    told = [
        f"{sum(head.beyond_twins for head in heads if head.kind == kind)} of {n} {kind}"
        for kind in KINDS
        if (n := sum(head.kind == kind for head in heads))
    ]
    return ", ".join(told)


def of_random(twins: Sequence[Saved]) -> str:
    """What kinds the heads of random twins are, as the end of a sentence."""
    count = Counter(head.kind for one in twins for head in one.heads)
    told = ", ".join(f"{n} {kind}" for kind, n in count.most_common())
    return (
        f", but only if random heads are of this kind: of {count.total()} that were read in full, {told}"
        if told
        else ""
    )


def of_verdict(found: TwoKinds) -> str:
    """The figures of a verdict."""
    seen = (
        f"from a distance of {found.seen_from:g} of their deviations on"
        if found.seen_from is not None
        else f"at no distance up to {max(one.distance or 0 for one in found.planted):g}"
    )
    return (
        f"On the balance of {found.n_heads} heads in {found.n_strata} shapes the test of one mode gives "
        f"p = {found.p:.3f}; {interval(found.between)} of them lie in the middle third, where an even spread has 0.33. "
        f"The test finds two clusters in 80% of simulations {seen}."
    )


def write_report(
    saved: Sequence[Saved], twins: Sequence[Saved], more: Saved | None, tests: Mapping[str, TwoKinds]
) -> Iterator[str]:
    """The report, piece by piece."""
    balance, within, beyond = (tests[f"balance{kept}"] for kept in ("", ", within layers", ", beyond twins"))
    header = saved[0].header
    n_heads = sum(len(one.heads) for one in saved)
    n_beyond = sum(head.beyond_twins for one in saved for head in one.heads)
    yield "# Kinds of head\n\nWritten by `analysis/head_kinds.py`. Terms: `docs/methods.md`, *Kinds of head*.\n\n"
    yield (
        f"{n_heads} heads of {len(saved)} shipped models; {header['n_stories']} stories of {header['stories']} (sha256 "
        f"{header['data_sha256']}), each half read by predictors fitted on the other; seed {header['seed']}.\n\n"
    )
    yield (
        f"**Beyond random twins: {n_beyond} of {n_heads} heads, {of_kinds(saved)}.** Such a head is farther from even "
        "attention than every head, of any layer, of five random twins of its model: a hard test for the lower layers "
        "of deep models. The kind of any other head may be that of one that learned nothing"
        f"{of_random(twins)}.\n\n"
    )
    yield (
        f"**Two kinds, clearly apart? Verdict: {balance.verdict}.** {of_verdict(balance)} With each layer of a shape "
        f"as a stratum, where layers that differ do not count, p = {within.p:.3f}.\n\n"
        f"**On the heads beyond random twins alone: {beyond.verdict}.** {of_verdict(beyond)}\n\n"
    )
    yield "![Heads by what explains their attention](kinds.svg)\n\n"
    columns = [
        "axis",
        "heads, shapes",
        "p of one mode",
        "the same, pooled",
        "in the middle third",
        "p of one normal",
        "Ashman's D",
    ]
    rows = [of_test(axis, found) for axis, found in tests.items()]
    yield (
        "## The test\n\nThe first two rows were planned. The third, each layer of a shape a stratum, was added when "
        "the first model showed that its layers differ: it asks for two kinds within a layer. The last, of the heads "
        "beyond random twins alone, was added when all was measured: heads that learned nothing have a kind "
        "too (*Random twins*) and may make up one of two.\n\n"
    )
    yield table([*columns, "seen from", "verdict"], rows)
    yield f"With shapes of these sizes and the errors that were measured, on the balance:\n\n{planted(balance)}"
    yield (
        "## By model\n\nHeads of each kind; shares of the total, mean ± deviation over heads that are not even.\n\n"
        f"{kinds_by_model(saved)}"
    )
    yield f"Kinds without regard to errors:\n\n{at_floors(saved)}"
    yield "The clearest of each kind:\n\n" + "".join(strongest(saved)) + "\n"
    yield (
        "## By layer\n\nTokens and positions decide all of layer 0: what is unexplained there is what the form of the "
        f"predictors and so few stories miss.\n\n{by_layer(saved)}"
    )
    if twins:
        yield (
            "## Random twins\n\nModels whose tensors were redrawn with the trained means and deviations: what kinds "
            f"there are where nothing was learned. Scores are made of tokens from the start: that words explain a head "
            f"does not say that it learned to look for them.\n\n{kinds_by_model(twins)}"
        )
        of_twins = ", ".join(f"{one.header['twins']:.2f} ({one.label})" for one in saved)
        yield f"Largest total over the heads of five twins of each model, nats per query: {of_twins}.\n\n"
    if more is not None:
        few = next(one for one in saved if one.label == more.label)
        yield (
            f"## More stories\n\n{more.label} with {more.header['n_stories']} stories instead of "
            f"{few.header['n_stories']}.\n\n{growth(few.heads, more.heads)}"
        )
