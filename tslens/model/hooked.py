"""The part of TransformerLens' model interface that is no forward pass: tokens, caches, stacked weights.

With it a :class:`TinyTransformer` satisfies ``transformer_lens.model_protocol.TransformerLensModelWithWeights``,
so TransformerLens' own ``head_detector``, ``patching``, ``ActivationCache`` and ``tools.analysis`` take it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import ActivationCache, HookedRootModule, TransformerBridgeConfig

from tslens.errors import ModelError
from tslens.model.spec import WINDOW
from tslens.model.story_model import TwinKind, redraw

if TYPE_CHECKING:
    from tslens.corpus.text_tokenizer import TextTokenizer
    from tslens.corpus.tokenizer import StoryTokenizer
    from tslens.model.spec import ModelSpec


class ReadsText:
    """Text to tokens and back, under TransformerLens' names."""

    cfg: Any
    tokenizer: TextTokenizer | None

    def _tokenizer(self) -> TextTokenizer:
        if self.tokenizer is None:
            raise ModelError("This model has no tokenizer, so it cannot read text.", "Give it token ids.")
        return self.tokenizer

    def to_tokens(
        self, text: str | list[str], prepend_bos: bool = True, move_to_device: bool = True, **_: Any
    ) -> Int[Tensor, "story pos"]:
        """Token ids of one text or several, after the token that begins a story; shorter ones are padded with it."""
        texts = [text] if isinstance(text, str) else text
        tokenizer = self._tokenizer()
        start = [tokenizer.start_id] if prepend_bos else []
        rows = [torch.tensor(start + tokenizer.encode(one), dtype=torch.long) for one in texts]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.start_id)
        return tokens.to(self.cfg.device) if move_to_device else tokens

    def to_string(self, tokens: Int[Tensor, "*story pos"] | list[int]) -> str | list[str]:
        """Text of token ids."""
        ids = torch.as_tensor(tokens).tolist()
        if ids and isinstance(ids[0], list):
            return [self._tokenizer().decode(row) for row in ids]
        return self._tokenizer().decode(ids)

    def to_str_tokens(self, text: str | Int[Tensor, " pos"], prepend_bos: bool = True) -> list[str]:
        """Each token as a string."""
        tokens = self.to_tokens(text, prepend_bos)[0] if isinstance(text, str) else text.flatten()
        return self._tokenizer().token_strings(tokens.tolist())

    def to_single_token(self, string: str) -> int:
        """Id of a string that is one token. Raises ModelError if it is several."""
        ids = self._tokenizer().encode(string)
        if len(ids) != 1:
            raise ModelError(f'"{string}" is {len(ids)} tokens, not one.', "Choose a string of one token.")
        return ids[0]


class HookedModel(ReadsText, HookedRootModule):
    """Caches out, weights stacked over layers, under TransformerLens' names; random twins."""

    cfg: TransformerBridgeConfig
    tokenizer: StoryTokenizer | None
    spec: ModelSpec
    blocks: Any  # nn.ModuleList of Block

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        found: torch.device = self.W_E.device
        return found

    def window(self, layer: int) -> int | None:
        """How many positions a query of a layer may look at, its own included; None: all before it."""
        return WINDOW if self.spec.is_local(layer) else None

    def random_twin(self, kind: TwinKind, *, seed: int) -> Self:
        """The same shape as training initialises it, or each tensor drawn with the trained one's moments."""
        twin = type(self)(
            self.spec, self.cfg.d_vocab, seed=seed, tokenizer=self.tokenizer, n_ctx=self.cfg.n_ctx
        )
        if kind == "redrawn":
            redraw(list(twin.parameters()), list(self.parameters()), seed=seed)
        return twin.to(self.device).eval()

    # Caches -----------------------------------------------------------------------------------------

    def run_with_cache(
        self,
        *model_args: Any,
        return_cache_object: bool = True,
        remove_batch_dim: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ActivationCache | dict[str, Tensor]]:
        """Output and activations by hook name; ``names_filter`` chooses which."""
        output, cache = super().run_with_cache(*model_args, remove_batch_dim=remove_batch_dim, **kwargs)
        if return_cache_object:
            return output, ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)
        return output, cache

    # Weights ----------------------------------------------------------------------------------------

    def _stack(self, module: str, name: str) -> Tensor:
        return torch.stack([getattr(getattr(block, module), name) for block in self.blocks])

    @property
    def W_E(self) -> Float[Tensor, "d_vocab d_model"]:
        """Token embedding."""
        return self.embed.W_E

    @property
    def W_pos(self) -> Float[Tensor, "n_ctx d_model"]:
        """Position embedding."""
        return self.pos_embed.W_pos

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """Unembedding, the transpose of the embedding."""
        return self.unembed.W_U

    @property
    def b_U(self) -> Float[Tensor, " d_vocab"]:
        """Bias of the unembedding, zero."""
        return self.unembed.b_U

    def __getattr__(self, name: str) -> Any:
        # W_Q, W_K, W_V, W_O, b_Q ... [layer head ...] and W_in, W_out, b_in, b_out [layer ...], stacked on demand
        if name in {"W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"}:
            return self._stack("attn", name)
        if name in {"W_in", "W_out", "b_in", "b_out"}:
            return self._stack("mlp", name)
        return super().__getattr__(name)

    def tokens_to_residual_directions(
        self, tokens: str | int | Int[Tensor, "*pos"]
    ) -> Float[Tensor, "*pos d_model"]:
        """Unembedding vector of each token: the direction in the residual stream that raises its logit."""
        ids = torch.as_tensor(self.to_single_token(tokens) if isinstance(tokens, str) else tokens)
        directions: Tensor = self.W_U.T[ids]
        return directions

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d_model"]:
        """Sum of the output biases of the blocks before ``layer`` (and of its attention, for the MLP input)."""
        total = torch.zeros(self.cfg.d_model, device=self.W_E.device)
        for block in list(self.blocks)[:layer]:
            total = total + block.attn.b_O + (block.mlp.b_out if include_mlp_biases else 0)
        return total + self.blocks[layer].attn.b_O if mlp_input else total

    def all_head_labels(self) -> list[str]:
        """``L0H0``, ``L0H1``, ... in order."""
        return [f"L{layer}H{head}" for layer in range(self.cfg.n_layers) for head in range(self.cfg.n_heads)]

    def set_use_attn_result(self, use_attn_result: bool) -> None:
        """Accepted for TransformerLens' tools: ``hook_result`` runs wherever it is hooked."""
        self.cfg.use_attn_result = use_attn_result
