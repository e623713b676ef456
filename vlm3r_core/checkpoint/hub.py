"""Names of repositories on the hub in place of paths: downloads into the hub client's own cache. Reads no weights."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# Weights, settings and tokenizer.
_WANTED = ("*.safetensors", "*.bin", "*.json", "*.txt")
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?P<file>(?:/[\w.-]+)*)(?:@(?P<revision>[\w.-]+))?")
_DOWNLOAD_ERRORS = (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)


def local_folder(name: str) -> Path:
    """A folder as it is, or the folder that a repository `owner/name[@revision]` was downloaded to.

    Raises:
        FileNotFoundError: neither a folder here nor a repository that could be had; says why.
    """
    path = Path(name).expanduser()
    found = _NAME.fullmatch(name)
    if path.exists() or not found or found["file"]:
        return path
    return _snapshot(found["repository"], found["revision"])


def local_file(name: str) -> Path:
    """A file as it is, or the file that `owner/name/file[@revision]` on the hub was downloaded to.

    Raises:
        FileNotFoundError: neither a file here nor one that could be had; says why.
    """
    path = Path(name).expanduser()
    found = _NAME.fullmatch(name)
    # where the first folder is here, the rest is a path with a mistake in it
    if path.exists() or not found or not found["file"] or Path(path.parts[0]).exists():
        return path
    return _download(found["repository"], found["file"][1:], found["revision"])


@cache
def _snapshot(repository: str, revision: str | None) -> Path:
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_WANTED)))
    except _DOWNLOAD_ERRORS as error:
        raise _absent(repository, error) from error


@cache
def _download(repository: str, file: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except _DOWNLOAD_ERRORS as error:
        raise _absent(f"{repository}/{file}", error) from error


def _absent(name: str, error: Exception) -> FileNotFoundError:
    reason = (str(error) or type(error).__name__).strip().splitlines()[0]
    return FileNotFoundError(
        f"{name} is no path here, and the hub does not give it ({type(error).__name__}: {reason}); correct the path or "
        "the name, log in with `hf auth login` where it is gated, or check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
    )
