"""Calls answered over the wire: many at once, tried again, paid within a budget, recorded before and after.

A call goes through these steps:

1. Its answer is in a ledger of the folder: that is its reply, free. An equal call is on its way: it waits for that.
2. It waits for a place (``pace``), and until its worst case fits the budget beside all that is not settled.
3. ``sent`` is recorded, the request goes out, and the event that settles it is recorded.
4. No answer: it is sent again after a random wait, until ``2 * tries`` sends are lost (500, reset, silence) or
   ``10 * tries`` were told "busy" (429, 503). An answer of no use (refusal, cut, not of its schema): paid, recorded,
   and asked again up to ``tries``.
5. Where no call will pass (wrong key, unknown model, no server), everything stops with one error.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from tslens.errors import RunError, UsageError
from tslens.llm.address import check_may_be_asked
from tslens.llm.calls import Call, CallFailure, Outcome, Reply
from tslens.llm.connect import Server, find_server, meant_address, server_name
from tslens.llm.ledger import Ledger
from tslens.llm.pace import Pace
from tslens.llm.prices import Price, price_table
from tslens.llm.sender import Sender
from tslens.llm.settle import for_another
from tslens.llm.wire import Dialect

LOOK_AHEAD = 2  # calls that are taken from the caller, for each that may be out


@dataclass(frozen=True)
class Tally:
    """How far a job is. ``n_failed``: calls without an answer.

    ``spent_usd``: of the job, those not settled at their worst; None where the price of a send was unknown.
    """

    n_replies: int
    n_cached: int
    n_failed: int
    spent_usd: float | None


Progress = Callable[[Tally], None]


class Client:
    """The client of one server and one ledger.

    ``price``: None where it is unknown. A budget needs one, and is refused (UsageError) for a job that has sent calls
    without one, since nobody knows what they cost. ``base_url``: of a compatible server; None is OpenAI (or
    ``$OPENAI_BASE_URL``). The key is read from ``$OPENAI_API_KEY`` when the first call has to be sent: UsageError
    where OpenAI has none. ``concurrency``: calls at once at most. ``timeout_s``: seconds for one whole answer.
    ``tries``: see the module. ``retry_failed``: ask again what an earlier run gave up. ``answerers``: model and
    fingerprint, as the server names them, of the replies so far, known ones too, and how many each gave. UsageError for
    an address that may not be asked (``address``).
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        price: Price | None,
        base_url: str | None = None,
        budget_usd: float | None = None,
        concurrency: int = 32,
        timeout_s: float = 120.0,
        tries: int = 6,
        retry_failed: bool = False,
    ) -> None:
        if budget_usd is not None and price is None:
            raise UsageError(
                f"A budget needs a price, and that of the model is unknown (prices are of {price_table()['date']}).",
                "Give it with --price IN,OUT in USD per million tokens (0,0 for a server of your own).",
            )
        if budget_usd is not None and ledger.spent_usd is None:
            raise UsageError(
                f"A budget cannot hold: {ledger.n_unpriced} calls of job {ledger.job} were sent without a known price.",
                "Go on without a budget, or write to another file: what is answered stays free.",
            )
        for name, value in (("concurrency", concurrency), ("timeout", timeout_s), ("tries", tries)):
            if not 0 < value < 1e9:
                raise UsageError(f"{name} cannot be {value}.", "Give a positive number.")
        if budget_usd is not None and not 0 <= budget_usd < float("inf"):
            raise UsageError(f"A budget cannot be {budget_usd}.", "Give it in USD.")
        self.ledger = ledger
        self.price = price
        self.base_url = base_url
        self.server_name = server_name(base_url)
        check_may_be_asked(meant_address(base_url))
        self.budget_usd = budget_usd
        self.concurrency = concurrency
        self.timeout_s = timeout_s
        self.tries = tries
        self.retry_failed = retry_failed
        self.dialect = Dialect()
        self.counts = {"replies": 0, "cached": 0, "failed": 0}
        self.answerers: Counter[tuple[str, str | None]] = Counter()

    def server(self) -> Server:
        """The server and the key. Raises UsageError where OpenAI itself is meant and there is none."""
        server = find_server(self.base_url, self.timeout_s)
        if not self.server_name and not self.dialect.is_limit_corrected:
            self.dialect.limit = "max_completion_tokens"  # newer models of OpenAI take no other
        return server

    def answer(self, calls: Iterable[Call], *, progress: Progress | None = None) -> Iterator[Outcome]:
        """Outcomes of the calls as they come: each call has one. Memory does not grow with their number.

        Raises RunError where no call will pass; what was answered until then is recorded. The caller may stop at any
        time: what is on its way then counts at its worst.
        """
        iterator = iter(calls)
        waiting: dict[str, list[Call]] = {}
        n_waiting, has_more = 0, True
        with _Background(self._open_sender) as background:
            while has_more or waiting:
                if has_more and n_waiting < LOOK_AHEAD * self.concurrency and background.is_empty():
                    call = next(iterator, None)
                    if call is None:
                        has_more = False
                    elif (known := self.known(call)) is not None:
                        yield self.count(known, progress)
                    else:
                        if call.hash not in waiting:
                            self._check_not_in_own_batch(call)
                            background.ask(call)
                        waiting.setdefault(call.hash, []).append(call)
                        n_waiting += 1
                    continue
                first, outcome = background.get()
                equals = waiting.pop(first.hash)
                n_waiting -= len(equals)
                for call in equals:
                    mine = outcome if call is first else for_another(outcome, call)
                    yield self.count(mine, progress)

    def known(self, call: Call) -> Outcome | None:
        """What needs no sending: a recorded reply, or a failure that is not to be tried again.

        Raises ValueError for a call to another server, RunError for one that a batch of another job holds.
        """
        if call.server != self.server_name:
            raise ValueError(f'{call.key} is a call to "{call.server}", not to "{self.server_name}"')
        found = self.ledger.find(call)
        if found is not None and not (self.retry_failed and isinstance(found, CallFailure)):
            return found
        if (other := self.ledger.is_in_batch_of(call)) is not None:
            raise RunError(
                f"{call.key} is under way in a batch of another job, whose ledger is {other}.",
                "Finish that job first: run its command again, in batch mode.",
            )
        return None

    def count(self, outcome: Outcome, progress: Progress | None) -> Outcome:
        """Count an outcome and tell how far the job is."""
        kind = "failed" if isinstance(outcome, CallFailure) else "cached" if outcome.is_cached else "replies"
        self.counts[kind] += 1
        if isinstance(outcome, Reply):
            self.answerers[outcome.model, outcome.fingerprint] += 1
        if progress is not None:
            n_replies, n_cached, n_failed = self.counts.values()
            progress(Tally(n_replies, n_cached, n_failed, self.ledger.spent_usd))
        return outcome

    def _check_not_in_own_batch(self, call: Call) -> None:
        """Raise RunError for a call that is being answered, and paid, in a batch of an earlier run."""
        if self.ledger.is_in_batch(call):
            raise RunError(
                f"{call.key} is under way in a batch of an earlier run.",
                "Run the command in batch mode: it takes the batch up.",
            )

    def _open_sender(self) -> Callable[[], Coroutine[Any, Any, Sender]]:
        """Check the key here, in the caller's thread; what is returned opens the connection on the loop."""
        server = self.server()

        async def open_on_loop() -> Sender:
            return Sender(
                server,
                server.open_async(),
                self.ledger,
                price=self.price,
                budget_usd=self.budget_usd,
                pace=Pace(self.concurrency),
                dialect=self.dialect,
                tries=self.tries,
            )

        return open_on_loop


