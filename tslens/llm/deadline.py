"""An event loop in a thread of its own, for work that must end in time whatever the other side sends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

_CLOSING_S = 5.0


class LoopThread:
    """Runs one coroutine at a time; it also works where a loop runs already (notebooks)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tslens-batch", daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[Any], limit_s: float) -> Any:
        """What the work brings. Raises TimeoutError where it takes longer, and what the work raises."""

        async def timed() -> Any:
            async with asyncio.timeout(limit_s):
                return await work

        future = asyncio.run_coroutine_threadsafe(timed(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Awaitable[Any]) -> None:
        """Do a last piece of work and end the thread."""
        with suppress(Exception):
            self.run(last, _CLOSING_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
