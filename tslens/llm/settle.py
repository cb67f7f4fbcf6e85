"""What an answer costs and whether it is of use: one rule for single calls and for batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tslens.llm.calls import FINAL, Call, CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.llm.prices import Price
from tslens.llm.wire import Answer


def take_answer(
    ledger: Ledger,
    n: int,
    asked: Mapping[str, Any],
    answer: Answer,
    *,
    price: Price | None,
) -> Reply | None:
    """Record an answer, which is paid for in any case; the reply, None if it is of no use.

    ``asked``: the record of the call. A server that names no usage, or one that cannot be, is taken to have used the
    worst case.
    """
    tokens = answer.tokens
    usd = None
    if price is not None:
        usd = price.of(*tokens) if tokens else ledger.worst_usd(n)
    ledger.reply(n, asked, answer, usd=usd)
    if answer.fault is not None:
        return None
    return Reply(
        key=asked["key"],
        text=answer.text,
        model=answer.model,
        fingerprint=answer.fingerprint,
        finish_reason=answer.finish_reason,
        prompt_tokens=tokens[0] if tokens else 0,
        completion_tokens=tokens[1] if tokens else 0,
        usd=usd,
        is_cached=False,
    )


def give_up(ledger: Ledger, call: Call, failure: CallFailure) -> CallFailure:
    """Record a failure that is final; one of the road or of the purse is not, and is asked again by a later run."""
    if failure.reason in FINAL:
        ledger.gave_up(call, failure)
    return failure


class Rejections:
    """Calls that the server called wrong. They are given up for good only once it has answered some call of this run.

    A server that answers none may be the one that is wrong: after it is mended, the next run asks them again.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: list[tuple[Call, CallFailure]] = []
        self.n_answers = 0  # of use or not: the server takes requests

    def answered(self) -> None:
        """The server answered a call."""
        self.n_answers += 1
        for call, failure in self._held:
            give_up(self._ledger, call, failure)
        self._held.clear()

    def add(self, call: Call, failure: CallFailure) -> CallFailure:
        """A call was rejected."""
        if self.n_answers:
            return give_up(self._ledger, call, failure)
        self._held.append((call, failure))
        return failure


def beyond_budget(call: Call, ledger: Ledger, budget_usd: float | None) -> CallFailure:
    """The failure of a call whose worst case does not fit."""
    spent = f"{ledger.known_usd:.4f} of {budget_usd or 0.0:g} USD are spent"
    return CallFailure(call.key, "budget", f"its worst case does not fit: {spent}")


def for_another(outcome: Reply | CallFailure, call: Call) -> Reply | CallFailure:
    """The outcome of an equal call, under this call's key; it costs nothing more."""
    if isinstance(outcome, Reply):
        return replace(outcome, key=call.key, usd=0.0, is_cached=True)
    return replace(outcome, key=call.key)
