"""How fast training goes: share of the device's peak, and times in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tslens.config import Precision
    from tslens.corpus.shards import Corpus


class Speedometer:
    """Share of a device's peak that models reach. ``device``: None where it is not known which one trains."""

    def __init__(self, corpus: Corpus, device: str | None, precision: Precision) -> None:
        from tslens.train.flops import device_peak
        from tslens.train.objective import resolve_precision

        peak = None if device is None else device_peak(device, resolve_precision(precision, device))
        n_processes = int(os.environ.get("WORLD_SIZE", "1"))
        self.corpus, self.peak = corpus, None if peak is None else peak * n_processes
        self.flops: dict[str, float] = {}

    def mfu(self, model: str, tokens_per_second: float) -> float | None:
        """Model FLOPs utilisation, 0 to 1; None where the peak is not known."""
        from tslens.model.spec import ModelSpec
        from tslens.train.flops import flops_per_token, mfu

        if self.peak is None:
            return None
        if model not in self.flops:
            self.flops[model] = flops_per_token(
                ModelSpec.from_name(model), self.corpus.tokenizer.vocab_size, self.corpus.train.lengths
            )
        return mfu(self.flops[model], tokens_per_second, self.peak)


def short(value: float) -> str:
    """A number with three figures and a letter: ``1.05M``, ``37.2P``."""
    value = float(f"{value:.3g}")
    for letter, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
