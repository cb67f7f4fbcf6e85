"""The n-gram beside every model: what the last few tokens alone tell of a readout.

It is counted on stories of the training side: those of the offline author, and the token shards of a corpus
where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np

from tslens.corpus.author import write_stories
from tslens.corpus.stories import is_validation
from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.link.readouts import AUTHOR_SEED
from tslens.model.ngram import NgramModel
from tslens.types import Story

ORDER = 4
N_COUNTED = 4000


def fit_ngram(
    tokenizer: TextTokenizer,
    *,
    n_ctx: int,
    texts: Iterable[str] | None = None,
    shards: Iterable[np.ndarray] = (),
    order: int = ORDER,
) -> NgramModel:
    """An interpolated Kneser-Ney n-gram of the tokens of a model.

    ``texts``: of stories; without them, ``training_texts(N_COUNTED)``. ``shards``: token ids of further stories, as
    ``corpus.shards.Split`` holds them, made by the same tokenizer. Raises what ``NgramModel.fit`` raises.
    """
    told = training_texts(N_COUNTED) if texts is None else texts
    encoded = (tokenizer.encode_story(text, context=n_ctx) for text in told)
    return NgramModel.fit(chain(encoded, shards), vocab_size=tokenizer.vocab_size, order=order)


def training_texts(n_texts: int) -> Iterator[str]:
    """The offline author's first stories that are not of the validation side: readouts hold none of them."""
    stories = write_stories(10**6, seed=AUTHOR_SEED, keep=_is_training, text_only=True)
    return (story.text for story in islice(stories, n_texts))


def _is_training(story: Story) -> bool:
    return not is_validation(story)
