"""What rows of whole stories cost against concatenation into full rows: padding and attention pairs.

    python training/rows.py STORIES [--batch-tokens 4096]

Whole stories: rows of one story, sorted by length within pools (``tslens/model/batches.py``). Concatenation: stories
end to end, cut into rows of 512, attention over the whole row.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from tslens.corpus.shards import corpus_for
from tslens.model.batches import cut_by_length, epoch_batches

parser = argparse.ArgumentParser()
parser.add_argument("stories")
parser.add_argument("--batch-tokens", type=int, default=4096)
options = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    lengths = corpus_for(options.stories, Path(folder)).train.lengths.astype(np.int64)

n_tokens = lengths.sum()
batches = list(epoch_batches(lengths, batch_tokens=options.batch_tokens, seed=0, epoch=0))
padded = sum(len(batch) * lengths[batch].max() for batch in batches)
pairs = sum(len(batch) * lengths[batch].max() ** 2 for batch in batches)
unsorted = np.array_split(np.random.default_rng(0).permutation(len(lengths)), len(batches))
unsorted_padded = sum(len(batch) * lengths[batch].max() for batch in unsorted)

print(
    f"{len(lengths)} stories, {n_tokens} tokens, {n_tokens / len(lengths):.0f} a story, {len(batches)} batches"
)
print(f"padding, whole stories sorted in pools: {padded / n_tokens - 1:.2%} of the tokens")
print(f"padding, whole stories in any order:    {unsorted_padded / n_tokens - 1:.2%}")
print(
    f"padding, sorted over the whole epoch:   "
    f"{sum(len(b) * lengths[b].max() for b in cut_by_length(lengths, options.batch_tokens)) / n_tokens - 1:.2%}"
)
print(f"attention pairs a token: {pairs / n_tokens / 2:.0f} whole stories, {512 / 2:.0f} concatenated")
