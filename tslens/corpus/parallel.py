"""Work on a stream in several processes: in order, in bounded memory, the same result whatever their number."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")

_AHEAD = 2  # chunks per process that are under way or wait to be taken


def map_chunks(
    work: Callable[[list[T]], list[U]], items: Iterable[T], *, n_processes: int, chunk_size: int
) -> Iterator[U]:
    """What ``work`` makes of each chunk of the items, in their order.

    ``work`` must be a function that can be pickled, and must not depend on how items are parted. With one process it
    runs here; else in fresh processes ("spawn"), which a script must start under ``if __name__ == "__main__"``.
    At most two chunks per process are held. An error in ``work`` is raised here; leaving the iterator early
    ends the processes.
    """
    chunks = _chunks(iter(items), chunk_size)
    if n_processes == 1:
        for chunk in chunks:
            yield from work(chunk)
        return
    pool = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))
    try:
        running: deque[Future[list[U]]] = deque()
        for chunk in chunks:
            running.append(pool.submit(work, chunk))
            if len(running) >= _AHEAD * n_processes:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
