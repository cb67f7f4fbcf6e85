"""The record of where a result comes from."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import urlsplit

import tslens
from tslens.types import Provenance


def utc_now() -> str:
    """The time now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> str:
    """The command that runs, as a result records it: addresses in it are without user, password and query."""
    return shlex.join(["tslens", *map(_without_password, sys.argv[1:])])


def provenance(
    *, command: str, seed: int, data: str, data_sha256: str, started: str, seconds: float
) -> Provenance:
    """Fill in versions and platform."""
    return Provenance(
        command=command,
        version=tslens.__version__,
        seed=seed,
        data=data,
        data_sha256=data_sha256,
        started=started,
        seconds=round(seconds, 1),
        python=platform.python_version(),
        torch=version("torch"),
        platform=f"{platform.system()} {platform.machine()}",
    )


def _without_password(argument: str) -> str:
    """An argument as it is; of one that is an address, or ``--option=ADDRESS``, scheme, host and path alone."""
    option, sign, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    try:
        parts = urlsplit(value)
    except ValueError:  # no address, so nothing was sent there
        return option + sign + value.rpartition("@")[2]
    if not (parts.scheme and parts.netloc):
        return argument
    return f"{option}{sign}{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
