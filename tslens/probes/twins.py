"""Random twins of a model: what attention looks like where nothing was learned.

``fresh``: the initialisation that training starts from, another seed. ``redrawn``: every tensor drawn from a normal
distribution with the trained tensor's mean and deviation, so that scales are those of the trained model.
"""

from __future__ import annotations

import torch

from tslens.model.transformer import TinyTransformer


@torch.no_grad()
def random_twins(model: TinyTransformer, *, seed: int) -> dict[str, TinyTransformer]:
    """Both twins, on the device of the model."""
    twins = {}
    for index, kind in enumerate(("fresh", "redrawn")):
        twin = TinyTransformer(
            model.spec, model.cfg.d_vocab, seed=seed + index, tokenizer=model.tokenizer, n_ctx=model.cfg.n_ctx
        )
        if kind == "redrawn":
            generator = torch.Generator().manual_seed(seed + index)
            for drawn, trained in zip(twin.parameters(), model.parameters(), strict=True):
                noise = torch.randn(drawn.shape, generator=generator)
                drawn.copy_(noise * trained.std().cpu() + trained.mean().cpu())
        twins[kind] = twin.to(model.embed.W_E.device).eval()
    return twins
