"""The page of graded models: the table, the differences between models, and the texts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tslens.grading.local.trust import SEES_FAULTS, agreement_told
from tslens.grading.results import SAME, TRUE_ENDING, GradedModel
from tslens.grading.rubric import CRITERIA, Criterion
from tslens.grading.summary import MOST_FAILURES
from tslens.viz.grades_desk import Prompt, desk_data, desk_section, gather, that_fit, without_texts
from tslens.viz.grades_pairs import (
    Difference,
    between_models,
    differences,
    judge_of,
    pairs_section,
    real_side,
    real_told,
)
from tslens.viz.grades_table import REFERENCES, highest, models_table
from tslens.viz.page import build_page, definitions, limits_section, number, write_page

MAX_BYTES = 7_900_000
"""A page of ten models, 500 completions each, stays below 8 MB."""

_NOTE_BYTES = 4000
_HASH = " sha256"
_OF_ONE_MODEL = frozenset({"schema", "model", "checkpoint"})
_MEANINGS = {
    "grade": "From 0 (worst) to 10 (best): grammar; creativity; consistency with the prompt; plot, whether it makes "
    "sense.",
    "mean": "Mean over prompts of the mean over the completions of a prompt. Completions of one prompt are alike, so "
    "the 95% interval is over prompts.",
    "difference": "Mean difference on the same prompts and numbers of the sample. It is often known better than the "
    "two means are, because both models met the same prompts.",
    "real": "The 95% interval of the difference leaves 0 out.",
    "no grade": "Texts without a grade, by reason. They are never zeros. Where they are more than "
    f"{100 * MOST_FAILURES:.0f}% of the texts, the model has no total.",
    "true ending": "How the author of the story went on from the prompt.",
    "teacher": "How a large model went on from the prompt; not asked without a server.",
    "prediction interval": "Of a grade of the local judge: where the grade that it estimates lies in 95 of 100 cases.",
    "age": "How old a child would write so: a guess of the judge.",
    "cut": "The model reached the limit of tokens before it ended its story.",
}


def write_grades_page(path: str | Path, models: Sequence[GradedModel], *, header: Mapping[str, str]) -> None:
    """Write the page of graded models: one HTML file below 8 MB, nothing from the network.

    ``header``: further facts, as name and value. Where not all texts fit, those of the first samples are held; the
    tables are always of all. Equal input gives equal bytes. Raises RunError where ``path`` cannot be written.
    """
    found = differences(models)
    prompts = gather(models)
    facts = shared_facts(models)
    hashes = {name: value for name, value in facts.items() if name.endswith(_HASH)}
    n_models = sum(model.label not in REFERENCES for model in models)

    def page(held: Sequence[Prompt]) -> str:
        return build_page(
            title="Grades of completions",
            lead=summary(models, found),
            header={"models": str(n_models), "prompts": str(len(prompts)), **header, **hashes},
            main=_style()
            + _judge(facts, models)
            + models_table(models)
            + pairs_section(found)
            + desk_section(models, prompts, held)
            + _meaning()
            + limits_section(_limits(models)),
            data=desk_data(models, held),
            scripts=_scripts(held, found),
            has_patterns=False,
        )

    room = MAX_BYTES - len(page(without_texts(prompts)).encode()) - _NOTE_BYTES
    write_page(Path(path), page(that_fit(prompts, room)))


def summary(models: Sequence[GradedModel], found: Sequence[Difference]) -> str:
    """What was found, in a few sentences."""
    best = highest(models)
    if not best:
        return "No model has a total."
    labels = [model.label for model in models if model.summary.means and model.label not in REFERENCES]
    parts = [
        _highest(best, labels, found) if len(labels) > 1 else _one(models, labels[0]),
        _against_endings(labels, found),
        _real(found),
    ]
    return " ".join(part for part in parts if part)


def _highest(best: Mapping[Criterion, str], labels: Sequence[str], found: Sequence[Difference]) -> str:
    """Who has the highest means; those that are really above all others apart."""
    really: dict[str, list[str]] = {}
    merely: dict[str, list[str]] = {}
    for name, label in best.items():
        sides = [real_side(found, label, other, name) for other in labels if other != label]
        (really if min(sides) > 0 else merely).setdefault(label, []).append(name)
    others = "the other" if len(labels) == 2 else "all others"
    if not really:
        return (
            f"Of {len(labels)} models none is really above {others}; the highest means: {_by_model(merely)}."
        )
    told = f"Really the highest of {len(labels)} models: {_by_model(really)}."
    return told + (f" Highest, but not really above {others}: {_by_model(merely)}." if merely else "")


def _by_model(found: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{label} in {_criteria(names)}" for label, names in found.items())


def _real(found: Sequence[Difference]) -> str:
    """How many differences are real, of those between models."""
    between = between_models(found)
    return f"{real_told(between)} differences between models are real." if between else ""


def _one(models: Sequence[GradedModel], label: str) -> str:
    means = next(model.summary.means for model in models if model.label == label)
    told = [f"{name} {number(means[name].mean)}" for name in CRITERIA]
    return f"{label}: {_listed(told)} of 10."


def _against_endings(labels: Sequence[str], found: Sequence[Difference]) -> str:
    """In which criteria the true endings are really above the models, all or some of them, and in which below."""
    if not any(TRUE_ENDING in (one.first, one.second) for one in found):
        return ""
    all_of_them = "the model" if len(labels) == 1 else "all models"
    groups: dict[str, list[str]] = {
        f"{where} {whom}": [] for where in ("above", "below") for whom in (all_of_them, "some models")
    }
    for name in CRITERIA:
        sides = [real_side(found, TRUE_ENDING, label, name) for label in labels]
        for where, side in (("above", 1), ("below", -1)):
            if side in sides:
                whom = all_of_them if set(sides) == {side} else "some models"
                groups[f"{where} {whom}"].append(name)
    told = "; ".join(f"{where} in {_criteria(names)}" for where, names in groups.items() if names)
    return f"True endings stand really {told or 'neither above nor below'}."


def _criteria(names: Sequence[str]) -> str:
    if len(names) == len(CRITERIA):
        return "all criteria"
    return _listed(names) if names else "no criterion"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# Who graded -----------------------------------------------------------------------------------------------


def _judge(facts: Mapping[str, str], models: Sequence[GradedModel]) -> str:
    """The judge and its version, the prompts and theirs, and whatever else holds for all models."""
    notes = []
    if is_local(models):
        notes.append(f"Grades of the local judge are not those of GPT-4. {SEES_FAULTS}")
    if len(_judges(models)) > 1:
        notes.append("These models were graded by different judges or versions: their grades do not compare.")
    said = "".join(f'<p class="says"><b>{note}</b></p>\n' for note in notes)
    said += f'<p class="hint">{agreement_told()}</p>\n' if is_local(models) else ""
    told = definitions({name: value for name, value in facts.items() if not name.endswith(_HASH)})
    return f'<section id="judge">\n<h2>Who graded</h2>\n{said}{told}</section>\n'


def shared_facts(models: Sequence[GradedModel]) -> dict[str, str]:
    """Facts of the headers by name; one that differs says whose it is. Models that were not asked have no say."""
    asked = [model for model in models if model.outcomes]
    names = dict.fromkeys([*SAME, *(name for model in asked for name in model.header)])
    facts = {}
    for name in names:
        if name in _OF_ONE_MODEL:
            continue
        whose: dict[str, list[str]] = {}
        for model in asked:
            if model.header.get(name) is not None:
                whose.setdefault(_told(model.header[name]), []).append(model.label)
        if whose:
            facts[name.replace("_", " ")] = _whose(whose, len(asked))
    return facts


def _whose(whose: Mapping[str, Sequence[str]], n_asked: int) -> str:
    """Values with the models that have them; what holds for more than half of them stands alone."""
    return "; ".join(
        value if 2 * len(labels) > n_asked else f"{value} ({', '.join(labels)})"
        for value, labels in whose.items()
    )


def is_local(models: Sequence[GradedModel]) -> bool:
    """Whether the local judge gave some of the grades."""
    return any(judge == "local" for judge, _ in _judges(models))


def _judges(models: Sequence[GradedModel]) -> set[tuple[str, str]]:
    return {judge_of(model) for model in models if model.outcomes}


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_told, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


# The rest of the page -------------------------------------------------------------------------------------


def _meaning() -> str:
    return f'<section id="meaning">\n<h2>What the words mean</h2>\n{definitions(_MEANINGS)}</section>\n'


def _limits(models: Sequence[GradedModel]) -> list[str]:
    judge = "the local judge, which measures texts and understands none" if is_local(models) else "one judge"
    return [
        f"How good a story is: these are grades of {judge}. How far it sees what it claims to see: tslens audit judge.",
        "Which of two texts is the better one: the grade of a single text is uncertain. Only means over many tell.",
        "Whether models differ on other prompts, at another temperature or at another limit of tokens.",
        "Which of many differences are real at once: the intervals are not corrected for their number.",
    ]


def _scripts(held: Sequence[Prompt], found: Sequence[Difference]) -> tuple[str, ...]:
    """Only those whose part of the page is there."""
    return (*(("table.js",) if found else ()), *(("figures.js", "grades.js") if held else ()))


def _style() -> str:
    return f"<style>\n{(files('tslens') / 'assets/page/grades.css').read_text(encoding='utf-8')}</style>\n"
