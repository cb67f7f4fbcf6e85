"""Points of loss by size, tokens and operations, from the metrics of runs.

A run at a constant rate gives a point at each evaluation, as every budget up to there would have ended there; one whose
rate falls to zero was made for one budget and gives its end only. Only first passes over the data count: a story that
is read again is worth less than a fresh one, and sizes differ in how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from tslens.errors import DataError, UsageError
from tslens.files import read_jsonl, read_object
from tslens.model.spec import ModelSpec
from tslens.reading import BROKEN
from tslens.run_folder import METRICS_SCHEMA, RunFolder

WARMED_UP = 2.0  # times the warm-up, before which a loss says little of the rate that follows
LEAST_SIZES = 4
LEAST_POINTS = 10  # of five parameters


@dataclass(frozen=True, eq=False)
class ScalingRun:
    """One run. ``n_params``: trained; ``n_blocks``: of these in blocks. ``flops_per_token``: to train on one.

    ``decay``: of its rate. ``tokens``, ``loss``: of its points; losses in nats per token of the same validation
    stories. ``n_left_out``: evaluations behind the first pass.
    """

    label: str
    model: str
    seed: int
    n_params: int
    n_blocks: int
    flops_per_token: float
    tokens: Float[np.ndarray, " point"]
    loss: Float[np.ndarray, " point"]
    corpus_sha256: str
    tokenizer_sha256: str
    decay: str = "constant"
    n_left_out: int = 0

    @property
    def flops(self) -> Float[np.ndarray, " point"]:
        """Operations of training up to each point."""
        found: np.ndarray = self.tokens * self.flops_per_token
        return found


def read_run(run: RunFolder) -> ScalingRun:
    """The points of a run folder. Raises DataError where it is none, or was made by a version that kept too little."""
    settings, label = read_object(run.config), run.label()
    header, rows = read_jsonl(run.metrics, METRICS_SCHEMA)[0], run.metric_rows()
    try:
        spec = ModelSpec.from_name(settings["model"])
        one_pass, flops = float(header["pass_tokens"]), float(header["flops_per_token"])
        told = [
            (float(row["n_tokens"]), float(row["loss_nats"])) for row in rows if row["split"] == "validation"
        ]
        amount = settings["amount"] if settings["budget"] == "tokens" else None
        if settings["decay"] == "constant":
            begun = WARMED_UP * settings["warmup"] * (amount or (told[-1][0] if told else 0.0))
            told = [point for point in told[: -1 if run.done.exists() else None] if point[0] >= begun]
        else:
            told = told[-1:] if run.done.exists() else []
        n_params = spec.n_params(settings["vocab_size"])
        hashes = {name: settings[name] for name in ("corpus_sha256", "tokenizer_sha256", "decay")}
        if not (math.isfinite(flops) and flops > 0 and one_pass >= 0 and n_params > 0):
            raise ValueError("how much it computes")
        if not all(isinstance(one, str) for one in hashes.values()):
            raise TypeError("what it was trained on")
    except BROKEN as error:
        raise DataError(
            f"{run.path} does not say {error}: an earlier version of tslens made it.",
            "Train it again, into another --out.",
        ) from error
    kept = [point for point in told if point[0] <= one_pass]
    return ScalingRun(
        label=label,
        model=spec.name,
        seed=int(settings["seed"]),
        n_params=n_params,
        n_blocks=spec.n_layers * _block(spec),
        flops_per_token=flops,
        tokens=np.array([point[0] for point in kept]),
        loss=np.array([point[1] for point in kept]),
        **hashes,
        n_left_out=len(told) - len(kept),
    )


def _block(spec: ModelSpec) -> int:
    """Parameters of one block."""
    two, one = (ModelSpec(n, spec.d_model, spec.n_heads).n_params(0) for n in (2, 1))
    return two - one


def check_runs(runs: Sequence[ScalingRun]) -> list[ScalingRun]:
    """The runs that have points; those of one model and seed whose rates fell, for several budgets, are one run.

    Raises UsageError where sizes or points are too few, or runs cannot be compared.
    """
    for name, what in (
        ("corpus_sha256", "stories"),
        ("tokenizer_sha256", "tokenizers"),
        ("decay", "kinds of rate (constant, falling), whose losses are of different stories"),
    ):
        if len({getattr(run, name) for run in runs}) > 1:
            raise UsageError(
                f"The runs were trained with different {what}.", "Train them on the same, with one grid."
            )
    kept = _joined([run for run in runs if len(run.loss)])
    n_sizes, n_points = len({run.n_params for run in kept}), sum(len(run.loss) for run in kept)
    if n_sizes < LEAST_SIZES or n_points < LEAST_POINTS:
        raise UsageError(
            f"{n_points} points of {n_sizes} sizes lie within the first pass; needed: {LEAST_POINTS} of {LEAST_SIZES}.",
            "Train more sizes at a constant rate: tslens train --grid ... --decay constant",
        )
    return kept


def _joined(runs: Sequence[ScalingRun]) -> list[ScalingRun]:
    """Runs of one label as one, their points in the order of tokens."""
    of_label: dict[str, list[ScalingRun]] = {}
    for run in runs:
        of_label.setdefault(run.label, []).append(run)
    found = []
    for same in of_label.values():
        tokens, loss = (np.concatenate([getattr(run, name) for run in same]) for name in ("tokens", "loss"))
        order = np.argsort(tokens, kind="stable")
        found.append(replace(same[0], tokens=tokens[order], loss=loss[order]))
    return found
