"""The page of ``tslens look --neuron``: one text, coloured by the activation of one neuron."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tslens.viz.page import build_page, escape, limits_section, signed, write_page

CANNOT_TELL = (
    "What the neuron is for: this is one text. tslens neurons reads many, with nulls and intervals.",
    "What it does by way of later layers: what it raises and lowers is read straight at the logits.",
)


def write_neuron_text_page(
    path: Path,
    *,
    neuron: str,
    model: str,
    header: Mapping[str, str],
    tokens: Sequence[str],
    activations: Sequence[float],
    raises: Sequence[str],
    lowers: Sequence[str],
) -> None:
    """Write the page: one HTML file without scripts. Raises RunError where ``path`` cannot be written."""
    largest = max(map(abs, activations)) or 1.0
    strongest = max(range(len(tokens)), key=lambda pos: activations[pos])
    found = (
        "is strongest at" if activations[strongest] > 0 else "does not fire in this text: it is highest at"
    )
    page = build_page(
        title=f"Where {neuron} of {model} fires",
        lead=f"{neuron} {found} \u201c{tokens[strongest].strip() or tokens[strongest]}\u201d "
        f"({signed(activations[strongest])}).",
        header={"model": model, **header},
        main='<section>\n<h2>In the text</h2>\n<p class="hint">Colour: the activation at each token, the '
        "deepest is the largest; orange is below zero. Rest on a token for its figure.</p>\n"
        f'<p class="text">{_coloured(tokens, activations, largest)}</p>\n</section>\n'
        f"<section>\n<h2>What it writes</h2>\n{_listed('raises', raises)}{_listed('lowers', lowers)}</section>\n"
        + limits_section(CANNOT_TELL),
        data={},
        scripts=(),
        has_patterns=False,
    )
    write_page(path, page)


def _coloured(tokens: Sequence[str], activations: Sequence[float], largest: float) -> str:
    return "".join(
        f'<span class="{"p" if value >= 0 else "n"}" style="--x:{abs(value) / largest:.2f}" '
        f'title="{signed(value, 3)}">{escape(token)}</span>'
        for token, value in zip(tokens, activations, strict=True)
    )


def _listed(name: str, tokens: Sequence[str]) -> str:
    listed = " ".join(f"<q>{escape(token.strip() or token)}</q>" for token in tokens)
    return f'<p class="tokens">{name} {listed}</p>\n'
