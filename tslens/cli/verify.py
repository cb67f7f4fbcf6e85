"""``tslens verify``: results are made again and held against what was recorded, number by number."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tslens.cli import options
from tslens.cli.console import counted, duration, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.audit.recorded import Recorded

SCHEMA = "tslens.verify/1"
TOLERANCE = 1e-4
SHOWN = 6  # places that differ, of one file
PARTLY = 3


def verify(
    paths: Annotated[list[Path], typer.Argument(help="Files of results, or folders of them.")],
    row: Annotated[
        list[str] | None,
        typer.Option("--row", help="Also show these rows, as in head=L0H3; may be repeated: all must hold."),
    ] = None,
    more: Annotated[
        str | None,
        typer.Option("--with", help='Arguments that narrow the command, as in --with "--models l1_h256".'),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0, help="Relative difference up to which numbers are the same."),
    ] = TOLERANCE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and whether its data is here.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Keep what is made in this folder.")] = None,
    as_json: options.Json = False,
) -> None:
    """Make results again by the command that they record, and compare every number.

    Data are checked by their hash first. Only commands of tslens that measure and the project's own studies are run.
    Exit code 0: all the same; 1: something differs; 3: something could not be made again, as its data is absent.

    Example: tslens verify reports/link/audit.jsonl --dry-run

    Example: tslens verify reports/heads/l1_h256.jsonl --with "--models l1_h256" --row head=L0H3
    """
    say(f"tslens verify: {', '.join(map(str, paths))}")
    from tslens.audit.recorded import absent_data, find_records, to_repeat
    from tslens.errors import TslensError, UsageError

    wanted = _wanted(row or ())
    try:
        extra = shlex.split(more or "")
    except ValueError as error:
        raise UsageError(f"--with cannot be read: {error}.", "Close its quotation marks.") from error
    records = [record for path in paths for record in find_records(path)]
    found: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        expected = "" if record.seconds is None else f", took {duration(record.seconds)} when recorded"
        say(f"{number} of {len(records)}: {' '.join([record.typed, *(more or '').split()])}{expected}")
        with _folder(out, number, len(records)) as folder:
            try:
                absent = absent_data(record)
                if absent is not None:
                    found.append(_unmade(record, "data absent", absent))
                    continue
                command, where = to_repeat(record, folder, extra)
                if dry_run:
                    found.append(_unmade(record, "can be repeated", ""))
                    continue
                started = time.monotonic()
                _run(command, where, record)
                say(f"   done in {duration(time.monotonic() - started)}")
                found += _compared(record, folder, tolerance, wanted)
            except TslensError as error:
                found.append(_unmade(record, "not repeated", f"{error.message} {error.hint}"))
    if as_json:
        show_json({"schema": SCHEMA, "tolerance": tolerance, "results": [_plain(one) for one in found]})
    else:
        _show(found, wanted, dry_run)
    verdicts = {one["verdict"] for one in found}
    if "differs" in verdicts:
        raise typer.Exit(1)
    if verdicts & {"data absent", "not repeated", "not made"}:
        raise typer.Exit(PARTLY)


def _wanted(rows: Sequence[str]) -> Mapping[str, str]:
    from tslens.errors import UsageError

    found = {}
    for one in rows:
        name, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f'--row "{one}" names no value.', "Write FIELD=VALUE, as in head=L0H3.")
        found[name] = value
    return found


@contextmanager
def _folder(out: Path | None, number: int, of: int) -> Iterator[Path]:
    """Where one command writes: inside ``--out``, else in a folder that goes again."""
    if out is not None:
        folder = out if of == 1 else out / f"{number:02}"
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tslens-verify-") as name:
        yield Path(name)


def _run(command: Sequence[str], where: Path, record: Recorded) -> None:
    from tslens.errors import RunError

    done = subprocess.run(command, cwd=where, stdout=subprocess.DEVNULL, check=False)
    if done.returncode not in (0, 1, PARTLY):  # 1: an audit of which a check fails; its cases are written
        raise RunError(
            f"The command ended with exit code {done.returncode}.", f"See above; it was: {record.typed}"
        )


# Comparison ---------------------------------------------------------------------------------------------------


def _compared(
    record: Recorded, folder: Path, tolerance: float, wanted: Mapping[str, str]
) -> list[dict[str, Any]]:
    from tslens.audit.differences import compare_files

    found = []
    for file in record.files:
        made = _made(file, folder)
        if made is None:
            found.append({"file": file, "verdict": "not made", "why": "the command did not write it"})
            continue
        result = compare_files(file, made, tolerance=tolerance)
        verdict = "same bytes" if result.same_bytes else "same" if result.is_same else "differs"
        found.append(
            {
                "file": file,
                "verdict": verdict,
                "n_values": result.n_values,
                "n_differing": len(result.differing),
                "largest": result.largest,
                "differing": [
                    {"place": one.place, "recorded": one.recorded, "repeated": one.repeated}
                    for one in result.differing[:SHOWN]
                ],
                **(
                    {"rows": _rows(file, made, wanted)}
                    if wanted and file.suffix in (".json", ".jsonl")
                    else {}
                ),
            }
        )
    return found


def _made(file: Path, folder: Path) -> Path | None:
    """The file that a command made anew: of the same name, else the only one of the same schema."""
    named = [path for path in folder.rglob(file.name) if path.is_file()]
    if named:
        return named[0]
    schema = _schema(file)
    alike = [path for path in folder.rglob(f"*{file.suffix}") if schema and _schema(path) == schema]
    return alike[0] if len(alike) == 1 else None


def _schema(file: Path) -> str | None:
    from tslens.reading import first_line, parse_json, read_bytes

    if file.suffix not in (".json", ".jsonl"):
        return None
    try:
        found = parse_json(read_bytes(file) if file.suffix == ".json" else first_line(file))
    except (OSError, ValueError):
        return None
    return found.get("schema") if isinstance(found, dict) else None


def _rows(file: Path, made: Path, wanted: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    """Of each row that is wanted its values, recorded and repeated."""
    from tslens.audit.differences import flat, rows_where

    found = []
    for mine, theirs in zip(rows_where(file, wanted), rows_where(made, wanted), strict=False):
        known = dict(flat(theirs))
        found.append(
            [{"value": place, "recorded": value, "repeated": known.get(place)} for place, value in flat(mine)]
        )
    return found


def _unmade(record: Recorded, verdict: str, why: str) -> dict[str, Any]:
    return {"file": record.files[0], "n_files": len(record.files), "verdict": verdict, "why": why}


def _plain(one: Mapping[str, Any]) -> dict[str, Any]:
    import math

    largest = one.get("largest")
    return {
        **one,
        "file": str(one["file"]),
        **({} if largest is None else {"largest": largest if math.isfinite(largest) else None}),
    }


# Results ------------------------------------------------------------------------------------------------------


def _show(found: Sequence[Mapping[str, Any]], wanted: Mapping[str, str], dry_run: bool) -> None:
    from tslens.audit.differences import relative

    if dry_run:
        show_table(["<file>", "<>"], [[_name(one), one["verdict"]] for one in found])
        for one in found:
            if one["why"]:
                show(f"{one['file']}: {one['why']}")
        return
    show_table(
        ["<file>", "<>", "values", "differ", "largest difference"],
        [
            [
                _name(one),
                one["verdict"],
                *(
                    [f"{one['n_values']:,}", f"{one['n_differing']:,}", _size(one["largest"])]
                    if "n_values" in one
                    else ["", "", ""]
                ),
            ]
            for one in found
        ],
    )
    for one in found:
        if one.get("why"):
            show(f"{one['file']}: {one['why']}")
        for place in one.get("differing", ()):
            show(f"{one['file']}: {place['place']}: {place['recorded']} recorded, {place['repeated']} now")
        for row in one.get("rows", ()):
            show("")
            show_table(
                ["<value>", "recorded", "now", "difference"],
                [
                    [
                        value["value"],
                        _cell(value["recorded"]),
                        _cell(value["repeated"]),
                        _size(relative(value["recorded"], value["repeated"])),
                    ]
                    for value in row
                ],
            )
        if wanted and "rows" in one and not one["rows"]:
            show(f"{one['file']}: no row with {', '.join(f'{k}={v}' for k, v in wanted.items())}")
    n = sum(one["verdict"] in ("same", "same bytes") for one in found)
    show(f"{n} of {counted(len(found), 'file')} say the same.")


def _name(one: Mapping[str, Any]) -> str:
    more = one.get("n_files", 1) - 1
    return f"{one['file']}" + (f" and {more} more" if more else "")


def _size(largest: float) -> str:
    return "0" if largest == 0 else "no number" if largest == float("inf") else f"{largest:.1e}"


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
