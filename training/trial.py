"""One trial of training settings at a fixed number of tokens: what LOG.md compares.

    python training/trial.py STORIES [--model l1_h256] [--tokens 1000000] [--recipe NAME] [SETTING=VALUE ...]

Settings are those of ``tslens.config.TrainConfig``, as in ``batch_tokens=2048``.
"""

import argparse
import tempfile
from dataclasses import fields
from pathlib import Path

from tslens.config import TrainConfig, train_config
from tslens.corpus.shards import corpus_for
from tslens.run_folder import RunFolder
from tslens.train.loop import train_model

parser = argparse.ArgumentParser()
parser.add_argument("stories")
parser.add_argument("--model", default="l1_h256")
parser.add_argument("--tokens", type=float, default=1e6)
parser.add_argument("--recipe", default="muon")
parser.add_argument("settings", nargs="*")
options = parser.parse_args()
kinds = {field.name: field.type for field in fields(TrainConfig)}
read = {"int": int, "float": float, "bool": lambda text: {"True": True, "False": False}[text]}
given = {
    name: read.get(kinds[name], str)(value) for name, value in (pair.split("=") for pair in options.settings)
}
config = train_config(
    None, recipe=options.recipe, model=options.model, tokens=int(options.tokens), **({"seed": 0} | given)
)
with tempfile.TemporaryDirectory() as folder:
    corpus = corpus_for(options.stories, Path(folder) / "corpora")
    result = train_model(config, corpus, RunFolder(Path(folder) / "run"))
print(
    f"{options.model} {options.recipe} {' '.join(options.settings)}: {result.steps} steps, "
    f"{result.n_tokens} tokens, {result.seconds:.0f} s, {result.val.loss_nats:.3f} nats, "
    f"{result.val.bits_per_byte:.3f} bits per byte"
)
