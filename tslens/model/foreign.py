"""Other people's models behind TransformerLens' ``TransformerBridge``, with what probes and losses ask of a model.

Architectures that are tried: GPT-2, GPT-Neo of any shape, Llama. The logits are those of transformers with explicit
attention: no weight is folded or centred.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Set
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

from tslens.errors import ModelError
from tslens.model.foreign_decoding import ForeignDecoder
from tslens.model.foreign_prefix import ForeignPrefix
from tslens.model.hooked import ReadsText
from tslens.model.story_model import TwinKind, redraw

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

    from tslens.corpus.text_tokenizer import TextTokenizer
    from tslens.model.attention import Pattern, Residual, Scratch

ARCHITECTURES = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_neo": "GPTNeoForCausalLM",
    "llama": "LlamaForCausalLM",
}
"""transformers' ``model_type`` and class of the models that tests compare with transformers."""


class ForeignModel(ReadsText):
    """A model of transformers, bridged; satisfies ``StoryModel`` and TransformerLens' model protocol.

    ``bridge``: the ``TransformerBridge``, for hooks and caches under TransformerLens' names. ``name``: as in tables.
    ``train_digests`` is empty: nothing is known of its training stories.
    """

    def __init__(self, module: Any, tokenizer: TextTokenizer | None, *, name: str) -> None:
        # Read before the bridge, which splits joint tensors into copies and gives every unembedding a bias.
        self._trained = list(module.parameters())
        self._has_output_bias = module.lm_head.bias is not None
        module.config.pad_token_id = None  # else the start token, which pads GPT-2, would be masked
        module.config._attn_implementation = "eager"
        self._module = module.eval()
        self.name, self.tokenizer = name, tokenizer
        self.train_digests: Set[int] = frozenset()
        self.bridge: TransformerBridge = build_bridge_from_module(
            module, type(module).__name__, hf_config=module.config, model_name=name
        )
        self.cfg = self.bridge.cfg

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self._trained[0].device

    @property
    def config(self) -> Any:
        """The configuration of transformers."""
        return self._module.config

    def to(self, device: str) -> ForeignModel:
        """Move to a device."""
        self.bridge.to(device, print_details=False)
        return self

    def window(self, layer: int) -> int | None:
        """How many positions a query of a layer may look at; only GPT-Neo has layers that do not see all."""
        kinds = getattr(self.config, "attention_layers", None)
        return int(self.config.window_size) if kinds and kinds[layer] == "local" else None

    # Forward ------------------------------------------------------------------------------------------

    def __call__(self, tokens: Int[Tensor, "story pos"]) -> Float[Tensor, "story pos d_vocab"]:
        """Logits."""
        return self.unembed(self.final_residual(tokens))

    def final_residual(self, tokens: Int[Tensor, "story pos"]) -> Residual:
        """Residual stream after the last normalisation: what the unembedding reads."""
        if tokens.shape[1] > self.cfg.n_ctx:
            raise ModelError(
                f"{tokens.shape[1]} tokens are more than the context of {self.cfg.n_ctx}.", "Cut the text."
            )
        final: Residual = self._module.base_model(tokens, use_cache=False).last_hidden_state
        return final

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Logits."""
        logits: Tensor = self.bridge.unembed(x)
        return logits

    @torch.no_grad()
    def attention_patterns(
        self, tokens: Int[Tensor, "story pos"], scratch: Scratch | None = None
    ) -> Iterator[Pattern]:
        """The pattern of each layer in turn. All are made in one pass, and dropped one by one."""
        yield from self._watched(tokens, "attn.hook_pattern")

    @torch.no_grad()
    def neuron_activations(
        self, tokens: Int[Tensor, "story pos"]
    ) -> Iterator[Float[Tensor, "story pos d_mlp"]]:
        """What the MLP neurons of each layer in turn give; of a gated MLP, after the gate. All in one pass."""
        yield from self._watched(tokens, "mlp.hook_post")

    def _watched(self, tokens: Int[Tensor, "story pos"], point: str) -> Iterator[Tensor]:
        """What passes a hook point of each layer, dropped one by one."""
        seen: list[Tensor] = []
        names = [f"blocks.{layer}.{point}" for layer in range(self.cfg.n_layers)]
        with self.bridge.hooks(
            fwd_hooks=[(name, lambda passed, hook: seen.append(passed)) for name in names]
        ):
            self.final_residual(tokens)
        seen.reverse()
        while seen:
            yield seen.pop()

    def mlp_output(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        """W_out: what each neuron of a layer writes to the residual stream per unit of its activation."""
        written: Tensor = self.bridge.blocks[layer].mlp.W_out.detach()  # the bridge turns a Linear's
        return written

    @torch.no_grad()
    def final_norm(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The last normalisation."""
        normalised: Tensor = self.bridge.ln_final.original_component(x)
        return normalised

    def decoder(self) -> ForeignDecoder:
        """What writes text with this model, one token a step, a cache behind it."""
        return ForeignDecoder(self._module)

    def prefix(self, tokens: Int[Tensor, "story pos"]) -> ForeignPrefix:
        """A run on rows of tokens that can be run again with a change in its middle."""
        return ForeignPrefix(self, tokens)

    # TransformerLens' interface ----------------------------------------------------------------------

    def run_with_cache(self, *args: Any, **kwargs: Any) -> Any:
        """As of the bridge, on token ids."""
        return self.bridge.run_with_cache(*args, **kwargs)

    def run_with_hooks(self, *args: Any, **kwargs: Any) -> Any:
        """As of the bridge, on token ids."""
        return self.bridge.run_with_hooks(*args, **kwargs)

    def list_hooks(self) -> dict[str, Any]:
        """The hooks that are on the model, by name of the hook point."""
        found: dict[str, Any] = self.bridge.list_hooks()
        return found

    def reset_hooks(self) -> None:
        """Remove all hooks."""
        self.bridge.reset_hooks()

    # Twins --------------------------------------------------------------------------------------------

    def random_twin(self, kind: TwinKind, *, seed: int) -> ForeignModel:
        """The same architecture as transformers initialises it, or each tensor drawn with the trained one's moments."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            twin = type(self._module)(copy.deepcopy(self.config))
        if self._has_output_bias:  # of HookedTransformers; transformers' own have none
            twin.lm_head.bias = nn.Parameter(torch.zeros(self.cfg.d_vocab))
        if kind == "redrawn":
            redraw(list(twin.parameters()), self._trained, seed=seed)
        return ForeignModel(twin, self.tokenizer, name=f"{self.name}, {kind}").to(str(self.device))
