"""One step of training: the gradients of a batch, then an update of every weight."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tslens.config import TrainConfig
from tslens.corpus.tokenizer import StoryTokenizer
from tslens.model.batches import Batch
from tslens.model.spec import ModelSpec
from tslens.model.transformer import TinyTransformer
from tslens.train.distribute import World
from tslens.train.objective import Objective
from tslens.train.optimizer import Optimizers


class Learner:
    """A model, initialised from the seed, and what changes it.

    ``config``: with a precision that is not ``auto``. ``world``: the processes that take each step together.
    """

    def __init__(
        self, config: TrainConfig, tokenizer: StoryTokenizer, *, device: str, world: World | None = None
    ) -> None:
        spec = ModelSpec.from_name(config.model)
        model = TinyTransformer(spec, tokenizer.vocab_size, seed=config.seed, tokenizer=tokenizer)
        if config.precision == "float64":
            model = model.to(torch.float64)
        self.model = model.to(device)
        objective = Objective(self.model, precision=config.precision, compiled=config.compile)
        self.objective = (world or World()).together(objective)
        self.optimizers = Optimizers(self.model, config)
        self.clip = config.clip

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.embed.W_E.device

    def gradients(self, rows: Batch, weight: float) -> Float[Tensor, ""]:
        """Gradients of the loss in nats summed over the targets, times ``weight``; that loss."""
        self.model.train()
        tokens = rows.tokens.to(self.device, non_blocking=True)
        targets = rows.targets.to(self.device, non_blocking=True)
        loss: Tensor = self.objective(tokens, targets, weight)
        loss.backward()
        return loss.detach()

    def update(self, share: float) -> None:
        """One step along the gradients, clipped, which are then forgotten. ``share``: of the peak rates, 0 to 1."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizers.step(share)
