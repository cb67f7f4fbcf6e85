"""Data sets of the Hugging Face hub: the published TinyStories as files, and any data set with stories as a stream.

Nothing is fetched unless a person asks for it: by ``tslens data download``, or by a source ``hub:owner/name``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tslens.corpus.parquet import as_json
from tslens.errors import DataError, UsageError

_SOURCE = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?")
_PLAIN = "roneneldan/TinyStories"
_WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Release:
    """A published set of stories. ``repository``: on the hub. ``train``, ``validation``: its files."""

    repository: str
    train: str
    validation: str
    about: str


RELEASES = {
    "v1": Release(
        _PLAIN,
        "TinyStories-train.txt",
        "TinyStories-valid.txt",
        "stories by GPT-3.5 and GPT-4: what the paper's models were trained on",
    ),
    "v2": Release(
        _PLAIN,
        "TinyStoriesV2-GPT4-train.txt",
        "TinyStoriesV2-GPT4-valid.txt",
        "stories by GPT-4 alone, a later and larger set",
    ),
    "instruct": Release(
        "roneneldan/TinyStoriesInstruct",
        "TinyStories-Instruct-train.txt",
        "TinyStories-Instruct-valid.txt",
        "stories behind instructions: words, sentence, features, summary",
    ),
}
"""The data of Eldan and Li 2023 (arXiv:2305.07759). Losses on different releases do not compare."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file that can be fetched. ``revision``: commit of the repository. ``n_bytes``: None where it is not told."""

    repository: str
    name: str
    revision: str
    n_bytes: int | None


def find_release(name: str, side: str) -> list[HubFile]:
    """The files of a release: ``side`` is train, validation or both.

    Raises UsageError for an unknown release or side, DataError where the hub cannot be reached.
    """
    if name not in RELEASES:
        raise UsageError(f'There is no release "{name}".', f"Choose of: {', '.join(RELEASES)}.")
    if side not in ("train", "validation", "both"):
        raise UsageError(f'"{side}" is no side of a data set.', "Choose train, validation or both.")
    release = RELEASES[name]
    names = [release.train] * (side != "validation") + [release.validation] * (side != "train")
    facts = _look_up(release.repository, with_sizes=True)
    sizes = {file.rfilename: file.size for file in facts.siblings or ()}
    gone = [name for name in names if name not in sizes]
    if gone:
        raise DataError(
            f"{release.repository} has no file {gone[0]} any more.",
            "See its page on the hub for other files.",
        )
    return [HubFile(release.repository, name, facts.sha, sizes[name]) for name in names]


def fetch(file: HubFile, folder: Path) -> Path:
    """Fetch a file into a folder and tell its path. What was fetched before is kept; a broken transfer goes on.

    Raises DataError where it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download

    try:
        found = hf_hub_download(
            file.repository, file.name, repo_type="dataset", revision=file.revision, local_dir=folder
        )
    except Exception as error:  # of huggingface_hub, its HTTP library or the system
        raise _unreachable(file.repository, error) from error
    return Path(found)


# A data set as a stream of rows ------------------------------------------------------------------------------


def is_hub(source: str | Path) -> bool:
    """Whether a source is one of the hub, by its beginning ``hub:``."""
    return str(source).startswith("hub:")


def describe_hub(source: str) -> tuple[str, str]:
    """Normal form ``hub:owner/name:split`` and commit of the data set.

    Raises UsageError for a source of another form, DataError where the hub cannot be reached.
    """
    name, split = _parse(source)
    return f"hub:{name}:{split}", str(_look_up(name).sha)


def hub_rows(source: str) -> Iterator[dict[str, Any]]:
    """Each row of a data set as a dictionary by column, streamed.

    Raises UsageError at once for a source of another form, DataError where the hub or the split cannot be had.
    """
    name, split = _parse(source)
    return _rows(name, split)


def _rows(name: str, split: str) -> Iterator[dict[str, Any]]:
    revision = _look_up(name).sha
    from datasets import load_dataset

    try:
        yield from map(as_json, load_dataset(name, split=split, revision=revision, streaming=True))
    except ValueError as error:  # an unknown split, a data set of several configurations
        reason = str(error).splitlines()[0]
        raise DataError(
            f"Cannot read {split} of {name}: {reason}",
            "Name a split that it has; of a data set with several configurations, fetch the files.",
        ) from error
    except Exception as error:
        raise _unreachable(name, error) from error


def _parse(source: str) -> tuple[str, str]:
    found = _SOURCE.fullmatch(source)
    if not found:
        raise UsageError(
            f'"{source}" is no data set of the hub.',
            "Write hub:OWNER/NAME or hub:OWNER/NAME:SPLIT, as in hub:roneneldan/TinyStories:validation.",
        )
    return found["name"], found["split"] or "train"


def _look_up(repository: str, *, with_sizes: bool = False) -> Any:
    """What the hub says of a data set: one short question first, so that a missing network shows at once."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(repository, files_metadata=with_sizes, timeout=_WAIT_SECONDS)
    except Exception as error:
        raise _unreachable(repository, error) from error


def _unreachable(repository: str, error: Exception) -> DataError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, RepositoryNotFoundError | GatedRepoError):
        return DataError(
            f"The hub has no open data set {repository}.",
            "Check its name; for one that is closed, log in with: hf auth login",
        )
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"Cannot fetch {repository} from the Hugging Face hub: {reason}.",
        "Check the network and ask again: what was fetched is kept. Without a network: author:20000 as stories.",
    )
