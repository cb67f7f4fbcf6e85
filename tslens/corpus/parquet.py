"""Rows of a Parquet file, some at a time; the only importer of pyarrow.

A file of some kilobytes can unfold to anything: a text is kept once, in a dictionary, and named by each of its rows, or
a million times by the list of one row. So texts stay in their dictionary until it is known to how much rows unfold:
what is too much for some of them together is unfolded in parts, and what is too much for one row is no record.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.reading import BROKEN, open_regular

_BATCH = 1024  # rows held at once, at most
_HELD = 1 << 25  # bytes that are unfolded at once
_OBJECT = 64  # bytes of a value in Python, at least
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 12, "BYTE_ARRAY": 4}
PART_BYTES = 1 << 31  # of one column of a row group, texts in their dictionary


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as a dictionary by column, in order: values as JSON has them, others (dates, bytes) as text.

    Raises DataError for a file that is broken or none, or that unfolds to too much.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_regular(path) as raw:
            metadata = pq.read_metadata(raw)
            file = pq.ParquetFile(raw, metadata=metadata, read_dictionary=_texts(metadata))
            for number in range(metadata.num_row_groups):
                for batch in file.iter_batches(_BATCH, row_groups=[number]):
                    for part in _in_parts(batch.to_struct_array()):
                        yield from map(as_json, part.to_pylist())
    except (pa.ArrowException, OSError, MemoryError, *BROKEN) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is no whole Parquet file: {reason}.", "Get the file again.") from error


def _texts(metadata: Any) -> list[str]:
    """Names of the columns of texts that have a dictionary. Raises ValueError for a column that takes too much."""
    found = set()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for place in range(group.num_columns):
            column, kind = group.column(place), metadata.schema.column(place)
            n_held = column.num_values if kind.max_repetition_level else min(column.num_values, _BATCH)
            size = max(column.total_uncompressed_size, n_held * _WIDTHS.get(kind.physical_type, kind.length))
            if not 0 <= size <= PART_BYTES:
                raise ValueError(f"a column of it unfolds to {size:,} bytes, over {PART_BYTES:,}")
            if column.has_dictionary_page and kind.physical_type == "BYTE_ARRAY":
                found.add(column.path_in_schema)
    return sorted(found)


def _in_parts(rows: Any) -> Iterator[Any]:
    """Rows, as many at once as may be unfolded. Raises ValueError for one that is too long."""
    size = _unfolded(rows)
    if size <= _HELD:
        yield rows
    elif len(rows) > 1:
        half = len(rows) // 2
        yield from _in_parts(rows[:half])
        yield from _in_parts(rows[half:])
    else:
        raise ValueError(f"a row of it unfolds to {size:,} bytes, over {_HELD:,}")


def _unfolded(values: Any) -> int:
    """Bytes that an array takes in Python, about."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, size = values.type, _OBJECT * len(values)
    if pa.types.is_dictionary(kind):
        lengths = pc.binary_length(values.dictionary).take(values.indices)
        return size + int(pc.sum(lengths).as_py() or 0)
    if pa.types.is_struct(kind):
        return size + sum(map(_unfolded, values.flatten()))
    if pa.types.is_nested(kind):
        return size + _unfolded(values.flatten())
    return size + int(values.nbytes)


def as_json(value: Any) -> Any:
    """A value in the types that JSON has; no number is infinite or undefined."""
    if isinstance(value, dict):
        return {str(name): as_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
