"""A model without some of its components: heads, neurons, layers.

While :func:`ablated` holds, hooks on the model replace what a component gives to the residual stream. Whatever runs the
model then (generation, loss, logits) runs without the component: with zero in its place, as if its output weights were
zero, or with its mean over all positions. The decoder of our own models sees these hooks and takes other output weights
instead (``model.silence``), so text is written at full speed.

| component | what is zero |
|---|---|
| ``L0H3`` | what head 3 of layer 0 mixes from the values (``hook_z``); the bias of the attention output stays |
| ``L0N117`` | the activation of MLP neuron 117 of layer 0 (``hook_post``) |
| ``L0.attn``, ``L0.mlp`` | all that the attention or the MLP of layer 0 writes, its bias too |
| ``L0`` | both |

By its mean, a whole attention is all of its heads, and a whole MLP all of its neurons: their biases stay.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tslens.errors import ModelError, UsageError
from tslens.model.silence import Silence
from tslens.types import HeadId, NeuronId

if TYPE_CHECKING:
    from tslens.causal.means import Means
    from tslens.model.prefix import Part


@dataclass(frozen=True)
class LayerId:
    """One layer, printed ``L0``, or only its attention or MLP, ``L0.attn``, ``L0.mlp``."""

    layer: int
    part: Literal["attn", "mlp"] | None = None

    def __str__(self) -> str:
        return f"L{self.layer}.{self.part}" if self.part else f"L{self.layer}"


Component = HeadId | NeuronId | LayerId


class Hookable(Protocol):
    """A model with TransformerLens' configuration and hook points: its own, or those of its ``bridge``."""

    cfg: Any


def parse_component(text: str) -> Component:
    """Read ``L0H3``, ``L0N117``, ``L0``, ``L0.attn`` or ``L0.mlp``. Raises UsageError on anything else."""
    found = re.fullmatch(r"[Ll](\d+)(?:([HhNn])(\d+)|\.(attn|mlp))?", text.strip())
    if not found:
        raise UsageError(
            f'"{text}" is no component of a model.',
            "Write a head as L0H3, a neuron as L0N117, a layer as L0, its halves as L0.attn and L0.mlp.",
        )
    layer, kind, index, part = int(found[1]), found[2], found[3], found[4]
    if kind:
        return HeadId(layer, int(index)) if kind in "Hh" else NeuronId(layer, int(index))
    return LayerId(layer, part)  # type: ignore[arg-type]


@contextmanager
def ablated(
    model: Hookable, components: Sequence[Component], *, means: Means | None = None, share: float = 1.0
) -> Iterator[None]:
    """Run a model without these components inside a ``with`` block.

    Their output is replaced by zero, or with ``means`` by its mean over all positions, where text that is being written
    has no end yet. ``share``: how far it goes there, from 0, not at all, to 1.
    The hooks are taken off at its end, whatever ends it; other hooks on the model stay. Blocks can be nested.
    Raises UsageError for a component that the model does not have, ModelError where it lacks the hook point.
    """
    hooked: Any = getattr(model, "bridge", model)
    points = hooked.hook_dict
    silences = _silences(model, components, points, means, share)
    added: list[tuple[Any, Any]] = []
    try:
        for name, silence in silences.items():
            point = points[name]
            point.add_hook(silence, is_permanent=True)  # so that no reset_hooks of a tool takes it off
            added.append((point, point.fwd_hooks[-1]))
        yield
    finally:
        for point, handle in added:
            handle.hook.remove()
            point.fwd_hooks = [other for other in point.fwd_hooks if other is not handle]


def check_component(model: Hookable, component: Component) -> None:
    """Raise UsageError if a model does not have a component, saying what it has."""
    cfg = model.cfg
    if not 0 <= component.layer < cfg.n_layers:
        raise UsageError(
            f"There is no {component}: the model has {_counted(cfg.n_layers, 'layer')}.",
            _choice("L", cfg.n_layers),
        )
    if isinstance(component, LayerId):
        return
    noun, letter, n_there = (
        ("head", "H", cfg.n_heads) if isinstance(component, HeadId) else ("neuron", "N", cfg.d_mlp)
    )
    if not 0 <= component.index < n_there:
        raise UsageError(
            f"There is no {component}: a layer of the model has {_counted(n_there, noun)}.",
            _choice(f"L{component.layer}{letter}", n_there),
        )


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _choice(prefix: str, n: int) -> str:
    """What there is to choose from, numbered from 0 after a prefix."""
    return f"The only one is {prefix}0." if n == 1 else f"Choose one from {prefix}0 to {prefix}{n - 1}."


def _silences(
    model: Hookable, components: Sequence[Component], points: Any, means: Means | None, share: float
) -> dict[str, Silence]:
    """What each hook point no longer lets through, all components together."""
    units: dict[tuple[int, Part], set[int]] = defaultdict(set)
    whole: set[str] = set()
    for component in components:
        check_component(model, component)
        for layer, part, index in _units_of(model, component):
            name = _point(layer, part, whole=index is None and means is None)
            if name not in points:
                raise ModelError(
                    f"{component} cannot be ablated: this model has no hook point {name}.",
                    "Ablate another component, or use a model that has it.",
                )
            if index is not None:
                units[layer, part].add(index)
            elif means is None:
                whole.add(name)
            else:
                units[layer, part] |= set(range(_n_units(model, part)))
    silences = {name: Silence(None, 1, share=share) for name in whole}
    for (layer, part), chosen in units.items():
        sorted_units = sorted(chosen)
        value = None if means is None else (means.z_overall if part == "attn" else means.post_overall)[layer]
        silences[_point(layer, part, whole=False)] = Silence(
            tuple(sorted_units), _n_units(model, part), None if value is None else value[sorted_units], share
        )
    return silences


def _n_units(model: Hookable, part: Part) -> int:
    n_units: int = model.cfg.n_heads if part == "attn" else model.cfg.d_mlp
    return n_units


def _units_of(model: Hookable, component: Component) -> list[tuple[int, Part, int | None]]:
    """Layer, half and number of what a component is made of; None: all of the half."""
    if isinstance(component, LayerId):
        parts: tuple[Part, ...] = (component.part,) if component.part else ("attn", "mlp")
        return [(component.layer, part, None) for part in parts]
    return [(component.layer, "attn" if isinstance(component, HeadId) else "mlp", component.index)]


def _point(layer: int, part: Part, *, whole: bool) -> str:
    """Hook point at which heads, neurons, or all of an attention or MLP are silent."""
    if whole:
        return f"blocks.{layer}.hook_{part}_out"
    return f"blocks.{layer}.attn.hook_z" if part == "attn" else f"blocks.{layer}.mlp.hook_post"
