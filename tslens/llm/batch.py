"""Calls answered in batches: half the price, an answer within a day.

1. Write: calls without an answer are gathered into parts of up to 50,000 requests or 200 MB, within the budget. Each
   is recorded as ``sent``, with the name of its part.
2. Submit: the part is uploaded; "creating" is recorded; the batch is made, with the part's name in its metadata;
   "created" is recorded. After a kill between the two, the batch is found by that name, so it is not made twice.
3. Poll until batches end, but not beyond the day in which they should; merge what they bring by ``custom_id``, which
   is the hash of the call.
4. What expired or failed costs nothing, what is missing counts at its worst; both go into a later part, as do answers
   of no use, up to the same numbers of tries as single calls have.

Batches that an earlier run left are looked at before anything is submitted, also if all calls have answers. Those that
have ended are merged, whether or not their calls come again: a result whose call is not at hand is recorded as paid,
its text kept, and judged when its call is asked. Those that are still out are waited for only by calls in them.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from tslens.llm.batch_road import ENDPOINT, BatchRoad
from tslens.llm.calls import Call, CallFailure, Outcome
from tslens.llm.client import Client, Progress
from tslens.llm.connect import stopped
from tslens.llm.prices import Price
from tslens.llm.settle import Rejections, beyond_budget, for_another, give_up, take_answer
from tslens.llm.wire import Dialect, mapping, read_answer, word

MOST_REQUESTS = 50_000
MOST_BYTES = 190_000_000  # the limit is 200 MB
MOST_ACTIVE = 4  # batches at once: their calls are in memory
OVERDUE_S = 26 * 3600.0  # a batch is done or expired within 24 hours

_ENDED = frozenset({"completed", "expired", "failed", "cancelled"})


@dataclass(frozen=True)
class _Part:
    """A batch on its way. ``dialect``: as its requests were written. ``since``: monotonic time when it was met."""

    batch_id: str
    dialect: Dialect
    since: float = field(default_factory=time.monotonic)


def answer_batch(
    client: Client, calls: Iterable[Call], *, poll_s: float, progress: Progress | None = None
) -> Iterator[Outcome]:
    """Outcomes of the calls by way of batches, as batches end; ``poll_s``: seconds between looks.

    It may be stopped at any time: the same calls with the same ledger take up what is under way. Memory holds the
    calls of four batches. Raises RunError where the server takes no batches.
    """
    with ExitStack() as stack:
        job = _BatchJob(client, stack, poll_s)
        job.recover()
        for call in calls:
            known = client.known(call)
            if known is not None:
                yield client.count(known, progress)
                continue
            job.add(call)
            while job.is_full():
                for outcome in job.step():
                    yield client.count(outcome, progress)
        job.has_more = False
        while job.waiting:
            for outcome in job.step():
                yield client.count(outcome, progress)


class _BatchJob:
    """The state of one run of :func:`answer_batch`. ``waiting``: calls without an outcome, equal ones together."""

    def __init__(self, client: Client, stack: ExitStack, poll_s: float) -> None:
        self.client = client
        self.ledger = client.ledger
        self.price = client.price.in_batch() if client.price else None
        self.poll_s = poll_s
        self.waiting: dict[str, list[Call]] = {}
        self.has_more = True
        self._stack = stack
        self._opened: BatchRoad | None = None
        self._parts: dict[str, _Part] = {}
        self._todo: list[Call] = []
        self._n_lost: Counter[str] = Counter()
        self._rejections = Rejections(client.ledger)
        self._most_requests = MOST_REQUESTS
        self._is_held = False  # the server has no room for more until a batch ends
        self._end: str | None = None  # why no call will pass

    @property
    def _road(self) -> BatchRoad:
        if self._opened is None:
            self._opened = self._stack.enter_context(BatchRoad(self.client.server(), self.client.tries))
        return self._opened

    def recover(self) -> None:
        """Take up the batches of this server that the ledger knows; those that were never made cost nothing."""
        for name, batch in list(self.ledger.batches.items()):
            batch_id = batch.batch_id
            if not batch.sends:  # merged, but for the record of it
                self.ledger.batch(name, "merged")
                continue
            if batch.server not in (None, self.client.server_name):
                continue
            if batch.stage == "creating":
                batch_id = self._road.find_surely(name)
                if batch_id is not None:
                    self.ledger.batch(name, "created", batch_id=batch_id)
            if batch_id is None:
                self._release(name, "its batch was never made")
            else:
                self._parts[name] = _Part(batch_id, replace(self.client.dialect))
        for _ in self._look():  # no call waits yet
            pass
        self._end = None  # key and model may have been mended since

    def add(self, call: Call) -> None:
        """Take a call that has no answer."""
        equals = self.waiting.setdefault(call.hash, [])
        equals.append(call)
        if len(equals) == 1 and not self.ledger.is_in_batch(call):
            self._todo.append(call)

    def is_full(self) -> bool:
        """Whether calls must go out before more are taken."""
        return len(self._todo) >= self._most_requests

    def step(self) -> Iterator[Outcome]:
        """Submit what can be submitted, wait, and merge what has ended. Raises RunError where no call will pass."""
        yield from self._submit()
        if self.waiting and self._parts and (self.is_full() or not self.has_more):
            time.sleep(self.poll_s)
            yield from self._look()
        if self._end is not None:
            raise stopped(self._road.server, self._end)

    def _look(self) -> Iterator[Outcome]:
        for name, part in list(self._parts.items()):
            state = self._road.look(part.batch_id)
            if state["status"] in _ENDED:
                yield from self._merge(name, part, state)
            elif time.monotonic() - part.since > OVERDUE_S:
                hours = OVERDUE_S / 3600
                self._end = f'its batch {part.batch_id} is still "{state["status"]}" after {hours:.0f} hours'

    def _has_room(self) -> bool:
        return not self._is_held and len(self._parts) < MOST_ACTIVE

    def _submit(self) -> Iterator[Outcome]:
        """Make parts of the calls to do. What does not fit the budget waits while batches may turn out cheaper."""
        while self._todo and self._has_room():
            if chosen := self._choose():
                self._submit_part(chosen)
            elif self._parts:
                return
            else:
                too_dear, self._todo = self._todo, []
                for call in too_dear:
                    failure = beyond_budget(call, self.ledger, self.client.budget_usd)
                    yield from self._conclude(failure, call)

    def _choose(self) -> list[Call]:
        """Take the calls of the next part from those to do, as far as limits and budget allow."""
        chosen: list[Call] = []
        left: list[Call] = []
        n_bytes, usd = 0, self.ledger.known_usd
        for index, call in enumerate(self._todo):
            worst_usd = self.price.worst(call) if self.price else 0.0
            n_bytes += len(json.dumps(self._request(call), ensure_ascii=False).encode()) + 1
            if len(chosen) >= self._most_requests or (n_bytes > MOST_BYTES and chosen):
                left += self._todo[index:]
                break
            if self.client.budget_usd is not None and usd + worst_usd > self.client.budget_usd:
                left.append(call)
            else:
                chosen.append(call)
                usd += worst_usd
        self._todo = left
        return chosen

    def _submit_part(self, calls: list[Call]) -> None:
        name = f"{self.ledger.id}-{self.ledger.n_sent}"
        for call in calls:
            n_try = self._n_lost[call.hash] + self.ledger.faults[call.hash] + 1
            worst_usd = self.price.worst(call) if self.price else None
            self.ledger.sent(call, n_try=n_try, worst_usd=worst_usd, part=name, price=self.price)
        file_id = self._road.upload(map(self._request, calls), self.ledger.folder)
        self.ledger.batch(name, "creating", file_id=file_id)
        batch_id = self._road.create(file_id, name, self.ledger.job)
        self.ledger.batch(name, "created", batch_id=batch_id)
        self._parts[name] = _Part(batch_id, replace(self.client.dialect))

    def _request(self, call: Call) -> dict[str, Any]:
        body = self.client.dialect.body(call)
        return {"custom_id": call.hash, "method": "POST", "url": ENDPOINT, "body": body}

    def _merge(self, name: str, part: _Part, state: dict[str, Any]) -> Iterator[Outcome]:
        """Settle every send of a batch that has ended: first those with a row in its files, then the others."""
        del self._parts[name]
        self._is_held = False
        sends = self.ledger.batches[name].sends
        for file_id in (state.get("output_file_id"), state.get("error_file_id")):
            for row in self._road.download(file_id, self.ledger.folder) if file_id else ():
                call_hash = row.get("custom_id")
                if isinstance(call_hash, str) and (n := sends.get(call_hash)) is not None:
                    call = self._first(call_hash)
                    yield from self._conclude(self._take_row(part, n, call_hash, call, row), call)
        status = state["status"]
        if status == "failed":
            self._take_refusal(state, len(sends))
        for call_hash, n in list(sends.items()):
            call = self._first(call_hash)
            is_free = status == "failed"  # refused whole: nothing was answered
            self.ledger.failed(n, call_hash, detail=f"batch {status}", is_free=is_free)
            if call is not None and status == "cancelled":
                failure = CallFailure(call.key, "unreachable", "its batch was cancelled")
                yield from self._conclude(failure, call)
            else:
                yield from self._conclude(self._lose(call, f"its batch {status} without it"), call)
        self.ledger.batch(name, "merged")

    def _take_row(
        self, part: _Part, n: int, call_hash: str, call: Call | None, row: dict[str, Any]
    ) -> Outcome | None:
        """Record one row of a result; the outcome of its call, None if that is to be asked again or not at hand."""
        response = mapping(row.get("response"))
        status, body = response.get("status_code", 0), mapping(response.get("body"))
        if status == 200:
            answer = read_answer(call, body)
            if answer is None:
                self.ledger.failed(n, call_hash, detail="no chat completion", is_free=False)
                return self._lose(call, "what came back was no chat completion")
            sent = self.ledger.asked(n)
            asked = call.record if call is not None else sent
            price = self.price
            if sent.get("price"):
                usd_in, usd_out = sent["price"]
                price = Price(usd_in, usd_out, "as it was sent")
            self._rejections.answered()
            reply = take_answer(self.ledger, n, asked, answer, price=price)
            if call and answer.fault and self.ledger.faults[call_hash] >= self.client.tries:
                failure = CallFailure(call.key, answer.fault, answer.detail)
                return give_up(self.ledger, call, failure)
            return reply
        error = mapping(row.get("error")) or mapping(body.get("error"))
        said = self._said(status, error.get("code"), error.get("message"))
        self.ledger.failed(n, call_hash, detail=said, is_free=True)
        if status in (401, 403, 404):
            self._end = said
            return None
        if call is not None and status in (400, 413, 422):
            if self.client.dialect.adapt(part.dialect.body(call), said):
                return None
            return self._rejections.add(call, CallFailure(call.key, "rejected", said))
        return self._lose(call, said)

    def _take_refusal(self, state: dict[str, Any], n_requests: int) -> None:
        """A batch that the server refused whole: too many tokens at once means smaller parts, all else is the end."""
        data = mapping(state.get("errors")).get("data")
        errors = [mapping(e) for e in data] if isinstance(data, list) else []
        if any(e.get("code") == "token_limit_exceeded" for e in errors) and n_requests > 1:
            self._most_requests = max(1, n_requests // 2)
            self._is_held = bool(self._parts)
            return
        self._end = f"it refused a batch: {'; '.join(self._said(e.get('message')) for e in errors[:3])}"

    def _said(self, *parts: Any) -> str:
        """What a server said is wrong, fit to be recorded and shown: cleaned whole, then cut."""
        text = " ".join(str(part) for part in parts if part and isinstance(part, str | int))
        return word(self._road.server.redact(text), most=500)

    def _first(self, call_hash: str) -> Call | None:
        """The call of a send, None if this run has not asked it."""
        return self.waiting[call_hash][0] if call_hash in self.waiting else None

    def _lose(self, call: Call | None, why: str) -> Outcome | None:
        if call is None:
            return None
        self._n_lost[call.hash] += 1
        if self._n_lost[call.hash] >= 2 * self.client.tries:
            return CallFailure(call.key, "unreachable", why)
        return None

    def _release(self, name: str, why: str) -> None:
        for call_hash, n in list(self.ledger.batches[name].sends.items()):
            self.ledger.failed(n, call_hash, detail=why, is_free=True)
        self.ledger.batch(name, "merged")

    def _conclude(self, outcome: Outcome | None, call: Call | None) -> Iterator[Outcome]:
        """Outcomes of a call and of its equals; without one, it goes to the calls to do."""
        if call is None:
            return
        if outcome is None:
            self._todo.append(call)
            return
        self._n_lost.pop(call.hash, None)
        for other in self.waiting.pop(call.hash):
            yield outcome if other is call else for_another(outcome, other)
