"""The page that the study of instructions writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from instruction_counts import N_ANNOTATED, N_NAMED, N_PAIRED, SEED

from tslens.corpus.instructions.form import KINDS


def _cell(found: dict[str, Any] | None) -> str:
    return (
        ""
        if not found
        else f"{found['share']:.2%} ({found['low']:.2%} to {found['high']:.2%}; {found['n']:,})"
    )


def report(facts: dict[str, Any]) -> Iterator[str]:
    """Lines of report.md."""
    made = facts["author"]
    yield "# Do stories follow their instructions, and does the checker see it?"
    yield ""
    yield (
        f"{made['stories']:,} stories of the offline author (seed {SEED}), each with the instruction that `tslens data "
        f"instruct` gives it. Read back from the text: {made['lost']} lost. Share of what is asked for that the "
        "checker finds followed (95% interval; number of things asked for). Another: the instruction before it. "
        "Chance: share of all stories that have the word, sentence or feature; of summaries, over all pairs of "
        f"{N_PAIRED:,} stories. `analysis/instruction_compliance.py` makes this page."
    )
    yield ""
    yield from _table(made)
    yield ""
    yield (
        f"All that was asked for: own {_cell(made['own, all asked'])}, another {_cell(made['another, all asked'])}."
    )
    yield ""
    yield (
        "Summaries of another plot in which the hero is given the name of the story's hero (each of "
        f"{N_PAIRED:,} for {N_NAMED} stories): {_cell(made['name-matched summaries'])} are found followed. This is "
        'the level to compare with: of "another" and "chance" most fail for the name alone.'
    )
    yield ""
    yield "The author takes words and features into a story only if they are in its text, and chooses the summary that"
    yield "the rule finds followed by gold labels, where there is one: the first column is by construction, and shows"
    yield "that nothing is lost on the way. Independent of it are the annotator's labels, which know no plan:"
    yield ""
    yield "## By the annotator's labels"
    yield ""
    yield f"| {N_ANNOTATED} stories | words | summary |"
    yield "|---|---|---|"
    for name, found in facts["annotated"].items():
        yield f"| {name} | {_cell(found.get('words'))} | {_cell(found.get('summary'))} |"
    yield ""
    yield 'In the rows "story" the annotator reads the story and the summary has gold labels; else it reads both.'
    yield ""
    yield "## Parts of the rule for summaries"
    yield ""
    yield "| | all characters | all objects | a clause told | clauses told, of all |"
    yield "|---|---|---|---|---|"
    rows = {"own, gold": made["own, parts"], "another, gold": made["another, parts"]}
    rows |= {
        f"{name} (annotator)": found["parts"]
        for name, found in facts["annotated"].items()
        if "parts" in found
    }
    for name, parts in rows.items():
        n = parts["summaries"]
        shares = (parts.get(part, 0) / n for part in ("n_characters", "n_objects", "n_clauses"))
        yield (
            f"| {name} | "
            + " | ".join(f"{value:.1%}" for value in shares)
            + f" | {parts.get('clauses told', 0) / parts['clauses']:.1%} |"
        )
    yield ""
    yield "## Twins that ignore a word"
    yield ""
    yield f"Twins of which the checker says, from the text alone, that a word is missing: {_cell(facts['twins'])}."
    if "real" in facts:
        real = facts["real"]
        yield ""
        yield "## Real stories"
        yield ""
        yield f"{real['stories']:,} stories, instructions drawn from their texts; words checked by the annotator's"
        yield "labels (by the text alone in brackets). Sentences and features follow by construction; summaries: none."
        yield ""
        yield from _table(real, real["own, words by text"])


def _table(facts: dict[str, Any], by_text: dict[str, Any] | None = None) -> Iterator[str]:
    yield "| kind | own | another | chance |"
    yield "|---|---|---|---|"
    for kind in (*KINDS, "all"):
        if kind in facts["own"]:
            chance = facts["chance"].get(kind)
            own = _cell(facts["own"][kind])
            if by_text and kind == "words":
                own += f" [{_cell(by_text[kind])}]"
            level = "" if chance is None else f"{chance:.2%}"
            yield f"| {kind} | {own} | {_cell(facts['another'].get(kind))} | {level} |"
