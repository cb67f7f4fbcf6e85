"""Labels of the annotator kept on disk, by text and parser: one SQLite file, safe across processes.

The cache only saves time. A row that cannot be read, or that does not fit its text, counts as absent and is written
again; a file that is no database is made anew; where the folder cannot be written, there is no cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path

from tslens.corpus.words import find_units
from tslens.types import Labels, Story

_TABLE = "CREATE TABLE IF NOT EXISTS labels (key TEXT PRIMARY KEY, value BLOB NOT NULL)"
_WAIT_SECONDS = 30.0


def cache_dir() -> Path:
    """Folder of caches: ``$TSLENS_CACHE``, by default ``~/.cache/tslens``."""
    return Path(os.environ.get("TSLENS_CACHE") or Path.home() / ".cache" / "tslens")


class AnnotationCache:
    """Labels by text and version of the parser, in ``annotations.sqlite`` of a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or cache_dir()) / "annotations.sqlite"

    def get(self, version: str, stories: Iterable[Story]) -> dict[str, Labels]:
        """Labels that are kept, by text."""
        found: dict[str, Labels] = {}
        texts = {story.text for story in stories}

        def look_up(database: sqlite3.Connection) -> None:
            for text in texts:
                row = database.execute(
                    "SELECT value FROM labels WHERE key = ?", (_key(version, text),)
                ).fetchone()
                labels = _read(row[0], version, text) if row else None
                if labels:
                    found[text] = labels

        self._use(look_up)
        return found

    def put(self, version: str, rows: Iterable[tuple[str, Labels]]) -> None:
        """Keep labels of texts, where there is space for them."""
        values = [(_key(version, text), _write(labels)) for text, labels in rows]

        def insert(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?)", values)

        self._use(insert)

    def _use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do something with the database: once, or once more after a broken file was removed, or not at all."""
        for _ in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as database:
                    database.execute(_TABLE)
                    work(database)
                return
            except (OSError, sqlite3.OperationalError):
                return
            except sqlite3.DatabaseError:
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)


def _key(version: str, text: str) -> str:
    return hashlib.blake2b(f"{version}\0{text}".encode(), digest_size=16).hexdigest()


def _write(labels: Labels) -> bytes:
    return zlib.compress(json.dumps(labels.to_json(), ensure_ascii=False).encode(), 6)


def _read(value: object, version: str, text: str) -> Labels | None:
    """Labels of a row, None where it is broken or of another text or parser."""
    try:
        assert isinstance(value, bytes)
        labels = Labels.from_json(json.loads(zlib.decompress(value)))
        n_units = len(find_units(text))
        per_unit = (labels.pos, labels.lemma, labels.clause, labels.mention, labels.quote, labels.story_part)
        fits = labels.made_by == version and all(len(column) == n_units for column in per_unit)
    except (AssertionError, ValueError, KeyError, TypeError, zlib.error):
        return None
    return labels if fits else None
