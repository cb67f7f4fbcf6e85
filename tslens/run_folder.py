"""The layout of a training run, and what its files say of it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from tslens.errors import DataError
from tslens.files import read_jsonl, read_object, refuse_links
from tslens.reading import BROKEN, is_number

METRICS_SCHEMA = "tslens.metrics/1"
_STEP = re.compile(r"step_([0-9]{1,12})\.safetensors")


class RunFolder:
    """The layout of one training run, ``runs/l1_h256/seed0`` (``docs/formats.md``)."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.provenance = self.path / "provenance.json"
        self.tokenizer = self.path / "tokenizer.json"
        self.metrics = self.path / "metrics.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.state = self.checkpoints / "latest_state.pt"
        self.state_before = self.checkpoints / "previous_state.pt"
        self.best = self.checkpoints / "best.safetensors"
        self.train_digests = self.path / "train_digests.npy"
        self.yardstick = self.path / "ngram4.json"
        self.samples = self.path / "samples"
        self.tensorboard = self.path / "tensorboard"
        self.done = self.path / "DONE"

    def checkpoint(self, step: int) -> Path:
        """File of the weights after ``step`` steps."""
        return self.checkpoints / f"step_{step:06d}.safetensors"

    def last_checkpoint(self) -> Path | None:
        """The newest weights, None if there are none."""
        files = self.step_checkpoints()
        return files[-1] if files else None

    def step_checkpoints(self) -> list[Path]:
        """The weights that were written after steps, in their order; a file of another name is none."""
        files = self.checkpoints.glob("step_*.safetensors")
        steps = {int(found[1]): path for path in files if (found := _STEP.fullmatch(path.name))}
        return [steps[step] for step in sorted(steps)]

    def label(self) -> str:
        """Model and seed, as in ``l1_h256@seed0``; files may be named so. Raises DataError where they are none."""
        config = read_object(self.config)
        model, seed = config.get("model"), config.get("seed")
        is_name = isinstance(model, str) and re.fullmatch(r"\w[\w.-]{0,99}", model)
        if not is_name or type(seed) is not int or not 0 <= seed < 2**63:
            raise DataError(
                f"{self.config} names no model and seed: {_short(model)}, {_short(seed)}.",
                "Restore it from its source.",
            )
        return f"{model}@seed{seed}"

    def results(self, kind: str) -> Path:
        """Folder of results of one kind: heads, neurons, grades, link. Raises RunError if it is behind a link."""
        folder = self.path / "results" / kind
        refuse_links(folder, self.path)
        return folder

    def validation_bits(self) -> float | None:
        """Bits per byte of the newest evaluation, None before the first."""
        rows = self.metric_rows() if self.metrics.exists() else []
        return next(
            (row.get("bits_per_byte") for row in reversed(rows) if row["split"] == "validation"), None
        )

    def metric_rows(self) -> list[dict[str, Any]]:
        """The rows of its metrics. Raises DataError for a file that is absent or holds others."""
        rows = read_jsonl(self.metrics, METRICS_SCHEMA)[1]
        for number, row in enumerate(rows, 2):
            wrong = [name for name in ("step", "n_tokens") if not _is_count(row.get(name))]
            wrong += [] if is_number(row.get("loss_nats")) else ["loss_nats"]
            bits = row.get("bits_per_byte")
            wrong += [] if bits is None or is_number(bits) else ["bits_per_byte"]
            if wrong or not isinstance(row.get("split"), str):
                raise DataError(
                    f"Line {number} of {self.metrics} is no row of metrics: {', '.join(wrong) or 'split'}.",
                    "Restore the run, or train it anew into another --out.",
                )
        return rows

    def is_better_than_ngram(self, step: int) -> bool:
        """Whether the last evaluation up to a step has fewer bits per byte than the 4-gram on the same stories.

        Not where none was made by then, or no 4-gram was counted.
        """
        yardstick = self.ngram_bits()
        rows = self.metric_rows() if self.metrics.exists() else []
        bits = [
            row.get("bits_per_byte") for row in rows if row["split"] == "validation" and row["step"] <= step
        ]
        return yardstick is not None and bool(bits) and bits[-1] is not None and bits[-1] < yardstick

    def tokens_at(self, step: int) -> int:
        """Tokens trained on after a step: between rows of the metrics along a line."""
        rows = self.metric_rows()
        told = [(0, 0), *((row["step"], row["n_tokens"]) for row in rows)]
        before = max((place for place in told if place[0] <= step), default=(0, 0))
        after = min((place for place in told if place[0] >= step), default=before)
        if after[0] == before[0]:
            return before[1]
        return round(before[1] + (after[1] - before[1]) * (step - before[0]) / (after[0] - before[0]))

    def ngram_bits(self) -> float | None:
        """Bits per byte of the 4-gram on the same stories, None where it was not counted."""
        if not self.yardstick.exists():
            return None
        found = read_object(self.yardstick)
        try:
            bits = float(found["nats"] / math.log(2) / found["n_bytes"])
        except BROKEN as error:
            raise DataError(f"{self.yardstick} holds no loss: {error}.", "Train the run anew.") from error
        return bits


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _short(value: Any) -> str:
    """A value as it may be shown: not all of a long one."""
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:40]}..."
