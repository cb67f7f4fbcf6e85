"""The report of ``analysis/weights_alone.py``, from the files of all models that its folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tslens.probes.results import load_head_scores
from tslens.probes.weights.agreement import ranks_first_is_1
from tslens.probes.weights.report import Agreement, WeightScore
from tslens.probes.weights.results import load_weights

SCORES = ("qk", "nats", "top", "stream", "stream_nats", "copy", "next")
MEASURES = ("value", "beyond_distance", "excess", "edge", "mean", "mean_beyond")
CLOSELY = 0.5  # rank correlation: its lower end above it is called close
N_SHOWN = 12
POSITIVE = ("role", "candidate")


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model. ``basis``: of each row that attention calls a role or candidate."""

    name: str
    header: Mapping[str, Any]
    scores: Sequence[WeightScore]
    agreements: Sequence[Agreement]
    basis: Mapping[tuple[str, str, str], str]

    @classmethod
    def load(cls, folder: Path, heads: Path, name: str) -> Saved:
        """From its files, and those of its attention scores."""
        header, scores, agreements = load_weights(folder / f"{name}.jsonl")
        path = heads / f"{name}.jsonl"
        rows = load_head_scores(path)[1] if path.exists() else []
        basis = {
            (str(row.head), row.probe, row.position): row.basis
            for row in rows
            if row.status in POSITIVE and row.basis is not None
        }
        return cls(name, header, scores, agreements, basis)

    def mean(self, score: str, measure: str, layer: int | None = None) -> Agreement | None:
        """The mean over relations."""
        return next(
            (
                row
                for row in self.agreements
                if row.probe is None and (row.score, row.measure, row.layer) == (score, measure, layer)
            ),
            None,
        )

    @property
    def layers(self) -> list[int | None]:
        """All heads first, then each layer that has correlations of its own."""
        return list(dict.fromkeys(row.layer for row in self.agreements if row.probe is None))

    @property
    def measured(self) -> list[WeightScore]:
        """Rows with an attention score, the largest difference of ranks first."""
        rows = [score for score in self.scores if score.measured is not None]
        return sorted(rows, key=lambda row: -abs(row.measured.gap if row.measured else 0.0))


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [names, ["---"] * len(names), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def words(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def rho(row: Agreement | None, *, interval: bool = True) -> str:
    """A correlation with its interval and a star where it is beyond chance."""
    if row is None:
        return ""
    ends = f" [{row.low:+.2f}, {row.high:+.2f}]" if interval else ""
    return f"{row.spearman:+.2f}{ends}{'*' if row.p < 0.05 else ''}"


def by_layer(one: Saved) -> str:
    """Agreement with attention within each layer, with embeddings and with the mean residual stream."""
    found = [
        f"layer {layer} {rho(one.mean('qk', 'value', layer))}, {rho(one.mean('stream_nats', 'value', layer))}"
        for layer in one.layers
        if layer is not None
    ]
    told = "; ".join(found)
    return (
        f" By attention within a layer, from embeddings and from the mean residual stream: {told}."
        if found
        else ""
    )


def answers(saved: Sequence[Saved]) -> Iterator[str]:
    """One line a model."""
    for one in saved:
        row = one.mean("qk", "value")
        if row is None:
            continue
        verdict = "no"
        if row.low > CLOSELY:
            verdict = "yes"
        elif row.low > 0:
            verdict = "in part"
        others = {
            "by attention beyond the head's own distance profile": "beyond_distance",
            "by the edge effect": "edge",
            "by mean ablation": "mean",
        }
        told = ", ".join(
            f"{how} {rho(one.mean('qk', name)) or '(not measured)'}" for how, name in others.items()
        )
        yield (
            f"- **{one.name}: {verdict}.** By attention {rho(row)} (mean over {row.n_relations} relations of the rank "
            f"correlation over {row.n_heads} heads, 95% interval over heads), Kendall {row.kendall:+.2f}; {told}."
            f"{by_layer(one)}\n"
        )
    yield f"\n`yes`: the lower end is above {CLOSELY:g}; `in part`: above 0.\n\n"


def means(saved: Sequence[Saved]) -> str:
    """Mean rank correlations of every score with every measure."""
    parts = []
    for one in saved:
        for layer in one.layers:
            where = "all heads" if layer is None else f"layer {layer}"
            for score in SCORES if layer is None else ("qk", "nats", "stream_nats"):
                cells = [
                    rho(one.mean(score, measure, layer), interval=measure == "value") for measure in MEASURES
                ]
                parts.append([one.name, where, words(score), *cells])
    return table(["model", "heads", "from weights", *map(words, MEASURES)], parts)


def named(rows: Sequence[WeightScore]) -> str:
    """Heads and relations in words."""
    return "; ".join(f"{row.head} {words(row.probe)} {row.position}" for row in rows) or "none"


def found(one: Saved) -> Iterator[str]:
    """What weights find of what attention finds, by layer and basis."""
    rows = one.measured
    positive = [row for row in rows if row.measured and row.measured.status in POSITIVE]
    by_weights = [row for row in rows if row.qk.status == "candidate"]
    both = [row for row in positive if row.qk.status == "candidate"]
    at = one.header["counts_at_floors"]
    yield (
        f"Of {len(positive)} rows (a head, a relation, a position) that attention calls candidate or role, weights "
        f"alone call {len(both)} a candidate; of {len(by_weights)} candidates by weights, attention has {len(both)}. "
        f"At half the floor {at['half']} are candidates by weights, at double {at['double']}.\n\n"
    )
    only = [row for row in by_weights if row not in both]
    missed = [row for row in positive if row not in both]
    yield f"Only by weights: {named(only)}. Only by attention: {named(missed)}.\n\n"
    groups: dict[tuple[int, str], list[bool]] = {}
    for row in positive:
        basis = one.basis.get((str(row.head), row.probe, row.position), "not known")
        groups.setdefault((row.head.layer, basis), []).append(row.qk.status == "candidate")
    lines = [
        [str(layer), basis, str(len(yes)), str(sum(yes))] for (layer, basis), yes in sorted(groups.items())
    ]
    if lines:
        yield table(["layer", "basis by attention", "rows", "also by weights"], lines)


def relations(one: Saved) -> str:
    """Rank correlations of each relation."""
    by_relation: dict[tuple[str, str], dict[tuple[str, str], Agreement]] = {}
    for row in one.agreements:
        if row.probe is not None:
            by_relation.setdefault((row.probe, str(row.position)), {})[row.score, row.measure] = row
    asked = [("qk", "value"), ("nats", "value"), ("stream_nats", "value"), ("qk", "beyond_distance")]
    asked += [("qk", "edge"), ("qk", "mean"), ("next", "mean")]
    order = sorted(
        by_relation.items(), key=lambda item: -item[1][asked[0]].spearman if asked[0] in item[1] else 9.0
    )
    lines = [
        [words(probe), position, *(rho(rows.get(pair), interval=pair == asked[0]) for pair in asked)]
        for (probe, position), rows in order
    ]
    return table(["relation", "at", *(f"{words(a)}, {words(b)}" for a, b in asked)], lines)


def disagreements(one: Saved) -> Iterator[str]:
    """The rows whose ranks differ most, and what brings them together."""
    rows = one.measured
    lines = []
    for row in rows[:N_SHOWN]:
        measured = row.measured
        assert measured is not None  # of rows that are measured
        lines.append(
            [
                str(row.head), words(row.probe), row.position,
                f"{row.qk.value:+.2f} [{row.qk.low:+.2f}, {row.qk.high:+.2f}]", f"{row.qk.spread:.2f}",
                f"{measured.rank_by_weights:g}", f"{measured.value:.3f}", f"{measured.rank:g}",
                "" if measured.edge is None else f"{measured.edge:+.3f}", row.qk.status, measured.status,
                measured.explained_by or "none of these",
            ]
        )  # fmt: skip
    names = [
        "head",
        "relation",
        "at",
        "weights (spreads)",
        "spread (nats)",
        "rank",
        "attention",
        "rank",
        "edge",
    ]
    yield table([*names, "by weights", "by attention", "nearer with"], lines)
    n_heads = len({row.head for row in rows})
    far = [row for row in rows if row.measured and abs(row.measured.gap) >= n_heads / 4]
    named = Counter(row.measured.explained_by or "none of these" for row in far if row.measured)
    counted = ", ".join(f"{name} {n}" for name, n in named.most_common())
    more = sum(row.measured.gap < 0 for row in far if row.measured)
    yield (
        f"Ranks differ by a quarter of the heads or more in {len(far)} of {len(rows)} rows; in {more} of them weights "
        f"promise more than attention shows. What at least halves the difference: {counted or 'none'}.\n\n"
    )


def mean_gaps(one: Saved) -> str:
    """Mean difference of ranks, as it is and with each change of measure."""
    by_relation: dict[tuple[str, str], list[WeightScore]] = {}
    for row in one.measured:
        by_relation.setdefault((row.probe, row.position), []).append(row)
    gaps: dict[str, list[float]] = {}
    for rows in by_relation.values():
        qk = [row.qk.value for row in rows]
        nats = [row.qk.nats for row in rows]
        stream, stream_nats = [row.qk.stream for row in rows], [row.qk.stream_nats for row in rows]
        measured = [row.measured for row in rows if row.measured]
        value = [m.value for m in measured]
        changes: dict[str, tuple[Sequence[float | None], Sequence[float | None]]] = {
            "as they are": (qk, value),
            "position": (qk, [m.beyond_distance for m in measured]),
            "rest": (qk, [m.without_sink for m in measured]),
            "sharpness": (nats, value),
            "earlier layers": (stream, value),
            "both": (stream_nats, value),
            "position and both": (stream_nats, [m.beyond_distance for m in measured]),
        }
        for name, (a, b) in changes.items():
            if None not in a and None not in b:
                ranks = [ranks_first_is_1(np.array(values, dtype=float)) for values in (a, b)]
                gaps.setdefault(name, []).append(float(np.abs(ranks[0] - ranks[1]).mean()))
    n = len({row.head for row in one.measured})
    told = ", ".join(f"{name} {np.mean(found):.1f}" for name, found in gaps.items())
    return f"Mean difference of the two ranks of a head: {told}; by chance {(n * n - 1) / (3 * n):.1f}.\n\n"


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the weights of the heads tell alone\n\n"
    yield "Written by `analysis/weights_alone.py`. Terms: `docs/methods.md`, *Heads from weights alone*.\n\n"
    yield "Do weights rank the heads as attention does?\n\n"
    yield from answers(saved)
    yield (
        "Mean over relations of Spearman's correlation over heads; *: p below 0.05 by permutation of heads. Rows: "
        "scores from weights (stream: with the mean residual stream of each token in place of its embedding, which is "
        "not from weights alone). Columns: what was measured.\n\n"
    )
    yield means(saved)
    for one in saved:
        header = one.header
        yield f"## {one.name}\n\n"
        yield (
            f"Relations counted on {header['n_stories']} stories of {header['stories']} (sha256 "
            f"{header['data_sha256']}), {header['n_tokens']} different tokens; attention scores of "
            f"{header['n_attended']} stories ({header['heads']}); causes of every head on {header['n_explained']}; "
            f"seed {header['seed']}. Rows: `{one.name}.jsonl`, `{one.name}.agreement.jsonl`.\n\n"
        )
        if header["unmatched"]:
            yield f"Not scored, for want of like tokens: {', '.join(map(words, header['unmatched']))}.\n\n"
        yield "### Where they disagree most\n\n"
        yield from disagreements(one)
        yield mean_gaps(one)
        yield "### What weights find of what attention finds\n\n"
        yield from found(one)
        yield f"### By relation\n\n{relations(one)}"
