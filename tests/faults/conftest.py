"""The suite of faults: `make test-faults` runs all cases, `make test` a sample of the same tests."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

IS_FULL = os.environ.get("TSLENS_FAULTS") == "full"


@pytest.fixture(scope="session")
def how_many() -> Callable[[int, int], int]:
    """How many cases to try: the first number in a sample, the second in the whole suite."""
    return lambda sample, full: full if IS_FULL else sample
