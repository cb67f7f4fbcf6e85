"""How many calls go out at once, and when: additive increase, multiplicative decrease, pauses, jitter.

1. Each answer raises the limit by 1/limit, up to what the user allows: one more for each round of answers.
2. "Too many requests" and "unavailable" halve it, a time-out takes a fifth; at most once for calls of one round,
   because calls that were sent before a decrease tell nothing new.
3. A wait that the server asks for holds back all new sends until it is over.
4. A call that failed waits a random time up to base * 2^tries (full jitter), and at least what was asked.
5. What is lost (500, reset, silence) may be so ``2 * tries`` times; "busy" (429, 503) is no lost send, but after
   ``10 * tries`` of those the end is the same. The rule holds for calls and for each step of a batch.

Source: Chiu and Jain 1989 (increase and decrease); Brooker 2015, Exponential Backoff And Jitter.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque

BACKOFF_S = 0.5
MAX_BACKOFF_S = 60.0


class Pace:
    """Gate before the server, for one event loop. ``limit``: calls at once now; ``most``: at most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = float(most)
        self.n_out = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._decreased_at = 0.0
        self._resume_at = 0.0

    async def enter(self) -> float:
        """Wait for a place and for the end of a pause; the time of entry, for :meth:`slow_down`."""
        while True:
            if self.n_out >= max(1, int(self.limit)):
                place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(place)
                await place
                continue
            pause_s = self._resume_at - time.monotonic()
            if pause_s <= 0:
                self.n_out += 1
                return time.monotonic()
            await asyncio.sleep(pause_s * random.uniform(1.0, 1.1))

    def leave(self) -> None:
        """Give the place back."""
        self.n_out -= 1
        self._wake()

    def speed_up(self) -> None:
        """An answer came."""
        self.limit = min(self.most, self.limit + 1 / self.limit)
        self._wake()

    def slow_down(self, entered: float, factor: float) -> None:
        """The server is too busy for the rate at which this call was sent."""
        if entered >= self._decreased_at:
            self.limit = max(1.0, self.limit * factor)
            self._decreased_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Send nothing new for so long."""
        self._resume_at = max(self._resume_at, time.monotonic() + seconds)

    def _wake(self) -> None:
        free = max(1, int(self.limit)) - self.n_out
        while self._waiting and free > 0:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                free -= 1


class Tries:
    """Sends of one call, or of one step of a batch, that brought nothing."""

    def __init__(self, tries: int) -> None:
        self.n_lost = self.n_busy = 0
        self._most_lost, self._most_busy = 2 * tries, 10 * tries

    def count(self, *, is_busy: bool, asked_s: float) -> float:
        """Count one; the seconds to wait before the next."""
        self.n_busy += is_busy
        self.n_lost += not is_busy
        return backoff(self.n_lost + self.n_busy, asked_s)

    @property
    def are_spent(self) -> bool:
        """Whether there is no next one."""
        return self.n_lost >= self._most_lost or self.n_busy >= self._most_busy

    def __str__(self) -> str:
        return f"{self.n_lost + self.n_busy} tries"


def backoff(n_failures: int, asked_s: float) -> float:
    """Seconds before the next try: random up to a bound that doubles, and not less than the server asked."""
    bound = min(MAX_BACKOFF_S, BACKOFF_S * 2.0 ** min(n_failures, 10))
    return asked_s + random.uniform(0, bound)
