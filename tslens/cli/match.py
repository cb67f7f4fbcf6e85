"""``tslens match``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import progress_bar, say, show, show_json, show_table
from tslens.files import check_writable
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.probes.matching.report import Component, MatchReport, PairMatch

MATCH_JSON_SCHEMA = "tslens.matches/1"
N_STORIES = 200
COMPONENTS = ("heads", "neurons")
FIRST_ROWS = 10  # of each two models, on a terminal
FIRST_ROLES = 30


def match(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two models or more with the same tokenizer, each as other commands take --model."
        ),
    ],
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", min=1, help="Stories to read: matches are chosen on one half.")
    ] = N_STORIES,
    components: Annotated[
        str | None, typer.Option("--components", help="heads or neurons. Both if absent.")
    ] = None,
    roles: Annotated[
        bool,
        typer.Option("--roles/--no-roles", help="Score the roles of all units too: who shares which?"),
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", help="Results folder; results/match of the first model if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Say which head or neuron of one model is which of another, and which roles replicate.

    Example: tslens match l2_h128@seed0 l2_h128@seed1 l2_h128@seed2
    """
    say(f"tslens match: loading {', '.join(models)} (seed {seed})")
    from tslens.cli.match_scan import open_together, scan_match
    from tslens.cli.opening import file_name, say_loss, say_stories
    from tslens.errors import UsageError
    from tslens.model.load import find_model

    if components is not None and components not in COMPONENTS:
        raise UsageError(f'There are no components "{components}".', f"Use one of: {', '.join(COMPONENTS)}.")
    chosen: list[Component] = []
    if components != "neurons":
        chosen.append("head")
    if components != "heads":
        chosen.append("neuron")
    sources = [find_model(name) for name in models]
    for source in sources:
        say(source.note)
    folder = out or sources[0].home.results("match")
    check_writable(folder)
    opened = open_together(sources, stories, n_stories, device=options.resolve_device(device))
    for one in opened:
        say_loss(one)
    with progress_bar("reading", n_stories) as (bar, task):

        def told(what: str, n_done: int, n_total: int) -> None:
            bar.update(task, description=what, total=n_total, completed=n_done, note=f"{n_done} stories")

        scan = scan_match(
            opened,
            components=chosen,
            roles=roles,
            seed=seed,
            command=command_line(),
            progress=told,
        )
    report = scan.report
    say_stories(opened[0], report.n_stories)
    others = "+".join(re.sub(r"[^\w.@-]", "-", source.label) for source in sources[1:])
    asked = f"_with_{others}" + (f"_{components}" if components else "") + ("" if roles else "_no-roles")
    path = folder / file_name(opened[0], report.n_stories, seed, asked, named=out is not None)
    scan.save(path)
    if as_json:
        show_json(match_json(report))
    else:
        show_match(report)
        show(f"wrote {path}")


# Results --------------------------------------------------------------------------------------------------


def match_json(report: MatchReport) -> dict[str, Any]:
    """All of the report as plain JSON types."""
    return {
        "schema": MATCH_JSON_SCHEMA,
        "models": list(report.models),
        "n_stories": report.n_stories,
        "n_read": report.n_read,
        "pairs": [pair.header() for pair in report.pairs],
        "matches": report.rows(),
        "roles": [one.to_json() for one in report.roles],
        "agreements": [one.to_json() for one in report.agreements],
    }


def show_match(report: MatchReport) -> None:
    """Which models, how like they are, the best pairs, and the roles."""
    show("\n".join(f"{number}: {name}" for number, name in enumerate(report.models, start=1)))
    show_table(
        ["<models>", "pairs of", "value", "exchanged", "twins", "rotated", "program", "excess", *_STATUSES],
        [_summary(report, pair) for pair in report.pairs],
    )
    for pair in report.pairs:
        show(f"{_numbers(report, pair)}, {pair.component}s, the best of {len(pair.matches)}:")
        show_table(
            ["<first>", "<second>", "value", "low", "largest null", "program", "<status>", "<both hold>"],
            [_cells(report, pair, i) for i in range(min(FIRST_ROWS, len(pair.matches)))],
        )
    if report.roles:
        _show_roles(report)
    show(
        "value: similarity of attention (1 - Jensen-Shannon distance), or correlation of activations, of\n"
        "units matched one to one on one half of the stories and read on the other. exchanged: the second\n"
        "model reads another story; twins: it is random; rotated: its neurons' basis is turned; program:\n"
        "what the unit's own tokens (and distances) tell. excess: beyond the largest null. same: nearer\n"
        "than nulls and program, corrected; like: nearer than the nulls by the floor alone."
    )


_STATUSES = ("same", "like", "unclear", "no")


def _numbers(report: MatchReport, pair: PairMatch) -> str:
    first, second = (report.models.index(name) + 1 for name in (pair.model_a, pair.model_b))
    return f"{first} and {second}"


def _summary(report: MatchReport, pair: PairMatch) -> list[str]:
    names = ("value", "exchanged", "twins", "rotated", "program", "excess")
    means = [f"{pair.means[name].value:.3f}" if name in pair.means else "" for name in names]
    counts = [str(pair.counts[status]) for status in _STATUSES]  # type: ignore[index]
    return [_numbers(report, pair), f"{pair.component}s", *means, *counts]


def _cells(report: MatchReport, pair: PairMatch, i: int) -> list[str]:
    one = pair.best_first()[i]
    held = [
        {
            role.role
            for role in report.roles
            if (role.model, role.component) == (model, pair.component) and str(unit) in role.holders
        }
        for model, unit in ((pair.model_a, one.a), (pair.model_b, one.b))
    ]
    numbers = [one.value, one.low, max(one.nulls.values()), one.program]
    both = ", ".join(name.replace("_", " ") for name in sorted(held[0] & held[1]))
    return [str(one.a), str(one.b), *(f"{number:.3f}" for number in numbers), one.status, both]


def _show_roles(report: MatchReport) -> None:
    """How many units of each model hold each role, and how far matched ones share them."""
    from tslens.probes.matching.roles import replicated

    for component in dict.fromkeys(one.component for one in report.roles):
        mine = [one for one in report.roles if one.component == component]
        in_all = set(replicated(mine, report.models, component))
        n_held = {(one.role, one.model): len(one.holders) for one in mine}
        names = sorted(
            {one.role for one in mine if one.holders},
            key=lambda role: (-sum(n_held.get((role, model), 0) for model in report.models), role),
        )
        rows = [
            [
                name.replace("_", " "),
                *(str(n_held.get((name, model), 0)) for model in report.models),
                "yes" if name in in_all else "",
            ]
            for name in names
        ]
        show(f"Roles of {component}s: how many hold each (role or candidate), and is it held in every model?")
        show_table(
            ["<role>", *map(str, range(1, len(report.models) + 1)), "<in all>"],
            rows[:FIRST_ROLES],
        )
        if len(rows) > FIRST_ROLES:
            show(f"({len(rows) - FIRST_ROLES} more roles in the file)")
    pairs = {(pair.model_a, pair.model_b, pair.component): pair for pair in report.pairs}
    for one in report.agreements:
        if one.role is None and one.shared is not None:
            told = _numbers(report, pairs[one.model_a, one.model_b, one.component])
            show(
                f"{told}: matched {one.component}s share {one.shared:.2f} of the roles that they hold; dealt out\n"
                f"anew {one.chance:.2f} (p {one.p:.4f}), in layers {one.chance_in_layer:.2f} (p {one.p_in_layer:.4f})."
            )
