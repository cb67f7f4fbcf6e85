"""What one job has sent and what it has paid, from the events of its ledger.

Spent is what is known to be paid and the worst case of all sends that nothing settles, so that it holds after a kill.
A send whose price was unknown makes it unknown, unless the send surely cost nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class OpenBatch:
    """A batch that is not merged. ``stage``: "" until it was about to be made. ``batch_id``: None if its creation was
    not recorded. ``server``: of its calls, None in ledgers that do not say. ``sends``: hash to number.
    """

    stage: str = ""
    batch_id: str | None = None
    server: str | None = None
    sends: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Send:
    worst_usd: float | None
    hash: str
    part: str | None
    offset: int


class Account:
    """Money, open sends and open batches of one job. ``faults``: paid answers of no use, of calls without an outcome.

    ``n_unpriced``: sends that may have been paid, nobody knows how much.
    """

    def __init__(self) -> None:
        self.n_sent = 0
        self.n_unpriced = 0
        self.batches: dict[str, OpenBatch] = {}
        self.faults: Counter[str] = Counter()
        self._paid_usd = 0.0
        self._open_usd = 0.0
        self._open: dict[int, _Send] = {}

    @property
    def known_usd(self) -> float:
        """USD of the sends with a price: paid, and the worst case of what is not settled."""
        return self._paid_usd + self._open_usd

    def worst_usd(self, n: int) -> float | None:
        """The most that a send which is not settled can cost, None where its price was unknown."""
        return self._open[n].worst_usd

    def offset(self, n: int) -> int:
        """Where the record of a send which is not settled stands."""
        return self._open[n].offset

    def take(self, row: dict[str, Any], offset: int) -> None:
        """Take an event that stands at an offset of the ledger."""
        event = row["event"]
        if event == "sent":
            self._send(row, offset)
        elif event in ("reply", "failed"):
            self._settle(row["n"], row["usd"])
        elif event == "batch":
            self._step(row)
        if event == "reply" and row["fault"] is not None:
            self.faults[row["hash"]] += 1
        elif event in ("reply", "gave_up"):
            self.faults.pop(row["hash"], None)

    def _send(self, row: dict[str, Any], offset: int) -> None:
        self.n_sent = row["n"] + 1
        send = _Send(row["worst_usd"], row["hash"], row.get("part"), offset)
        self._open[row["n"]] = send
        self._open_usd += send.worst_usd or 0.0
        self.n_unpriced += send.worst_usd is None
        if send.part:
            batch = self.batches.setdefault(send.part, OpenBatch(server=row.get("server")))
            batch.sends[send.hash] = row["n"]

    def _settle(self, n: int, usd: float | None) -> None:
        if (send := self._open.pop(n, None)) is not None:
            self._open_usd = self._open_usd - (send.worst_usd or 0.0) if self._open else 0.0
            self.n_unpriced -= send.worst_usd is None
            if send.part and send.part in self.batches:
                self.batches[send.part].sends.pop(send.hash, None)
        self._paid_usd += usd or 0.0
        self.n_unpriced += usd is None

    def _step(self, row: dict[str, Any]) -> None:
        if row["stage"] == "merged":
            self.batches.pop(row["part"], None)
            return
        batch = self.batches.setdefault(row["part"], OpenBatch())
        batch.stage, batch.batch_id = row["stage"], row.get("batch_id", batch.batch_id)
