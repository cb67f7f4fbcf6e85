"""What a job would cost, before it is sent: for --dry-run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tslens.llm.calls import Call, CallFailure
from tslens.llm.ledger import Ledger
from tslens.llm.prices import Price, prompt_bytes

BYTES_PER_TOKEN = 4  # of English text, roughly
REPLY_SHARE = 0.5  # of its longest, that a reply takes, roughly


@dataclass(frozen=True)
class Estimate:
    """Calls of a job and what they would cost.

    ``n_calls``: all. ``n_answered``: of them settled in the ledger, free: answered, or given up and not to be asked
    again. ``n_repeated``: of them equal to an earlier one of the job, free as well. ``worst_usd``: no try of a call can
    cost more, and each call is tried once; tries that fail come on top, within the budget. ``expected_usd``: a guess,
    at 4 bytes a token and replies of half their longest. Both None where no price is known.
    """

    n_calls: int
    n_answered: int
    n_repeated: int
    worst_usd: float | None
    expected_usd: float | None


def estimate(
    calls: Iterable[Call],
    price: Price | None,
    ledger: Ledger | None = None,
    *,
    retry_failed: bool = False,
) -> Estimate:
    """Count the calls of a job and what those without an answer would cost. Nothing is sent or written.

    ``retry_failed``: what an earlier run gave up is to be asked again, as in ``Client``.
    """
    n_calls = n_answered = n_repeated = 0
    worst_usd = expected_usd = 0.0
    seen: set[int] = set()
    for call in calls:
        n_calls += 1
        name = int(call.hash, 16)
        found = ledger.find(call) if ledger is not None else None
        if found is not None and not (retry_failed and isinstance(found, CallFailure)):
            n_answered += 1
        elif name in seen:
            n_repeated += 1
        else:
            seen.add(name)
            if price is not None:
                worst_usd += price.worst(call)
                prompt_tokens = prompt_bytes(call) // BYTES_PER_TOKEN
                expected_usd += price.of(prompt_tokens, int(call.max_tokens * REPLY_SHARE))
    known = price is not None
    return Estimate(
        n_calls, n_answered, n_repeated, worst_usd if known else None, expected_usd if known else None
    )
