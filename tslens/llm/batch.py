"""Calls answered in batches: half the price, an answer within a day.

1. Write: calls without an answer are gathered into parts of up to 50,000 requests or 200 MB, within the budget. Each
   is recorded as ``sent``, with the name of its part.
2. Submit: the part is uploaded; "creating" is recorded; the batch is made, with the part's name in its metadata;
   "created" is recorded. After a kill between the two, the batch is found by that name, so it is not made twice.
3. Poll until batches end; merge what they bring by ``custom_id``, which is the hash of the call.
4. What expired or failed costs nothing, what is missing counts at its worst; both go into a later part, as do answers
   of no use, up to the same numbers of tries as single calls have.

A batch that an earlier run left is taken up again by the calls that are in it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from tslens.llm.batch_road import ENDPOINT, LISTED_S, BatchRoad
from tslens.llm.calls import Call, CallFailure, Outcome
from tslens.llm.client import Client, Progress
from tslens.llm.connect import stopped
from tslens.llm.settle import for_another, give_up, take_answer
from tslens.llm.wire import Dialect, read_answer

MOST_REQUESTS = 50_000
MOST_BYTES = 190_000_000  # the limit is 200 MB
MOST_ACTIVE = 4  # batches at once: their calls are in memory

_ENDED = frozenset({"completed", "expired", "failed", "cancelled"})


@dataclass
class _Part:
    """A batch on its way. ``dialect``: as its requests were written. ``is_ended``: only unseen calls hold it up."""

    batch_id: str
    dialect: Dialect
    is_ended: bool = False


def answer_batch(
    client: Client, calls: Iterable[Call], *, poll_s: float, progress: Progress | None = None
) -> Iterator[Outcome]:
    """Outcomes of the calls by way of batches, as batches end; ``poll_s``: seconds between looks.

    It may be stopped at any time: the same calls with the same ledger take up what is under way. Memory holds the
    calls of four batches. Raises RunError where the server takes no batches.
    """
    with ExitStack() as stack:
        job = _BatchJob(client, stack, poll_s)
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
        self._is_recovered = False
        self._parts: dict[str, _Part] = {}
        self._part_of: dict[str, str] = {}
        self._todo: list[Call] = []
        self._n_lost: Counter[str] = Counter()
        self._most_requests = MOST_REQUESTS
        self._is_held = False  # the server has no room for more until a batch ends

    @property
    def _road(self) -> BatchRoad:
        if self._opened is None:
            self._opened = self._stack.enter_context(BatchRoad(self.client.server(), self.client.tries))
        return self._opened

    def add(self, call: Call) -> None:
        """Take a call that has no answer; the first one looks for batches that an earlier run left."""
        if not self._is_recovered:
            self._is_recovered = True
            self._recover()
        equals = self.waiting.setdefault(call.hash, [])
        equals.append(call)
        if len(equals) == 1 and call.hash not in self._part_of:
            self._todo.append(call)

    def is_full(self) -> bool:
        """Whether calls must go out before more are taken."""
        return len(self._todo) >= self._most_requests

    def step(self) -> Iterator[Outcome]:
        """Submit what can be submitted, wait, and merge what has ended."""
        yield from self._submit()
        if not self.waiting or (self.has_more and not self.is_full()):
            return
        time.sleep(self.poll_s)
        for name, part in list(self._parts.items()):
            state = self._road.look(part.batch_id)
            if state["status"] in _ENDED:
                yield from self._merge(name, part, state)

    def _has_room(self) -> bool:
        return not self._is_held and sum(not part.is_ended for part in self._parts.values()) < MOST_ACTIVE

    def _recover(self) -> None:
        """Take up the batches that the ledger knows; those that were never made cost nothing."""
        for name, batch in list(self.ledger.batches.items()):
            batch_id = batch.batch_id
            if not batch.sends:  # merged, but for the record of it
                self.ledger.batch(name, "merged")
                continue
            if batch.stage == "creating":
                batch_id = self._road.find(name)
                if batch_id is None:
                    time.sleep(LISTED_S)
                    batch_id = self._road.find(name)
                if batch_id is not None:
                    self.ledger.batch(name, "created", batch_id=batch_id)
            if batch_id is None:
                self._release(name, "its batch was never made")
                self.ledger.batch(name, "merged")
            else:
                self._parts[name] = _Part(batch_id, replace(self.client.dialect))
                self._part_of |= dict.fromkeys(batch.sends, name)

    def _submit(self) -> Iterator[Outcome]:
        """Make parts of the calls to do. What does not fit the budget waits while batches may turn out cheaper."""
        while self._todo and self._has_room():
            if chosen := self._choose():
                self._submit_part(chosen)
            elif any(not part.is_ended for part in self._parts.values()):
                return
            else:
                too_dear, self._todo = self._todo, []
                for call in too_dear:
                    spent = f"{self.ledger.spent_usd:.4f} of {self.client.budget_usd:g} USD are spent"
                    failure = CallFailure(call.key, "budget", f"its worst case does not fit: {spent}")
                    yield from self._conclude(failure, call)

    def _choose(self) -> list[Call]:
        """Take the calls of the next part from those to do, as far as limits and budget allow."""
        chosen: list[Call] = []
        left: list[Call] = []
        n_bytes, usd = 0, self.ledger.spent_usd
        for index, call in enumerate(self._todo):
            worst_usd = self._worst(call) or 0.0
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
            self.ledger.sent(call, n_try=n_try, worst_usd=self._worst(call), part=name)
            self._part_of[call.hash] = name
        file_id = self._road.upload(map(self._request, calls), self.ledger.folder)
        self.ledger.batch(name, "creating", file_id=file_id)
        batch_id = self._road.create(file_id, name, self.ledger.job)
        self.ledger.batch(name, "created", batch_id=batch_id)
        self._parts[name] = _Part(batch_id, replace(self.client.dialect))

    def _worst(self, call: Call) -> float | None:
        return self.price.worst(call) if self.price else None

    def _request(self, call: Call) -> dict[str, Any]:
        body = self.client.dialect.body(call)
        return {"custom_id": call.hash, "method": "POST", "url": ENDPOINT, "body": body}

    def _merge(self, name: str, part: _Part, state: dict[str, Any]) -> Iterator[Outcome]:
        """Outcomes of the calls of a batch that has ended; what has none goes back to the calls to do.

        Calls of an earlier run that were not seen yet may still come: until there are no more, the batch waits.
        """
        sends = self.ledger.batches[name].sends
        if self.has_more and not sends.keys() <= self.waiting.keys():
            part.is_ended = True
            return
        del self._parts[name]
        self._is_held = False
        for file_id in (state.get("output_file_id"), state.get("error_file_id")):
            for row in self._road.download(file_id, self.ledger.folder) if file_id else ():
                call_hash = row.get("custom_id", "")
                if call_hash in sends and call_hash in self.waiting:
                    call = self.waiting[call_hash][0]
                    yield from self._conclude(self._take_row(part, sends[call_hash], call, row), call)
        missing = [self.waiting[call_hash][0] for call_hash in sends if call_hash in self.waiting]
        if state["status"] == "failed":
            self._take_failed(name, state, len(missing))
        for call in missing:
            usd = (
                0.0 if state["status"] == "failed" else self._worst(call)
            )  # refused whole: nothing was answered
            self.ledger.failed(sends[call.hash], call.hash, detail=f"batch {state['status']}", usd=usd)
            if state["status"] == "cancelled":
                failure = CallFailure(call.key, "unreachable", "its batch was cancelled")
                yield from self._conclude(failure, call)
            else:
                yield from self._conclude(self._lose(call, f"its batch {state['status']} without it"), call)
        if not sends:
            self.ledger.batch(name, "merged")

    def _take_row(self, part: _Part, n: int, call: Call, row: dict[str, Any]) -> Outcome | None:
        """The outcome that one row of a result gives; None if the call is to be asked again."""
        redact = self._road.server.redact
        response = row.get("response") or {}
        status, body = response.get("status_code", 0), response.get("body") or {}
        if status == 200:
            answer = read_answer(call, body)
            if answer is None:
                self.ledger.failed(n, call.hash, detail="no chat completion", usd=self._worst(call))
                return self._lose(call, "what came back was no chat completion")
            reply = take_answer(self.ledger, n, call, answer, price=self.price, redact=redact)
            if reply is None and answer.fault and self.ledger.faults[call.hash] >= self.client.tries:
                failure = CallFailure(call.key, answer.fault, redact(answer.detail))
                return give_up(self.ledger, call, failure)
            return reply
        error = row.get("error") or body.get("error") or {}
        said = redact(f"{status or ''} {error.get('code') or ''} {error.get('message') or ''}".strip())[:500]
        self.ledger.failed(n, call.hash, detail=said, usd=0.0)
        if status in (401, 403, 404):
            raise stopped(self._road.server, said)
        if status in (400, 413, 422):
            if self.client.dialect.adapt(part.dialect.body(call), said):
                return None
            return give_up(self.ledger, call, CallFailure(call.key, "rejected", said))
        return self._lose(call, said)

    def _take_failed(self, name: str, state: dict[str, Any], n_requests: int) -> None:
        """A batch that the server refused whole: too many tokens at once means smaller parts, all else is the end."""
        errors = (state.get("errors") or {}).get("data") or [{}]
        said = self._road.server.redact("; ".join(str(e.get("message")) for e in errors[:3]))
        if any(e.get("code") == "token_limit_exceeded" for e in errors) and n_requests > 1:
            self._most_requests = max(1, n_requests // 2)
            self._is_held = any(not part.is_ended for part in self._parts.values())
            return
        self._release(name, f"batch failed: {said}")
        self.ledger.batch(name, "merged")
        raise stopped(self._road.server, f"it refused a batch: {said}")

    def _lose(self, call: Call, why: str) -> Outcome | None:
        self._n_lost[call.hash] += 1
        if self._n_lost[call.hash] >= 2 * self.client.tries:
            return CallFailure(call.key, "unreachable", why)
        return None

    def _release(self, name: str, why: str) -> None:
        for call_hash, n in list(self.ledger.batches[name].sends.items()):
            self.ledger.failed(n, call_hash, detail=why, usd=0.0)

    def _conclude(self, outcome: Outcome | None, call: Call) -> Iterator[Outcome]:
        """Outcomes of a call and of its equals; without one, it goes to the calls to do."""
        self._part_of.pop(call.hash, None)
        if outcome is None:
            self._todo.append(call)
            return
        self._n_lost.pop(call.hash, None)
        for other in self.waiting.pop(call.hash):
            yield outcome if other is call else for_another(outcome, other)
