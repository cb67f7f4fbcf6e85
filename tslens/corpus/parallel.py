"""Work on a stream in several processes: in order, in bounded memory, the same result whatever their number."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_SAFE_PATH = "PYTHONSAFEPATH"
_AHEAD = 2  # chunks per process that are under way or wait to be taken


def map_chunks(
    work: Callable[[list[T]], list[U]], items: Iterable[T], *, n_processes: int, chunk_size: int
) -> Iterator[U]:
    """What ``work`` makes of each chunk of the items, in their order.

    ``work`` must be a function that can be pickled, and must not depend on how items are parted. With one process it
    runs here; else in fresh processes ("spawn"), which a script must start under ``if __name__ == "__main__"``.
    At most two chunks per process are held. An error in ``work`` is raised here; leaving the iterator early
    ends the processes, and so does a kill of this one; Ctrl-C is for this one alone, and they end with it.
    """
    chunks = _chunks(iter(items), chunk_size)
    if n_processes == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    with _safe_path():
        pool = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"), initializer=_begin)
    try:
        running: deque[Future[list[U]]] = deque()
        for chunk in chunks:
            with _safe_path():
                running.append(pool.submit(work, chunk))
            if len(running) >= _AHEAD * n_processes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that started this one, and end when that one is gone: killed, it tells nothing, and
    this one would wait for work for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


@contextmanager
def _safe_path() -> Iterator[None]:
    """Processes that start in the block import no module of the current folder, which may be a stranger's."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
