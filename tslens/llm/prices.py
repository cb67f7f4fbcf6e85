"""What tokens cost: the table of ``assets/prices.toml``, or the user's own price."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tslens.errors import UsageError
from tslens.llm.calls import Call

BATCH_SHARE = 0.5  # batches cost half


@dataclass(frozen=True)
class Price:
    """USD per million tokens, and where the figures come from.

    Cheaper tokens (of prompts that the provider has cached) are counted at the full price.
    """

    usd_in: float
    usd_out: float
    source: str

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """USD of one answer."""
        return (prompt_tokens * self.usd_in + completion_tokens * self.usd_out) / 1e6

    def in_batch(self) -> Price:
        """The price of the same tokens in a batch."""
        return Price(self.usd_in * BATCH_SHARE, self.usd_out * BATCH_SHARE, f"{self.source}, batch")

    def worst(self, call: Call) -> float:
        """The most that one try of a call can cost: longest reply, and a token for every byte of the prompt."""
        return self.of(most_prompt_tokens(call), call.max_tokens)


def prompt_bytes(call: Call) -> int:
    """UTF-8 bytes of all that the model reads, the schema included."""
    from tslens.llm.wire import schema_text

    n_bytes = sum(len(role) + len(text.encode()) for role, text in call.messages)
    return n_bytes + (len(schema_text(call.answer).encode()) if call.answer else 0)


def most_prompt_tokens(call: Call) -> int:
    """An upper bound of the tokens of a prompt, without its tokenizer.

    No token of a byte-level vocabulary is shorter than a byte; 16 more for the frame of each message, 160 for
    that of the reply and of a schema.
    """
    return prompt_bytes(call) + 16 * len(call.messages) + 160


def read_price(model: str, given: str | None = None) -> Price | None:
    """The price of a model: ``given`` ("IN,OUT" in USD per million tokens), else of the table, else None.

    A dated name ("gpt-4o-2024-08-06") takes the price of its family. Raises UsageError if ``given`` is no price.
    """
    if given is not None:
        return _parse(given)
    table = price_table()
    family = next((name for name in (model, _undated(model)) if name in table["models"]), None)
    if family is None:
        return None
    usd_in, usd_out = table["models"][family]
    return Price(usd_in, usd_out, f"price of {table['date']}, check the provider's page")


@cache
def price_table() -> dict[str, Any]:
    """``date``, ``source`` and ``models``: name to USD per million tokens of input and of output."""
    text = resources.files("tslens").joinpath("assets/prices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _undated(model: str) -> str:
    """The family of a dated name."""
    head, *date = model.rsplit("-", 3)
    is_date = len(date) == 3 and all(part.isdecimal() for part in date) and len(date[0]) == 4
    return head if is_date else model


def _parse(given: str) -> Price:
    try:
        usd_in, usd_out = (float(part) for part in given.split(","))
    except ValueError:
        usd_in = usd_out = math.nan
    if not (math.isfinite(usd_in) and math.isfinite(usd_out) and usd_in >= 0 and usd_out >= 0):
        raise UsageError(
            f'"{given}" is no price.', "Write USD per million tokens of input and of output, as in 0.15,0.6."
        )
    return Price(usd_in, usd_out, "price as given")
