"""What a model of stories must offer: :class:`TinyTransformer` does, and :class:`ForeignModel` for other people's.

Losses, generation, probes and ``tslens look`` ask for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

if TYPE_CHECKING:
    from tslens.corpus.text_tokenizer import TextTokenizer
    from tslens.model.attention import Pattern, Residual, Scratch
    from tslens.model.decoding import Decoder
    from tslens.model.prefix import Prefix

TwinKind = Literal["fresh", "redrawn"]


class StoryModel(Protocol):
    """A causal language model whose attention can be read.

    ``cfg``: TransformerLens' fields (n_layers, n_heads, d_model, n_ctx, d_vocab, device). ``tokenizer``: None where
    it is not known. ``train_digests``: hashes of the stories it was trained on, empty where they are not known.
    Rows of tokens may be padded on the right with any token: attention is causal.
    """

    train_digests: Set[int]

    @property
    def cfg(self) -> Any:
        """TransformerLens' configuration."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """The tokenizer, None where it is not known."""

    @property
    def device(self) -> torch.device:
        """Where its weights are."""

    def window(self, layer: int) -> int | None:
        """How many positions a query of a layer may look at, its own included; None: all before it."""

    def final_residual(self, tokens: Int[Tensor, "story pos"]) -> Residual:
        """Residual stream after the last normalisation: what the unembedding reads."""

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Logits."""

    def attention_patterns(
        self, tokens: Int[Tensor, "story pos"], scratch: Scratch | None = None
    ) -> Iterator[Pattern]:
        """The pattern of each layer in turn; with ``scratch``, each is valid until the next is asked for."""

    def neuron_activations(
        self, tokens: Int[Tensor, "story pos"]
    ) -> Iterator[Float[Tensor, "story pos d_mlp"]]:
        """What the MLP neurons of each layer in turn give (hook_post)."""

    def mlp_output(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        """W_out: what each neuron of a layer writes to the residual stream per unit of its activation."""

    def final_norm(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The last normalisation."""

    def decoder(self) -> Decoder:
        """What writes text with this model, one token a step."""

    def prefix(self, tokens: Int[Tensor, "story pos"]) -> Prefix:
        """A run on rows of tokens that can be run again with a change in its middle."""

    def random_twin(self, kind: TwinKind, *, seed: int) -> StoryModel:
        """The same architecture where nothing was learned; see :mod:`tslens.probes.twins`."""

    def list_hooks(self) -> Mapping[str, Any]:
        """The hooks that are on the model, by name of the hook point."""


def parameter_count(model: StoryModel) -> int:
    """Trained numbers, shared ones once."""
    hookable: Any = getattr(model, "bridge", model)
    return sum(parameter.numel() for parameter in hookable.parameters())


@torch.no_grad()
def redraw(twin: list[nn.Parameter], trained: list[nn.Parameter], *, seed: int) -> None:
    """Fill each tensor of a twin with normal numbers of the trained tensor's mean and deviation."""
    generator = torch.Generator().manual_seed(seed)
    for drawn, model in zip(twin, trained, strict=True):
        noise = torch.randn(drawn.shape, generator=generator)
        drawn.copy_(noise * model.std().cpu() + model.mean().cpu())
