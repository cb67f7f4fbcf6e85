"""The shape of a model, read from its name: ``l1_h256`` is one layer of residual width 256."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from tslens.errors import UsageError

_NAME = re.compile(r"l(\d{1,3})_h(\d{1,5})(?:_a(\d{1,3}))?(-instruct)?")
_USUAL = [
    f"l{layers}_h{width}" for layers in (1, 2, 4, 8, 12) for width in (64, 128, 256, 512, 768, 1024, 2048)
]

N_CTX = 512
WINDOW = 256


def default_heads(d_model: int) -> int:
    """Number of heads where the name gives none: 16, or fewer so that a head is 16 wide or more."""
    return max(1, min(16, d_model // 16))


@dataclass(frozen=True)
class ModelSpec:
    """Shape of a GPT-Neo of the TinyStories paper.

    ``n_layers``: transformer blocks, layers 0, 2, ... global and 1, 3, ... local. ``d_model``: residual
    width. ``n_heads``: attention heads a layer. ``instruct``: trained on stories that follow instructions.
    """

    n_layers: int
    d_model: int
    n_heads: int
    instruct: bool = False

    def __post_init__(self) -> None:
        heads_divide = self.n_heads > 0 and self.d_model % self.n_heads == 0
        if not (1 <= self.n_layers <= 96 and 16 <= self.d_model <= 8192 and heads_divide):
            raise UsageError(
                f'No model can have the shape "{self.name}": it needs 1 to 96 layers and a width of 16 to 8192 '
                f"that its {self.n_heads} heads divide.",
                f"Did you mean {self._nearest()}?",
            )

    @property
    def name(self) -> str:
        """The name that gives this shape back; ``_a`` is dropped where it is the default."""
        heads = "" if self.n_heads == default_heads(self.d_model) else f"_a{self.n_heads}"
        return f"l{self.n_layers}_h{self.d_model}{heads}{'-instruct' if self.instruct else ''}"

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads

    @property
    def d_mlp(self) -> int:
        """Number of MLP neurons a layer."""
        return 4 * self.d_model

    def is_local(self, layer: int) -> bool:
        """Whether a layer attends only to the last 256 tokens, the current one included."""
        return layer % 2 == 1

    def n_params(self, d_vocab: int) -> int:
        """Trained parameters, the tied unembedding counted once."""
        d = self.d_model
        block = 4 * d * d + d + 2 * d * self.d_mlp + self.d_mlp + d + 4 * d
        return d_vocab * d + N_CTX * d + self.n_layers * block + 2 * d

    @classmethod
    def from_name(cls, name: str) -> ModelSpec:
        """Read ``l{layers}_h{width}[_a{heads}][-instruct]``.

        Raises UsageError for a name of another form or an impossible shape, with the nearest one that is.
        """
        found = _NAME.fullmatch(name)
        if not found:
            near = (difflib.get_close_matches(name, _USUAL, n=1, cutoff=0.5) or ["l1_h256"])[0]
            raise UsageError(
                f'"{name}" is no model name: one looks like l1_h256 (1 layer, width 256) or l4_h128_a4 (4 heads).',
                f"Did you mean {near}?",
            )
        layers, width = int(found[1]), int(found[2])
        heads = int(found[3]) if found[3] else default_heads(width)
        return cls(layers, width, heads, instruct=bool(found[4]))

    def _nearest(self) -> str:
        width = min((64, 128, 256, 512, 768, 1024, 2048), key=lambda usual: abs(usual - self.d_model))
        return ModelSpec(min(max(self.n_layers, 1), 96), width, default_heads(width), self.instruct).name
