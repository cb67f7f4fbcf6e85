"""Results that say where they come from, and how one is made again.

A file ``NAME.jsonl`` has its record in ``NAME.provenance.json``, the files of a folder in ``provenance.json``, a JSON
file may hold it under ``provenance``. A record is data that a stranger may have written: of its command only commands
of tslens that measure, and the project's own studies, are ever run, without a shell, and what they write goes to a
folder of ours.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tslens
from tslens.corpus.sources import describe_sources
from tslens.errors import DataError, TslensError, UsageError
from tslens.files import data_dir, read_json
from tslens.reading import exists, is_number

RECORD = "provenance.json"
DATA_ENDINGS = (".jsonl", ".json", ".csv", ".md")
PROJECT = Path(tslens.__file__).parents[1]
"""Where the studies are: the source that this package runs from, never a folder that results came in."""
MEASURING = frozenset(
    {"heads", "neurons", "produces", "kinds", "programs", "match", "weights", "ablate", "link"}
    | {"scaling", "emergence", "audit"}
)
"""Commands of tslens that may be repeated: they read a model and write results to ``--out``, and nothing else."""
_PAGES = ("--html", "--figure")  # written elsewhere: left out
_ASKS = ("--base-url", "--budget", "--batch")
_OUT = "--out"
_WRITTEN_BESIDE = ("--runs", "--cache")  # of studies: where they would train or keep what they read


@dataclass(frozen=True)
class Recorded:
    """A record, the data files that it speaks of, and what was run, as it was typed.

    ``seconds``: what it took, None where that is not said.
    """

    path: Path
    files: tuple[Path, ...]
    typed: str
    data: Mapping[str, str]
    seconds: float | None

    @property
    def command(self) -> tuple[str, ...]:
        """Its words, without a shell."""
        return tuple(shlex.split(self.typed))


def find_records(path: Path) -> list[Recorded]:
    """The records of a file of results or of all in a folder, those of one command together.

    Raises DataError where there is none, or where one cannot be read.
    """
    if not exists(path):
        raise DataError(f"There is no {path}.", "Name a file of results, or a folder of them.")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in DATA_ENDINGS)
        files = [file for file in files if not file.name.endswith(RECORD)]
    else:
        files = [path]
    found: dict[Path, list[Path]] = {}
    for file in files:
        record = _record_of(file)
        if record is not None:
            found.setdefault(record, []).append(file)
    if not found:
        raise DataError(
            f"Nothing in {path} says where it comes from.",
            f"Results have a file NAME.{RECORD} beside them, or {RECORD} in their folder.",
        )
    return _by_command([_read(record, tuple(of)) for record, of in found.items()])


def _record_of(file: Path) -> Path | None:
    stem = file.name
    while "." in stem:  # l1_h256.sparse.jsonl is told by l1_h256.provenance.json
        stem = stem.rpartition(".")[0]
        beside = file.with_name(f"{stem}.{RECORD}")
        if beside.exists():
            return beside
    if file.suffix == ".json" and _inside(file) is not None:
        return file
    of_folder = file.with_name(RECORD)
    if of_folder.exists():
        return of_folder
    beside_others = sorted(file.parent.glob(f"*.{RECORD}"))  # of a report that several records made
    return beside_others[0] if beside_others else None


def _inside(file: Path) -> Mapping[str, Any] | None:
    found = read_json(file)
    inside = found.get("provenance") if isinstance(found, dict) else None
    return inside if isinstance(inside, dict) else None


def _read(record: Path, files: tuple[Path, ...]) -> Recorded:
    found = read_json(record) if record.name.endswith(RECORD) else _inside(record)
    command = found.get("command") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(command, str):
        raise DataError(f"{record} names no command.", "Make the result again.")
    try:
        shlex.split(command)
    except ValueError as error:
        raise DataError(f"The command in {record} cannot be read: {error}.", "Make it again.") from error
    data, sha256 = found.get("data", ""), found.get("data_sha256", {})
    known = sha256 if isinstance(sha256, dict) else {str(data): sha256} if sha256 else {}
    seconds = found.get("seconds")
    if not (seconds is None or is_number(seconds)) or not all(
        isinstance(text, str) for pair in known.items() for text in pair
    ):
        raise DataError(f"{record} does not say what data it read, or how long it took.", "Make it again.")
    return Recorded(record, files, command, known, None if seconds is None else float(seconds))


def _by_command(records: Sequence[Recorded]) -> list[Recorded]:
    """Records with one command are of one run, which is repeated once; it took as long as the longest says."""
    found: dict[str, Recorded] = {}
    for one in records:
        before = found.get(one.typed)
        if before is not None:
            seconds = max((s for s in (before.seconds, one.seconds) if s is not None), default=None)
            one = Recorded(
                before.path, before.files + one.files, one.typed, {**before.data, **one.data}, seconds
            )
        found[one.typed] = one
    return list(found.values())


def absent_data(record: Recorded) -> str | None:
    """What of the data cannot be met here, in words; None if all hashes agree."""
    for name, sha256 in record.data.items():
        if re.fullmatch(r"[0-9]+ runs", name):  # of which the command itself says whether they are here
            continue
        sources = name.partition(",")[0].split("+")  # of "FILE, stories 1 to 40" the file
        try:
            _, here = describe_sources([_place_of(source) for source in sources])
        except (TslensError, ValueError):
            return f"{name} is not here"
        if here != sha256:
            return f"{name} is another here: {here[:12]}, not {sha256[:12]}"
    return None


def _place_of(source: str) -> str | Path:
    beside = data_dir() / source
    return beside if not Path(source).exists() and beside.exists() else source


def to_repeat(record: Recorded, out: Path, more: Sequence[str] = ()) -> tuple[list[str], Path]:
    """What to run, and in which folder, so that the results come to ``out``; ``more``: arguments that follow.

    Raises UsageError for a command that is not repeated.
    """
    words = [word.replace("$TSLENS_DATA", str(data_dir())) for word in (*record.command, *more)]
    if words[:1] == ["python"]:
        words = words[1:]
    if len(words) > 1 and words[0] == "tslens":
        if words[1] not in MEASURING:
            raise UsageError(
                f"tslens {words[1]} is not repeated: it does more than measure.",
                f"Run it yourself: {record.typed}",
            )
        if any("openai:" in word or word.partition("=")[0] in _ASKS for word in words):
            raise UsageError("It asks a large model, which costs.", f"Run it yourself: {record.typed}")
        # -P: the folder where one stands may be a stranger's, and its modules are not ours
        return [sys.executable, "-P", "-m", "tslens", *_redirected(words[1:], out)], Path()
    script = Path(words[0]) if words else Path()
    if script.suffix == ".py" and script.parent == Path("analysis"):
        if any(word.endswith(";") for word in words):
            raise UsageError("It took several steps, some of them by hand.", f"They were: {record.typed}")
        if not (PROJECT / script).exists():
            raise UsageError(f"There is no {script} here.", "Studies come with the source of tslens.")
        if any(_is_option(word, _WRITTEN_BESIDE) for word in words):
            raise UsageError("It names a second place to write to.", f"Run it yourself: {record.typed}")
        if f'"{_OUT}"' not in (PROJECT / script).read_text(encoding="utf-8"):
            raise UsageError(f"{script} writes to one place only.", f"Run it yourself: {record.typed}")
        return [sys.executable, str(script), *_redirected(words[1:], out)], PROJECT
    raise UsageError(
        f'"{record.typed[:80]}" is no command that is repeated.', "Only commands of tslens and studies are."
    )


def _is_option(word: str, names: Sequence[str]) -> bool:
    """Whether a word of a study's command is one of these options, which argparse knows by any beginning."""
    option = word.partition("=")[0]
    return len(option) > 2 and any(name.startswith(option) for name in names)


def _redirected(words: Sequence[str], out: Path) -> list[str]:
    """The words with every place that is written to inside ``out``."""
    kept: list[str] = []
    name = ""
    rest = iter(words)
    for word in rest:
        option, _, value = word.partition("=")
        if option == _OUT:
            name = Path(value or next(rest, "")).name
            name = name if Path(name).suffix else ""
        elif option in _PAGES:
            _ = value or next(rest, "")
        else:
            kept.append(word)
    return [*kept, _OUT, str(out.resolve() / name)]
