"""For ``paper_figures.py``: what each of the paper's figures shows, and what ours shows, in numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_table import table
from paper_figures_completions import SECTIONS

from tslens.files import atomic_write
from tslens.probes.neurons.token_labels import TOKEN_LABELS

Found = Mapping[str, Any]

TITLES: Mapping[str, str] = {
    "3": "Grades over training",
    "4": "Models by shape, loss and grades",
    "14": "Completions and the true endings",
    "15": "Completions and each other",
    "16": "k-grams and the corpus",
    "17": "The nearest training story",
    "19": "Heads by distance",
    "20": "Heads by meaning",
    "21": "Tokens of neurons",
    "24": "Number of heads",
}


def write_report(figures: Mapping[str, Found], path: Path) -> None:
    """A section for each figure."""
    with atomic_write(path) as file:
        file.writelines(_report(figures))


def _report(figures: Mapping[str, Found]) -> Iterator[str]:
    yield "# The paper's figures, of our models\n\n"
    yield (
        "Written by `python analysis/paper_figures.py`. Each figure is there as SVG, PDF and PNG with its data as CSV; "
        "the numbers below are those of `figures.json`. Intervals are 95%. The paper is Eldan and Li 2023, TinyStories "
        "(arXiv:2305.07759); its models and its judge are larger than ours, so that only directions compare. Figure "
        "23, scaling, is that of `analysis/scaling.py`.\n\n"
    )
    for number, found in figures.items():
        yield f"## Figure {number}: {TITLES[number]}\n\n"
        if "skipped" in found:
            yield f"Not drawn: {found['skipped']}.\n\n"
            continue
        yield f"![{TITLES[number]}](figure{int(number):02d}.svg)\n\n"
        yield from _SECTIONS[number](found)
        yield "\n"


def _training(found: Found) -> Iterator[str]:
    yield "**The paper:** grades of models over training; grammar is said to level off before consistency and "
    yield "creativity.\n\n"
    yield f"**Ours:** {len(found['runs'])} runs ({', '.join(found['runs'])}), graded by the local judge from the "
    yield "checkpoint on whose validation loss is below the 4-gram's. Means over the runs; bars of the figure are over "
    yield "prompts. The last column, where nine tenths of the change from the first to the last reading are first "
    yield "reached, has no interval.\n\n"
    yield table(
        ["grade", "first", "last", "million tokens, first", "last", "nine tenths at"],
        [
            [
                grade,
                f"{one['first']:.2f}",
                f"{one['last']:.2f}",
                *(f"{one[key] / 1e6:.2f}" for key in ("tokens_first", "tokens_last", "tokens_of_most")),
            ]
            for grade, one in found["grades"].items()
        ],
    )


def _table(found: Found) -> Iterator[str]:
    yield "**The paper:** a table of its models by width and depth with loss and grades: every grade rises as the loss "
    yield "falls, and consistency jumps between width 64 and 128.\n\n"
    by_cell = {one["cell"]: one for one in found["lines"]}
    yield f"**Ours:** {found['n_models']} models of {found['n_shapes']} shapes. Rank correlation of loss with the "
    yield "grade over the shapes: "
    yield ", ".join(f"{name} {value:+.2f}" for name, value in found["rank_correlation_with_loss"].items())
    yield f". The lowest loss is that of {found['best']}: {_pm(by_cell[found['best']]['loss'], 3)} nats a token."
    beside = by_cell.get("true ending")
    if beside is not None:
        grades = [name for name in beside if name in found["rank_correlation_with_loss"]]
        best = by_cell[found["best"]]
        yield " Its grades beside those of the true endings: "
        yield "; ".join(f"{name} {_pm(best[name])}, {_pm(beside[name])}" for name in grades if name in best)
        yield "."
        odd = [
            f"{name} ({cell} {_pm(one[name])})"
            for cell, one in by_cell.items()
            if cell.endswith("-gram")
            for name in grades
            if name in one and one[name][0] > beside[name][0]
        ]
        if odd:
            yield f" The judge gives an n-gram more than the true endings in {', '.join(odd)}: there its order says "
            yield "little."
    yield " Bold in the figure is the best number of the models, which need not differ from the next. Half-widths are "
    yield "over prompts (loss: stories) and seeds; a shape of one seed takes the spread of the others' seeds. Whether "
    yield "each claim holds is decided in `reports/sizes`.\n"


_RULE = (
    "The heads are chosen by rule: of each kind the head of best status in the scan of `reports/heads` (role, "
    "candidate, unclear, no), among equals the one that does it most on the paragraph. The paragraph is our own, made "
    "like the paper's.\n\n"
)


def _scales(found: Found) -> Iterator[str]:
    yield "**The paper:** heads of a model of one layer that attend by distance, at several scales.\n\n"
    n = len({one["head"] for one in found["heads"]})
    sure = [one for one in found["heads"] if one["status"] in ("role", "candidate")]
    yield f"**Ours:** {found['model']}: {len(sure)} of {len(found['heads'])} scales have a head beyond its nulls, and "
    yield f"they are {n} different heads. On the paragraph, share of the attention at the distances of the probe, and "
    yield "what even attention has there: "
    yield "; ".join(
        f"{one['head']} {one['at_scale']:.2f}, {one['even_at_scale']:.2f}"
        for one in found["heads"]
        if one["at_scale"] is not None
    )
    yield f". {_RULE}"
    yield _heads(found)


def _meanings(found: Found) -> Iterator[str]:
    yield "**The paper:** heads of the same model that attend by meaning: one from “the” and “a” to one noun, one to "
    yield "another, one from most words to the names; the text also names the subject and the end of the sentence.\n\n"
    probes = {one["probe"]: one for one in found["heads"]}
    sure = [one for one in probes.values() if one["status"] in ("role", "candidate")]
    yield f"**Ours:** {found['model']}: of {len(probes)} kinds (both nouns together, as the scan does not tell one "
    yield f"noun from another) {len(sure)} have a head beyond its nulls"
    yield ": " if sure else ""
    yield "; ".join(f"{one['probe'].replace('_', ' ')}, {one['head']}" for one in sure)
    yield ". Attention to each noun on the paragraph, by this head and by the one with most: "
    yield "; ".join(
        f"{one['kind']}: {one['head']} {one['on_paragraph']:.2f}, {one['most_on_paragraph']} "
        f"{one['most_on_paragraph_value']:.2f}"
        for one in found["heads"]
        if one["probe"] == "topic_determiner"
    )
    yield f". Whether heads fall into two kinds is tested in `reports/kinds`. {_RULE}"
    yield _heads(found)


def _heads(found: Found) -> str:
    return table(
        ["kind", "head", "probe", "status", "over stories", "largest null", "here", "most here"],
        [
            [
                one["kind"],
                one["head"],
                one["probe"].replace("_", " ") + (" (before)" if one["position"] == "before" else ""),
                one["status"],
                f"{one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]",
                f"{one['largest_null']:.2f} ({one['null'].replace('_', ' ')})",
                f"{one['on_paragraph']:.2f}",
                f"{one['most_on_paragraph']} {one['most_on_paragraph_value']:.2f}",
            ]
            for one in found["heads"]
        ],
    )


def _neurons(found: Found) -> Iterator[str]:
    yield "**The paper:** tokens of highest activation of four neurons of a model of 8 layers and width 64: pronouns "
    yield "that are subjects, the action, adjectives, the introduction of the main character (the neuron of largest "
    yield "activation).\n\n"
    yield f"**Ours:** {found['model']}, {found['n_stories']} stories of the offline author, {found['n_tokens']:,} "
    yield "tokens. Of each kind the neuron of best status in `reports/neurons`, among equals that of largest excess "
    yield "over its nulls. Area: under the curve of the label by the activation, of the scan; words alone: the same of "
    yield "the neuron's mean for each word. A neuron whose words alone reach its area marks words, not what they do in "
    yield "the sentence.\n\n"
    yield table(
        [
            "label",
            "neuron",
            "status",
            "basis",
            "area",
            "words alone",
            "of 100 strongest",
            "of all tokens",
            "highest",
        ],
        [
            [
                TOKEN_LABELS[label],
                one["neuron"],
                one["status"],
                one["basis"] or "",
                f"{one['auroc']:.2f} [{one['low']:.2f}, {one['high']:.2f}]",
                "" if one["words_alone"] is None else f"{one['words_alone']:.2f}",
                f"{one['strongest_with_label']:.0%}",
                f"{one['label_share']:.1%}",
                f"{one['largest']:.1f}",
            ]
            for label, one in found["neurons"].items()
        ],
    )
    if found["none"]:
        yield f"No neuron chose: {', '.join(TOKEN_LABELS[label] for label in found['none'])}.\n"


def _by_heads(found: Found) -> Iterator[str]:
    yield "**The paper:** width 768, 2, 4 and 8 heads. One layer: loss 1.58, 1.56, 1.54; grammar 7.13, 7.43, 7.45; "
    yield "creativity 5.83, 5.90, 6.28; consistency 6.38, 6.75, 7.02. Two layers: loss 1.38, 1.34, 1.33; grammar 7.77, "
    yield "8.05, 8.25; creativity 6.50, 6.57, 6.53; consistency 7.78, 8.16, 8.16. More heads help where they "
    yield "are few.\n\n"
    yield f"**Ours:** {found['layers']} layer, width {found['width']}. "
    if found["missing"]:
        yield f"Not measured yet, so no point: {', '.join(map(str, found['missing']))} heads. "
    counts = [str(n) for n in found["there"]]
    if len(counts) < 2:
        yield "With one number of heads the figure says nothing of their number.\n\n"
    else:
        yield "Most heads less fewest, on the same prompts and stories: "
        yield "; ".join(
            f"{name} {one['value']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"
            for name, one in found["most_less_fewest"].items()
        )
        yield " (a shape of one seed takes the spread of other shapes' seeds).\n\n"
    yield table(
        ["measure", *(f"{n} heads" for n in counts)],
        [
            [name, *(_pm(of[n], 3 if name == "loss" else 2) if n in of else "" for n in counts)]
            for name, of in found["measured"].items()
        ],
    )


def _pm(found: Sequence[float], digits: int = 2) -> str:
    value, reach = found
    return f"{value:.{digits}f} ± {reach:.{digits}f}"


_SECTIONS: Mapping[str, Callable[[Found], Iterator[str]]] = {
    "3": _training,
    "4": _table,
    **SECTIONS,
    "19": _scales,
    "20": _meanings,
    "21": _neurons,
    "24": _by_heads,
}
