"""The record of where a result comes from."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version

import tslens
from tslens.types import Provenance


def utc_now() -> str:
    """The time now, in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
