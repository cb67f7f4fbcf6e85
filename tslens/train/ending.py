"""What ends a run before its time: signals, and errors that a user can do something about."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tslens.errors import RunError


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what is too large for memory, and what cannot be compiled, as errors of ours."""
    try:
        yield
    except Exception as error:
        kind, text = type(error).__module__, str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
            raise RunError(
                "The memory is not enough for this model.",
                "Give a smaller --batch-tokens, or a smaller model.",
            ) from error
        if kind.startswith(("torch._inductor", "torch._dynamo")):
            raise RunError(
                f"The model cannot be compiled here ({' '.join(text.split())[:200]}).", "Leave out --compile."
            ) from error
        raise


@contextmanager
def interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a flag that the loop reads between steps; a second Ctrl-C interrupts at once."""
    seen = False

    def note(number: int, frame: Any) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: whoever runs it handles signals
        before = {}
    try:
        yield lambda: seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
