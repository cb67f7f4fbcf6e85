"""The results of ``tslens data diversity`` as plain JSON types: of completions, of a corpus, of two compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tslens.cli import options
from tslens.cli.console import progress_bar, say

if TYPE_CHECKING:
    from tslens.corpus.diversity.copying import Copying
    from tslens.corpus.diversity.sampling import Completed
    from tslens.corpus.diversity.story_index import StoryIndex

INDEXES = Path("runs") / ".indexes"
DIVERSITY_SCHEMA = "tslens.diversity/1"
N_COMPLETIONS, N_STORIES = 100, 500
N_PERMUTATIONS = 1000
N_SHOWN = 3


# A model's completions ---------------------------------------------------------------------------------------


def complete(
    source: str, model: str | None, path: Path | None, n_asked: int | None, seed: int, device: str
) -> dict[str, Any]:
    """Measure completions; what the command prints, as plain JSON types."""
    from tslens.corpus.diversity.completions import measure_completions
    from tslens.corpus.diversity.copying import grade_copying
    from tslens.corpus.diversity.sampling import place_in_corpus, read_completions, stories_numbered

    warnings: list[str] = []
    if path is not None:
        items = read_completions(path, n_asked)
        plain, masked = open_indexes(source)
        items = place_in_corpus(items, plain, source)
        absent = sum(item.story is None for item in items)
        if absent:
            warnings.append(f"{absent} of {len(items)} prompts begin no story of {source}")
        label = path.name
    else:
        assert model is not None
        plain, masked = open_indexes(source)
        items, label, warnings = write_completions(
            source, plain, model, n_asked or N_COMPLETIONS, seed, device
        )
    with progress_bar("measuring", len(items)) as (bar, task):
        report = measure_completions(
            items, plain, masked, seed=seed, progress=lambda n: bar.update(task, completed=n)
        )
    rows = [
        {
            "prompt": item.prompt,
            "completion": item.completion,
            "story": item.story,
            **copied(item.completion, found),
            "own_story_left_out": copied(item.completion, without),
        }
        for item, found, without in zip(items, report.copying, report.copying_without, strict=True)
    ]
    closest = closest_first(report.copying_without)[:N_SHOWN]
    texts = stories_numbered(
        source, sorted({near.story for i in closest if (near := report.copying_without[i].nearest)})
    )
    shown = [
        {
            "what": f"completion {i + 1}, {grade_copying(report.copying_without[i])}",
            "prompt": items[i].prompt,
            "text": items[i].completion,
            "number": near.story,
            "score": near.score,
            "story": texts[near.story].text,
        }
        for i in closest
        if (near := report.copying_without[i].nearest)
    ]
    return {
        **head("completions", [(plain.source, plain.source_sha256)], seed, len(items)),
        "completions_of": label,
        "measures": [row.to_json() for row in report.estimates],
        "histograms": [row.to_json() for row in report.histograms],
        "grades": {case: dict(counts) for case, counts in report.grades.items()},
        "completions": rows,
        "warnings": warnings,
        "shown": shown,
    }


def write_completions(
    source: str, plain: StoryIndex, model: str, n_asked: int, seed: int, device: str
) -> tuple[list[Completed], str, list[str]]:
    """Completions of drawn training stories; the model's label; warnings."""
    from tslens.corpus.diversity.sampling import (
        MIN_WORDS,
        Completed,
        draw_numbers,
        split_story,
        stories_numbered,
    )
    from tslens.corpus.words import find_words
    from tslens.errors import DataError, ModelError
    from tslens.model.generate import generate
    from tslens.model.load import find_model, open_model

    found = find_model(model)
    say(found.note)
    loaded = open_model(found, device=options.resolve_device(device))
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise ModelError(
            "This model has no tokenizer, so it cannot write.", "Put a tokenizer.json beside it."
        )
    known = loaded.train_digests
    warnings = [] if known else ["the model keeps no list of its training stories; SOURCE is taken for them"]
    drawn = stories_numbered(source, draw_numbers(plain.n_stories, 2 * n_asked, seed=seed))
    fit = {
        number: split_story(story.text)
        for number, story in drawn.items()
        if (not known or story.digest in known) and len(find_words(story.text)) >= MIN_WORDS
    }
    kept = [
        (number, prompt, ending)
        for number, (prompt, ending) in fit.items()
        if len(tokenizer.encode(prompt)) + 1 < loaded.cfg.n_ctx
    ][:n_asked]
    if not kept:
        raise DataError(
            f"None of {len(drawn)} stories drawn from {source} is a training story of {found.label}.",
            "Give the stories that it was trained on.",
        )
    if len(kept) < n_asked:
        warnings.append(f"{len(kept)} training stories were found, not {n_asked}")
    say(f"completing {len(kept)} stories from their first 40%")
    with progress_bar("completing", len(kept)) as (bar, task):
        done = generate(
            loaded,
            [prompt for _, prompt, _ in kept],
            max_tokens=loaded.cfg.n_ctx,
            seed=seed,
            progress=lambda n: bar.update(task, completed=n),
        )
    n_cut = sum(not one.ended for one in done)
    if n_cut:
        warnings.append(f"{n_cut} completions were cut at the model's context")
    items = [
        Completed(prompt, one.completion, ending, number)
        for (number, prompt, ending), one in zip(kept, done, strict=True)
    ]
    return items, found.label, warnings


