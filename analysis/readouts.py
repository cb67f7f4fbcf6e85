"""What do the shipped models know by the readouts, beside the n-gram and models that learned nothing?

    .venv/bin/python analysis/readouts.py
    .venv/bin/python analysis/readouts.py --models l2_h128 l2_h128-instruct --twins 2 --pairs 100

Prints a table for the 4-gram and each model: accuracy with its interval, mean difference in nats, whether it passes
(``docs/methods.md``, Readouts); and how many of the random twins of each model pass any readout.
Pairs are of the offline author's stories, validation side.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from tslens.link.measure import ReadoutScore, read_ngram, read_readouts
from tslens.link.ngram_null import fit_ngram
from tslens.link.pairs import Readout
from tslens.link.readouts import N_PAIRS, make_readouts
from tslens.model.load import find_model, open_model
from tslens.model.story_model import StoryModel

MODELS = ("l1_h64", "l2_h128", "l4_h128", "l2_h128-instruct")
N_TWINS = 4  # of each model, half of them fresh


def main() -> None:
    """Read, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--pairs", type=int, default=N_PAIRS)
    parser.add_argument("--twins", type=int, default=N_TWINS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    models = {name: open_model(find_model(f"shipped:{name}"), device="cpu") for name in asked.models}
    first = next(iter(models.values()))
    if first.tokenizer is None:
        raise SystemExit("A shipped model has a tokenizer.")
    clock, n_stories = time.process_time(), [0]
    readouts = make_readouts(
        first.tokenizer,
        n_ctx=first.cfg.n_ctx,
        instruct=True,
        seed=asked.seed,
        n_pairs=asked.pairs,
        progress=n_stories.append,
    )
    print(
        f"{len(readouts)} readouts of {n_stories[-1]} stories in {time.process_time() - clock:.1f} s of one core"
    )
    ngram = fit_ngram(first.tokenizer, n_ctx=first.cfg.n_ctx)
    show("4-gram", read_ngram(ngram, readouts, seed=asked.seed))
    for name, model in models.items():
        clock = time.process_time()
        scores = read_readouts(model, readouts, seed=asked.seed)
        show(f"{name}, read in {time.process_time() - clock:.1f} s of one core", scores)
        if asked.twins:
            passed = twins_that_pass(model, readouts, asked.twins, asked.seed)
            print(
                f"\nrandom twins that pass anything: {len(passed)} of {asked.twins} {passed or ''}",
                flush=True,
            )


def twins_that_pass(
    model: StoryModel, readouts: Sequence[Readout], n_twins: int, seed: int
) -> dict[str, list[str]]:
    """The readouts that each twin passes, of those that pass any."""
    found = {}
    for number in range(n_twins):
        kind = ("fresh", "redrawn")[number % 2]
        twin = model.random_twin(kind, seed=seed + number)  # type: ignore[arg-type]
        scores = read_readouts(twin, readouts, seed=seed)
        found[f"{kind} {number}"] = [score.readout for score in scores if score.passes]
    return {name: passed for name, passed in found.items() if passed}


def show(title: str, scores: Sequence[ReadoutScore]) -> None:
    """A Markdown table."""
    print(
        f"\n**{title}**\n\n| readout | pairs | items | clusters | accuracy | least | difference, nats | passes |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in scores:
        accuracy = f"{one.accuracy:.3f} [{one.accuracy_low:.3f}, {one.accuracy_high:.3f}]"
        difference = f"{one.difference:.2f} [{one.difference_low:.2f}, {one.difference_high:.2f}]"
        cells = (one.readout, one.n_pairs, one.n_items, one.n_clusters, accuracy)
        passes = "yes" if one.passes else "no"
        cells = (*cells, f"{one.least_accuracy:.3f}", difference, passes)
        print("|", *(f"{cell} |" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
