"""One source of stories, or several: their stories follow each other, in the order in which they are given."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from tslens.corpus.stories import describe_source, read_stories
from tslens.types import Story

Sources = str | Path | Sequence[str | Path]


def listed(source: Sources) -> list[str | Path]:
    """The sources as a list."""
    return [source] if isinstance(source, str | Path) else list(source)


def describe_sources(sources: Sequence[str | Path]) -> tuple[str, str]:
    """Names of the sources, joined by ``+``, and a SHA-256: that of the one source, or of a listing of several.

    Raises what :func:`tslens.corpus.stories.describe_source` raises.
    """
    described = [describe_source(source) for source in sources]
    if len(described) == 1:
        return described[0]
    listing = "".join(f"{sha256}  {name}\n" for name, sha256 in described)
    return "+".join(name for name, _ in described), hashlib.sha256(listing.encode()).hexdigest()


def read_sources(sources: Sequence[str | Path]) -> Iterator[Story]:
    """The texts of all sources, one source after the other; see :func:`tslens.corpus.stories.read_stories`."""
    return chain.from_iterable(read_stories(source, text_only=True) for source in sources)
