"""The n-gram model on real stories, against the figures that the reference gives for it."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from tslens.corpus.stories import is_validation, read_stories
from tslens.files import data_dir
from tslens.model.ngram import NgramModel

STORIES = data_dir() / "tinystories.jsonl.gz"
TOKENIZER = data_dir() / "tokenizers" / "tinystories-bpe-4096" / "tokenizer.json"


@pytest.mark.skipif(
    not (STORIES.exists() and TOKENIZER.exists()), reason="needs the real stories ($TSLENS_DATA)"
)
def test_loss_of_a_4_gram_on_held_out_stories():
    # 2.95 nats per token and 1.08 bits per byte were measured with other code and another split
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    eos, vocab_size = tokenizer.token_to_id("<|endoftext|>"), tokenizer.get_vocab_size()
    n_bytes_of_token = np.array([len(tokenizer.id_to_token(i)) for i in range(vocab_size)])  # byte-level
    n_bytes_of_token[eos] = 0
    sides = {True: [], False: []}
    stories = list(read_stories(STORIES))
    encoded = tokenizer.encode_batch_fast([story.text for story in stories], add_special_tokens=False)
    for story, found in zip(stories, encoded, strict=True):
        ids = [eos, *found.ids, eos] if len(found.ids) < 512 else [eos, *found.ids[:512]]
        sides[is_validation(story)].append(np.array(ids, dtype=np.uint16))
    losses = np.concatenate(NgramModel.fit(sides[False], vocab_size=vocab_size).losses(sides[True]))
    n_bytes = sum(int(n_bytes_of_token[story[1:]].sum()) for story in sides[True])
    assert abs(losses.mean() - 2.95) < 0.03
    assert abs(losses.sum() / np.log(2) / n_bytes - 1.08) < 0.01
