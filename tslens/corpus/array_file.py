"""A ``.npy`` file of one axis that grows while it is written, so that its values need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped
from numpy.lib import format as npy

from tslens.files import atomic_write


class ArrayFile:
    """An open file. ``n``: values in it so far."""

    def __init__(self, file: IO[bytes], dtype: type[np.generic]) -> None:
        self._file, self._dtype = file, np.dtype(dtype)
        self.n = 0
        self._write_header()

    def _write_header(self) -> None:
        """The same length for every number of values: the format keeps room for it."""
        facts = {"descr": npy.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.n,)}
        npy.write_array_header_1_0(self._file, facts)

    def add(self, values: Shaped[np.ndarray, " n"] | list[int]) -> None:
        """Add values at the end."""
        self._file.write(np.asarray(values, dtype=self._dtype).tobytes())
        self.n += len(values)

    def finish(self) -> None:
        """Write into the header how many values there are."""
        self._file.seek(0)
        self._write_header()


@contextmanager
def array_file(path: Path, dtype: type[np.generic]) -> Iterator[ArrayFile]:
    """A file to add values to, whole when the block ends or absent; the bytes of ``np.save``.

    Raises RunError where it cannot be written.
    """
    handle: IO[Any]
    with atomic_write(path, "wb") as handle:
        array = ArrayFile(handle, dtype)
        yield array
        array.finish()
