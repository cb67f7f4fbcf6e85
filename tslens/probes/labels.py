"""Labels for the stories of a scan: those that a story carries, else those of the annotator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from tslens.corpus.annotate import CHUNK, annotate, open_parser
from tslens.corpus.annotation.cache import AnnotationCache
from tslens.corpus.labelled import read_labels
from tslens.errors import DataError
from tslens.probes.base import Probe
from tslens.probes.units import LabelNeeds
from tslens.types import Story


def needs_of(probes: Sequence[Probe]) -> LabelNeeds:
    """What labels a set of probes reads."""
    users = chain.from_iterable(probe.labels.users for probe in probes)
    return LabelNeeds(any(probe.labels.scheme for probe in probes), tuple(dict.fromkeys(users)))


def with_labels(stories: Iterable[Story]) -> Iterator[Story]:
    """Each story with labels, in order: its own, else the annotator's, which are kept in the user's cache.

    Raises DataError where a story has none and no parser is installed.
    """
    cache = AnnotationCache()
    source = iter(stories)
    while group := list(islice(source, CHUNK)):
        bare = [story for story in group if read_labels(story) is None]
        made = iter(annotate(bare, cache=cache) if bare else ())
        for story in group:
            yield story if read_labels(story) is not None else next(made)


def parser_is_missing() -> str:
    """Why stories without labels cannot be annotated here; empty if they can."""
    try:
        open_parser()
    except DataError as error:
        return error.message
    return ""
