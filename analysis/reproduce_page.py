"""For ``reproduce.py``: what came out of the paper's tables, figures and claims, as a page and as text.

An item has evidence from the committed rows of the shipped models and from what was trained anew. It is *reproduced*
where one of the two bears it out and none speaks against it, *contradicted* the other way round, else *not decidable*.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student

from tslens.files import atomic_write, read_json, read_jsonl
from tslens.viz.page import build_page, escape, limits_section, write_page

Told = Literal["holds", "fails", "cannot be told"]
VERDICTS = ("reproduced", "contradicted", "not decidable")
HALF = 0.5
LEVEL = 0.95
REPORTS = Path("reports")
PAPER_HEADS: Mapping[str, tuple[str, ...]] = {
    "previous word": ("previous_word",),
    "subject": ("subject",),
    "sentence end": ("sentence_end",),
    "topic": ("topic", "topic_determiner"),
}
PAPER_NEURONS = ("subject_pronoun", "action", "pos_adj")
INTRODUCTION = "introduction"
GRADES_ASKED = ("grammar", "consistency")


@dataclass(frozen=True)
class Evidence:
    """What one source says of an item, with the numbers."""

    told: Told
    words: str


ABSENT = Evidence("cannot be told", "not measured")


@dataclass(frozen=True)
class Item:
    """A table, figure or claim of the paper. ``figures``: drawings of ours, SVG."""

    name: str
    says: str
    shipped: Evidence
    anew: Evidence
    figures: Sequence[Path] = field(default=())

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        told = {self.shipped.told, self.anew.told}
        if "holds" in told and "fails" not in told:
            return "reproduced"
        if "fails" in told and "holds" not in told:
            return "contradicted"
        return "not decidable"


def write_pages(out: Path, *, budget: str) -> Sequence[Path]:
    """``report.md`` and ``index.html`` of what is there."""
    items = all_items(out)
    compared = _json(out / "committed" / "compared.json")
    page, text = out / "index.html", out / "report.md"
    with atomic_write(text) as file:
        file.writelines(_report(items, compared, budget))
    write_page(page, _page(items, compared, budget))
    return page, text


def all_items(out: Path) -> Sequence[Item]:
    """Every table, figure and claim, with its evidence."""
    committed = out / "committed"
    ours = _claims(committed / "sizes" / "claims.json") or _claims(REPORTS / "sizes" / "claims.json")
    anew = _claims(out / "sizes" / "claims.json")
    figures = _json(out / "paper" / "figures.json").get("figures", {})
    drawn = out / "paper"
    items = [
        Item(
            "Figure 3",
            "grades rise while a model is trained",
            grades_rise(REPORTS / "emergence"),
            grades_rise(out / "emergence"),
            [out / "emergence" / "emergence.svg"],
        ),
        Item(
            "Figure 4",
            "grades rise with size",
            _aspects(ours, 1, "ours, local judge"),
            _aspects(anew, 1, "ours, local judge"),
            [out / "sizes" / "grades_by_loss.svg", out / "sizes" / "grades_by_shape.svg"],
        ),
        *_of_completions(figures, drawn),
        Item(
            "Figures 19 and 20",
            "heads are of two kinds, by distance and by meaning, clearly apart",
            two_kinds(),
            ABSENT,
            [drawn / "figure19.svg", drawn / "figure20.svg"],
        ),
        Item(
            "Section 5.1",
            "there are heads for the previous word, the subject, the end of the sentence, the topic",
            paper_heads(),
            ABSENT,
        ),
        Item(
            "Figure 21",
            "there are neurons for subject pronouns, the action, adjectives; the one of largest activation introduces "
            "the protagonist",
            paper_neurons(),
            ABSENT,
            [drawn / "figure21.svg"],
        ),
    ]
    scaling = [out / "scaling" / "all.svg"]
    drawings = {1: [out / "sizes" / "grades_by_loss.svg"], 7: [drawn / "figure24.svg"], 10: scaling}
    names = {7: "Claim 7 (Figure 24)", 10: "Claim 10 (Figure 23)"}
    items += [
        Item(
            names.get(claim, f"Claim {claim}"),
            one["says"],
            _ruling(ours, claim),
            _ruling(anew, claim),
            drawings.get(claim, ()),
        )
        for claim, one in sorted((ours or anew).items())
    ]
    return items


def _of_completions(figures: Mapping[str, Any], drawn: Path) -> Iterator[Item]:
    """Figures 14 to 17: what completions have in common with true endings, each other, the training stories."""
    for number, says, key in (
        (14, "completions are not the true endings", "its true ending"),
        (15, "completions are not like each other", "completions"),
        (16, "most longer word sequences of completions are new", ""),
        (17, "completions are not taken from a training story", "without the prompt's own"),
    ):
        one = figures.get(str(number), {})
        evidence = below_half(one, key) if key else new_grams(one)
        yield Item(f"Figure {number}", says, evidence, ABSENT, [drawn / f"figure{number}.svg"])


# Evidence ---------------------------------------------------------------------------------------------------


def _json(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(path) if path.exists() else {}
    return found


def _claims(path: Path) -> Mapping[int, Mapping[str, Any]]:
    return {one["claim"]: one for one in _json(path).get("claims", ())}


def _ruling(claims: Mapping[int, Mapping[str, Any]], claim: int) -> Evidence:
    one = claims.get(claim)
    if one is None:
        return ABSENT
    known = [e for e in one["evidence"] if e["estimate"] is not None]
    words = "; ".join(f"{e['part']} ({e['source']}) {_estimate(e['estimate'])}" for e in known)
    return Evidence(one["verdict"], words or "no contrast could be made")


def _aspects(claims: Mapping[int, Mapping[str, Any]], claim: int, source: str) -> Evidence:
    """A claim by one source alone: all its contrasts hold, or one fails."""
    of = [e for e in claims.get(claim, {}).get("evidence", ()) if e["source"] == source and e["estimate"]]
    if not of:
        return ABSENT
    told = {e["verdict"] for e in of}
    verdict: Told = "fails" if "fails" in told else "holds" if told == {"holds"} else "cannot be told"
    return Evidence(verdict, "; ".join(f"{e['part']} {_estimate(e['estimate'])}" for e in of))


def _estimate(one: Mapping[str, float]) -> str:
    return f"{one['value']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"


def grades_rise(folder: Path) -> Evidence:
    """Grades at the end less those at the first checkpoint that is graded: mean over seeds, Student's t over seeds."""
    rises: dict[str, list[float]] = {name: [] for name in GRADES_ASKED}
    for path in sorted(folder.glob("*@*.jsonl")):
        rows = [row for row in read_jsonl(path, "tslens.emergence/1")[1] if row["kind"] == "grade"]
        for name, of in rises.items():
            values = [row["value"] for row in rows if row["series"].removeprefix("grade ") == name]
            of += [values[-1] - values[0]] if len(values) > 1 else []
    found = {name: _mean_of(of) for name, of in rises.items() if len(of) > 1}
    if not found:
        return Evidence(
            "cannot be told", "no two checkpoints are better than an n-gram, so no rise is graded"
        )
    words = "; ".join(
        f"{name} {mean:+.2f} [{low:+.2f}, {high:+.2f}] in {len(rises[name])} seeds"
        for name, (mean, low, high) in found.items()
    )
    return Evidence(_signs([(low, high) for _, low, high in found.values()]), words)


