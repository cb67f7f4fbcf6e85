"""``tslens look --neuron``: where one MLP neuron fires in a text, and what it raises."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tslens.cli.console import show, show_json, show_table
from tslens.provenance import command_line

if TYPE_CHECKING:
    from tslens.model.story_model import StoryModel

SCHEMA = "tslens.look_neuron/1"
BAR = 24  # characters of the largest activation
N_TOKENS = 8  # raised and lowered


def look_neuron(
    model: StoryModel, label: str, ids: Sequence[int], name: str, html: Path | None, as_json: bool
) -> None:
    """Show a neuron on the tokens of a text, in the terminal, as a page or as JSON."""
    import torch

    from tslens.causal.ablation import check_component
    from tslens.probes.neurons.writes import logit_effects
    from tslens.types import NeuronId

    neuron, hookable = NeuronId.parse(name), cast("Any", model)
    check_component(hookable, neuron)
    rows = torch.tensor([list(ids)], device=model.device)
    with torch.inference_mode():
        for layer, post in enumerate(model.neuron_activations(rows)):
            if layer == neuron.layer:
                activations = [round(value, 4) for value in post[0, :, neuron.index].tolist()]
    effects = logit_effects(model, model.mlp_output(neuron.layer)[neuron.index][None].float())[0]
    assert model.tokenizer is not None
    order = effects.argsort(kind="stable")
    raises = model.tokenizer.token_strings(order[::-1][:N_TOKENS].tolist())
    lowers = model.tokenizer.token_strings(order[:N_TOKENS].tolist())
    tokens = model.tokenizer.token_strings(ids)
    if html is not None:
        from tslens.viz.neuron_text_page import write_neuron_text_page

        write_neuron_text_page(
            html,
            neuron=str(neuron),
            model=label,
            header={"command": command_line()},
            tokens=tokens,
            activations=activations,
            raises=raises,
            lowers=lowers,
        )
    if as_json:
        found = {"tokens": tokens, "activations": activations, "raises": raises, "lowers": lowers}
        show_json({"schema": SCHEMA, "model": label, "neuron": str(neuron), **found})
        return
    largest = max(map(abs, activations)) or 1.0
    show_table(
        ["pos", "<token>", f"{neuron}", "<activation>"],
        [
            [str(pos), repr(token)[1:-1], f"{value:+.3f}", _bar(value / largest)]
            for pos, (token, value) in enumerate(zip(tokens, activations, strict=True))
        ],
    )
    show(f"raises: {_listed(raises)}\nlowers: {_listed(lowers)}")
    show(f"wrote {html}" if html is not None else "The picture: add --html look.html.")


def _bar(share: float) -> str:
    return ("█" if share > 0 else "░") * round(BAR * abs(share))


def _listed(tokens: Sequence[str]) -> str:
    return ", ".join(repr(token.strip() or token)[1:-1] for token in tokens)
