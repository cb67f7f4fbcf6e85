"""``tslens compare``: models beside each other, by grades or role by role, and which differences are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.compare_files import GRADES, find_grades, load_comparable
from tslens.cli.console import say, show, show_json, show_table
from tslens.cli.grade import TEMPERATURE, MaxTokens, Prompts, ProtocolName, Samples, Temperature
from tslens.cli.judging import LOCAL, NOT_GPT4, judge_name, parse_judge, refuse_given
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.grading.results import GradedModel

SCHEMA = "tslens.compare/1"
FIRST_ROWS = 40  # pairs on a terminal
SHIPPED = "shipped:"
OF_FILES = ("prompts", "samples", "max_tokens", "temperature", "protocol", "out", "seed")
"""Parameters by which the grades of a model are found."""
OF_ROLES = ("stories", "n_stories", "device")
"""Parameters of the comparison role by role."""
N_STORIES = 200


def compare(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two models, each as other commands take --model, checkpoints too. With --judge: models that were "
            "graded, by name, or files of grades, as tslens grade wrote them."
        ),
    ],
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Compare grades, those of local (in the package, no key, not GPT-4) or of openai:MODEL. "
            "Without it, roles of heads.",
        ),
    ] = None,
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", min=1, help="Stories to read, for roles.")
    ] = N_STORIES,
    prompts: Prompts = None,
    samples: Samples = 10,
    max_tokens: MaxTokens = None,
    temperature: Temperature = TEMPERATURE,
    protocol: ProtocolName = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder that tslens grade was given, if it was.")
    ] = None,
    html: options.Html = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Show two models or checkpoints side by side, role by role: on the same stories, which differences are real?

    With --judge: the grades of several models on the same prompts, and which of their differences are real. Each is
    graded before, with the same options: tslens grade. Nothing is asked or graded here.

    Example: tslens compare l1_h64 l1_h256

    Example: tslens compare l1_h64 l1_h256 l4_h256 --judge local --html models.html
    """
    if judge is None:
        from tslens.cli.compare_roles import check_roles_asked, show_roles_compared

        say(f"tslens compare: {' and '.join(models)}, role by role (seed {seed})")
        check_roles_asked(models, html)
        refuse_given(context, OF_FILES[:-1], "is for grades", "Leave it out, or compare grades with --judge.")
        chosen = options.resolve_device(device)
        show_roles_compared(models, stories, n_stories, seed=seed, device=chosen, as_json=as_json)
        return
    say(f"tslens compare: {len(models)} models by {judge} (seed {seed})")
    from tslens.cli.grade_tables import answered_by, grades_row, show_grades, side_rows
    from tslens.cli.grade_texts import Wanted
    from tslens.errors import UsageError
    from tslens.files import check_page
    from tslens.grading.results import load_sides

    name = judge_name(parse_judge(judge))
    refuse_given(context, OF_ROLES, "is for roles", "Leave it out, or leave out --judge.")
    check_page(html)
    if all(Path(model).suffix == GRADES for model in models):
        refuse_given(context, OF_FILES, "finds a model's grades", "Leave it out where files are named.")
    wanted = Wanted(prompts, samples, max_tokens, temperature, seed)
    paths = find_grades(models, wanted, name, protocol or "two_turns", out)
    if len(paths) < 2:
        raise UsageError("One model compares with none.", "Name two or more.")
    found = load_comparable(paths, name)
    answered = answered_by(found)
    if len(set(answered.values())) > 1:
        told = "; ".join(f"{label}: {names}" for label, names in answered.items())
        say(f"warning: not the same model of the server answered for all: {told}.")
    sides = {one.label: one for path in paths[::-1] for one in load_sides(path) if _same(one, found[0])}
    pairs = _pairs(found)
    if html is not None:
        from tslens import __version__
        from tslens.viz.grades_page import write_grades_page

        header = {"version": __version__, "command": command_line()}
        write_grades_page(html, [*found, *sides.values()], header=header)
    if as_json:
        show_json(_json(found, sides, pairs))
        return
    rows = [grades_row(one.label, one.summary) for one in found]
    show_grades(rows + side_rows(list(sides.values())), found[0].header, answered)
    _show_pairs(pairs)
    if html is not None:
        show(f"wrote {html}")


def _same(one: GradedModel, other: GradedModel) -> bool:
    from tslens.grading.results import SAME

    return all(one.header.get(name) == other.header.get(name) for name in SAME)


# Differences --------------------------------------------------------------------------------------------------


