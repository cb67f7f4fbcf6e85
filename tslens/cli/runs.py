"""``tslens runs``: what was trained, what it takes on disk, and its removal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import counted, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.cli.runs_removal import Goner
    from tslens.cli.runs_stock import Stock

SCHEMA = "tslens.runs/1"
ACTIONS = "What is no longer wanted"


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look, however deep.")] = Path("runs"),
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove",
            rich_help_panel=ACTIONS,
            help="Remove this run with all that is in its folder, or these results: the name as listed, or the path; "
            "may be repeated.",
        ),
    ] = None,
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints",
            rich_help_panel=ACTIONS,
            help="Remove the step checkpoints of finished runs but the last, which commands open.",
        ),
    ] = False,
    keep_last: Annotated[
        int | None,
        typer.Option(
            "--keep-last",
            min=1,
            rich_help_panel=ACTIONS,
            help="With --checkpoints: how many of each run stay. Default: 1.",
        ),
    ] = None,
    unused_corpora: Annotated[
        bool,
        typer.Option(
            "--unused-corpora",
            rich_help_panel=ACTIONS,
            help="Remove imported stories that no run listed here and no shipped model was trained on.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", rich_help_panel=ACTIONS, help="Say what would go, and remove nothing."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", rich_help_panel=ACTIONS, help="Do not ask; scripts have to say so.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """List the runs, the newest first, with their state, loss, size and results; and remove those that are named.

    States: done; interrupted (--resume goes on); running (a process holds it); failed (nothing to go on from).
    Nothing goes that was not asked for. A run that is held stays, and so do ledgers: replies in them were paid for.

    Example: tslens runs

    Example: tslens runs --remove l1_h64@seed0 --dry-run

    Example: tslens runs runs/grid --checkpoints --keep-last 5
    """
    say(f"tslens runs: reading {folder}")
    from tslens.cli.runs_removal import plan_removal
    from tslens.cli.runs_stock import take_stock
    from tslens.errors import UsageError

    wants = bool(remove or checkpoints or unused_corpora)
    for given, name in ((dry_run, "--dry-run"), (yes, "--yes")):
        if given and not wants:
            raise UsageError(
                f"{name} has nothing to be about.", "Add --remove NAME, --checkpoints or --unused-corpora."
            )
    if keep_last is not None and not checkpoints:
        raise UsageError("--keep-last is for checkpoints.", "Add --checkpoints, or leave it out.")
    stock = take_stock(folder, several=bool(remove))
    if not wants:
        _show_stock(stock, as_json)
        return
    goners = plan_removal(
        stock,
        names=remove or [],
        keep_checkpoints=(keep_last or 1) if checkpoints else None,
        unused_corpora=unused_corpora,
    )
    _remove(stock, goners, dry_run=dry_run, yes=yes, as_json=as_json)


def _remove(stock: Stock, goners: Sequence[Goner], *, dry_run: bool, yes: bool, as_json: bool) -> None:
    from tslens.cli.runs_removal import remove_all
    from tslens.errors import UsageError

    total = sum(one.n_bytes for one in goners)
    if not as_json:
        for one in goners:
            show(f"{'would remove' if dry_run else 'to remove'}: {one.what}, {size(one.n_bytes)}")
    freed = 0
    if goners and not dry_run:
        if not yes and not sys.stdin.isatty():
            raise UsageError("Nothing was removed, as nobody can be asked here.", "Add --yes to remove it.")
        if not yes and not typer.confirm(f"Remove {size(total)}?", err=True):
            say("Nothing was removed.")
            raise typer.Exit(1)
        remove_all(stock, goners)
        freed = total
    if as_json:
        rows = [{"what": one.what, "path": str(one.path), "bytes": one.n_bytes} for one in goners]
        show_json(
            {
                "schema": SCHEMA,
                "folder": str(stock.folder),
                "dry_run": dry_run,
                "removed": rows,
                "freed_bytes": freed,
            }
        )
        return
    if not goners:
        show("There is nothing to remove.")
    elif dry_run:
        show(f"{total:,} bytes ({size(total)}) would be freed. Nothing was removed.")
    else:
        show(f"Removed; {freed:,} bytes ({size(freed)}) are free.")


# What is there --------------------------------------------------------------------------------------------------


def _show_stock(stock: Stock, as_json: bool) -> None:
    if as_json:
        show_json(_json_of(stock))
        return
    if not stock.runs:
        show(f"There is no run in {stock.folder}. Make one with: tslens train --model l1_h256 --data SOURCE")
    else:
        show_table(
            ["<run>", "<shape>", "tokens", "<state>", "val", "<date>", "size", "<results>"],
            [
                [
                    one.found.name,
                    one.shape,
                    "" if one.n_tokens is None else _short(one.n_tokens),
                    one.found.state,
                    "" if one.val_loss_nats is None else f"{one.val_loss_nats:.3f}",
                    _day(one.found.changed),
                    size(one.n_bytes),
                    " ".join(one.results),
                ]
                for one in stock.runs
            ],
        )
        n_bytes, spare = sum(one.n_bytes for one in stock.runs), sum(one.spare_bytes for one in stock.runs)
        where = "" if stock.folder == Path("runs") else f" {stock.folder}"
        hint = (
            f" Step checkpoints but the last take {size(spare)}: tslens runs{where} --checkpoints --dry-run"
        )
        show(
            f"{counted(len(stock.runs), 'run')}, {size(n_bytes)}; shape: layers x width. val: loss on held-out "
            f"stories, nats per token.{hint if spare else ''}"
        )
    for title, things, names in (
        ("Imported stories", stock.corpora, "<trained on them>"),
        ("Story indexes", stock.indexes, None),
        ("Ledgers of paid replies, never removed", stock.ledgers, None),
        (
            "Results of models without a run here (shipped ones); --remove NAME takes them too",
            stock.results,
            "<results>",
        ),
        ("Left of a removal that was stopped; the next one ends it", stock.left_over, None),
    ):
        if things:
            show(f"\n{title}:")
            show_table(
                ["<name>", "size", *([names] if names else [])],
                [[one.name, size(one.n_bytes), *([_listed(one.names)] if names else [])] for one in things],
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _json_of(stock: Stock) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "folder": str(stock.folder),
        "runs": [
            {
                "name": one.found.name,
                "path": str(one.found.run.path),
                "model": one.found.model,
                "state": one.found.state,
                "n_tokens": one.n_tokens,
                "val_loss_nats": one.val_loss_nats,
                "val_bits_per_byte": one.val_bits_per_byte,
                "changed": datetime.fromtimestamp(one.found.changed, UTC).isoformat(timespec="seconds"),
                "bytes": one.n_bytes,
                "spare_checkpoint_bytes": one.spare_bytes,
                "results": list(one.results),
            }
            for one in stock.runs
        ],
        **{
            kind: [
                {
                    "name": one.name,
                    "path": str(one.path),
                    "bytes": one.n_bytes,
                    **({names: list(one.names)} if names else {}),
                }
                for one in things
            ]
            for kind, things, names in (
                ("corpora", stock.corpora, "used_by"),
                ("indexes", stock.indexes, None),
                ("ledgers", stock.ledgers, None),
                ("results", stock.results, "results"),
                ("left_over", stock.left_over, None),
            )
        },
    }


def size(n_bytes: int) -> str:
    """Bytes in decimal units, as disks are sold: ``812 B``, ``13 MB``, ``2.6 GB``."""
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:,.0f} {unit}"


def _day(when: float) -> str:
    """The day, as ``30 Nov``; of another year than this its month, as ``2025-11``."""
    day = datetime.fromtimestamp(when)
    return day.strftime("%d %b" if day.year == datetime.now().year else "%Y-%m")


def _short(n_tokens: int) -> str:
    return f"{n_tokens / 1e6:.1f}M" if n_tokens >= 1e6 else f"{n_tokens / 1e3:.0f}k"
