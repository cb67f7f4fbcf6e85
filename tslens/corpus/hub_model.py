"""Models of the Hugging Face hub, as a folder in its own cache: safetensors, JSON and merges, nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tslens.errors import ModelError

_ID = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILES = ["*.safetensors", "*.json", "merges.txt"]
_WAIT_SECONDS = 10.0


def is_hub_model(reference: str) -> bool:
    """Whether this could be ``owner/name`` or ``owner/name@revision`` of the hub."""
    return _ID.fullmatch(reference) is not None


def fetch_model(reference: str) -> Path:
    """The folder of a model of the hub, fetched unless it is in the cache; without a network the cache serves.

    Raises ModelError if there is no such model, if it has no safetensors, or if it can neither be reached nor is
    in the cache.
    """
    from huggingface_hub import HfApi, snapshot_download

    found = _ID.fullmatch(reference)
    if found is None:
        raise ModelError(f'"{reference}" is no model of the hub.', "Write OWNER/NAME.")
    repository, revision = found["repository"], found["revision"]
    try:
        facts = HfApi().model_info(repository, revision=revision, timeout=_WAIT_SECONDS)
        names = [file.rfilename for file in facts.siblings or ()]
        if not any(name.endswith(".safetensors") for name in names):
            raise ModelError(
                f"{reference} on the hub holds no safetensors; tslens never opens a pickle.",
                f"If a pull request there adds them, name it: {repository}@refs/pr/1",
            )
        return Path(snapshot_download(repository, revision=facts.sha, allow_patterns=_FILES))
    except ModelError:
        raise
    except Exception as error:  # of huggingface_hub, its HTTP library or the system
        return _cached(reference, repository, revision, error)


def _cached(reference: str, repository: str, revision: str | None, error: Exception) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError | GatedRepoError | RevisionNotFoundError):
        raise ModelError(
            f"There is no file, run or open hub model {reference}.",
            "Check the name; for a closed model, log in with: hf auth login",
        ) from error
    try:
        return Path(
            snapshot_download(repository, revision=revision, allow_patterns=_FILES, local_files_only=True)
        )
    except Exception:  # not in the cache, whatever the library calls that
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"There is no file or run {reference}, and the Hugging Face hub cannot be reached: {reason}.",
            "Check the name, or ask again with a network.",
        ) from error