def _pairs(models: Sequence[GradedModel]) -> list[dict[str, Any]]:
    """A row for each pair of models and criterion: the difference, whether it is real, the prompts that 0.3 needs."""
    from tslens.grading.summary import paired, prompts_needed

    rows = []
    for mine, theirs in combinations([one for one in models if one.summary.means], 2):
        for name, mean in paired(mine.grades, theirs.grades).items():
            is_real = mean.low is not None and mean.high is not None and (mean.low > 0 or mean.high < 0)
            rows.append(
                {
                    "first": mine.label,
                    "second": theirs.label,
                    "criterion": name,
                    "difference": mean.mean,
                    "low": mean.low,
                    "high": mean.high,
                    "is_real": is_real,
                    "n_prompts": mean.n_prompts,
                    "n": mean.n,
                    "prompts_for_notable": prompts_needed(mine.grades, theirs.grades, name),
                }
            )
    return rows


def _show_pairs(pairs: Sequence[Mapping[str, Any]]) -> None:
    """A line for each pair, those that differ most where there are many."""
    from tslens.grading.rubric import CRITERIA
    from tslens.grading.summary import NOTABLE, POWER
    from tslens.stats import LEVEL

    if not pairs:
        show("\nNo two of these models have means to compare.")
        return
    of_pair: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in pairs:
        of_pair.setdefault((row["first"], row["second"]), {})[row["criterion"]] = row
    lines = list(of_pair.items())
    if len(lines) > FIRST_ROWS:
        lines.sort(key=lambda line: -max(abs(row["difference"]) for row in line[1].values()))
    short = _shortened({name for pair in of_pair for name in pair})
    show("")
    show_table(
        ["<first - second>", *CRITERIA, f"prompts for {NOTABLE:g}"],
        [
            [
                f"{short[first]} - {short[second]}",
                *(_cell(rows[name]) for name in CRITERIA),
                _needed([row["prompts_for_notable"] for row in rows.values()]),
            ]
            for (first, second), rows in lines[:FIRST_ROWS]
        ],
    )
    n_real = sum(row["is_real"] for row in pairs)
    more = (
        f" {FIRST_ROWS} of {len(lines)} pairs are shown; --json has all." if len(lines) > FIRST_ROWS else ""
    )
    show(
        f"*: real, the 95% interval leaves 0 out: {n_real} of {len(pairs)} differences. Were there none, about "
        f"{(1 - LEVEL) * len(pairs):.1f} would seem so.{more}\n"
        f"prompts for {NOTABLE:g}: how many, with as many completions each, would show a difference of {NOTABLE:g} "
        f"in every\ncriterion in {POWER:.0%} of studies."
    )


def _cell(row: Mapping[str, Any]) -> str:
    if row["low"] is None:
        return f"{row['difference']:+.2f}"
    reach = (row["high"] - row["low"]) / 2
    return f"{row['difference']:+.2f} \N{PLUS-MINUS SIGN}{reach:.2f}{'*' if row['is_real'] else ' '}"


def _needed(found: Sequence[int | None]) -> str:
    known = [number for number in found if number is not None]
    return str(max(known)) if known else ""


def _shortened(labels: set[str]) -> dict[str, str]:
    """Labels without what all of them have: "shipped:" before the name, the seed after it."""
    found = {label: label for label in labels}
    if all(label.startswith(SHIPPED) for label in labels):
        found = {label: name.removeprefix(SHIPPED) for label, name in found.items()}
    if len({label.partition("@")[2] for label in labels}) == 1:
        found = {label: name.partition("@")[0] for label, name in found.items()}
    return found


def _json(
    found: Sequence[GradedModel],
    sides: Mapping[str, GradedModel],
    pairs: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    from tslens.grading.results import SAME, TEACHER, TRUE_ENDING

    header = found[0].header
    absent = {TRUE_ENDING: "not known", TEACHER: "not asked"}
    return {
        "schema": SCHEMA,
        **{name: header.get(name) for name in SAME},
        **({"note": NOT_GPT4} if header["judge"] == LOCAL else {}),
        "models": [_model_json(one) for one in found],
        **{
            label.replace(" ", "_"): sides[label].summary.to_json() if label in sides else absent[label]
            for label in (TRUE_ENDING, TEACHER)
        },
        "differences": list(pairs),
    }


def _model_json(one: GradedModel) -> dict[str, Any]:
    """``answered_by``: only of a judge that is asked."""
    answered = {"answered_by": one.header["answered_by"]} if one.header.get("answered_by") else {}
    return {"model": one.label, **answered, **one.summary.to_json()}
