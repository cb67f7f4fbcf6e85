"""Stories in: streamed from ``.jsonl``, ``.txt`` and ``.parquet`` files, the hub, or the offline author.

A file is read in pieces and never held whole. A record is what stands between two separators: a line of JSON,
or the text between two ``<|endoftext|>``.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NoReturn

from tslens.corpus.hub import describe_hub, hub_rows, is_hub
from tslens.corpus.parquet import parquet_rows
from tslens.errors import DataError, UsageError
from tslens.files import sha256_file
from tslens.reading import open_regular, parse_json
from tslens.types import Story

SEPARATORS = {".jsonl": b"\n", ".txt": b"<|endoftext|>"}  # what ends a record, by the ending of the file
ENDINGS = (*SEPARATORS, ".parquet")
RECORD_BYTES = 10_000_000  # the longest line or story that is read: what is longer is no story
PIECE_BYTES = 1 << 20
VALIDATION_ONE_IN = 20


def normalise(text: str) -> str:
    """The text as models read it: paragraphs separated by one newline.

    Line ends become LF, blanks at the end of a line and empty lines go, both ends are stripped. Nothing else
    changes. Normalised text stays as it is.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line for line in (line.rstrip(" \t") for line in lines) if line).strip()


def is_validation(story: Story) -> bool:
    """Whether a story is on the validation side: 5%, by the hash of its normalised text."""
    return story.digest % VALIDATION_ONE_IN == 0


def read_stories(
    source: str | Path,
    *,
    limit: int | None = None,
    text_only: bool = False,
    keep: Callable[[Story], bool] | None = None,
) -> Iterator[Story]:
    """The stories of a source, one after the other, at most ``limit``.

    ``text_only``: other fields are not needed, which makes the author faster. ``keep``: stories for which it is false
    are left out; it looks at the text alone.

    ``source``: ``.jsonl`` (field ``text``; other fields go to ``Story.extra``) or ``.txt`` (stories separated
    by ``<|endoftext|>``), either also as ``.gz``; ``.parquet`` (column ``text``); a folder of such files;
    ``author:N`` or ``author:N:SEED``, N stories of the offline author (seed 0 where none is given), with gold
    labels; ``hub:OWNER/NAME`` or ``hub:OWNER/NAME:SPLIT``, a data set of the Hugging Face hub with a column
    ``text`` (split train where none is given). Stories without text are left out.

    Raises at once: UsageError for a bad ``author:`` or ``hub:`` source or limit, DataError for a file that is absent
    or of another kind. Raises DataError while reading: nothing in it, not UTF-8, NUL characters, broken gzip or
    Parquet, a record that is no JSON or has no ``text``, a record over 10 MB, a hub that cannot be reached; the
    record is named.
    """
    if limit is not None and limit < 0:
        raise UsageError(f"Cannot read {limit} stories.", "Give a limit of 0 or more.")
    author = _author_numbers(source)
    if author:
        return islice(_author_stories(*author, text_only, keep), limit)
    if is_hub(source):
        stories = _not_empty(_row_stories(hub_rows(str(source)), str(source)), source)
    else:
        stories = _not_empty(_file_stories(_story_files(Path(source))), source)
    return islice((story for story in stories if keep is None or keep(story)), limit)


def describe_source(source: str | Path) -> tuple[str, str]:
    """Name of a source and SHA-256 of its bytes.

    For the author, of its normal form ``author:N:SEED``; for the hub, of ``hub:OWNER/NAME:SPLIT@COMMIT``.
    """
    author = _author_numbers(source)
    if author:
        name = "author:{}:{}".format(*author)
        return name, hashlib.sha256(name.encode()).hexdigest()
    if is_hub(source):
        name, commit = describe_hub(str(source))
        return name, hashlib.sha256(f"{name}@{commit}".encode()).hexdigest()
    path = Path(source)
    files = _story_files(path)
    try:
        digests = [sha256_file(file) for file in files]
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror or error}.", "Give a file that you may read."
        ) from error
    if files == [path]:
        return path.name, digests[0]
    listing = "".join(f"{digest}  {file.name}\n" for digest, file in zip(digests, files, strict=True))
    return path.resolve().name, hashlib.sha256(listing.encode()).hexdigest()


# The offline author -----------------------------------------------------------------------------------------


def _author_numbers(source: str | Path) -> tuple[int, int] | None:
    """Number of stories and seed of an ``author:`` source, None for any other."""
    if not str(source).startswith("author:"):
        return None
    found = re.fullmatch(r"author:([0-9]{1,9})(?::([0-9]{1,9}))?", str(source))
    if not found or int(found[1]) == 0:
        raise UsageError(
            f'"{source}" is no source of stories.', "Write author:N or author:N:SEED, as in author:5000:0."
        )
    return int(found[1]), int(found[2] or 0)


def _author_stories(
    n_stories: int, seed: int, text_only: bool, keep: Callable[[Story], bool] | None
) -> Iterator[Story]:
    from tslens.corpus.author import write_stories

    yield from write_stories(n_stories, seed=seed, text_only=text_only, keep=keep)