def copied(text: str, found: Copying) -> dict[str, Any]:
    """Nearest story, longest verbatim run and grade of one text."""
    from tslens.corpus.diversity.copying import grade_copying

    near = found.nearest
    return {
        "nearest_story": near.story if near else None,
        "R_2p": near.score if near else None,
        "longest_run": {
            "words": found.span.n_words,
            "share": found.run_share(),
            "text": text[found.span.start : found.span.end],
            "story": found.span.story,
        },
        "grade": grade_copying(found),
    }


def closest_first(copying: Sequence[Copying]) -> list[int]:
    """Indexes of texts, the one with the nearest story first; those too short to be called copies come last."""
    from tslens.corpus.diversity.copying import THRESHOLDS

    def distance(i: int) -> tuple[bool, float]:
        near = copying[i].nearest
        return copying[i].n_words < THRESHOLDS.min_run_words, -(near.score if near else -1.0)

    return sorted(range(len(copying)), key=distance)


# A corpus, two corpora -----------------------------------------------------------------------------------------


def profile(source: str, n_asked: int, seed: int) -> dict[str, Any]:
    """Measure a corpus in itself; what the command prints."""
    from tslens.corpus.diversity.corpus_profile import measure_corpus
    from tslens.corpus.diversity.sampling import draw_numbers, stories_numbered

    plain, masked = open_indexes(source)
    numbers = draw_numbers(plain.n_stories, n_asked, seed=seed)
    texts = {number: story.text for number, story in stories_numbered(source, numbers).items()}
    with progress_bar("measuring", len(texts)) as (bar, task):
        report = measure_corpus(
            texts, plain, masked, seed=seed, progress=lambda n: bar.update(task, completed=n)
        )
    closest = closest_first(report.copying)[:N_SHOWN]
    near = {i: found for i in closest if (found := report.copying[i].nearest)}
    others = stories_numbered(source, sorted({found.story for found in near.values()}))
    shown = [
        {
            "what": f"story {report.numbers[i]}",
            "prompt": "",
            "text": texts[report.numbers[i]],
            "number": found.story,
            "score": found.score,
            "story": others[found.story].text,
        }
        for i, found in near.items()
    ]
    rows = [
        {"story": number, **copied(texts[number], found)}
        for number, found in zip(report.numbers, report.copying, strict=True)
    ]
    return {
        **head("corpus", [(plain.source, plain.source_sha256)], seed, len(texts)),
        "n_corpus": plain.n_stories,
        "measures": [row.to_json() for row in report.estimates],
        "histograms": [row.to_json() for row in report.histograms],
        "grades": {"against all other stories": dict(report.grades)},
        "stories": rows,
        "warnings": [],
        "shown": shown,
    }


def compare(source: str, other: str, n_asked: int, seed: int) -> dict[str, Any]:
    """Compare two corpora; what the command prints."""
    from tslens.corpus.diversity.comparison import compare_stories
    from tslens.corpus.diversity.sampling import sample_stories
    from tslens.corpus.stories import describe_source, read_stories

    sources = [describe_source(name) for name in (source, other)]
    names = [name for name, _ in sources]
    first_name, second_name = names if names[0] != names[1] else (source, other)
    both = []
    for side, name in enumerate((source, other)):
        say(f"drawing {n_asked} stories from {name}")
        stream = read_stories(name, text_only=True)
        both.append([story.text for story in sample_stories(stream, n_asked, seed=seed + side)])
    n = min(map(len, both))
    first, second = (texts[:n] for texts in both)
    warnings = [f"{n} stories of both: the smaller corpus has no more"] if n < n_asked else []
    alike = len(set(first) & set(second))
    if alike:
        warnings.append(f"{alike} texts were drawn from both")
    with progress_bar("permutations", N_PERMUTATIONS) as (bar, task):
        rows = compare_stories(
            first,
            second,
            seed=seed,
            n_permutations=N_PERMUTATIONS,
            progress=lambda done: bar.update(task, completed=done),
        )
    return {
        **head("comparison", sources, seed, n),
        "first": first_name,
        "second": second_name,
        "n_permutations": N_PERMUTATIONS,
        "differences": [row.to_json() for row in rows],
        "warnings": warnings,
    }


def head(kind: str, sources: Sequence[tuple[str, str]], seed: int, n: int) -> dict[str, Any]:
    """The first fields of every result. ``sources``: names with their SHA-256; ``n``: texts measured."""
    rows = [{"name": name, "sha256": sha256} for name, sha256 in sources]
    return {"schema": DIVERSITY_SCHEMA, "kind": kind, "sources": rows, "seed": seed, "n": n}


def open_indexes(source: str) -> tuple[StoryIndex, StoryIndex]:
    """The index of a source and the one with names masked, built where they are absent."""
    from tslens.corpus.diversity.build_index import index_for
    from tslens.corpus.diversity.names import find_names
    from tslens.corpus.stories import read_stories

    with progress_bar("index", None) as (bar, task):

        def told(doing: str, done: float) -> None:
            if doing == "sorting":
                bar.update(task, total=1.0, completed=done, note=doing)
            else:
                bar.update(task, total=None, note=f"{doing}: {done:.0f} stories")

        plain = index_for(source, INDEXES, progress=told)
        masked = index_for(
            source, INDEXES, names=lambda: find_names(read_stories(source, text_only=True)), progress=told
        )
    say(f"index: {plain.n_stories:,} stories, {plain.n_words:,} words, in {plain.folder}")
    return plain, masked