def _mean_of(values: Sequence[float]) -> tuple[float, float, float]:
    mean, n = float(np.mean(values)), len(values)
    reach = float(student.ppf((1 + LEVEL) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return mean, mean - reach, mean + reach


def _signs(intervals: Sequence[tuple[float, float]]) -> Told:
    """Holds where all lie above zero, fails where one lies below."""
    if any(high < 0 for _, high in intervals):
        return "fails"
    return "holds" if all(low > 0 for low, _ in intervals) else "cannot be told"


def below_half(figure: Mapping[str, Any], name: str) -> Evidence:
    """The mean share of word pairs that is shared lies below a half."""
    one = figure.get("means", {}).get(name)
    if one is None or one["low"] is None:
        return ABSENT
    words = f"mean {one['mean']:.2f} [{one['low']:.2f}, {one['high']:.2f}] of {one['n']} completions"
    return Evidence(_signs([(HALF - one["high"], HALF - one["low"])]), words)


def new_grams(figure: Mapping[str, Any]) -> Evidence:
    """More than half of the 5-grams of a completion are in no training story."""
    one = figure.get("by_k", {}).get("5", {}).get("mean_never")
    if one is None or one["low"] is None:
        return ABSENT
    words = f"{one['mean']:.0%} [{one['low']:.0%}, {one['high']:.0%}] of the 5-grams are in no training story"
    return Evidence(_signs([(one["low"] - HALF, one["high"] - HALF)]), words)


def two_kinds() -> Evidence:
    """The verdict of the study of kinds of head, on the planned test."""
    found = _json(REPORTS / "kinds" / "two_kinds.json").get("balance")
    if found is None:
        return ABSENT
    told: Mapping[str, Told] = {"two kinds": "holds", "no two kinds": "fails"}
    words = (
        f"{found['n_heads']} heads, one mode p = {found['p']:.3f}, {found['between']['value']:.2f} of them between: "
        f"{found['verdict']}"
    )
    return Evidence(told.get(found["verdict"], "cannot be told"), words)


def paper_heads() -> Evidence:
    """Each of the four has a head that is a role in one of the shipped models."""
    roles: dict[str, list[str]] = {name: [] for name in PAPER_HEADS}
    files = sorted((REPORTS / "heads").glob("l*.jsonl"))
    for path in files:
        for row in read_jsonl(path, "tslens.head_score/1")[1]:
            for name, probes in PAPER_HEADS.items():
                if row["probe"] in probes and row["status"] == "role":
                    roles[name].append(f"{path.stem} {row['head']}")
    if not files:
        return ABSENT
    missing = [name for name, of in roles.items() if not of]
    words = "; ".join(f"{name}: {of[0] if of else 'none'}" for name, of in roles.items())
    return Evidence("cannot be told" if missing else "holds", words)


def paper_neurons() -> Evidence:
    """Roles of the three labels, and what the neuron of largest activation is, in a model of the paper's shape."""
    path = REPORTS / "neurons" / "l8_h64_a16.jsonl"
    if not path.exists():
        return ABSENT
    rows = read_jsonl(path, "tslens.neuron_role/1")[1]
    largest = _json(path.with_suffix(".largest.json")).get("neuron")
    n_roles = {
        label: sum(r["role"] == label and r["status"] == "role" for r in rows) for label in PAPER_NEURONS
    }
    of_largest = next((r["role"] for r in rows if r["neuron"] == largest), None)
    words = ", ".join(f"{label.removeprefix('pos_').replace('_', ' ')}: {n}" for label, n in n_roles.items())
    words += f"; the largest, {largest}, is of {of_largest}"
    if of_largest != INTRODUCTION:
        return Evidence("fails", words)
    return Evidence("holds" if all(n_roles.values()) else "cannot be told", words)


_MARKS = {"reproduced": "◆", "contradicted": "✕", "not decidable": "○"}
_STYLE = """.verdicts { width: 100%; }
.verdicts th, .verdicts td { vertical-align: top; padding: 0.45rem 0.7rem; border-bottom: 1px solid var(--line); }
.verdicts .verdict { white-space: nowrap; font-weight: 600; }
.verdicts ul { margin: 0.15rem 0 0; padding-left: 1.1rem; color: var(--soft); font-size: 0.8125rem; }
"""


# Pages ------------------------------------------------------------------------------------------------------


def _counts(items: Sequence[Item]) -> str:
    return ", ".join(f"{sum(one.verdict == verdict for one in items)} {verdict}" for verdict in VERDICTS)


def _agreement(compared: Mapping[str, Any]) -> str:
    files = compared.get("files", ())
    if not files:
        return "The committed studies were not written again."
    same = sum(one["n_differing"] == 0 for one in files)
    values = sum(one["n_values"] for one in files)
    return f"Written again from their rows, {same} of {len(files)} committed files say the same ({values:,} values)."


def _report(items: Sequence[Item], compared: Mapping[str, Any], budget: str) -> Iterator[str]:
    yield f"# The paper again, at the budget {budget}\n\n"
    yield f"Written by `python analysis/reproduce.py`: {_counts(items)}. Rules: `docs/methods.md`, *Reproduction*. "
    yield f"{_agreement(compared)}\n\n"
    yield "| | says | verdict | shipped models | trained anew |\n|---|---|---|---|---|\n"
    for one in items:
        cells = [one.name, one.says, f"**{one.verdict}**", _cell(one.shipped), _cell(one.anew)]
        yield f"| {' | '.join(cells)} |\n"
    for bad in (one for one in compared.get("files", ()) if one["n_differing"]):
        yield f"\n{bad['file']}: {bad['n_differing']} of {bad['n_values']} values differ, first {bad['first']}.\n"


def _cell(one: Evidence) -> str:
    return f"{one.told}: {one.words}" if one.words else one.told


def _page(items: Sequence[Item], compared: Mapping[str, Any], budget: str) -> str:
    head = ("item", "the paper says", "verdict", "shipped models, committed rows", "trained anew")
    rows = "".join(map(_row, items))
    main = (
        f"<style>\n{_STYLE}</style>\n"
        '<section id="verdicts">\n<h2>Tables, figures and claims</h2>\n<div class="box"><table class="verdicts">\n'
        f"<thead><tr>{''.join(f'<th scope=col>{escape(name)}</th>' for name in head)}</tr></thead>\n"
        f"<tbody>\n{rows}</tbody></table></div>\n<p>{escape(_agreement(compared))}</p>\n</section>\n"
        f'<section id="figures">\n<h2>Figures</h2>\n{"".join(_drawings(items))}</section>\n'
        + limits_section(
            [
                "Whether a larger budget would decide what this one does not.",
                "What GPT-4 would say: grades are the local judge's, which sees faults better than it ranks texts.",
                "Claim 9: neither GPT-2's completions of these prompts nor grades of them are at hand.",
            ]
        )
    )
    return build_page(
        title="The TinyStories paper again",
        lead=f"At the budget {budget}: {_counts(items)}.",
        header={"budget": budget, "items": str(len(items))},
        main=main,
        data={},
        scripts=(),
        has_patterns=False,
    )


def _row(one: Item) -> str:
    mark = _MARKS[one.verdict]
    return (
        f'<tr><th scope="row">{escape(one.name)}</th><td>{escape(one.says)}</td><td class="verdict">{mark} '
        f"{escape(one.verdict)}</td>{_evidence(one.shipped)}{_evidence(one.anew)}</tr>\n"
    )


def _evidence(one: Evidence) -> str:
    """What is told, and below it each figure in a line of its own."""
    figures = "".join(f"<li>{escape(part)}</li>" for part in one.words.split("; ")) if one.words else ""
    return f"<td>{escape(one.told)}{f'<ul>{figures}</ul>' if figures else ''}</td>"


def _drawings(items: Sequence[Item]) -> Iterator[str]:
    shown: set[Path] = set()
    for one in items:
        for path in one.figures:
            if path.exists() and path not in shown:
                shown.add(path)
                held = base64.b64encode(path.read_bytes()).decode()
                yield (
                    f"<figure><figcaption>{escape(one.name)}: {escape(one.says)}</figcaption>\n"
                    f'<img alt="{escape(one.name)}" style="max-width:100%;background:#fff" '
                    f'src="data:image/svg+xml;base64,{held}"></figure>\n'
                )
