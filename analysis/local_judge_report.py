"""The tables of ``analysis/local_judge.py`` in Markdown, what was asked beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tslens.files import atomic_write
from tslens.grading.expected import EXPECTED
from tslens.grading.rubric import CRITERIA

BY_PROMPT, BY_BOTH = "judge, prompt unseen", "judge, prompt and model unseen"
SIZE, TRIPLES = "size alone", "different triples alone"
ASKED_POOLED = {"grammar": 0.60, "creativity": 0.60, "plot": 0.55, "consistency": 0.40}
ASKED_UNSEEN = 0.75
ASKED_WITHIN = {"grammar": 0.40, "creativity": 0.50, "plot": 0.25, "consistency": 0.15}


def write_report(path: Path, results: Mapping[str, Any]) -> None:
    """The tables in Markdown."""
    lines = [
        "# How far the local judge can be trusted",
        "",
        "Written by `python analysis/local_judge.py` (`training/local_judge_heads.py` has the same fit). Spearman's "
        "correlations; 95% intervals by resampling prompts or stories.",
        "",
        "Transformations, ridges and weights were chosen by looking at these very 200 grades and at these held-out "
        "stories, so the figures below are a little too good; the two baselines had nothing to choose. `audit.json` "
        "(`tslens audit judge`) has other stories of the author.",
        "",
    ]
    for part in ("all", "not looping"):
        n = results["gpt4o"]["grammar"][part]["n"]
        lines += [
            f"## Against GPT-4o, {part} completions ({n})",
            "",
            "Each text was graded by a base that had not seen its prompt (left) nor its prompt and its model (right).",
            "",
            "| | pooled | asked | within model | asked | partial on size | pooled, model unseen | within, model "
            "unseen | size alone | different triples alone: pooled, within |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in CRITERIA:
            row = results["gpt4o"][name][part]
            one, both, triples = row[BY_PROMPT], row[BY_BOTH], row[TRIPLES]
            lines.append(
                f"| {name} | {_with(one, 'pooled')} | {ASKED_POOLED[name]:.2f} | {_with(one, 'within')} | "
                f"{ASKED_WITHIN[name]:.2f} | {_with(one, 'partial')} | {_with(both, 'pooled')} | "
                f"{_with(both, 'within')} | {row[SIZE]['pooled']:.2f} | {triples['pooled']:.2f}, "
                f"{triples['within']:.2f} |"
            )
        lines.append("")
    lines += [
        "## Against a person",
        "",
        "One person's scores (0, 0.5, 1) of completions by three published models, by a judge fitted without them.",
        "",
        "| | texts | pooled | within model | size alone |",
        "|---|---|---|---|---|",
    ]
    for name, row in results["person"].items():
        lines.append(
            f"| {name} | {row['n']} | {_with(row, 'pooled')} | {row['within']:.2f} | {row['size alone']:.2f} |"
        )
    lines += [
        "",
        "## Planted faults in held-out stories",
        "",
        "Area under the curve of whole stories against the twins of all of them, by the criterion that the fault was "
        'said to hit before anything was fitted (`grading.expected`). "Unseen": the fault left out of the fit, so that '
        "its detector is the evidence meant for it, of equal weights (asked 0.75 at medium).",
        "",
        "| fault | criterion | stories | low | medium | asked | high | asked | unseen, medium |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    table = {(row["kind"], row["source"], row["strength"]): row for row in results["planted"]}
    for kind, expected in EXPECTED.items():
        for source in ("author", "real"):
            cells = {strength: table.get((kind, source, strength)) for strength in ("low", "medium", "high")}
            areas = {
                strength: "" if cell is None else f"{cell['area']:.3f}" for strength, cell in cells.items()
            }
            middle = cells["medium"]
            if middle is not None:
                low, high = middle["interval"]
                areas["medium"] += f" ({low:.3f} to {high:.3f}, {middle['n']} stories)"
            asked = {strength: expected.asked(strength) for strength in ("medium", "high")}
            told = {strength: "" if one is None else f"{one:.2f}" for strength, one in asked.items()}
            unseen = "" if middle is None else f"{middle['unseen']:.3f}"
            lines.append(
                f"| {kind} | {expected.criterion} | {source} | {areas['low']} | {areas['medium']} | "
                f"{told['medium']} | {areas['high']} | {told['high']} | {unseen} |"
            )
    lines += [
        "",
        "## Cross-talk",
        "",
        "Mean drop in points of each criterion at medium strength. Bold: the one that should be hit.",
        "",
        "| fault | stories | " + " | ".join(CRITERIA) + " |",
        "|---|---|" + "---|" * len(CRITERIA),
    ]
    for kind, expected in EXPECTED.items():
        for source in ("author", "real"):
            cell = table.get((kind, source, "medium"))
            if cell is not None:
                drops = [f"{cell['drop'][name]:+.2f}" for name in CRITERIA]
                marked = [
                    f"**{drop}**" if name == expected.criterion else drop
                    for name, drop in zip(CRITERIA, drops, strict=True)
                ]
                lines.append(f"| {kind} | {source} | {' | '.join(marked)} |")
    lines += ["", *not_reached(results)]
    with atomic_write(path) as file:
        file.write("\n".join(lines) + "\n")


def not_reached(results: Mapping[str, Any]) -> list[str]:
    """Every figure that is below what was asked."""
    found = []
    for name in CRITERIA:
        row = results["gpt4o"][name]["all"]
        judge = row[BY_PROMPT]
        for what, asked in (("pooled", ASKED_POOLED[name]), ("within", ASKED_WITHIN[name])):
            if judge[what] < asked:
                found.append(f"{name}, {what}: {judge[what]:.3f} of {asked:.2f}")
        for side in (SIZE, TRIPLES):
            if judge["pooled"] <= row[side]["pooled"]:
                found.append(
                    f"{name}, pooled: {side} has {row[side]['pooled']:.2f}, the judge {judge['pooled']:.2f}"
                )
    for row in results["planted"]:
        asked = EXPECTED[row["kind"]].asked(row["strength"])
        place = f"{row['kind']}, {row['strength']}, {row['source']}"
        if asked is not None and row["area"] < asked:
            found.append(f"{place}: {row['area']:.3f} of {asked:.2f}")
        if row["strength"] == "medium" and asked is not None and row["unseen"] < ASKED_UNSEEN:
            found.append(f"{place}, unseen: {row['unseen']:.3f} of {ASKED_UNSEEN:.2f}")
    return ["## Not reached", "", *(f"- {line}" for line in found)]


def _with(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.2f} ({low:.2f} to {high:.2f})"
