"""GPT-Neo as the TinyStories paper trains it, in HookedTransformer's layout and with its hook names.

Per block (Black et al. 2021; Eldan and Li 2023): ``x = x + attn(ln1(x))``, then ``x = x + mlp(ln2(x))``. Scores
are not divided by sqrt(d_head). Layers 1, 3, ... attend to the last 256 tokens, the current one included.
The unembedding is the transpose of the embedding.

Two paths, one result. Where no hook watches scores or pattern, fused attention runs and no pattern exists
in memory; where one does, the explicit path runs. ``tests/parity`` holds the two together.

Axes: story, pos (query_pos, key_pos), head, d_model, d_head, d_mlp, d_vocab.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.hook_points import HookPoint

from tslens.errors import ModelError
from tslens.model.attention import Attention, KeyValues, Pattern, Residual, Scratch, watched
from tslens.model.decoding import CachedDecoder
from tslens.model.hooked import HookedModel
from tslens.model.linear import linear
from tslens.model.prefix import TinyPrefix
from tslens.model.spec import N_CTX, WINDOW, ModelSpec

if TYPE_CHECKING:
    from tslens.corpus.tokenizer import StoryTokenizer


class Embed(nn.Module):
    """Token embedding."""

    def __init__(self, d_vocab: int, d_model: int) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(d_vocab, d_model))

    def forward(self, tokens: Int[Tensor, "story pos"]) -> Residual:
        """Look the tokens up."""
        return F.embedding(tokens, self.W_E)


class PosEmbed(nn.Module):
    """Learned absolute positions."""

    def __init__(self, n_ctx: int, d_model: int) -> None:
        super().__init__()
        self.W_pos = nn.Parameter(torch.empty(n_ctx, d_model))


class Unembed(nn.Module):
    """Logits: residual stream times the transposed embedding. ``b_U`` is zero and does not train."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self._embed = (embed,)  # in a tuple, so that it is no second owner of the parameter
        self.register_buffer("b_U", torch.zeros(embed.W_E.shape[0]))

    @property
    def W_U(self) -> Float[Tensor, "d_model d_vocab"]:
        """The tied unembedding."""
        return self._embed[0].W_E.T

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_vocab"]:
        """Logits of each position."""
        return linear(x, self._embed[0].W_E)


