"""Addresses of servers: which are whole, and which may be spoken to without encryption.

In plain http everybody on the way reads the key and the prompts. It is for the loopback address alone; for a network
that is trusted, ``$TSLENS_ALLOW_HTTP`` set to 1 allows it.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import SplitResult, urlsplit

from tslens.errors import UsageError

ALLOW_HTTP = "TSLENS_ALLOW_HTTP"
_V4_LOOPBACK = ipaddress.ip_network("127.0.0.0/8")
_V6_LOOPBACK = ipaddress.ip_address("::1")
_UNCLEAR = frozenset(" \\^`{|}<>\"'")  # not in addresses, and not read alike by all that read them


def check_address(base_url: str | None) -> None:
    """Raise UsageError for a base address that is none."""
    if base_url is None:
        return
    try:
        parts = urlsplit(base_url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not base_url.isprintable() or _UNCLEAR & set(base_url):
        shown = base_url.rpartition("@")[2]  # a password is not shown
        raise UsageError(
            f'"{shown}" is no address of a server.', "Write it whole, as in http://localhost:8000/v1."
        )


def check_may_be_asked(base_url: str | None) -> None:
    """Raise UsageError for an address that is none, or one in plain http that is not allowed."""
    check_address(base_url)
    parts = urlsplit(base_url or "")
    if parts.scheme != "http" or is_loopback(base_url) or os.environ.get(ALLOW_HTTP) == "1":
        return
    raise UsageError(
        f"{_shown(parts)} is asked in plain http, where everybody on the way reads the key and the prompts.",
        f"Use https, or a tunnel to localhost; on a network that you trust, {ALLOW_HTTP}=1 allows it.",
    )


def is_loopback(base_url: str | None) -> bool:
    """Whether a server is on this machine: localhost, 127.0.0.0/8 or ::1, written plainly."""
    host = urlsplit(base_url or "").hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address in _V4_LOOPBACK if address.version == 4 else address == _V6_LOOPBACK


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