class _Background:
    """An event loop in a thread of its own, so that it also works where one runs already (notebooks).

    It starts with the first call. Leaving it cancels what is on its way and closes the connection.
    """

    def __init__(self, opener: Callable[[], Callable[[], Coroutine[Any, Any, Sender]]]) -> None:
        self._opener = opener
        self._results: queue.SimpleQueue[tuple[Call, Outcome] | BaseException] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_ready = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            with suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def is_empty(self) -> bool:
        """Whether no outcome is there to be taken."""
        return self._results.empty()

    def ask(self, call: Call) -> None:
        """Send a call on its way."""
        if self._thread is None:
            opener = self._opener()
            self._thread = threading.Thread(target=self._run, args=(opener,), name="tslens-llm", daemon=True)
            self._thread.start()
            self._is_ready.wait()
        with suppress(RuntimeError):  # the loop has ended, and `get` raises why
            self._loop.call_soon_threadsafe(self._start, call)

    def get(self) -> tuple[Call, Outcome]:
        """Wait for the next outcome. Raises what ended the loop."""
        result = self._results.get()
        if isinstance(result, BaseException):
            raise result
        return result

    def _run(self, opener: Callable[[], Coroutine[Any, Any, Sender]]) -> None:
        try:
            asyncio.run(self._serve(opener))
        except BaseException as error:
            self._results.put(error)
        finally:
            self._is_ready.set()

    async def _serve(self, opener: Callable[[], Coroutine[Any, Any, Sender]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._sender = await opener()
        self._is_ready.set()
        try:
            await self._stop.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            await self._sender.connection.close()

    def _start(self, call: Call) -> None:
        if not self._stop.is_set():
            task = self._loop.create_task(self._ask(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, call: Call) -> None:
        try:
            self._results.put((call, await self._sender.ask(call)))
        except Exception as error:
            self._results.put(error)
