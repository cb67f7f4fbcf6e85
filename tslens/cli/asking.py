"""What commands share that ask a large model: the job, its price, its progress, what it would cost."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tslens.cli.console import progress_bar, say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.llm.calls import Call, CallFailure
    from tslens.llm.client import Client, Tally

LEDGERS = Path("runs/.ledger")
_POLL_SECONDS = 30.0
_MOST_NAMED = 5  # models and fingerprints that a warning names


@dataclass(frozen=True)
class Terms:
    """How and for what a model is asked, as the options of a command say."""

    model: str
    base_url: str | None
    budget: float | None
    price: str | None
    concurrency: int
    timeout: float
    ledger: Path
    retry_failed: bool
    batch: bool
    poll: float | None


def job_name(out: Path) -> str:
    """Name of the job that writes a file: the same for the same file, so that it goes on where it stopped."""
    stem = re.sub(r"[^\w-]", "_", out.name.split(".")[0]) or "job"
    digest = hashlib.blake2b(str(out.resolve()).encode(), digest_size=4).hexdigest()
    return f"{stem}-{digest}"


@contextmanager
def open_client(terms: Terms, out: Path, *, read_only: bool = False) -> Iterator[Client]:
    """The client of a job, its ledger open. ``read_only``: to look at what it would cost."""
    from tslens.errors import UsageError
    from tslens.llm.client import Client
    from tslens.llm.ledger import Ledger
    from tslens.llm.prices import read_price

    price = read_price(terms.model, terms.price)
    if terms.poll is not None and not terms.batch:
        raise UsageError("--poll is for batches.", "Add --batch, or leave --poll out.")
    with Ledger(terms.ledger, job_name(out), read_only=read_only) as ledger:
        if price is None and not read_only:
            say(
                f"warning: the price of {terms.model} is not known, so what is spent is not; --price IN,OUT tells it."
            )
        yield Client(
            ledger,
            price=price,
            base_url=terms.base_url,
            budget_usd=terms.budget,
            concurrency=terms.concurrency,
            timeout_s=terms.timeout,
            retry_failed=terms.retry_failed,
        )


def answer_all(
    client: Client, calls: Iterable[Call], terms: Terms, *, total: int | None
) -> list[CallFailure]:
    """Have all calls answered; the replies are in the ledger. Failures come back, those it does not keep among them."""
    from tslens.llm.batch import answer_batch
    from tslens.llm.calls import CallFailure

    with progress_bar("asking", total) as (bar, task):

        def tell(tally: Tally) -> None:
            done = tally.n_replies + tally.n_cached + tally.n_failed
            known = f", {tally.n_cached} known" if tally.n_cached else ""
            failed = f", {tally.n_failed} failed" if tally.n_failed else ""
            bar.update(task, completed=done, note=f"{done}{known}{failed}, {usd(tally.spent_usd)}")

        if terms.batch:
            poll_s = _POLL_SECONDS if terms.poll is None else terms.poll
            answered = answer_batch(client, calls, poll_s=poll_s, progress=tell)
        else:
            answered = client.answer(calls, progress=tell)
        n_known = len(client.answerers)
        try:
            return [outcome for outcome in answered if isinstance(outcome, CallFailure)]
        except KeyboardInterrupt:
            say(
                "Stopped: the replies so far are kept (not those under way), and the same command goes on from here."
            )
            raise typer.Exit(3) from None
        finally:
            if len(client.answerers) > max(1, n_known):
                say(_changed(client.answerers))


def _changed(answerers: Counter[tuple[str, str | None]]) -> str:
    """The warning that not all replies are of one model with one fingerprint."""
    most = answerers.most_common(_MOST_NAMED)
    named = [
        f"{n:,} of {model or 'no name'} ({fingerprint or 'no fingerprint'})"
        for (model, fingerprint), n in most
    ]
    more = f", and {len(answerers) - len(most):,} more" if len(answerers) > len(most) else ""
    return f"warning: the server changed in the course of the job; replies: {', '.join(named)}{more}."


def show_estimate(calls: Iterable[Call], first: Call, terms: Terms, out: Path, *, as_json: bool) -> None:
    """What --dry-run says: how many calls, what they would cost, and the first prompt."""
    from tslens.llm.estimate import estimate

    with open_client(terms, out, read_only=True) as client:
        charged = client.price.in_batch() if client.price and terms.batch else client.price
        found = estimate(calls, charged, client.ledger, retry_failed=terms.retry_failed)
        spent = client.ledger.spent_usd
    to_ask = found.n_calls - found.n_answered - found.n_repeated
    facts = {
        "calls": found.n_calls,
        "answered_before": found.n_answered,
        "to_ask": to_ask,
        "spent_usd": spent,
        "worst_usd": found.worst_usd,
        "expected_usd": found.expected_usd,
        "price": None if charged is None else charged.source,
    }
    if as_json:
        show_json(
            {"schema": "tslens.dry_run/1", "model": terms.model, **facts, "first": first.messages[-1][1]}
        )
        return
    show(f"The first of {found.n_calls} calls to {terms.model} would say:\n\n{first.messages[-1][1]}\n")
    show_table(["<counted>", "<value>"], [[name.replace("_", " "), _shown(v)] for name, v in facts.items()])
    show("Nothing was sent. Each call is counted once; what has to be asked again comes on top.")
    if (
        terms.budget is not None
        and found.worst_usd is not None
        and (spent or 0) + found.worst_usd > terms.budget
    ):
        show(f"A budget of {terms.budget:g} USD may end before the last call: the worst case is above it.")


def usd(value: float | None) -> str:
    """Money as a progress bar shows it."""
    return "$?" if value is None else f"${value:.4f}"


def _shown(value: float | str | None) -> str:
    if value is None:
        return "unknown: give --price IN,OUT"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
