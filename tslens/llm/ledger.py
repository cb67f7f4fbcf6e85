"""The ledger: every call of a job in one append-only file, which is also the cache and the purse.

``FOLDER/JOB.jsonl`` (schema ``tslens.ledger/1``) takes one line for each event, by one write each:

1. ``sent``, before a call goes out, with the most it can cost;
2. ``reply``, an answer, paid, with its text, flushed to disk; with a ``fault`` where it is none of use (a refusal);
3. ``failed``, a send without an answer, with what it must be taken to have cost;
4. ``gave_up``, a call that is not asked again by itself; ``batch``, a step of a batch.

Spent is what is known to be paid and the worst case of all sends that nothing settles, so that it holds after a kill.
A line that a kill cut off is removed on opening; what it would have said was not yet done, or counts as unsettled.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tslens.errors import DataError, UsageError
from tslens.llm.append_file import AppendFile, read_line, whole_lines
from tslens.llm.calls import Call, CallFailure, Outcome, Reply
from tslens.llm.wire import Answer
from tslens.provenance import utc_now

SCHEMA = "tslens.ledger/1"
_OFFSET_BITS = 44  # a place is (file << 44) | offset: one small number for each reply


@dataclass
class OpenBatch:
    """A batch that is not merged. ``batch_id``: None if its creation was not recorded. ``sends``: hash to number."""

    stage: str = ""
    batch_id: str | None = None
    sends: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Open:
    worst_usd: float
    hash: str
    part: str | None


class Ledger:
    """One job's record, and the replies of all jobs in the folder.

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
        self.batches: dict[str, OpenBatch] = {}
        self.faults: Counter[str] = Counter()  # paid answers of no use, of calls that are not settled
        self._readers = [-1]  # descriptors for reading, that of the own file first
        self.n_sent = 0
        self._paid_usd = 0.0
        self._open_usd = 0.0
        self._open: dict[int, _Open] = {}
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
        """Let go of the files and the lock."""
        for descriptor in self._readers:
            if descriptor >= 0:
                os.close(descriptor)
        self._readers = [-1]
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def spent_usd(self) -> float:
        """USD of this job so far: paid, and the worst case of what is not settled."""
        return self._paid_usd + self._open_usd

    @property
    def n_replies(self) -> int:
        """Answers at hand, of all jobs in the folder."""
        return len(self._replies)

    def find(self, call: Call) -> Outcome | None:
        """What is recorded for a call: its reply (free now), that it was given up, or None."""
        name = int(call.hash, 16)
        if (place := self._replies.get(name)) is not None:
            row = self._read(place)
            tokens = row["usage"] or {}
            return Reply(
                key=call.key,
                text=row["text"],
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

    def is_settled(self, call: Call) -> bool:
        """Whether :meth:`find` gives anything, without reading it."""
        name = int(call.hash, 16)
        return name in self._replies or name in self._gave_up

    def is_in_batch(self, call: Call) -> bool:
        """Whether a batch that is not merged holds the call."""
        return any(batch.stage and call.hash in batch.sends for batch in self.batches.values())

    def sent(self, call: Call, *, n_try: int, worst_usd: float | None, part: str | None = None) -> int:
        """Record that a call is about to go out; the number of the send."""
        row = {"event": "sent", "n": self.n_sent, "hash": call.hash, "key": call.key, "try": n_try}
        return int(self._append({**row, "worst_usd": worst_usd, **({"part": part} if part else {})})["n"])

    def reply(self, n: int, call: Call, answer: Answer, *, usd: float | None) -> None:
        """Record an answer. It survives a kill at once, and a loss of power after :meth:`sync`."""
        row = {"event": "reply", "n": n, "hash": call.hash, "key": call.key, "prompt_hash": call.prompt_hash}
        row |= {"model_asked": call.model, "model": answer.model, "fingerprint": answer.fingerprint}
        row |= {
            "sampling": call.sampling,
            "usage": answer.usage,
            "usd": usd,
            "id": answer.id,
            "time": utc_now(),
        }
        row |= {"finish_reason": answer.finish_reason, "fault": answer.fault, "detail": answer.detail}
        self._append({**row, "text": answer.text})

    def failed(self, n: int, call_hash: str, *, detail: str, usd: float | None) -> None:
        """Record a send that brought no answer. ``usd``: the worst case unless it surely cost nothing."""
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
        offset = self._file.append(row)
        if self._readers[0] < 0:
            self._readers[0] = os.open(self.path, os.O_RDONLY)
        self._take(row, 0, offset, is_own=True)
        return row

    def _load(self, path: Path) -> None:
        is_own = path == self.path
        descriptor = os.open(path, os.O_RDONLY)
        index = 0 if is_own else len(self._readers)
        self._readers[index : index + 1] = [descriptor]
        end = 0
        for number, offset, line in whole_lines(path):
            try:
                row = json.loads(line)
                if number == 1:
                    self._check_header(path, row, is_own)
                else:
                    self._take(row, index, offset, is_own=is_own)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"Line {number} of {path} is broken: {type(error).__name__} {error}.",
                    "Restore the file, or take that line out: its call will be asked again.",
                ) from error
            end = offset + len(line)
        if is_own and self._file is not None:
            self._file.mend(end)

    def _check_header(self, path: Path, row: Any, is_own: bool) -> None:
        found = row.get("schema")
        if found != SCHEMA:
            raise DataError(
                f'{path} has schema "{found}", not "{SCHEMA}".',
                "Keep other files out of the folder of ledgers.",
            )
        if is_own:
            self.id = row["id"]

    def _take(self, row: dict[str, Any], file: int, offset: int, *, is_own: bool) -> None:
        """Bring an event into the index; money, sends and batches are those of the own job."""
        event, place = row["event"], (file << _OFFSET_BITS) | offset
        if event == "reply" and row["fault"] is None:
            self._replies[int(row["hash"], 16)] = place
        elif event == "gave_up":
            self._gave_up[int(row["hash"], 16)] = place
        elif event not in ("sent", "failed", "reply", "batch"):
            raise ValueError(f'unknown event "{event}"')
        if not is_own:
            return
        if event == "sent":
            self.n_sent = row["n"] + 1
            send = _Open(row["worst_usd"] or 0.0, row["hash"], row.get("part"))
            self._open[row["n"]] = send
            self._open_usd += send.worst_usd
            if send.part:
                self.batches.setdefault(send.part, OpenBatch()).sends[send.hash] = row["n"]
        elif event in ("reply", "failed"):
            self._settle(row["n"], row["usd"] or 0.0)
        if event == "reply" and row["fault"] is not None:
            self.faults[row["hash"]] += 1
        elif event in ("reply", "gave_up"):
            self.faults.pop(row["hash"], None)
        if event == "batch":
            self._take_batch(row)

    def _settle(self, n: int, usd: float) -> None:
        self._paid_usd += usd
        send = self._open.pop(n, None)
        if send is None:
            return
        self._open_usd = self._open_usd - send.worst_usd if self._open else 0.0
        if send.part and send.part in self.batches:
            self.batches[send.part].sends.pop(send.hash, None)

    def _take_batch(self, row: dict[str, Any]) -> None:
        if row["stage"] == "merged":
            self.batches.pop(row["part"], None)
            return
        batch = self.batches.setdefault(row["part"], OpenBatch())
        batch.stage, batch.batch_id = row["stage"], row.get("batch_id", batch.batch_id)

    def _read(self, place: int) -> dict[str, Any]:
        return read_line(self._readers[place >> _OFFSET_BITS], place & ((1 << _OFFSET_BITS) - 1))
