"""Rows of a Parquet file, some at a time; the only importer of pyarrow.

A file of some kilobytes can unfold to anything: a text is kept once, in a dictionary, and named by each of its rows. So
as many rows are held at once as fit in memory if each had the whole dictionary, and a column that says it unfolds to
more than memory should take is refused. What a footer says of its own pages is believed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from tslens.errors import DataError
from tslens.reading import BROKEN, open_regular

_BATCH = 1024  # rows held at once, at most
_HELD = 1 << 25  # bytes of the texts held at once, where that is more than one row
PART_BYTES = 1 << 31  # unfolded, of one column of a row group


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as a dictionary by column, in order: values as JSON has them, others (dates, bytes) as text.

    Raises DataError for a file that is broken or none, or that unfolds to too much.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as raw, pq.ParquetFile(path) as file:
            for number in range(file.metadata.num_row_groups):
                rows = _rows_at_once(raw, file.metadata.row_group(number))
                for batch in file.iter_batches(rows, row_groups=[number]):
                    yield from map(as_json, batch.to_pylist())
    except (pa.ArrowException, OSError, MemoryError, *BROKEN) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is no whole Parquet file: {reason}.", "Get the file again.") from error


def _rows_at_once(raw: IO[bytes], group: Any) -> int:
    """How many rows of a row group may be held. Raises ValueError for a column that unfolds to too much."""
    largest = 1
    for place in range(group.num_columns):
        column = group.column(place)
        size = column.total_uncompressed_size
        if not 0 <= size <= PART_BYTES:
            raise ValueError(f"a column of it unfolds to {size:,} bytes, over {PART_BYTES:,}")
        if column.has_dictionary_page and column.physical_type == "BYTE_ARRAY":
            largest = max(largest, _page_bytes(raw, column.dictionary_page_offset))
    return max(1, min(_BATCH, _HELD // largest))


def _page_bytes(raw: IO[bytes], offset: int) -> int:
    """Unfolded size of a page: the second field of its header, in the compact protocol of Thrift."""
    raw.seek(offset)
    values = iter(raw.read(16))
    fields = []
    for _ in range(2):
        if next(values, 0) != 0x15:  # the next field, a number of 32 bits
            raise ValueError("a page of it has no header")
        number = shift = 0
        for byte in values:
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        fields.append((number >> 1) ^ -(number & 1))
    if fields[1] < 0:
        raise ValueError("a page of it says a size below zero")
    return fields[1]


def as_json(value: Any) -> Any:
    """A value in the types that JSON has; no number is infinite or undefined."""
    if isinstance(value, dict):
        return {str(name): as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
