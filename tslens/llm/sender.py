"""One call from its first try to its outcome, on the event loop that all calls share."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tslens.errors import RunError
from tslens.llm.calls import Call, CallFailure, Outcome, Reply
from tslens.llm.connect import Failed, Server, stopped
from tslens.llm.ledger import Ledger
from tslens.llm.pace import Pace, Tries
from tslens.llm.prices import Price
from tslens.llm.settle import Rejections, beyond_budget, give_up, take_answer
from tslens.llm.wire import Answer, Dialect, read_answer

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MOST_REJECTED = 20  # requests that a server may call wrong before it has answered any

_SHOWN = 2000  # characters of an answer that is none
_HALF, _FIFTH = 0.5, 0.8  # what is left of the limit after "too many requests", after a time-out


class Sender:
    """Sends calls, tries again, records each step. One for each run of a client; lives on one event loop.

    ``tries``: answers of no use that a call may be given; sends that bring nothing end by ``pace.Tries``.
    """

    def __init__(
        self,
        server: Server,
        connection: AsyncOpenAI,
        ledger: Ledger,
        *,
        price: Price | None,
        budget_usd: float | None,
        pace: Pace,
        dialect: Dialect,
        tries: int,
    ) -> None:
        self.server = server
        self.connection = connection
        self.ledger = ledger
        self.price = price
        self.budget_usd = budget_usd
        self.pace = pace
        self.dialect = dialect
        self.tries = tries
        self.n_out = 0
        self._rejections = Rejections(ledger)
        self._n_rejected = 0
        self._last_answer = -1.0
        self._end: str | None = None
        self._n_recorded = 0
        self._n_flushed = 0
        self._settled = asyncio.Condition()
        self._flushing = asyncio.Lock()

    async def ask(self, call: Call) -> Outcome:
        """The outcome of a call. Raises RunError where no call will pass."""
        started = time.monotonic()
        tries = Tries(self.tries)
        n_faults = self.ledger.faults[call.hash]
        while True:
            result = await self._try(call, tries.n_lost + n_faults + 1)
            if result is None:
                return beyond_budget(call, self.ledger, self.budget_usd)
            if isinstance(result, Reply | Answer):
                await self._flush()
            if isinstance(result, Outcome):
                return result
            if isinstance(result, Answer):  # of no use
                n_faults += 1
                if n_faults >= self.tries and result.fault is not None:
                    failure = CallFailure(call.key, result.fault, result.detail)
                    return give_up(self.ledger, call, failure)
                continue
            if result.kind == "rejected":  # in words that are mended now
                continue
            wait_s = tries.count(is_busy=result.kind == "busy", asked_s=result.wait_s)
            self._check_hope(result, started, tries)
            if tries.are_spent:
                return CallFailure(call.key, "unreachable", result.detail)
            await asyncio.sleep(wait_s)

    async def _try(self, call: Call, n_try: int) -> Outcome | Answer | Failed | None:
        """One send: an outcome, an answer of no use, a failure, or None where the budget is spent."""
        entered = await self.pace.enter()
        try:
            if self._end is not None:
                raise stopped(self.server, self._end)
            if not await self._fits(call):
                return None
            worst_usd = self.price.worst(call) if self.price else None
            n = self.ledger.sent(call, n_try=n_try, worst_usd=worst_usd)
            self.n_out += 1
            try:
                body = self.dialect.body(call)
                result = self._read(call, await self.server.send(self.connection, body))
                return self._settle(call, n, body, result, entered)
            finally:
                self.n_out -= 1
                async with self._settled:
                    self._settled.notify_all()
        finally:
            self.pace.leave()

    def _read(self, call: Call, result: Any) -> Answer | Failed:
        if isinstance(result, Failed):
            return result
        answer = read_answer(call, result)
        if answer is None:
            detail = self.server.redact(f"no chat completion: {_shown(result)}")[:300]
            return Failed("lost", detail, is_free=False)
        return answer

    def _settle(
        self, call: Call, n: int, body: dict[str, Any], result: Answer | Failed, entered: float
    ) -> Outcome | Answer | Failed:
        if isinstance(result, Answer):
            self._rejections.answered()
            self._last_answer = time.monotonic()
            self.pace.speed_up()
            return take_answer(self.ledger, n, call.record, result, price=self.price) or result
        self.ledger.failed(n, call.hash, detail=result.detail, is_free=result.is_free)
        if result.kind == "fatal":
            raise self._stop(result.detail)
        if result.kind == "rejected":
            return self._take_rejection(call, body, result)
        if result.kind == "busy":
            self.pace.slow_down(entered, _HALF)
            self.pace.pause(result.wait_s)
        elif result.is_timeout:
            self.pace.slow_down(entered, _FIFTH)
        return result

    def _stop(self, detail: str) -> RunError:
        """The error that ends the job; from here on nothing is sent."""
        self._end = detail
        return stopped(self.server, detail)

    def _take_rejection(self, call: Call, body: dict[str, Any], result: Failed) -> CallFailure | Failed:
        if self.dialect.adapt(body, result.detail):
            return result
        self._n_rejected += 1
        if self._rejections.n_answers == 0 and self._n_rejected >= MOST_REJECTED:
            raise self._stop(f"it rejected the first {MOST_REJECTED} requests: {result.detail}")
        return self._rejections.add(call, CallFailure(call.key, "rejected", result.detail))

    def _check_hope(self, result: Failed, started: float, tries: Tries) -> None:
        """Raise RunError where nothing gets through: out of tries, and no other call was answered meanwhile."""
        if result.kind == "refused_connection" and self._rejections.n_answers == 0 and tries.n_lost >= 3:
            raise self._stop(f"no connection ({result.detail})")
        if tries.are_spent and self._last_answer < started:
            raise self._stop(f"no answer after {tries}, the last: {result.detail}")

    async def _flush(self) -> None:
        """Flush to disk what is recorded so far. Answers that come together share one flush, beside the loop."""
        self._n_recorded += 1
        mine = self._n_recorded
        async with self._flushing:
            if self._n_flushed < mine:
                n_recorded = self._n_recorded
                await asyncio.to_thread(self.ledger.sync)
                self._n_flushed = n_recorded

    async def _fits(self, call: Call) -> bool:
        """Whether the worst case fits the budget beside all that is out; waits while that may still change."""
        if self.budget_usd is None or self.price is None:
            return True
        while self.ledger.known_usd + self.price.worst(call) > self.budget_usd:
            if self.n_out == 0:
                return False
            async with self._settled:
                await self._settled.wait()
        return True


def _shown(value: Any) -> str:
    """The beginning of JSON as text, more of it than is kept, so that no part of a short key is."""
    text = ""
    with suppress(RecursionError):
        for part in json.JSONEncoder(ensure_ascii=False).iterencode(value):
            text += part
            if len(text) > _SHOWN:
                break
    return text
