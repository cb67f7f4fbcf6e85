"""What ``analysis/conjecture.py`` writes from its files: the verdict on the conjecture, and every model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from markdown_table import table

from tslens.link.conjecture.figures import (
    ALPHA,
    LEAST_MODELS,
    LEAST_SIZE,
    Contrast,
    OverModels,
    Permutation,
    Verdict,
    joint_p,
    over_models,
    verdict_of,
)
from tslens.link.conjecture.results import ByGrades, ByReadouts, Found
from tslens.probes.programs.report import Estimate

SHAPES = ("l1_h256", "l2_h128", "l4_h128")
ONE_LAYER = "l1_h256"
SAYS: Mapping[Verdict, str] = {
    "holds": "it holds",
    "fails": "it fails",
    "cannot be told": "cannot be told",
}
GROUPS = ("distance", "semantic")
PARTS: Mapping[str, Callable[[Contrast], Estimate]] = {
    "interaction": lambda one: one.interaction,
    "distance heads: grammar - consistency": lambda one: one.distance,
    "semantic heads: grammar - consistency": lambda one: one.semantic,
    "distance heads: grammar": lambda one: one.effects["distance grammar"],
    "distance heads: consistency": lambda one: one.effects["distance consistency"],
    "semantic heads: grammar": lambda one: one.effects["semantic grammar"],
    "semantic heads: consistency": lambda one: one.effects["semantic consistency"],
}


@dataclass(frozen=True)
class Saved:
    """What the folder holds of one model; None of a part that was not made."""

    label: str
    readouts: ByReadouts | None
    grades: ByGrades | None

    @property
    def shape(self) -> str:
        """Its name without the seed."""
        return self.label.partition("@")[0]

    @property
    def contrasts(self) -> dict[str, Contrast | None]:
        """Of every reading of the model."""
        by_readouts, by_grades = self.readouts, self.grades
        return {
            "readouts": None if by_readouts is None else by_readouts.found.contrast,
            "grades": None if by_grades is None else by_grades.found.contrast,
            "without n-gram": None if by_readouts is None else by_readouts.without_ngram,
            "strict": None if by_readouts is None else by_readouts.strict.contrast,
        }


@dataclass(frozen=True)
class Answer:
    """The verdict and what it rests on. ``p``: of the permutation within models; ``n_permuted``: models of it."""

    verdict: Verdict
    readouts: OverModels | None
    grades: OverModels | None
    p: float | None
    n_permuted: int


def answer_of(saved: Sequence[Saved], *, seed: int) -> Answer:
    """By the rule that was written in advance."""
    readouts, grades = (pooled(saved, name, PARTS["interaction"]) for name in ("readouts", "grades"))
    permuted = permutations(saved, within_layers=False)
    p = joint_p(list(permuted.values()), seed=seed) if permuted else None
    verdict = verdict_of(readouts, grades, p, n_shapes=len(SHAPES))
    return Answer(verdict, readouts, grades, p, len(permuted))


def pooled(saved: Sequence[Saved], name: str, part: Callable[[Contrast], Estimate]) -> OverModels | None:
    """A part of one reading over the models that count."""
    values = {
        one.label: part(contrast).value for one in saved if (contrast := one.contrasts[name]) is not None
    }
    return over_models(values, {one.label: one.shape for one in saved})


def permutations(saved: Sequence[Saved], *, within_layers: bool) -> dict[str, Permutation]:
    """Of each model that can tell."""
    found = {}
    for one in saved:
        if one.readouts is None:
            continue
        permuted = one.readouts.permuted_within_layers if within_layers else one.readouts.permuted
        if isinstance(permuted, Permutation) and permuted.can_tell:
            found[one.label] = permuted
    return found


def write_report(saved: Sequence[Saved], *, seed: int) -> Iterator[str]:
    """The report in Markdown."""
    answer = answer_of(saved, seed=seed)
    yield "# Distance heads and grammar, semantic heads and consistency\n\n"
    yield (
        "Written by `analysis/conjecture.py`; groups, matching, exclusions, numbers and the rule of the verdict stood "
        "in `docs/methods.md` (The authors' conjecture) before it ran.\n\n"
    )
    yield headline(answer, saved)
    yield "## Over models\n\nMean over models [95%, t over models]; of the means of shapes beside it.\n\n"
    yield over_table(saved)
    yield "## Models\n\nI with 95% over stories or prompts; p: labels drawn anew within the model.\n\n"
    yield model_table(saved, seed=seed)
    yield left_out(saved)
    yield "## Matching\n\nCost in nats per token of either group whole, and how far each goes to its mean.\n\n"
    yield matching_table(saved)
    yield "## Readouts\n\nShare of the whole model's difference that either group takes, where the readout counts.\n\n"
    yield readout_table(saved)
    yield "## Beside it\n\nNone of this moves the verdict.\n\n"
    yield beside(saved, seed=seed)


# The answer -------------------------------------------------------------------------------------------------


def headline(answer: Answer, saved: Sequence[Saved]) -> str:
    """The verdict in words."""
    p = "none" if answer.p is None else f"{probability(answer.p)} over {answer.n_permuted} models"
    said = (
        f"**Do distance heads carry grammar and semantic heads consistency: {SAYS[answer.verdict]}.** Interaction by "
        f"readouts {of_models(answer.readouts)}, by grades {of_models(answer.grades)}; permutation p {p}. Unit: share "
        f"of the whole model's difference, and planted faults by the local judge, which is not GPT-4. *Holds* asks for "
        f"both lower ends above 0 and p below {ALPHA}, *fails* for both upper ends below {LEAST_SIZE}, either for "
        f"{LEAST_MODELS} models of all {len(SHAPES)} shapes.\n\n"
    )
    if answer.verdict == "holds":
        alone = pooled([one for one in saved if one.shape == ONE_LAYER], "readouts", PARTS["interaction"])
        if alone is None or alone.mean.low <= 0:
            said += (
                f"Kind and layer are not told apart: where all heads are in one layer (`{ONE_LAYER}`) the interaction "
                f"is {of_models(alone)}.\n\n"
            )
    return said


def of_models(one: OverModels | None) -> str:
    """A mean with its interval and number of models."""
    return (
        "none (fewer than two models)" if one is None else f"{interval(one.mean)} over {one.n_models} models"
    )


def probability(p: float) -> str:
    """As in ``0.031``."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"


