"""For ``paper_figures_report.py``: what figures 14 to 17 show, the completions of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markdown_table import table

Found = Mapping[str, Any]


def _source(found: Found) -> str:
    name = found["stories"]
    stories = f"{name}, as the real stories are not at hand" if name.startswith("author:") else name
    told = f"{found['n']} completions by {found['model']}, prompts and corpus {stories}"
    return f"{told} ({'; '.join(found['warnings'])})" if found["warnings"] else told


def _true_ending(found: Found) -> Iterator[str]:
    yield "**The paper:** the share of a completion's word pairs that the true ending of its story has (R_2p), of 100 "
    yield "training stories whose first 40% are the prompt, to see whether the model gives back what it read.\n\n"
    yield f"**Ours:** {_source(found)}. {_means(found)} Half or more of the pairs: {_shares(found)}.\n"


def _each_other(found: Found) -> Iterator[str]:
    yield "**The paper:** the largest overlap (R_2) of each completion with any other, to see whether the model "
    yield "repeats itself.\n\n"
    yield f"**Ours:** {_source(found)}. {_means(found)} At 0.5 or more: {_shares(found)}.\n"


def _frequencies(found: Found) -> Iterator[str]:
    yield "**The paper:** how frequent the k-grams of completions are in the training corpus, those that it never has "
    yield "apart, for k from 1 to 5.\n\n"
    yield f"**Ours:** {_source(found)}. k-grams that the corpus never has, mean over texts; of the true endings those "
    yield "that no other story has.\n\n"
    yield table(
        ["k", "completions", "true endings"],
        [
            [k, _interval(one["mean_never"]), _interval(one["mean_never_true_endings"])]
            for k, one in found["by_k"].items()
        ],
    )
    more, fewer = (
        [k for k, one in found["by_k"].items() if _is_above(one[first], one[second])]
        for first, second in (_BOTH, _BOTH[::-1])
    )
    yield "Completions have more new k-grams than true endings, the intervals apart, "
    yield f"{_for_k(more)}; fewer {_for_k(fewer)}.\n"


def _for_k(ks: Sequence[str]) -> str:
    return f"for k = {', '.join(ks)}" if ks else "for no k"


def _nearest(found: Found) -> Iterator[str]:
    yield "**The paper:** the largest share of a completion's word pairs that any one training story has, to see "
    yield "whether completions are copies.\n\n"
    yield f"**Ours:** {_source(found)}. {_means(found)} Half or more of the pairs: {_shares(found)}. Of the true "
    yield "endings it is what stories of the corpus have from each other. Copies by the grades of `docs/methods.md`: "
    yield "; ".join(
        f"{case}: " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in grades.items())
        for case, grades in found["copying"].items()
    )
    yield ".\n"


_BOTH = ("mean_never", "mean_never_true_endings")


def _is_above(first: Found | None, second: Found | None) -> bool:
    if first is None or second is None or first["low"] is None or second["high"] is None:
        return False
    return bool(first["low"] > second["high"])


def _means(found: Found) -> str:
    told = "; ".join(f"{name} {_interval(one)}" for name, one in found["means"].items())
    return f"Means: {told}."


def _shares(found: Found) -> str:
    return ", ".join(f"{name} {value:.0%}" for name, value in found["above_half"].items())


def _interval(one: Found | None) -> str:
    if one is None or one["mean"] is None:
        return "not known"
    ends = "" if one["low"] is None else f" [{one['low']:.3f}, {one['high']:.3f}]"
    return f"{one['mean']:.3f}{ends}"


SECTIONS: Mapping[str, Callable[[Found], Iterator[str]]] = {
    "14": _true_ending,
    "15": _each_other,
    "16": _frequencies,
    "17": _nearest,
}
