"""Rows of a Parquet file, some at a time; the only importer of pyarrow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tslens.errors import DataError

_BATCH = 1024  # rows held at once


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as a dictionary by column, in order: values as JSON has them, others (dates, bytes) as text.

    Raises DataError for a file that is broken or none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                yield from map(as_json, batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is no whole Parquet file: {reason}.", "Get the file again.") from error


def as_json(value: Any) -> Any:
    """A value in the types that JSON has; no number is infinite or undefined."""
    if isinstance(value, dict):
        return {str(name): as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