class LayerNorm(nn.Module):
    """LayerNorm with weight and bias; its parts exist only where a hook watches them."""

    def __init__(self, d_model: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.w = nn.Parameter(torch.ones(d_model))
        self.b = nn.Parameter(torch.zeros(d_model))
        self.hook_scale = HookPoint()
        self.hook_normalized = HookPoint()

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """Normalise the last axis."""
        if not watched(self.hook_scale, self.hook_normalized):
            return F.layer_norm(x, self.w.shape, self.w, self.b, self.eps)
        centred = x - x.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(centred / scale) * self.w + self.b


class MLP(nn.Module):
    """Two linear maps around gelu_new."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(spec.d_model, spec.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(spec.d_mlp))
        self.W_out = nn.Parameter(torch.empty(spec.d_mlp, spec.d_model))
        self.b_out = nn.Parameter(torch.zeros(spec.d_model))
        self.hook_pre = HookPoint()
        self.hook_post = HookPoint()

    def forward(self, x: Residual) -> Residual:
        """MLP output for the normalised residual stream."""
        return self.write(self.activations(x))

    def activations(self, x: Residual) -> Float[Tensor, "story pos d_mlp"]:
        """What the neurons give for the normalised residual stream."""
        if watched(self.hook_pre):
            pre = self.hook_pre(linear(x, self.W_in.T, self.b_in))
            return self.hook_post(F.gelu(pre, approximate="tanh"))
        return self.hook_post(linear(x, self.W_in.T, self.b_in, gelu=True))

    def write(self, post: Float[Tensor, "... d_mlp"]) -> Float[Tensor, "... d_model"]:
        """MLP output for activations of its neurons."""
        return linear(post, self.W_out.T, self.b_out)


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, spec: ModelSpec, layer: int, eps: float) -> None:
        super().__init__()
        self.ln1 = LayerNorm(spec.d_model, eps)
        self.attn = Attention(spec, layer)
        self.ln2 = LayerNorm(spec.d_model, eps)
        self.mlp = MLP(spec)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()

    def forward(self, resid: Residual, past: KeyValues | None = None) -> Residual:
        """Residual stream after the block."""
        resid = self.hook_resid_pre(resid)
        return self.after_attention(resid, self.attn(self.ln1(resid), past))

    def after_attention(self, resid_pre: Residual, attn_out: Residual) -> Residual:
        """The second half of the block, from what attention wrote."""
        resid_mid = self.hook_resid_mid(resid_pre + self.hook_attn_out(attn_out))
        return self.hook_resid_post(resid_mid + self.hook_mlp_out(self.mlp(self.ln2(resid_mid))))


class TinyTransformer(HookedModel):
    """A GPT-Neo of the TinyStories paper that TransformerLens' tools take as it is.

    ``train_digests``: hashes of the stories it was trained on, where its run is known. ``state_dict()`` is a
    HookedTransformer state dict; ``cfg`` holds TransformerLens' fields. The weights are
    drawn from ``seed``: normal with deviation 0.02, projections into the residual stream divided by
    sqrt(2 x layers) (Radford et al. 2019).
    """

    def __init__(
        self,
        spec: ModelSpec,
        d_vocab: int,
        *,
        seed: int,
        tokenizer: StoryTokenizer | None = None,
        n_ctx: int = N_CTX,
    ) -> None:
        super().__init__()
        self.spec, self.tokenizer = spec, tokenizer
        self.train_digests: Set[int] = frozenset()
        self.cfg = bridge_config(spec, d_vocab, n_ctx)
        self.embed = Embed(d_vocab, spec.d_model)
        self.hook_embed = HookPoint()
        self.pos_embed = PosEmbed(n_ctx, spec.d_model)
        self.hook_pos_embed = HookPoint()
        self.blocks = nn.ModuleList([Block(spec, i, self.cfg.eps) for i in range(spec.n_layers)])
        self.ln_final = LayerNorm(spec.d_model, self.cfg.eps)
        self.unembed = Unembed(self.embed)
        self.register_state_dict_post_hook(_add_tied_unembedding)
        self.register_load_state_dict_pre_hook(_drop_derived)
        self.init_weights(seed)
        self.setup()

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Draw the weights anew from a seed."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W_"):
                scale = 0.02 / (2 * self.spec.n_layers) ** 0.5 if leaf in {"W_O", "W_out"} else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)

    def to(self, *args: Any, **kwargs: Any) -> TinyTransformer:
        """Move or cast, and keep ``cfg`` true."""
        super().to(*args, **kwargs)
        self.cfg.device, self.cfg.dtype = str(self.embed.W_E.device), self.embed.W_E.dtype
        return self

    def embed_tokens(
        self, tokens: Int[Tensor, "story pos"], start: Int[Tensor, " story"] | None = None
    ) -> Residual:
        """Token and position embeddings, summed; ``start``: position of each story's first token."""
        if tokens.shape[1] > self.cfg.n_ctx:
            raise ModelError(
                f"{tokens.shape[1]} tokens are more than the context of {self.cfg.n_ctx}.", "Cut the text."
            )
        if start is None:
            pos_embed = self.pos_embed.W_pos[: tokens.shape[1]].expand(*tokens.shape, -1)
        else:
            pos_embed = self.pos_embed.W_pos[
                start[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
            ]
        return self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(pos_embed)

    def final_residual(
        self, tokens: Int[Tensor, "story pos"], past: Sequence[KeyValues] | None = None
    ) -> Residual:
        """Residual stream after the last LayerNorm: what the unembedding reads."""
        resid = self.embed_tokens(tokens, past[0].start if past else None)
        for layer, block in enumerate(self.blocks):
            resid = block(resid, past[layer] if past else None)
        return self.ln_final(resid)

    def mlp_output(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        """W_out: what each neuron of a layer writes to the residual stream per unit of its activation."""
        written: Tensor = self.blocks[layer].mlp.W_out.detach()
        return written

    @torch.no_grad()
    def final_norm(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        """The last normalisation."""
        normalised: Tensor = self.ln_final(x)
        return normalised

    def decoder(self) -> CachedDecoder:
        """What writes text with this model, one token a step, a cache behind it."""
        return CachedDecoder(self)

    def prefix(self, tokens: Int[Tensor, "story pos"]) -> TinyPrefix:
        """A run on rows of tokens that can be run again from its middle."""
        return TinyPrefix(self, tokens)

    def forward(
        self,
        input: Int[Tensor, "story pos"] | str | list[str],
        return_type: Literal["logits", "loss", "both"] | None = "logits",
        *,
        loss_per_token: bool = False,
        prepend_bos: bool = True,
        stop_at_layer: int | None = None,
    ) -> Any:
        """Logits [story pos d_vocab], next-token loss in nats, both, or nothing.

        ``stop_at_layer``: give the residual stream before that layer instead, as TransformerLens does.
        """
        tokens = input if isinstance(input, Tensor) else self.to_tokens(input, prepend_bos)
        if stop_at_layer is not None:
            resid = self.embed_tokens(tokens)
            for block in self.blocks[:stop_at_layer]:
                resid = block(resid)
            return resid
        final = self.final_residual(tokens)
        if return_type is None:
            return None
        logits = self.unembed(final)
        if return_type == "logits":
            return logits
        loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
        loss = loss if loss_per_token else loss.mean()
        return loss if return_type == "loss" else (logits, loss)

    @torch.no_grad()
    def attention_patterns(
        self, tokens: Int[Tensor, "story pos"], scratch: Scratch | None = None
    ) -> Iterator[Pattern]:
        """The pattern of each layer in turn, nothing computed that none of them needs.

        With ``scratch``, each pattern is valid until the next is asked for.

        For reading only: hooks are not run, and values, MLP and unembedding of the last layer never computed.
        """
        resid = self.embed_tokens(tokens)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            normalized = block.ln1(resid)
            q, k, *v = block.attn.project(normalized, "QK" if layer == last else "QKV")
            scores = block.attn.scores(q, k, scratch)
            pattern = torch.softmax(scores, -1, out=scores)
            yield pattern
            if layer < last:
                z = rearrange(pattern @ rearrange(v[0], "s k h e -> s h k e"), "s h q e -> s q h e")
                resid = block.after_attention(resid, block.attn.write(z))

    @torch.no_grad()
    def neuron_activations(
        self, tokens: Int[Tensor, "story pos"]
    ) -> Iterator[Float[Tensor, "story pos d_mlp"]]:
        """What the MLP neurons of each layer in turn give. For reading only: hooks are not run."""
        resid = self.embed_tokens(tokens)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks):
            mid = resid + block.attn(block.ln1(resid))
            post = block.mlp.activations(block.ln2(mid))
            yield post
            if layer < last:
                resid = mid + block.mlp.write(post)


def bridge_config(spec: ModelSpec, d_vocab: int, n_ctx: int) -> TransformerBridgeConfig:
    """TransformerLens' configuration of this architecture."""
    return TransformerBridgeConfig(
        d_model=spec.d_model,
        d_head=spec.d_head,
        n_heads=spec.n_heads,
        n_layers=spec.n_layers,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        d_vocab_out=d_vocab,
        d_mlp=spec.d_mlp,
        architecture="GPTNeoForCausalLM",
        original_architecture="GPTNeoForCausalLM",
        model_name=spec.name,
        act_fn="gelu_new",
        eps=1e-5,
        normalization_type="LN",
        use_attn_scale=False,
        use_local_attn=True,
        window_size=WINDOW,
        attn_types=["local" if spec.is_local(layer) else "global" for layer in range(spec.n_layers)],
        tie_word_embeddings=True,
        device="cpu",
    )


def _add_tied_unembedding(module: TinyTransformer, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    state[f"{prefix}unembed.W_U"] = state[f"{prefix}embed.W_E"].T


def _drop_derived(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Drop what version 3 of TransformerLens registers besides; refuse an unembedding that is not tied."""
    for key in [key for key in state if key.endswith((".attn.mask", ".attn.IGNORE"))]:
        del state[key]
    tied, embed = state.pop(f"{prefix}unembed.W_U", None), state.get(f"{prefix}embed.W_E")
    if tied is not None and embed is not None and not torch.equal(tied, embed.T):
        raise ModelError(
            "The unembedding is not the transpose of the embedding.", "Use a GPT-Neo checkpoint."
        )
