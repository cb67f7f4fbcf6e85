"""A probe's measure is a pure function of pattern and labels: here on a cache that TransformerLens made."""

import sys

import tslens
from tslens.probes.base import find_probes
from tslens.probes.batch import batch_of_stories
from tslens.types import Story

model = tslens.load_model(sys.argv[1] if len(sys.argv) > 1 else "l1_h256")
story = Story(next(tslens.write_stories(1, seed=0)).text.partition("\n")[0])  # its first paragraph
_, cache = model.run_with_cache(story.text)

batch = batch_of_stories([story], model.tokenizer, n_ctx=model.cfg.n_ctx)
for name, probe in find_probes().items():
    if name != "induction":  # reads random tokens, not stories
        print(f"{name:16}", [round(float(value), 2) for value in probe.score(cache["pattern", 0], batch)])
