"""``tslens scaling``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table
from tslens.provenance import command_line, provenance, utc_now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tslens.link.scaling.envelope import Envelope
    from tslens.link.scaling.points import ScalingRun
    from tslens.link.scaling.surface import Scaling

SCHEMA = "tslens.scaling/1"
WIDE = 0.5  # an interval of the exponent that tells nothing


def scaling(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders, or folders of runs, as tslens train --grid writes them."),
    ],
    count: Annotated[
        Literal["all", "blocks"],
        typer.Option("--count", help="What makes a size: all trained parameters, or those of the blocks."),
    ] = "all",
    draws: Annotated[int, typer.Option("--draws", min=50, help="Of the bootstrap over runs.")] = 400,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Draw it: FIGURE.svg, .pdf, .png, and its data as .csv."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the result, as JSON.")] = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Say which size is best for a budget of operations, and how that size grows with the budget.

    Runs at a constant rate give a point at each evaluation, others their end; only first passes over the data count.
    The loss is fitted as a function of size and tokens; the interval is a bootstrap over runs.

    Example: tslens train --grid "layers=1,2,4 hidden=32,64,128" --data author:40000 --tokens 3000000 --decay constant
    --out runs/scaling

    Example: tslens scaling runs/scaling --figure scaling
    """
    say(f"tslens scaling: reading runs (seed {seed})")
    from tslens.errors import UsageError
    from tslens.files import write_json
    from tslens.link.scaling.envelope import read_envelope
    from tslens.link.scaling.points import check_runs, read_run
    from tslens.link.scaling.surface import fit_scaling
    from tslens.run_folder import RunFolder

    started, clock = utc_now(), time.monotonic()
    folders = [folder for path in runs for folder in run_folders(path)]
    if not folders:
        raise UsageError(
            f"There is no run in {', '.join(map(str, runs))}.", "Name run folders, as runs/l1_h64/seed0."
        )
    read = check_runs([read_run(RunFolder(folder)) for folder in folders])
    _say_left_out(read)
    found = fit_scaling(read, seed=seed, count=count, n_replicates=draws)
    envelope = read_envelope(read, count=count)
    record = provenance(
        command=command_line(),
        seed=seed,
        data=f"{len(read)} runs",
        data_sha256=read[0].corpus_sha256,
        started=started,
        seconds=time.monotonic() - clock,
    )
    result = {
        "schema": SCHEMA,
        **found.to_json(),
        "envelope": envelope.to_json(),
        "runs": [run.label for run in read],
    }
    files: list[Path] = []
    if out is not None:
        write_json(out.with_suffix(".provenance.json"), record.to_json())
        write_json(out, result)
        files.append(out)
    if figure is not None:
        from tslens.viz.scaling_figure import draw_scaling

        draw_scaling(read, found, envelope, figure)
        files += [figure.with_suffix(ending) for ending in (".svg", ".pdf", ".png", ".csv")]
    if as_json:
        show_json({**result, "files": [str(file) for file in files]})
        return
    _show(read, found, envelope)
    show("\n".join(f"wrote {file}" for file in files))


def run_folders(path: Path) -> Sequence[Path]:
    """A run folder itself, or all that are beneath."""
    from tslens.errors import UsageError

    if not path.is_dir():
        raise UsageError(f"{path} is no folder.", "Name run folders, as runs/l1_h64/seed0.")
    if (path / "metrics.jsonl").exists():
        return [path]
    return sorted(
        file.parent for file in path.rglob("metrics.jsonl") if (file.parent / "config.json").exists()
    )


def _say_left_out(runs: Sequence[ScalingRun]) -> None:
    n_left_out = sum(run.n_left_out for run in runs)
    if n_left_out:
        say(f"{n_left_out} evaluations behind the first pass over the data are left out")


def _show(runs: Sequence[ScalingRun], found: Scaling, envelope: Envelope) -> None:
    show_table(
        ["<run>", "parameters", "FLOPs a token", "points", "tokens", "nats at the end"],
        [
            [
                run.label,
                f"{run.n_params:,}",
                f"{run.flops_per_token:.2e}",
                str(len(run.loss)),
                f"{run.tokens[-1]:,.0f}",
                f"{run.loss[-1]:.3f}",
            ]
            for run in runs
        ],
    )
    show("")
    sizes = [run.n_params if found.count == "all" else run.n_blocks for run in runs]
    show_table(
        ["FLOPs", "<best run>", "nats", "best size by the surface"],
        [
            [f"{one.flops:.2e}", one.label, f"{one.loss_nats:.3f}", _best_at(found, one.flops, sizes)]
            for one in envelope.budgets[:: max(1, len(envelope.budgets) // 8)]
        ],
    )
    show("*: smaller or larger than any size that was trained.")
    surface = found.surface
    if found.interval.high - found.interval.low > WIDE:
        show(
            f"\nThese runs cannot tell the exponent: its interval is {found.interval.low:.2f} to "
            f"{found.interval.high:.2f} (95%, bootstrap over runs)."
        )
        show("".join(f"warning: {warning}\n" for warning in found.warnings).strip())
        return
    by_parabola = "" if envelope.exponent is None else f"; by parabolas {envelope.exponent:.2f}"
    what = "parameters" if found.count == "all" else "parameters of blocks"
    show(
        f"\nBest size grows as FLOPs to the power {found.exponent:.2f} "
        f"[{found.interval.low:.2f}, {found.interval.high:.2f}]{by_parabola} ({what}; 95%, bootstrap over runs).\n"
        f"Its tokens as FLOPs to the power {found.tokens_exponent:.2f} "
        f"[{found.tokens_interval.low:.2f}, {found.tokens_interval.high:.2f}].\n"
        f"Loss: {surface.floor:.2f} + {surface.of_size:.2f} (N / {surface.mean_size:.3g})^-{surface.alpha:.2f} + "
        f"{surface.of_tokens:.2f} (D / {surface.mean_tokens:.3g})^-{surface.beta:.2f} nats, "
        f"within {100 * found.error:.1f}%."
    )
    show("".join(f"warning: {warning}\n" for warning in found.warnings).strip())


def _best_at(found: Scaling, flops: float, sizes: Sequence[int]) -> str:
    """Best size by the surface, with a star where it is smaller or larger than any that was trained."""
    import numpy as np

    best = float(np.exp(np.interp(np.log(flops), np.log(found.budgets), np.log(found.best))))
    return f"{best:,.0f}{'' if min(sizes) <= best <= max(sizes) else '*'}"
