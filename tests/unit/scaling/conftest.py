"""Runs whose losses are a known function of size and tokens."""

import numpy as np
import pytest

from tslens.config import TrainConfig
from tslens.files import write_json, write_jsonl
from tslens.link.scaling.points import ScalingRun
from tslens.run_folder import METRICS_SCHEMA, RunFolder

ALPHA, BETA, FLOOR, POWER = 0.35, 0.4, 1.2, 0.9
TRUTH = BETA / (ALPHA + POWER * BETA)


def true_loss(size, tokens):
    return FLOOR + (size / 1e6) ** -ALPHA + 1.5 * (tokens / 3e6) ** -BETA


@pytest.fixture(scope="session")
def simulated():
    """``simulated(rng, n_sizes, sd_run, sd_point)``: runs, and the exponent that they were made with."""

    def make(rng, n_sizes=10, sd_run=0.006, sd_point=0.004, n_points=12, most=8e6):
        runs = []
        for i, size in enumerate(np.geomspace(2e5, 8e6, n_sizes)):
            tokens = np.geomspace(most / 20, most, n_points)
            noise = rng.normal(0, sd_run) + rng.normal(0, sd_point, n_points)
            flops = 6 * np.e**0.5 * size**POWER
            loss = true_loss(size, tokens) * np.exp(noise)
            runs.append(ScalingRun(f"m{i}", f"m{i}", 0, int(size), int(size), flops, tokens, loss, "c", "t"))
        return runs, TRUTH

    return make


@pytest.fixture
def run_folder(tmp_path):
    """``run_folder(model, rows)``: a folder as training leaves it, with these (tokens, loss) of validation."""

    def make(
        model, rows, *, decay="constant", done=True, pass_tokens=3_000_000, flops=1e6, seed=0, corpus="c"
    ):
        run = RunFolder(tmp_path / "runs" / model / f"seed{seed}")
        settings = TrainConfig(model=model, budget="tokens", amount=rows[-1][0], seed=seed, decay=decay)
        write_json(run.config, {**settings.to_json(), "corpus_sha256": corpus, "tokenizer_sha256": "t"})
        header = {"model": model, "pass_tokens": pass_tokens, "flops_per_token": flops}
        write_jsonl(
            run.metrics,
            METRICS_SCHEMA,
            header,
            [
                {"step": i, "n_tokens": n, "split": "validation", "loss_nats": loss}
                for i, (n, loss) in enumerate(rows)
            ],
        )
        if done:
            write_json(run.done, {})
        return run

    return make
