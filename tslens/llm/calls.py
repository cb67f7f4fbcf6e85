"""What is asked of a model and what comes of it: calls, replies, failures."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

Reason = Literal["refusal", "cut", "schema", "filtered", "rejected", "unreachable", "budget"]

# A later run does not ask these again by itself: the model or the server has spoken.
FINAL: frozenset[str] = frozenset({"refusal", "cut", "schema", "filtered", "rejected"})


@dataclass(frozen=True)
class Call:
    """All that decides a reply, and the caller's name for it.

    ``key``: unique in a job ("story-000012"), no part of the hash. ``messages``: (role, text). ``max_tokens``: of the
    reply. ``seed``: the server's, which promises nothing by it. ``answer``: pydantic model that the reply must fit
    (structured output); None: plain text. ``sample``: tells apart calls that ask the same again.
    ``server``: who is asked, as ``connect.server_name`` gives it; "" is OpenAI itself.
    """

    key: str
    messages: tuple[tuple[str, str], ...]
    model: str
    temperature: float
    max_tokens: int
    seed: int | None = None
    answer: type[BaseModel] | None = None
    sample: int = 0
    server: str = ""

    @cached_property
    def hash(self) -> str:
        """Name of the call in ledgers: 32 hexadecimal digits over all but the key, server and schema included."""
        from tslens.llm.schema import strict_schema

        schema = strict_schema(self.answer) if self.answer else None
        return digest([self.messages, self.model, self.sampling, schema, self.server])

    @property
    def prompt_hash(self) -> str:
        """Hash of the messages alone."""
        return digest(self.messages)

    @property
    def record(self) -> dict[str, Any]:
        """What a ledger keeps of the call: all but the prompt."""
        return {
            "hash": self.hash,
            "key": self.key,
            "prompt_hash": self.prompt_hash,
            "model_asked": self.model,
            "server": self.server,
            "sampling": self.sampling,
        }

    @property
    def sampling(self) -> dict[str, Any]:
        """How the reply is drawn, as a ledger records it."""
        return {
            "temperature": float(self.temperature),
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "sample": self.sample,
        }


@dataclass(frozen=True)
class Reply:
    """One answer, which fits the schema of its call where that has one.

    ``model``: as the server names it. ``fingerprint``: of the server's configuration, None where it gives none.
    ``finish_reason``: "stop", or "length" for plain text that was cut. ``usd``: what this call cost now: 0 if
    ``is_cached``, None where no price is known.
    """

    key: str
    text: str
    model: str
    fingerprint: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    is_cached: bool


@dataclass(frozen=True)
class CallFailure:
    """A call that has no answer, and why; ``reason`` is one of ``Reason``, ``detail`` what was seen.

    "refusal", "cut", "schema", "filtered": what the model gave to the last try. "rejected": the server called the
    request wrong. "unreachable": no whole answer arrived. "budget": its worst case did not fit.
    """

    key: str
    reason: Reason
    detail: str


Outcome = Reply | CallFailure


def digest(value: Any) -> str:
    """32 hexadecimal digits over the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