def interval(one: Estimate | None) -> str:
    """An estimate with its interval, nothing if there is none."""
    return "" if one is None else f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


# Tables -----------------------------------------------------------------------------------------------------


def over_table(saved: Sequence[Saved]) -> str:
    """The interaction and its parts over models."""
    rows = []
    for name in ("readouts", "grades"):
        for part, read in PARTS.items():
            one = pooled(saved, name, read)
            if one is not None:
                by_shape = [
                    f"{one.by_shape[shape][0]:+.3f} ({one.by_shape[shape][1]})"
                    if shape in one.by_shape
                    else ""
                    for shape in SHAPES
                ]
                rows.append([name, part, interval(one.mean), interval(one.of_shapes), *by_shape])
    return table(
        ["by", "what", "models", "means of shapes", *(f"{shape} (models)" for shape in SHAPES)], rows
    )


def model_table(saved: Sequence[Saved], *, seed: int) -> str:
    """The interaction of every model."""
    rows = []
    permuted = permutations(saved, within_layers=False)
    for one in saved:
        readouts, grades = one.contrasts["readouts"], one.contrasts["grades"]
        labels = permuted.get(one.label)
        rows.append(
            [
                one.label,
                *("" if one.readouts is None else str(len(heads)) for heads in _heads(one)),
                "" if readouts is None else interval(readouts.interaction),
                "" if labels is None else f"{labels.p:.3f} of {1 + len(labels.others)}",
                "" if labels is None else f"{labels.cost:.3f}",
                "" if grades is None else interval(grades.interaction),
                "" if one.grades is None else f"{one.grades.n_graded} of {one.grades.n_texts}",
            ]
        )
    names = ["model", "distance heads", "semantic heads", "I by readouts", "p (labellings)", "at nats"]
    return table([*names, "I by grades", "texts graded"], rows)


def _heads(one: Saved) -> Sequence[Sequence[object]]:
    return ((), ()) if one.readouts is None else one.readouts.found.labelling


def left_out(saved: Sequence[Saved]) -> str:
    """Models that do not count, and why."""
    lines = []
    for one in saved:
        parts: dict[str, Found | None] = {
            "readouts": None if one.readouts is None else one.readouts.found,
            "grades": None if one.grades is None else one.grades.found,
        }
        for name, found in parts.items():
            if found is None:
                lines.append(f"- {one.label}, by {name}: not made\n")
            elif found.left_out:
                lines.append(f"- {one.label}, by {name}: cannot be told: {found.left_out}\n")
    return f"Not counted:\n\n{''.join(lines)}\n" if lines else "All models count.\n\n"


def matching_table(saved: Sequence[Saved]) -> str:
    """Costs and shares."""
    rows = []
    for one in saved:
        parts = [
            ("readouts", one.readouts and one.readouts.found),
            ("grades", one.grades and one.grades.found),
        ]
        for name, found in parts:
            if found is not None and found.matched is not None:
                pairs = (found.matched.whole, found.matched.shares, found.matched.costs)
                rows.append([one.label, name, *(" / ".join(f"{x:.3f}" for x in pair) for pair in pairs)])
    return table(["model", "by", "whole, distance / semantic", "share", "cost at the share"], rows)


def readout_table(saved: Sequence[Saved]) -> str:
    """Every readout of every model by group."""
    rows = []
    for one in saved:
        contrast = one.contrasts["readouts"]
        if one.readouts is None or contrast is None:
            continue
        there = {score["readout"]: score["difference"] for score in one.readouts.scores}
        for name in one.readouts.counted:
            effects = (interval(contrast.effects[f"{group}: {name}"]) for group in GROUPS)
            rows.append([one.label, name, f"{there[name]:.2f}", str(contrast.n_items[name]), *effects])
    return table(["model", "readout", "difference, nats", "items", "distance heads", "semantic heads"], rows)


def beside(saved: Sequence[Saved], *, seed: int) -> str:
    """The strict set, one layer, without what an n-gram passes, labels within layers."""
    part = PARTS["interaction"]
    alone = [one for one in saved if one.shape == ONE_LAYER]
    rows = [
        ["only heads beyond twins", of_models(pooled(saved, "strict", part))],
        [f"`{ONE_LAYER}` alone, by readouts", of_models(pooled(alone, "readouts", part))],
        [f"`{ONE_LAYER}` alone, by grades", of_models(pooled(alone, "grades", part))],
        ["without `agreement` and `word_order`", of_models(pooled(saved, "without n-gram", part))],
    ]
    within = permutations(saved, within_layers=True)
    p = (
        f"p {probability(joint_p(list(within.values()), seed=seed))} over {', '.join(within)}"
        if within
        else "cannot be told"
    )
    rows.append(["labels drawn anew within layers", p])
    only = permutations(alone, within_layers=False)
    p = f"p {probability(joint_p(list(only.values()), seed=seed))}" if only else "cannot be told"
    rows.append([f"labels drawn anew, `{ONE_LAYER}` alone", p])
    return table(["what", "I"], rows)
