"""Does the limit of the token predictor reach the truth where the truth is known?

    .venv/bin/python analysis/token_limit.py
    .venv/bin/python analysis/token_limit.py --model l1_h64 --stories 60

In layer 0 the two tokens and their positions decide all attention, so that the predictor from token identities and
distance misses only what its stories do not teach. For the candidates of layer 0 that pay most: the true value, what
the predictor gives, and its limit (``tslens/probes/beyond.py``). ``contextual`` asks for the floor beyond the limit, so
the limit must not lie far below the true value. Stories are the offline author's, of the validation side.
"""

from __future__ import annotations

import argparse
import sys

import torch

from tslens.model.load import load_model
from tslens.probes.base import choose_probes
from tslens.probes.batch import story_batches
from tslens.probes.beyond import beyond_tokens
from tslens.probes.held_out import HeldOut
from tslens.probes.labels import needs_of
from tslens.probes.scan import BATCH_TOKENS, calibrate, score_heads, window_of
from tslens.probes.strata import Texts

PROBES = ("action", "antecedent", "name", "object", "protagonist", "quote", "subject", "topic")
LEAST = 0.12  # value of a row that is shown


def main() -> None:
    """Scan, fit, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="l1_h256")
    parser.add_argument("--stories", type=int, default=200)
    parser.add_argument("--rows", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    model, probes = load_model(options.model), choose_probes(PROBES)
    stories = list(HeldOut(model, None, options.stories))
    report = score_heads(model, stories, probes=probes, seed=options.seed, n_explain=0)
    rows = [row for row in report.best_first() if row.head.layer == 0 and row.status == "candidate"]
    rows = sorted((row for row in rows if row.value >= LEAST), key=lambda row: -row.value)[: options.rows]
    assert model.tokenizer is not None  # or the scan had been refused
    batches = list(
        story_batches(
            stories,
            model.tokenizer,
            n_ctx=model.cfg.n_ctx,
            batch_tokens=BATCH_TOKENS,
            labels=needs_of(probes),
        )
    )
    calibration = calibrate(batches, probes, model.cfg.d_vocab, window=window_of(model))
    with torch.inference_mode():
        found = beyond_tokens(
            model, Texts(batches, probes, calibration, has_ends=True), {}, rows, seed=options.seed
        )
    sys.stdout.write(f"{options.model}, {len(stories)} stories\n")
    for row in rows:
        rest = found[row.head, row.probe, row.position]
        sys.stdout.write(
            f"{row.head} {row.probe:12} {row.position:6} value {row.value:.3f}  predicted {rest.predicted:.3f}  "
            f"limit {rest.limit:.3f}\n"
        )


if __name__ == "__main__":
    main()
