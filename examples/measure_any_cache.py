"""A probe's measure is a pure function of pattern and labels: here on a cache that TransformerLens made."""

import sys

import torch

import tslens
from tslens.probes.base import find_probes
from tslens.probes.batch import batch_of_stories
from tslens.probes.units import LabelNeeds

model = tslens.load_model(sys.argv[1] if len(sys.argv) > 1 else "l1_h256")
story = next(tslens.write_stories(1, seed=0))  # with gold labels; other stories: tslens.annotate
batch = batch_of_stories(
    [story], model.tokenizer, n_ctx=model.cfg.n_ctx, labels=LabelNeeds(scheme=True)
)  # as tokens, cut at the context
_, cache = model.run_with_cache(torch.from_numpy(batch.tokens))

for name, probe in find_probes().items():
    if name != "induction":  # reads random tokens, not stories
        print(f"{name:18}", [round(float(value), 2) for value in probe.score(cache["pattern", 0], batch)])
