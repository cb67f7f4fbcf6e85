"""The ledger: every call of a job in one append-only file, which is also the cache and the purse.

``FOLDER/JOB.jsonl`` (schema ``tslens.ledger/1``) takes one line for each event, by one write each:

1. ``sent``, before a call goes out, with the most it can cost;
2. ``reply``, an answer, paid, with its text, flushed to disk; with a ``fault`` where it is none of use (a refusal);
3. ``failed``, a send without an answer, with what it must be taken to have cost;
4. ``gave_up``, a call that is not asked again by itself; ``batch``, a step of a batch.

Spent (``account``) is what is known to be paid and the worst case of all sends that nothing settles. A line that a kill
cut off is removed on opening; what it would have said was not yet done, or counts as unsettled.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tslens.errors import DataError, UsageError
from tslens.llm.account import Account
from tslens.llm.append_file import AppendFile, read_line, whole_lines
from tslens.llm.calls import Call, CallFailure, Outcome, Reply
from tslens.llm.prices import Price
from tslens.llm.wire import Answer, judge
from tslens.provenance import utc_now
from tslens.reading import BROKEN, check_values, is_number

SCHEMA = "tslens.ledger/1"
_OFFSET_BITS = 44  # a place is (file << 44) | offset: one small number for each reply


class Ledger:
    """One job's record, and the replies of all jobs in the folder.

    The other ledgers are read once, on opening: two jobs that run at the same moment do not see each other's newest
    replies, and a call that both ask is sent by both and paid twice.

    ``read_only``: nothing is locked, mended or written (for --dry-run). Raises RunError if another process has the
    job, DataError with the line where a file is broken.
    """

    def __init__(self, folder: Path | str, job: str, *, read_only: bool = False) -> None:
        if not re.fullmatch(r"\w[\w.-]*", job):
            raise UsageError(f'"{job}" is no name for a job.', "Use letters, digits, - and _.")
        self.folder = Path(folder)
        self.job = job
        self.path = self.folder / f"{job}.jsonl"
        self.id = uuid.uuid4().hex[:12]
        self._account = Account()
        self.batches = self._account.batches
        self.faults = self._account.faults
        self._paths = [
            self.path
        ]  # of the ledgers in the folder, the own one first; opened only when read from
        self._elsewhere: dict[str, Path] = {}  # calls in open batches of other jobs
        self._replies: dict[int, int] = {}
        self._gave_up: dict[int, int] = {}
        self._file = None if read_only else AppendFile(self.path)
        try:
            others = self.folder.glob("*.jsonl") if self.folder.is_dir() else ()
            for path in [self.path, *sorted(set(others) - {self.path})]:
                if path.is_file():
                    self._load(path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file and the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def spent_usd(self) -> float | None:
        """USD of this job so far: paid, and the worst case of what is not settled; None: a price was unknown."""
        return None if self._account.n_unpriced else self._account.known_usd

    @property
    def known_usd(self) -> float:
        """USD of the sends of this job whose price was known."""
        return self._account.known_usd

    @property
    def n_unpriced(self) -> int:
        """Sends of this job that may have been paid, nobody knows how much."""
        return self._account.n_unpriced

    @property
    def n_sent(self) -> int:
        """Sends of this job: the number of the next one."""
        return self._account.n_sent

    @property
    def n_replies(self) -> int:
        """Answers at hand, of all jobs in the folder."""
        return len(self._replies)

    def outcome(self, call: Call, unkept: Mapping[str, CallFailure]) -> Outcome:
        """What came of a call. ``unkept``: failures by key that are not recorded here (budget, no connection)."""
        found = self.find(call) or unkept.get(call.key)
        return found or CallFailure(call.key, "unreachable", "it was not asked")

    def find(self, call: Call) -> Outcome | None:
        """What is recorded for a call: its reply (free now), that it was given up, or None.

        A reply is held against its call here as well: one that came by a batch of an earlier run was recorded unseen.
        """
        name = int(call.hash, 16)
        if (place := self._replies.get(name)) is not None:
            row = self._read(place)
            text, fault, _ = judge(call, row["text"], None, row["finish_reason"])
            if fault is None:
                tokens = row["usage"] or {}
                return Reply(
                    key=call.key,
                    text=text,
                    model=row["model"],
                    fingerprint=row["fingerprint"],
                    finish_reason=row["finish_reason"],
                    prompt_tokens=tokens.get("prompt_tokens") or 0,
                    completion_tokens=tokens.get("completion_tokens") or 0,
                    usd=0.0,
                    is_cached=True,
                )
        if (place := self._gave_up.get(name)) is not None:
            row = self._read(place)
            return CallFailure(call.key, row["reason"], row["detail"])
        return None

    def is_in_batch(self, call: Call) -> bool:
        """Whether a batch that is not merged holds the call."""
        return any(batch.stage and call.hash in batch.sends for batch in self.batches.values())

    def is_in_batch_of(self, call: Call) -> Path | None:
        """The ledger of another job whose open batch holds the call."""
        return self._elsewhere.get(call.hash)

    def worst_usd(self, n: int) -> float | None:
        """The most that a send which is not settled can cost, None where its price was unknown."""
        return self._account.worst_usd(n)

    def asked(self, n: int) -> dict[str, Any]:
        """The record of a send in a batch which is not settled: that of its call, and ``price``."""
        return self._read(self._account.offset(n))

    def sent(
        self,
        call: Call,
        *,
        n_try: int,
        worst_usd: float | None,
        part: str | None = None,
        price: Price | None = None,
    ) -> int:
        """Record that a call is about to go out; the number of the send.

        ``part``: of a batch; then the call and ``price`` are recorded too, since its result may come in a run that does
        not ask it.
        """
        row = {"event": "sent", "n": self.n_sent, "hash": call.hash, "key": call.key, "try": n_try}
        row["worst_usd"] = worst_usd
        if part is not None:
            row |= {**call.record, "part": part, "price": [price.usd_in, price.usd_out] if price else None}
        return int(self._append(row)["n"])

    def reply(self, n: int, asked: Mapping[str, Any], answer: Answer, *, usd: float | None) -> None:
        """Record an answer. It survives a kill at once, and a loss of power after :meth:`sync`.

        ``asked``: the record of the call, as it has it or as :meth:`asked` gives it.
        """
        record = {name: asked.get(name) for name in ("prompt_hash", "model_asked", "server", "sampling")}
        row = {"event": "reply", "n": n, "hash": asked["hash"], "key": asked["key"], **record}
        row |= {"model": answer.model, "fingerprint": answer.fingerprint, "usage": answer.usage, "usd": usd}
        row |= {"id": answer.id, "time": utc_now(), "finish_reason": answer.finish_reason}
        row |= {"unseen": True} if answer.is_unseen else {}
        self._append({**row, "fault": answer.fault, "detail": answer.detail, "text": answer.text})

    def failed(self, n: int, call_hash: str, *, detail: str, is_free: bool) -> None:
        """Record a send that brought no answer; it counts at its worst unless it surely cost nothing."""
        usd = 0.0 if is_free else self.worst_usd(n)
        self._append({"event": "failed", "n": n, "hash": call_hash, "usd": usd, "detail": detail})

    def gave_up(self, call: Call, failure: CallFailure) -> None:
        """Record that a call is not to be asked again by itself."""
        row = {"event": "gave_up", "hash": call.hash, "key": call.key}
        self._append({**row, "reason": failure.reason, "detail": failure.detail})

    def batch(self, part: str, stage: str, **fields: Any) -> None:
        """Record a step of a batch: "creating", "created", "merged"."""
        self._append({"event": "batch", "part": part, "stage": stage, **fields})
        self.sync()

    def sync(self) -> None:
        """Flush to disk."""
        if self._file is not None:
            self._file.sync()

    def _append(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._file is None:
            raise RuntimeError("the ledger is open for reading only")
        if self._file.size == 0:
            self._file.append({"schema": SCHEMA, "job": self.job, "id": self.id, "started": utc_now()})
        self._take(row, 0, self._file.append(row), self._account)
        return row

    def _load(self, path: Path) -> None:
        is_own = path == self.path
        index, account = (0, self._account) if is_own else (len(self._paths), Account())
        self._paths[index : index + 1] = [path]
        end = 0
        for number, offset, line in whole_lines(path):
            try:
                check_values(line, "[{,")
                row = json.loads(line)  # a reply may hold half of a character
                if number == 1:
                    self._check_header(path, row, is_own)
                else:
                    self._take(row, index, offset, account)
            except BROKEN as error:
                raise DataError(
                    f"Line {number} of {path} is broken: {type(error).__name__} {error}.",
                    "Restore the file, or take that line out: its call will be asked again.",
                ) from error
            end = offset + len(line)
        if is_own and self._file is not None:
            self._file.mend(end, json.dumps({"schema": SCHEMA}).encode()[:-1])
        for batch in () if is_own else account.batches.values():
            if batch.stage:  # else it was never made
                self._elsewhere |= dict.fromkeys(batch.sends, path)

    def _check_header(self, path: Path, row: Any, is_own: bool) -> None:
        found = row.get("schema")
        if found != SCHEMA:
            raise DataError(
                f'{path} has schema "{found}", not "{SCHEMA}".',
                "Keep other files out of the folder of ledgers.",
            )
        if is_own:
            self.id = row["id"]

    def _take(self, row: dict[str, Any], file: int, offset: int, account: Account) -> None:
        """Bring an event into the index and into the account of its job."""
        _check_event(row)
        event, place = row["event"], (file << _OFFSET_BITS) | offset
        if event == "reply" and row["fault"] is None:
            self._replies[int(row["hash"], 16)] = place
        elif event == "gave_up":
            self._gave_up[int(row["hash"], 16)] = place
        elif event not in ("sent", "failed", "reply", "batch"):
            raise ValueError(f'unknown event "{event}"')
        account.take(row, offset)

    def _read(self, place: int) -> dict[str, Any]:
        return read_line(self._paths[place >> _OFFSET_BITS], place & ((1 << _OFFSET_BITS) - 1))


def _check_event(row: Mapping[str, Any]) -> None:
    """Raise ValueError for money or numbers that no event has: a sum below zero would be taken from what was spent."""
    for name in ("usd", "worst_usd"):
        value = row.get(name)
        if value is not None and not (is_number(value) and value >= 0):
            raise ValueError(f"{name} is {str(value)[:40]}")
    for name in ("event", "hash", "part"):
        if not isinstance(row.get(name), str | None):
            raise TypeError(f"{name} is no text")
    if "n" in row and not (type(row["n"]) is int and row["n"] >= 0):
        raise ValueError(f"n is {str(row['n'])[:40]}")
