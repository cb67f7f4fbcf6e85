"""The page of ``tslens neurons``: every MLP neuron in a table, and a card of the chosen one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tslens.model.story_model import StoryModel
from tslens.probes.neurons.report import LabelFacts, NeuronsReport
from tslens.types import NeuronRole, Status
from tslens.viz.neurons_data import Histogram, Passage, histogram, passages
from tslens.viz.neurons_words import STATUSES, sentences, words
from tslens.viz.page import (
    build_page,
    definitions,
    escape,
    limits_section,
    number,
    signed,
    visible,
    write_page,
)
from tslens.viz.sorted_table import Column, choice, search, sorted_table

_SCRIPTS = ("figures.js", "neurons.js", "table.js")
_ABSENT = "\N{EN DASH}"
_LEVELS = 99  # of an activation in a passage, of its largest
_COLUMNS = (
    Column("neuron", "", "ascending", "component"),
    Column("role", "", "ascending", "words"),
    Column("area", "lower end", "descending", "figure"),
    Column("null", "", "descending", "figure"),
    Column("word", "alone", "descending", "figure"),
    Column("basis", "", "ascending", "words"),
    Column("kind", "", "ascending", "words"),
    Column("loss", "nats", "descending", "figure"),
    Column("status", "", "ascending", "status"),
    Column("raises", "", "ascending", "words"),
)
_LABEL_COLUMNS = (
    "label",
    "roles",
    "candidates",
    "beyond the word",
    "word alone",
    "pair alone",
    "random",
    "tokens",
    "what it marks",
)
CANNOT_TELL = (
    "What a neuron is for where no label asks: a neuron without a role may follow something that nobody labelled.",
    "Whether a neuron is needed where others do the same: taking one away may then cost nothing.",
    "What a neuron does by way of later layers: what it writes is read straight at the logits.",
    "Anything about other seeds, sizes or texts: these are figures of one trained model on these stories.",
)


def write_neuron_atlas(
    path: str | Path,
    report: NeuronsReport,
    model: StoryModel,
    *,
    name: str,
    header: Mapping[str, str] | None = None,
) -> None:
    """Write the page of a report: one HTML file, nothing from the network.

    ``model``: run again on the stories that are shown. ``name``: of the model. ``header``: further facts.
    Raises RunError where ``path`` cannot be written.
    """
    descriptions = {label.name: label.description for label in report.labels}
    ordered = report.best_first()
    page = build_page(
        title=f"MLP neurons of {name}",
        lead=summary(report),
        header={"model": name, **(header or {"stories": str(report.n_stories), "seed": str(report.seed)})},
        main=_split(ordered)
        + _labels(report)
        + _doses(report)
        + _meaning(report)
        + limits_section(CANNOT_TELL),
        data={
            "selected": str(ordered[0].neuron) if ordered else None,
            "floor": report.floor,
            **_cards(report, model, descriptions),
        },
        scripts=_SCRIPTS,
        has_patterns=False,
    )
    write_page(Path(path), page)


def summary(report: NeuronsReport) -> str:
    """What was found, in one sentence."""
    status = Counter(role.status for role in report.roles)
    n = len(report.roles)
    if not status["role"] + status["candidate"]:
        return (
            f"None of {n} neurons has a candidate role: no label is told apart well enough beyond the nulls."
        )
    basis = Counter(role.basis for role in report.roles if role.status in ("role", "candidate"))
    first: Status = "role" if status["role"] else "candidate"
    kinds = Counter(words(role.role) for role in report.roles if role.status == first and role.role)
    most = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(5))
    tested = "a tested role" if first == "role" else "a candidate role"
    also = f"; {status['candidate']} more a candidate role" if first == "role" and status["candidate"] else ""
    return (
        f"{status[first]} of {n} neurons have {tested} (most often {most}){also}. "
        f"Beyond the word: {basis['contextual']} of all these."
    )


# The table and the card -----------------------------------------------------------------------------------


def _split(ordered: Sequence[NeuronRole]) -> str:
    return (
        '<section id="neurons" class="split">\n<div>\n<h2>All neurons</h2>\n'
        f"{_table(ordered)}</div>\n"
        '<article id="panel" aria-labelledby="head" hidden>\n<h2 id="head"></h2>\n<div id="says"></div>\n'
        '<div id="figures"></div>\n<div id="passages"></div>\n<div id="written"></div>\n</article>\n</section>\n'
    )


def _table(ordered: Sequence[NeuronRole]) -> str:
    there = {role.status for role in ordered}
    fields = (
        search("neuron", "L0N12", 0, "component"),
        choice("role", sorted({words(role.role) for role in ordered if role.role}), 1, "exact"),
        choice("status", (status for status in STATUSES if status in there), 8, "status"),
        choice("basis", sorted({role.basis for role in ordered if role.basis}), 5, "exact"),
        choice("kind", sorted({role.kind for role in ordered}), 6, "exact"),
        search("raises", "happy", 9, "contains"),
    )
    return sorted_table(
        _COLUMNS,
        [_row(role) for role in ordered],
        fields,
        hint="Choose a neuron to see its card. Area: how well its activation tells the tokens of its label from "
        "others, 0.5 by chance, on stories that had no part in choosing the label; then the corrected lower end. "
        "Loss: beyond like tokens. <b id=sideways hidden>The table goes on to the right: scroll it sideways.</b>",
        label="Table of all neurons",
    )


def _row(role: NeuronRole) -> str:
    null = max(role.nulls.get("shifted", 0.5), role.nulls.get("twins", 0.5))
    mark = STATUSES[role.status][0]
    loss = _ABSENT if role.cause is None else signed(role.cause["mean_beyond"], 3)
    raises = " ".join(token.strip() for token in (role.writes or {}).get("promotes", ())[:4])
    cells = (
        f'<th scope=row><a href="#{role.neuron}">{role.neuron}</a></th>',
        f"<td class=wraps>{escape(words(role.role)) if role.role else _ABSENT}</td>",
        f"<td>{number(role.auroc)} <small>≥ {number(role.auroc_low)}</small></td>",
        f"<td>{number(null)}</td>",
        f"<td>{number(role.nulls['tokens']) if 'tokens' in role.nulls else _ABSENT}</td>",
        f"<td>{role.basis or _ABSENT}</td>",
        f"<td>{role.kind}</td>",
        f"<td>{loss}</td>",
        f'<td><b class="{role.status}">{mark} {role.status}</b></td>',
        f"<td class=wraps>{escape(raises)}</td>",
    )
    return f"<tr>{''.join(cells)}</tr>\n"


def _cards(report: NeuronsReport, model: StoryModel, descriptions: Mapping[str, str]) -> dict[str, Any]:
    """What the script needs of each neuron; tokens by their place in ``vocab``."""
    assert model.tokenizer is not None
    shown = passages(model, report.read)
    used = sorted({token for of_neuron in shown for passage in of_neuron for token in passage.ids})
    place = {token: i for i, token in enumerate(used)}
    cards = {}
    for column, role in enumerate(report.roles):
        cards[str(role.neuron)] = {
            "status": role.status,
            "role": words(role.role) if role.role else "",
            "says": list(sentences(role, descriptions)),
            "area": [round(value, 3) for value in (role.auroc, role.low, role.high)],
            "nulls": {name: round(value, 3) for name, value in role.nulls.items()},
            "cause": _cause(role),
            "bins": _bins(histogram(report.read, column, role)),
            "passages": [_passage(one, place) for one in shown[column]],
            "raises": [visible(token) for token in (role.writes or {}).get("promotes", ())],
            "lowers": [visible(token) for token in (role.writes or {}).get("suppresses", ())],
        }
    return {"vocab": [visible(token) for token in model.tokenizer.token_strings(used)], "neurons": cards}


def _cause(role: NeuronRole) -> list[list[float]]:
    """Of each way to replace the activation what it costs, and beyond like tokens."""
    if role.cause is None:
        return []
    return [
        [round(role.cause[way], 4), round(role.cause[f"{way}_beyond"], 4)]
        for way in ("mean", "zero", "resample")
    ]


def _bins(found: Histogram) -> list[Any]:
    rounded = [
        [round(1000 * share) for share in shares.tolist()] for shares in (found.labelled, found.others)
    ]
    return [round(found.least, 2), round(found.largest, 2), *rounded]


def _passage(passage: Passage, place: Mapping[int, int]) -> list[Any]:
    """Quantile (0 for the strongest), place, activation there, tokens, levels."""
    largest = max(map(abs, passage.activations)) or 1.0
    levels = [round(_LEVELS * value / largest) for value in passage.activations]
    there = round(passage.activations[passage.place], 2)
    return [passage.quantile or 0, passage.place, there, [place[token] for token in passage.ids], levels]


# Labels and meaning ---------------------------------------------------------------------------------------


def _labels(report: NeuronsReport) -> str:
    """What neurons were found for each label, and how much of it the word alone decides."""
    found = {status: Counter(r.role for r in report.roles if r.status == status) for status in STATUSES}
    contextual = Counter(
        r.role for r in report.roles if r.status in ("role", "candidate") and r.basis == "contextual"
    )
    read = [label for label in report.labels if label.is_read]
    order = sorted(read, key=lambda one: (-found["role"][one.name], -found["candidate"][one.name], one.name))
    rows = "".join(_label_row(label, found, contextual) for label in order)
    heads = "".join(f"<th scope=col>{name}</th>" for name in _LABEL_COLUMNS)
    left_out = [words(label.name) for label in report.labels if not label.is_read]
    note = f'<p class="hint">On too few tokens: {escape(", ".join(left_out))}.</p>\n' if left_out else ""
    return (
        '<section id="labels">\n<h2>Labels, and how many neurons fire at them</h2>\n'
        '<p class="hint">Word alone, pair alone: how well the label\'s share among tokens of the word, or of the '
        "pair of words, tells its tokens from others (area). Random: the 95th percentile of random neurons.</p>\n"
        '<div class="box fit" tabindex=0 role=region aria-label="Labels"><table class="plain"><thead><tr>'
        f"{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>\n{note}</section>\n"
    )


def _label_row(
    label: LabelFacts, found: Mapping[Status, Counter[str | None]], contextual: Counter[str | None]
) -> str:
    counts = (found["role"][label.name], found["candidate"][label.name], contextual[label.name])
    figures = (label.word_alone, label.bigram_alone, label.twins)
    cells = [str(count) if count else _ABSENT for count in counts] + [number(value) for value in figures]
    cells += [f"{label.n_tokens:,}", escape(label.description)]
    return f"<tr><th scope=row>{escape(words(label.name))}</th><td>{'</td><td>'.join(cells)}</td></tr>\n"


def _doses(report: NeuronsReport) -> str:
    """All neurons of a role together, and as many others."""
    if not report.doses:
        return ""
    heads = "".join(
        f"<th scope=col>{name}</th>" for name in ("label", "neurons", "their effect", "as many others")
    )
    rows = "".join(
        f"<tr><th scope=row>{escape(words(dose.label))}</th><td>{dose.n_neurons}</td>"
        f"<td>{signed(dose.effect, 3)} <small>[{signed(dose.low, 3)}, {signed(dose.high, 3)}]</small></td>"
        f"<td>{signed(dose.others, 3)} <small>[{signed(dose.others_low, 3)}, {signed(dose.others_high, 3)}]</small>"
        "</td></tr>\n"
        for dose in report.doses
    )
    return (
        '<section id="doses">\n<h2>All neurons of a role together</h2>\n'
        '<p class="hint">A quarter, half and all of the neurons of a label (roles and candidates, strongest first), '
        "their means in place of their activations, all at once: what that costs at the label's tokens beyond like "
        "tokens, in nats, with 95% intervals over stories. Beside it as many neurons without a role, of like "
        "variation.</p>\n"
        '<div class="box fit" tabindex=0 role=region aria-label="Doses"><table class="plain"><thead><tr>'
        f"{heads}</tr></thead><tbody>\n{rows}</tbody></table></div>\n</section>\n"
    )


def _meaning(report: NeuronsReport) -> str:
    at = report.counts_at_floors
    terms = {
        "role": "The label that explains the activation best on one half of the stories. All figures are of the other.",
        "area": "Probability that a token with the label has a higher activation than one without: 0.5 by chance. Its "
        "lower end is corrected for the number of neurons that were found.",
        "null": "The larger of two: the labels moved around their stories; neurons of random models, which choose a "
        "label in the same way.",
        "word alone": "The area of the neuron's own mean for each word: what is left if only the word counts.",
        "basis": "What explains the role: the position, the words (lexical), or neither (contextual): on tokens whose "
        "word leaves the label open, the label explains 5% of the variance beyond word, pair of words and position.",
        "kind": "What sort of neuron it is, whatever its role: dead, follows the position, a word, a pair of words "
        "(n-gram), suppresses the words at which it fires, or mixed.",
        "loss": "What it costs at the tokens of its label to put its mean in place of its activation, in nats of the "
        f"next token, beyond the cost at like tokens; on {report.n_explained} stories.",
        "raises": "The tokens whose logits its output weights raise most, straight, without later layers.",
    }
    statuses = {f"{mark} {status}".strip(): text for status, (mark, text) in STATUSES.items()}
    return (
        '<section id="meaning">\n<h2>How to read the numbers</h2>\n'
        f"<h3>Figures</h3>\n{definitions(terms)}"
        f'<p class="counts">Candidates by floor of the area: at half the excess over chance (0.575) {at["half"]}, at '
        f"the floor ({report.floor:g}) {at['floor']}, at double (0.8) {at['double']}.</p>\n"
        f"<h3>Status</h3>\n{definitions(statuses)}</section>\n"
    )