# Files ------------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str:
    """Ending of a file without ``.gz``, in lower case."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _story_files(path: Path) -> list[Path]:
    """The file itself, or the story files in a folder, by name. Raises DataError if there is none."""
    try:
        is_folder, exists = path.is_dir(), path.exists()
        names = list(path.iterdir()) if is_folder else []
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    if is_folder:
        files = sorted(file for file in names if file.is_file() and _kind(file) in ENDINGS)
        if not files:
            raise DataError(
                f"The folder {path} holds no story file.",
                "Story files end in .jsonl or .txt, also with .gz, or in .parquet.",
            )
        return files
    if not exists:
        _raise_absent(path)
    if _kind(path) not in ENDINGS or path.name.lower().endswith(".parquet.gz"):
        raise DataError(
            f'{path} is of an unknown kind ("{path.suffix}").',
            "Give .jsonl, .jsonl.gz or .parquet with a field text, or .txt with <|endoftext|> between stories.",
        )
    return [path]


def _raise_absent(path: Path) -> NoReturn:
    folder = path.parent
    names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=2)
    if near:
        hint = "Did you mean " + " or ".join(str(folder / name) for name in near) + "?"
    elif not folder.is_dir():
        hint = f"There is no folder {folder} either; check the path."
    else:
        hint = "Check the path, or write stories with: tslens data author --out stories.jsonl"
    raise DataError(f"There is no file {path}.", hint)


def _not_empty(stories: Iterator[Story], source: str | Path) -> Iterator[Story]:
    """Stories that have text. Raises DataError at the end if there was none."""
    empty = True
    for story in stories:
        if story.text:
            empty = False
            yield story
    if empty:
        raise DataError(f"There is no story in {source}.", "Give a source with at least one story.")


def _file_stories(files: list[Path]) -> Iterator[Story]:
    for path in files:
        if _kind(path) == ".parquet":
            yield from _row_stories(parquet_rows(path), str(path))
            continue
        parse = _parse_line if _kind(path) == ".jsonl" else _parse_text
        for number, record in _records(path):
            place = f"{path}, {'line' if parse is _parse_line else 'story'} {number}"
            yield parse(_decode(record, place), place)


def _row_stories(rows: Iterable[Any], source: str) -> Iterator[Story]:
    for number, row in enumerate(rows, start=1):
        yield _story_of_row(row, f"{source}, row {number}")


def _records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Records that are not blank, numbered from 1. Raises DataError for what is no readable file."""
    try:
        with _open(path) as file:
            for number, record in enumerate(_split(file, SEPARATORS[_kind(path)]), start=1):
                if len(record) > RECORD_BYTES:
                    raise DataError(
                        f"Record {number} of {path} is longer than {RECORD_BYTES:,} bytes.",
                        "Put one story on a line (.jsonl), or <|endoftext|> between stories (.txt).",
                    )
                if record and not record.isspace():
                    yield number, record
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is broken or cut off: {error}.", "Get the file again.") from error
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror or error}.", "Give a file that you may read."
        ) from error


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The bytes of a file, unpacked. Raises OSError for what is no regular file: a pipe, a device."""
    with open_regular(path) as file:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked
        else:
            yield file


def _split(file: IO[bytes] | gzip.GzipFile, separator: bytes) -> Iterator[bytes]:
    """Records of a file read piece by piece, a byte-order mark at its start left out.

    One that is too long is given up to where that shows, so that memory stays bounded.
    """
    rest = file.read(PIECE_BYTES).removeprefix(codecs.BOM_UTF8)
    piece = rest
    while piece:
        *whole, rest = rest.split(separator)
        yield from whole
        if len(rest) > RECORD_BYTES:
            break
        piece = file.read(PIECE_BYTES)
        rest += piece
    yield rest


def _decode(record: bytes, place: str) -> str:
    try:
        text = record.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place} is no UTF-8 text.", "Save the file as UTF-8.") from error
    return _checked(text, place)


def _checked(text: str, place: str) -> str:
    """The text itself. Raises DataError if it holds what no text holds: NUL, or half a surrogate pair."""
    if "\0" in text:
        raise DataError(f"{place} holds NUL characters; this is no text.", "Give a text file in UTF-8.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place} holds half a surrogate pair (\\ud800 to \\udfff).", "Write the whole character."
        ) from error
    return text


def _parse_text(text: str, place: str) -> Story:
    return Story(normalise(text))


def _parse_line(line: str, place: str) -> Story:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise DataError(f"{place} is no JSON: {error}.", "Mend or remove the line.") from error
    return _story_of_row(row, place)


def _story_of_row(row: Any, place: str) -> Story:
    """A story of a record; its other fields are kept."""
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise DataError(
            f'{place} has no field "text" with a string.',
            'Write each line as {"text": "Once upon a time ..."}.',
        )
    text = normalise(_checked(row.pop("text"), place))
    return Story(text, row)
