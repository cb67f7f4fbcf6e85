"""The report of ``analysis/weights_alone.py``, from the files of all models that its folder holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_table import table
from weights_gaps import COLUMNS, POSITIVE, Circuit, mean_gaps, told, written

from tslens.probes.results import load_head_scores
from tslens.probes.weights.report import Agreement, WeightScore
from tslens.probes.weights.results import load_weights

SCORES = ("qk", "nats", "top", "stream", "stream_nats", "copy", "next")
MEASURES = ("value", "beyond_distance", "excess", "edge", "mean", "mean_beyond")
N_SHOWN = 12
N_WRITTEN = 6


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
    def positive(self) -> list[WeightScore]:
        """Rows that attention calls candidate or role."""
        return [row for row in self.measured if row.measured and row.measured.status in POSITIVE]

    @property
    def measured(self) -> list[WeightScore]:
        """Rows with an attention score, the largest difference of ranks first."""
        rows = [score for score in self.scores if score.measured is not None]
        return sorted(rows, key=lambda row: -abs(row.measured.gap if row.measured else 0.0))


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


def recall(one: Saved) -> str:
    """How many of the rows that attention calls candidate or role weights find, by layer too, and how many besides."""
    found = Counter(row.head.layer for row in one.positive if row.qk.status == "candidate")
    asked = Counter(row.head.layer for row in one.positive)
    more = sum(row.qk.status == "candidate" for row in one.measured) - found.total()
    by_layer = "; ".join(f"layer {layer}: {found[layer]} of {n}" for layer, n in sorted(asked.items()))
    return (
        f"- **{one.name}: weights find {found.total()} of {asked.total()}** ({by_layer or 'no row'}), and {more} that "
        "attention does not have.\n"
    )


def answers(saved: Sequence[Saved]) -> Iterator[str]:
    """What weights find, then how they rank the heads, one line a model each."""
    yield "Do weights find what attention finds? Rows (a head, a relation, a position) that are candidate or role:\n\n"
    yield from map(recall, saved)
    yield (
        "\nDo they rank the heads as attention and intervention do? Mean over relations of the rank correlation over "
        "heads, 95% interval over heads:\n\n"
    )
    for one in saved:
        row = one.mean("qk", "value")
        if row is None:
            continue
        others = {
            "by attention beyond the head's own distance profile": "beyond_distance",
            "by the edge effect": "edge",
            "by mean ablation": "mean",
        }
        told = ", ".join(
            f"{how} {rho(one.mean('qk', name)) or '(not measured)'}" for how, name in others.items()
        )
        yield (
            f"- {one.name}: by attention {rho(row)} ({row.n_relations} relations, {row.n_heads} heads), Kendall "
            f"{row.kendall:+.2f}; {told}.{by_layer(one)}\n"
        )
    rests = ", ".join(f"{one.header['n_explained']} ({one.name})" for one in saved)
    yield (
        f"\nCauses (the edge effect, mean ablation) rest on few stories: {rests}. There is no noise ceiling: how well "
        "the causes of other stories would agree with these was not measured. So a low correlation with a cause may be "
        "noise of the cause, and does not say that weights miss it.\n\n"
    )


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
    positive = one.positive
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


def outputs(one: Saved) -> Iterator[str]:
    """Where what heads write and what their ablation costs disagree, by circuit."""
    n_heads = len({row.head for row in one.scores})
    names: dict[Circuit, str] = {"copy": "Copy: the key token itself", "next": "Next: what follows the query"}
    for circuit, name in names.items():
        if rows := written(one.scores, circuit):
            yield f"{name}. {told(rows, n_heads)}"
            yield table(COLUMNS, [row.cells() for row in rows[:N_WRITTEN]])


def write_report(saved: Sequence[Saved]) -> Iterator[str]:
    """The report, piece by piece."""
    yield "# What the weights of the heads tell alone\n\n"
    yield "Written by `analysis/weights_alone.py`. Terms: `docs/methods.md`, *Heads from weights alone*.\n\n"
    yield from answers(saved)
    yield (
        "Mean over relations of Spearman's correlation over heads; *: p below 0.05 by permutation of heads, of each "
        "mean by itself, not corrected for how many stand here. Rows: scores from weights (stream: with the mean "
        "residual stream of each token in place of its embedding, which is not from weights alone). Columns: what was "
        "measured.\n\n"
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
        yield mean_gaps(one.measured)
        yield "### What heads write, and what their ablation costs\n\n"
        yield from outputs(one)
        yield "### What weights find of what attention finds\n\n"
        yield from found(one)
        yield f"### By relation\n\n{relations(one)}"
