"""Score the heads of a model in a script: three probes, the best rows, a pandas frame."""

import sys

import tslens
from tslens.corpus.stories import is_validation

model = tslens.load_model(sys.argv[1] if len(sys.argv) > 1 else "l1_h256")
stories = list(tslens.read_stories("author:1600", keep=is_validation))
probes = ["previous_token", "first_token", "sentence_end"]
report = tslens.score_heads(model, stories, probes=probes, n_explain=50, seed=0)  # causes on the first 50

for score in report.best_first()[:5]:
    null = max(score.nulls, key=score.nulls.get)
    print(
        f"{score.head} pays {score.value:.3f} [{score.low:.3f}, {score.high:.3f}] to {score.probe}; "
        f"{null} gives {score.nulls[null]:.3f}: {score.status}"
    )
print(report.to_pandas().groupby("probe")["excess"].max().round(3).to_string())
