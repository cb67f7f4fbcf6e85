"""A paragraph like that of the paper's figure, in words of our own, and how each head looks at it.

Eldan and Li 2023, section 5.1, show the heads of one model on one paragraph about two people, a fruit and a park. Ours
has the same structure; its labels were set by hand (``assets/page/paragraph.json``). The probes say which tokens are
asked and which are looked for; there are no nulls in one paragraph, so status and intervals are those of a scan.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from jaxtyping import Float

from tslens.corpus.text_tokenizer import TextTokenizer
from tslens.corpus.words import align, find_units
from tslens.model.story_model import StoryModel
from tslens.probes.base import Calibration, find_probes
from tslens.probes.batch import TokenBatch, batch_of_stories
from tslens.probes.pairs import averaged
from tslens.probes.units import LabelNeeds
from tslens.types import HeadId, Position, Story
from tslens.viz.patterns import ExamplePattern

TITLE = "The paragraph of the paper's figure, in our words"
_DETERMINER = "“the” and “a” look at “{}”"


@dataclass(frozen=True)
class Kind:
    """A kind of head that the paper names: its title, the probes that look for it, and the noun where it is one's."""

    title: str
    probes: tuple[str, ...]
    noun: str | None = None


KINDS = (
    Kind("Near: one or two tokens back", ("previous_token", "distance_2")),
    Kind("Close: three to eight back", ("distance_3_4", "distance_5_8")),
    Kind("Farther: nine to sixteen back", ("distance_9_16",)),
    Kind("Far: seventeen and more back", ("distance_17_32", "distance_33_64")),
    Kind("The previous word", ("previous_word",)),
    Kind("The end of the last sentence", ("sentence_end",)),
    Kind("The subject of the clause", ("subject",)),
    Kind(_DETERMINER.format("apple"), ("topic_determiner",), "apple"),
    Kind(_DETERMINER.format("park"), ("topic_determiner",), "park"),
    Kind("The names", ("name",)),
)


@dataclass(frozen=True)
class OnParagraph:
    """One probe at one position on the paragraph.

    ``queries``: the tokens that ask, in order; ``values``: of each head, the mean over them of the attention to what is
    looked for.
    """

    probe: str
    position: Position
    queries: tuple[int, ...]
    values: Mapping[HeadId, float]


@dataclass(frozen=True)
class Paragraph:
    """The paragraph as a model reads it: patterns of all heads, and what each of ``KINDS`` asks, by its title."""

    example: ExamplePattern
    kinds: Mapping[str, tuple[OnParagraph, ...]]


def paragraph_story() -> Story:
    """The paragraph with its labels."""
    row = json.loads((files("tslens") / "assets" / "page" / "paragraph.json").read_text(encoding="utf-8"))
    return Story(row["text"], {"labels": row["labels"]})


@torch.inference_mode()
def read_paragraph(model: StoryModel) -> Paragraph:
    """All heads of a model on the paragraph, cut at its context."""
    tokenizer = model.tokenizer
    assert tokenizer is not None  # or the scan had been refused
    batch = batch_of_stories(
        [paragraph_story()], tokenizer, n_ctx=model.cfg.n_ctx, labels=LabelNeeds(scheme=True)
    )
    patterns = {
        HeadId(layer, index): one
        for layer, pattern in enumerate(
            model.attention_patterns(torch.from_numpy(batch.tokens).to(model.device))
        )
        for index, one in enumerate(pattern[0].float().cpu().numpy())
    }
    example = ExamplePattern(TITLE, tokenizer.token_strings(batch.tokens[0].tolist()), patterns)
    return Paragraph(example, {kind.title: _measures(kind, batch, patterns, tokenizer) for kind in KINDS})


def _measures(
    kind: Kind,
    batch: TokenBatch,
    patterns: Mapping[HeadId, Float[np.ndarray, "query_pos key_pos"]],
    tokenizer: TextTokenizer,
) -> tuple[OnParagraph, ...]:
    """What the probes of a kind ask of the paragraph; nothing for one that has no query in it."""
    known = find_probes()
    calibration = Calibration(np.bincount(batch.tokens[batch.is_query]))
    found = []
    for probe in kind.probes:
        for row in known[probe].rows(batch, calibration):
            pairs = row.value_all or row.value
            if kind.noun is not None:
                chosen = np.isin(pairs.key, _tokens_of(kind.noun, tokenizer))
                pairs = averaged(pairs.row[chosen], pairs.query[chosen], pairs.key[chosen])
            if len(pairs):
                values = {
                    head: float((pairs.weight * pattern[pairs.query, pairs.key]).sum())
                    for head, pattern in patterns.items()
                }
                queries = tuple(int(query) for query in np.unique(pairs.query))
                found.append(OnParagraph(probe, row.position, queries, values))
    return tuple(found)


def _tokens_of(noun: str, tokenizer: TextTokenizer) -> list[int]:
    """Positions of all pieces of a noun."""
    story = paragraph_story()
    first, last = align(find_units(story.text), tokenizer.encode_with_offsets(story.text)[1])
    return [
        token + 1  # behind the start token
        for unit, lemma in enumerate(story.extra["labels"]["lemma"])
        if lemma == noun
        for token in range(int(first[unit]), int(last[unit]) + 1)
    ]
