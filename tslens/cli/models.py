"""``tslens models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tslens.cli import options
from tslens.cli.console import say, show, show_json, show_table

if TYPE_CHECKING:
    from tslens.model.shipped import Shipped

SCHEMA = "tslens.models/1"


def models(as_json: options.Json = False) -> None:
    """List the models that come with tslens, their losses beside those of a 4-gram.

    Losses are on held-out texts, of the weights as they are shipped. Any command takes such a model by its name, or as
    shipped:NAME. Where the package has only the figures, make models in a checkout makes the weights.

    Example: tslens models
    """
    say("tslens models: reading the package")
    from tslens.model.shipped import shipped_models

    found = shipped_models()
    if as_json:
        show_json({"schema": SCHEMA, "models": [_row(one) for one in found]})
        return
    if not found:
        show("No model is in the package. Train one with: tslens train --model l1_h256 --data SOURCE")
        return
    show_table(
        [
            "<model>",
            "<seed>",
            "parameters",
            "bits per byte",
            "4-gram",
            "nats per token",
            "4-gram",
            "<weights>",
        ],
        [
            [
                one.name,
                str(one.seed),
                f"{one.facts.n_parameters:,}",
                f"{one.facts.held_out[0].bits_per_byte:.3f}",
                f"{one.ngram[0].bits_per_byte:.3f}",
                f"{one.facts.held_out[0].loss_nats:.3f}",
                f"{one.ngram[0].loss_nats:.3f}",
                _place(one),
            ]
            for one in found
        ],
    )
    kinds = dict.fromkeys(one.facts.held_out[0].texts for one in found)
    show(f"On held-out texts: {'; '.join(kinds)}. Next: tslens heads --model {found[0].name}")


def _place(shipped: Shipped) -> str:
    """In words, where the weights are."""
    if shipped.packaged:
        return "in the package"
    return "make models" if shipped.weights is None else str(shipped.weights.parent)


def _row(shipped: Shipped) -> dict[str, Any]:
    facts = shipped.facts
    return {
        "model": facts.name,
        "seed": facts.seed,
        "parameters": facts.n_parameters,
        "tokens": facts.n_tokens,
        "seconds": facts.seconds,
        "packaged": shipped.packaged,
        "weights": None if shipped.weights is None else str(shipped.weights),
        "train": vars(facts.train),
        "held_out": [
            {**vars(loss), "ngram_loss_nats": ngram.loss_nats, "ngram_bits_per_byte": ngram.bits_per_byte}
            for loss, ngram in zip(facts.held_out, shipped.ngram, strict=True)
        ],
    }
