"""What an answer costs and whether it is of use: one rule for single calls and for batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tslens.llm.calls import FINAL, Call, CallFailure, Reply
from tslens.llm.ledger import Ledger
from tslens.llm.prices import Price
from tslens.llm.redact import Redactor
from tslens.llm.wire import Answer


def take_answer(
    ledger: Ledger,
    n: int,
    call: Call,
    answer: Answer,
    *,
    price: Price | None,
    redact: Redactor,
) -> Reply | None:
    """Record an answer, which is paid for in any case; the reply, None if it is of no use.

    A server that names no usage is taken to have used the worst case. The key, where a server echoes it, is recorded
    nowhere.
    """
    answer = _without_key(answer, redact)
    tokens = answer.tokens
    usd = None
    if price is not None:
        usd = price.of(*tokens) if tokens else price.worst(call)
    ledger.reply(n, call, answer, usd=usd)
    if answer.fault is not None:
        return None
    return Reply(
        key=call.key,
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


def for_another(outcome: Reply | CallFailure, call: Call) -> Reply | CallFailure:
    """The outcome of an equal call, under this call's key; it costs nothing more."""
    if isinstance(outcome, Reply):
        return replace(outcome, key=call.key, usd=0.0, is_cached=True)
    return replace(outcome, key=call.key)


def _without_key(answer: Answer, redact: Redactor) -> Answer:
    def clean(value: Any) -> Any:
        return redact.exact(value) if isinstance(value, str) else value

    fields = {
        name: clean(getattr(answer, name))
        for name in ("id", "text", "model", "fingerprint", "finish_reason", "detail")
    }
    return replace(answer, **fields)
