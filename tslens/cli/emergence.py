"""``tslens emergence``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table
from tslens.provenance import command_line, provenance, utc_now

if TYPE_CHECKING:
    from tslens.link.emergence.results import Timeline
    from tslens.types import Provenance

SCHEMA = "tslens.emergence_timeline/1"
MOST_LAGS = 12


def emergence(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or a folder of them: several seeds of one model.")
    ],
    stories: options.Stories = None,
    n_stories: Annotated[
        int, typer.Option("--n-stories", min=30, help="On which losses and roles are read.")
    ] = 60,
    pairs: Annotated[int, typer.Option("--pairs", min=20, help="Minimal pairs of each readout.")] = 150,
    positions: Annotated[
        int, typer.Option("--positions", min=10, help="At which n-grams are held against the model.")
    ] = 400,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", help="Only this probe of heads; may be repeated.")
    ] = None,
    n_explain: Annotated[
        int, typer.Option("--n-explain", min=0, help="Stories on which causes of roles are read; 0: none.")
    ] = 0,
    graded: Annotated[
        bool,
        typer.Option(
            "--graded",
            help="Grade, by the local judge, what is written once the validation loss is below the 4-gram's.",
        ),
    ] = False,
    samples: Annotated[
        int, typer.Option("--samples", min=1, help="With --graded: texts of each prompt.")
    ] = 2,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw it: FIGURE.svg, .pdf, .png, and its data as .csv.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the readings; RUN/results/emergence if absent.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Read loss, capabilities, roles and the nearest n-gram at every kept checkpoint, and say what comes first.

    With several seeds, an order "role before capability" is stated only where the interval of the lag leaves out zero.
    Each checkpoint is kept once it is read: a stopped run goes on.

    Example: tslens emergence runs/l2_h128 --figure emergence
    """
    say(f"tslens emergence: reading runs (seed {seed})")
    from tslens.cli.emergence_read import Wanted, read_runs
    from tslens.cli.scaling import run_folders
    from tslens.errors import UsageError
    from tslens.link.emergence.results import make_timeline

    started, clock = utc_now(), time.monotonic()
    folders = [folder for path in runs for folder in run_folders(path)]
    if not folders:
        raise UsageError(
            f"There is no run in {', '.join(map(str, runs))}.", "Name run folders, as runs/l1_h64/seed0."
        )
    wanted = Wanted(
        stories,
        n_stories,
        pairs,
        positions,
        tuple(probe or ()),
        n_explain,
        samples if graded else 0,
        seed,
        options.resolve_device(device),
    )

    def record(data: str, sha256: str) -> Provenance:
        return provenance(
            command=command_line(),
            seed=seed,
            data=data,
            data_sha256=sha256,
            started=started,
            seconds=time.monotonic() - clock,
        )

    read, files = read_runs(folders, wanted, out, record)
    timeline = make_timeline(read, seed=seed)
    if figure is not None:
        from tslens.viz.emergence_figure import draw_emergence

        draw_emergence(read, timeline, figure)
        files += [figure.with_suffix(ending) for ending in (".svg", ".pdf", ".png", ".csv")]
    if as_json:
        show_json(
            {
                "schema": SCHEMA,
                "runs": list(read),
                **timeline.to_json(),
                "files": [str(file) for file in files],
            }
        )
        return
    show_timeline(timeline)
    show("\n".join(f"wrote {file}" for file in files))


def show_timeline(timeline: Timeline) -> None:
    """When each series has half of its rise, in each run; then the lags that are sure."""
    labels = list(dict.fromkeys(one.run for of in timeline.changes.values() for one in of))
    rows = []
    for name, of in timeline.changes.items():
        by_run = {one.run: one for one in of}
        known = [one.tokens for one in of if one.tokens is not None]
        if not known:
            continue
        cells = []
        for label in labels:
            one = by_run.get(label)
            if one is None or one.tokens is None or one.low is None or one.high is None:
                cells.append("")
                continue
            cells.append(f"{_short(one.tokens)} ({_short(one.low)}-{_short(one.high)})")
        n_gone = sum(one.vanishes for one in of)
        rows.append((sum(known) / len(known), [name, *cells, f"{n_gone} of {len(known)}" if n_gone else ""]))
    show_table(
        ["<series>", *(f"tokens, {label}" for label in labels), "vanishes in"],
        [cells for _, cells in sorted(rows, key=lambda row: row[0])],
    )
    show(
        "Tokens at which a series has half of its rise (loss and distance to an n-gram: of their fall), with 95% "
        "intervals;\nseries that do not rise for sure in any run are left out. vanishes: over half of the rise is gone "
        "at the end, for sure.\n"
    )
    _show_followed(timeline)
    sure = [one for one in timeline.lags if one.sure]
    if not timeline.lags:
        show(
            "One run tells no order: give several seeds."
            if len(labels) == 1
            else "No role and readout rise for sure in two runs."
        )
        return
    few = " Two seeds can hardly show an order: give three or more." if len(labels) == 2 else ""
    show(
        f"{len(sure)} of {len(timeline.lags)} lags of a capability behind a role leave out zero, corrected for all of "
        f"them.{few}"
    )
    if sure:
        show_table(
            ["<role>", "<capability>", "doublings later", "95%", "seeds"],
            [
                [
                    one.first,
                    one.second,
                    f"{one.doublings:+.1f}",
                    f"{one.low:+.1f} to {one.high:+.1f}",
                    str(one.n_seeds),
                ]
                for one in sure[:MOST_LAGS]
            ],
        )


def _show_followed(timeline: Timeline) -> None:
    """From where on each run is nearest to which n-gram."""
    parts: dict[str, list[str]] = {}
    last: dict[str, int] = {}
    for one in timeline.followed:
        if last.get(one.run) != one.order:
            parts.setdefault(one.run, []).append(f"{one.order}-gram from {_short(one.n_tokens)}")
            last[one.run] = one.order
    for label, told in parts.items():
        show(f"{label} is nearest to the {', '.join(told)} tokens.")


def _short(tokens: float) -> str:
    return f"{tokens / 1e6:.2f}M" if tokens >= 1e6 else f"{tokens / 1e3:.0f}k"
