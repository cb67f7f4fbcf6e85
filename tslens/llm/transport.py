"""The road to a server, for which no server is trusted.

1. A redirect is not followed: key and prompt go to the address that was named, and nowhere else.
2. An answer that is read whole is read up to ``MOST_BYTES``, counted after it is decompressed.
3. A proxy of the environment is used for https alone, where it sees no more than the name of the server. Plain http,
   so this machine as well, is asked without one.
"""

from __future__ import annotations

import urllib.request
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import httpx2

from tslens.errors import UsageError
from tslens.llm.address import is_loopback

MOST_BYTES = 4_000_000  # of one answer; one of 1,000 tokens has a few thousand
_LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=100)


class TooLong(httpx2.TransportError):
    """An answer of more than ``MOST_BYTES``."""


class Redirected(httpx2.TransportError):
    """An answer that sends the request elsewhere, where it does not go."""


class _Bounded(httpx2.Response):
    """A response that is read whole only if it is not too long; one that is read in pieces has no bound."""

    _is_read_whole = False

    async def aread(self) -> bytes:
        """The whole body. Raises TooLong."""
        self._is_read_whole = True
        return await super().aread()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncGenerator[bytes, None]:
        """The body in pieces, decompressed."""
        n_bytes = 0
        async for piece in super().aiter_bytes(chunk_size):
            n_bytes += len(piece)
            if self._is_read_whole and n_bytes > MOST_BYTES:
                raise TooLong(f"the answer is longer than {MOST_BYTES:,} bytes")
            yield piece


class _Road(httpx2.AsyncBaseTransport):
    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request. Raises Redirected, and what httpx2 raises."""
        came = await self._inner.handle_async_request(request)
        if came.has_redirect_location:
            await came.aclose()
            raise Redirected(f"{came.status_code}: it redirects to {came.headers['location']}")
        return _Bounded(
            came.status_code, headers=came.headers, stream=came.stream, extensions=came.extensions
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def open_http(base_url: str | None, timeout: httpx2.Timeout) -> httpx2.AsyncClient:
    """The HTTP client for one server. Raises UsageError for an address or a proxy that cannot be used."""
    proxy = proxy_for(base_url)
    try:
        httpx2.URL(base_url or "")
        road = _Road(httpx2.AsyncHTTPTransport(limits=_LIMITS, proxy=proxy))
    except (httpx2.InvalidURL, ImportError, ValueError) as error:
        found = "The proxy of the environment" if proxy else "The address of the server"
        raise UsageError(
            f"{found} cannot be used: {error}.".replace("..", "."), "Check HTTPS_PROXY and --base-url."
        ) from error
    return httpx2.AsyncClient(transport=road, timeout=timeout, follow_redirects=False)


def proxy_for(base_url: str | None) -> str | None:
    """The proxy of the environment by which a server is asked, None for none: see the module."""
    parts = urlsplit(base_url or "https://api.openai.com")
    if parts.scheme != "https" or is_loopback(base_url):
        return None
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = proxies.get("https") or proxies.get("all")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
