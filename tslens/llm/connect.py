"""The connection to a server: the only module that imports ``openai``; its exceptions become plain records.

The library's own retries are off: what a failed send may have cost is known here only.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from tslens.errors import RunError, UsageError
from tslens.llm.address import check_address, check_may_be_asked
from tslens.llm.redact import KEY_VARIABLE, NO_KEY, Redactor, check_key

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_WAIT_S = 900.0  # a server that asks for more is not waited for
_OPENAI = "api.openai.com"

Kind = Literal["busy", "lost", "refused_connection", "rejected", "fatal"]


@dataclass(frozen=True)
class Failed:
    """One send that brought no answer.

    ``kind``: "busy" (429, 503: come again), "lost" (500, reset, silence, an answer cut on the way),
    "refused_connection" (nothing was sent), "rejected" (400: this request is wrong), "fatal" (no request will pass).
    ``is_free``: surely not paid. ``wait_s``: what the server asks to wait.
    """

    kind: Kind
    detail: str
    is_free: bool
    wait_s: float = 0.0
    is_timeout: bool = False


@dataclass(frozen=True)
class Server:
    """Where calls go, with whose key (never shown), and how long to wait for an answer in seconds."""

    base_url: str | None
    key: str
    timeout_s: float
    redact: Redactor

    def __repr__(self) -> str:
        return f"Server({self.name})"

    @property
    def name(self) -> str:
        """For messages, without a password."""
        return _plain_address(self.base_url) or "OpenAI"

    def open_async(self) -> AsyncOpenAI:
        """A connection to this server alone (see ``transport``); organization and project are told to OpenAI only."""
        from openai import AsyncOpenAI, Timeout

        from tslens.llm.transport import open_http

        timeout = Timeout(self.timeout_s, connect=min(10.0, self.timeout_s))
        connection = AsyncOpenAI(
            api_key=self.key,
            base_url=self.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=open_http(self.base_url, timeout),
        )
        if _plain_address(self.base_url):
            connection.organization = connection.project = None
        return connection

    async def send(self, connection: AsyncOpenAI, body: Mapping[str, Any]) -> Any | Failed:
        """Send one chat completion; the JSON that came back, or how it failed.

        The time-out is over the whole answer: a server that sends a byte now and then is cut off as well.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                raw = await connection.chat.completions.with_raw_response.create(**body)
        except Exception as error:
            return self.explain(error)
        return self.read(raw)

    def read(self, raw: Any) -> Any | Failed:
        """The JSON of an answer. No key is in it from here on: what follows may cut, record and show it."""
        return self.redact.json(read_json_body(raw.content, raw.headers.get("content-type", "")))

    def explain(self, error: Exception) -> Failed:
        """What an exception of the library means. Raises it again if it is none of a send.

        The exception has the server's own words: they are cleaned whole, then cut.
        """
        import httpx2
        import openai

        from tslens.llm.transport import Redirected

        if isinstance(error, TimeoutError | openai.APITimeoutError):
            is_free = isinstance(error.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
            return Failed("lost", f"no answer in {self.timeout_s:g} s", is_free, is_timeout=True)
        if isinstance(error, openai.APIStatusError):
            return self._explain_status(error)
        if isinstance(error, openai.APIConnectionError | httpx2.RequestError | ssl.SSLError):
            cause = error.__cause__ if isinstance(error, openai.APIConnectionError) else error
            cause = cause or error
            detail = self.redact(f"{type(cause).__name__}: {str(cause) or 'the connection broke'}")[:300]
            if isinstance(cause, Redirected):
                why = "(not followed, so that no key goes there; name that address if it is meant)"
                return Failed("fatal", f"{self.redact(str(cause))[:300]} {why}", is_free=True)
            if isinstance(cause, httpx2.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in detail:
                return Failed("fatal", detail, is_free=True)
            if isinstance(cause, httpx2.ConnectError):
                return Failed("refused_connection", detail, is_free=True)
            if isinstance(cause, httpx2.LocalProtocolError | httpx2.ProxyError):
                return Failed("fatal", detail, is_free=True)
            return Failed("lost", detail, is_free=False)
        raise error

    def _explain_status(self, error: Any) -> Failed:
        status, code = error.status_code, error.code or ""
        detail = self.redact(f"{status} {error.message}")[:500]
        wait_s = asked_wait(error.response.headers)
        if wait_s > MAX_WAIT_S:
            detail += f" (it asks to wait {wait_s:.0f} s, and more than {MAX_WAIT_S:.0f} s is not waited)"
        if status == 429 and code in ("insufficient_quota", "billing_hard_limit_reached"):
            return Failed("fatal", detail, is_free=True)
        if status in (429, 503):
            too_long = wait_s > MAX_WAIT_S
            return Failed("fatal" if too_long else "busy", detail, status == 429, wait_s)
        if status >= 500 or status in (408, 409):
            return Failed("lost", detail, is_free=False, wait_s=min(wait_s, MAX_WAIT_S))
        return Failed("rejected" if status in (400, 413, 422) else "fatal", detail, is_free=True)


def read_json_body(content: bytes, content_type: str) -> Any | Failed:
    """The JSON of a body. A page of HTML means a wrong address, anything else was cut on the way."""
    if "html" in content_type:
        return Failed("fatal", "a web page came back, not a chat completion", is_free=True)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return Failed("lost", f"the answer is no whole JSON ({len(content)} bytes)", is_free=False)


def asked_wait(headers: Mapping[str, str], now: float | None = None) -> float:
    """Seconds that a server asks to wait: ``retry-after-ms``, or ``Retry-After`` in seconds or as a date; else 0."""
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(given).timestamp()
        except (TypeError, ValueError, OverflowError, OSError):
            return 0.0
        seconds = moment - (time.time() if now is None else now)
    return max(0.0, seconds) if seconds == seconds else 0.0


def server_name(base_url: str | None) -> str:
    """Who is asked, for ``Call.server``: "" is OpenAI itself, else the address without password, query and last slash.

    None reads ``$OPENAI_BASE_URL``, as :func:`find_server` does. Raises UsageError for an address that is none.
    """
    base_url = meant_address(base_url)
    check_address(base_url)
    return _plain_address(base_url)


def find_server(base_url: str | None, timeout_s: float) -> Server:
    """The server that is meant and its key from the environment.

    Raises UsageError where OpenAI itself is meant and there is no key (a server of one's own may need none), and for an
    address that may not be asked (``address``).
    """
    base_url = meant_address(base_url)
    check_may_be_asked(base_url)
    key = check_key(os.environ.get(KEY_VARIABLE, "").strip())
    if not key and not _plain_address(base_url):
        raise UsageError(
            f"There is no key for OpenAI: the environment has no {KEY_VARIABLE}.",
            f"Set it (export {KEY_VARIABLE}=...), or name another server with --base-url.",
        )
    return Server(base_url, key or NO_KEY, timeout_s, Redactor(key, *_secrets(base_url)))


def _secrets(base_url: str | None) -> list[str]:
    """What an address lets in with: the password (a user without one is a token), and both as a header has them."""
    parts = urlsplit(base_url or "")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user and not password:
        return []
    header = base64.b64encode(f"{user}:{password}".encode()).decode().rstrip("=")
    return [password or user, header]


def meant_address(base_url: str | None) -> str | None:
    """The base address that is meant: the one given, else ``$OPENAI_BASE_URL``; None is OpenAI itself."""
    return base_url or os.environ.get("OPENAI_BASE_URL") or None


def _plain_address(base_url: str | None) -> str:
    parts = urlsplit(base_url or "")
    host = parts.netloc.rpartition("@")[2].lower()
    return "" if host in ("", _OPENAI) else f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def stopped(server: Server, detail: str) -> RunError:
    """The error that ends a job of which no call can pass."""
    return RunError(
        f"{server.name} takes no calls: {server.redact(detail).rstrip('. ')}.",
        f"Check {KEY_VARIABLE}, --base-url and the model; what is recorded stays, and the same command resumes.",
    )
