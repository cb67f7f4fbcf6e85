"""One trial of training settings at a fixed number of tokens: what LOG.md compares.

    python training/trial.py STORIES [--model l1_h256] [--tokens 1000000] [--optimizer muon|adamw] [SETTING=VALUE ...]

Settings are those of ``tslens.config.TrainConfig``, as in ``batch_tokens=2048``. ``--optimizer adamw`` takes AdamW for
all parameters, at ``learning_rate``, with decay 0.1 on matrices.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from tslens.config import TrainConfig
from tslens.corpus.shards import corpus_for
from tslens.files import RunFolder
from tslens.train import loop


class AdamWAlone:
    """AdamW for everything, in the place of ``tslens.train.optimizer.Optimizers``."""

    def __init__(self, model, config):
        named = [(name.startswith("blocks") and ".W_" in name, p) for name, p in model.named_parameters()]
        groups = [
            {"params": [p for m, p in named if m == kind], "weight_decay": 0.1 * kind}
            for kind in (True, False)
        ]
        self.peak = config.learning_rate
        self.adamw = torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), fused=True)

    def step(self, share):
        """One step at a share of the peak rate."""
        for group in self.adamw.param_groups:
            group["lr"] = share * self.peak
        self.adamw.step()
        self.adamw.zero_grad()

    def state_dict(self):
        """State of AdamW."""
        return self.adamw.state_dict()


parser = argparse.ArgumentParser()
parser.add_argument("stories")
parser.add_argument("--model", default="l1_h256")
parser.add_argument("--tokens", type=float, default=1e6)
parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
parser.add_argument("settings", nargs="*")
options = parser.parse_args()
if options.optimizer == "adamw":
    loop.Optimizers = AdamWAlone
given = {name: float(value) for name, value in (pair.split("=") for pair in options.settings)}
if "batch_tokens" in given:
    given["batch_tokens"] = int(given["batch_tokens"])
config = TrainConfig(model=options.model, budget="tokens", amount=options.tokens, seed=0, **given)
with tempfile.TemporaryDirectory() as folder:
    corpus = corpus_for(options.stories, Path(folder) / "corpora")
    result = loop.train_model(config, corpus, RunFolder(Path(folder) / "run"))
print(
    f"{options.model} {options.optimizer} {' '.join(options.settings)}: {result.steps} steps, "
    f"{result.n_tokens} tokens, {result.seconds:.0f} s, {result.val.loss_nats:.3f} nats, "
    f"{result.val.bits_per_byte:.3f} bits per byte"
)
