"""What goes over the wire: request bodies in the words a server knows, and the answers that come back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from tslens.llm.calls import Call, Reason
from tslens.llm.schema import bare_json, misfit, strict_schema

if TYPE_CHECKING:
    from pydantic import BaseModel

Limit = Literal["max_tokens", "max_completion_tokens"]

_TYPES = {"schema": "json_schema", "object": "json_object"}
_UNKNOWN = re.compile(r"unsupported|not supported|unknown|unrecognized|unexpected|extra|not permitted", re.I)
_UNHOLDABLE = re.compile("[\x00\ud800-\udfff]")  # a lone half of a pair: no file in UTF-8 holds it
_MOST_COUNT = 1e12  # tokens that a server can mean
_ASK = "Answer with one JSON object and nothing else. It must fit this JSON schema:\n"


@dataclass
class Dialect:
    """What a server understands. It starts at the best guess and is corrected by what the server rejects.

    ``json``: "schema" (``json_schema``, strict), "object" (``json_object``, the schema in the prompt), "prompt" (the
    schema in the prompt alone). ``limit``: name of the limit of tokens: newer models of OpenAI refuse ``max_tokens``,
    older servers know no other.
    """

    json: Literal["schema", "object", "prompt"] = "schema"
    limit: Limit = "max_tokens"
    is_limit_corrected: bool = False

    def body(self, call: Call) -> dict[str, Any]:
        """The JSON body of a call."""
        messages = [{"role": role, "content": text} for role, text in call.messages]
        body: dict[str, Any] = {"model": call.model, "messages": messages}
        body |= {"temperature": call.temperature, self.limit: call.max_tokens}
        if call.seed is not None:
            body["seed"] = call.seed
        if call.answer is None:
            return body
        if self.json == "schema":
            schema = {"name": call.answer.__name__, "schema": strict_schema(call.answer), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
            return body
        if self.json == "object":
            body["response_format"] = {"type": "json_object"}
        ask = _ASK + schema_text(call.answer)
        if messages and messages[0]["role"] == "system":
            messages[0]["content"] += "\n\n" + ask
        else:
            messages.insert(0, {"role": "system", "content": ask})
        return body

    def adapt(self, sent: Mapping[str, Any], complaint: str) -> bool:
        """Learn from a request that was rejected; True if it is worth sending in other words.

        ``sent``: the body. ``complaint``: what the server said. A call that was sent before another one taught the
        lesson is sent again as well.
        """
        if (
            "invalid schema" in complaint.lower()
        ):  # the server knows schemas; ours is wrong, and hiding it helps nobody
            return False
        if "response_format" in complaint or "json_schema" in complaint:
            asked = sent.get("response_format", {}).get("type")
            if asked == "json_schema" and self.json == "schema":
                self.json = "object"
            elif asked == "json_object" and self.json == "object":
                self.json = "prompt"
            return asked is not None and asked != _TYPES.get(self.json)
        limit: Limit = "max_tokens" if "max_tokens" in sent else "max_completion_tokens"
        if limit in complaint and _UNKNOWN.search(complaint):
            if limit == self.limit and not self.is_limit_corrected:
                self.limit = "max_completion_tokens" if limit == "max_tokens" else "max_tokens"
                self.is_limit_corrected = True
            return limit != self.limit
        return False


@cache
def schema_text(answer: type[BaseModel]) -> str:
    """The schema as text."""
    return json.dumps(strict_schema(answer), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Answer:
    """What a server answered, read but not yet accepted.

    ``fault``: why it is no answer to its call, None if it is one; ``detail`` says more. ``usage``: as the server gave
    it; without one the tokens are None. ``is_unseen``: its call was not at hand, so it is judged when it is found.
    """

    id: str
    text: str
    model: str
    fingerprint: str | None
    finish_reason: str
    usage: Mapping[str, Any] | None
    fault: Reason | None
    detail: str
    is_unseen: bool = False

    @property
    def tokens(self) -> tuple[int, int] | None:
        """Tokens of prompt and of completion; None where the server does not say, or says what cannot be.

        A prompt has tokens, and so has a text: a server that counts none does not count.
        """
        usage = self.usage or {}
        n_in, n_out = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(n_in, int) or not isinstance(n_out, int) or min(n_in, n_out) < 0:
            return None
        if n_in == 0 or (n_out == 0 and self.text):
            return None
        return n_in, n_out


def read_answer(call: Call | None, body: Any) -> Answer | None:
    """Read the body of a chat completion; None if it is none (cut on the way, another page).

    ``call``: None if it is not at hand (a batch of an earlier run): read as plain text, and judged when it is found.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish_reason = word(choice.get("finish_reason")) or "stop"
        name = word(body.get("id"))
        model, fingerprint = word(body.get("model")), word(body.get("system_fingerprint")) or None
        usage = body.get("usage")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if not isinstance(text, str | None) or not isinstance(usage, dict | None):
        return None
    usage = _counts(usage) if usage is not None else None
    kept, fault, detail = judge(call, text, refusal, finish_reason)
    kept = kept.encode("utf-8", "replace").decode()  # of no use if that changes it, but recorded
    return Answer(name, kept, model, fingerprint, finish_reason, usage, fault, detail, is_unseen=call is None)


def word(value: Any, most: int = 200) -> str:
    """A name that a server gives, short and printable; "" for what is none (a number that long may be a key)."""
    if not (isinstance(value, str) or (isinstance(value, int) and abs(value) < _MOST_COUNT)):
        return ""
    line = " ".join(str(value)[:most].split())
    return "".join(c if c.isprintable() else "?" for c in line)


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object as it is, an empty one for all else."""
    return value if isinstance(value, dict) else {}


def _counts(usage: Mapping[str, Any], levels: int = 2) -> dict[str, Any] | None:
    """The numbers of a usage, those of its parts as well; None if it is none."""
    if len(usage) > 50:
        return None
    return {
        word(name): _counts(value, levels - 1) if isinstance(value, dict) else value
        for name, value in usage.items()
        if (levels > 1 if isinstance(value, dict) else _is_count(value))
    }


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and abs(value) < _MOST_COUNT)


def judge(
    call: Call | None, text: str | None, refusal: Any, finish_reason: str
) -> tuple[str, Reason | None, str]:
    """The text of an answer as its call wants it, why it is of no use (None: it is), and what was seen."""
    text = text or ""
    form = call.answer if call is not None else None
    if refusal:
        return text, "refusal", word(refusal, most=500) or "in no words"
    if finish_reason == "content_filter":
        return text, "filtered", "the server's filter held the answer back"
    if finish_reason == "length" and (form is not None or not text.strip()):
        return text, "cut", "the answer was cut at the limit of tokens"
    if not text.strip():
        return text, "schema", "the answer is empty"
    if _UNHOLDABLE.search(text):
        return text, "schema", "the answer holds characters that no text holds"
    if form is None:
        return text, None, ""
    wrong = misfit(form, bare_json(text))
    return (text, "schema", wrong) if wrong else (bare_json(text), None, "")
