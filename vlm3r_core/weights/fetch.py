"""Downloads what the hub has of a published model, resuming, and says where the rest is. Checks no tensors."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from vlm3r_core.checkpoint.saved import to_json
from vlm3r_core.checkpoint.tensor_files import sha256
from vlm3r_core.files import write_text
from vlm3r_core.weights.inventory import CUT3R_LICENCE

MANIFEST = "manifest.json"
LICENCES = "LICENCES.md"
_KEPT_FREE_BYTES = 10**9
# weights, settings, tokenizer and the model card, which states the licence
_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".md", ".jinja")


@dataclass(frozen=True)
class HubModel:
    """A model's pieces.

    Args:
        repositories: name of a spec's part, or of a further adapter -> repository on the hub.
        cut3r: name of CUT3R's file, which the hub lacks.
        cut3r_page: where a person gets it.
    """

    repositories: dict[str, str]
    cut3r: str
    cut3r_page: str


KNOWN = {
    "vlm3r-7b": HubModel(
        {
            "base": "lmms-lab/LLaVA-Video-7B-Qwen2",
            "adapter": "Journey9ni/vlm-3r-llava-qwen2-lora",
            "adapter-vsti": "Journey9ni/vlm-3r-llava-qwen2-lora-vstibench",
        },
        "cut3r_512_dpt_4_64.pth",
        "https://drive.google.com/file/d/1Asz-ZB3FfpzZYwunhQvNPZEUA8XUNAYD/view",
    )
}


class FetchError(Exception):
    """What could not be fetched, why, and what to do."""


@dataclass(frozen=True)
class FetchReport:
    """What a person is told at the end."""

    text: str
    complete: bool


@dataclass(frozen=True)
class _File:
    part: str
    repository: str
    revision: str
    name: str
    nbytes: int
    sha256: str | None

    def path(self, folder: Path) -> Path:
        return folder / self.part / self.name

    def partial(self, folder: Path) -> Path:
        return folder / self.part / f".{self.name}.{self.revision[:12]}.partial"


def fetch(model: str, folder: Path) -> FetchReport:
    """Downloads a model's files into one folder, a subfolder for each repository.

    Files that are there with the right size and hash are kept, and an interrupted one goes on where it stopped.
    Sizes, hashes, revisions and licences are written to manifest.json, licences also to LICENCES.md.

    Args:
        model: a name in KNOWN.
        folder: where to.

    Raises:
        FetchError: the hub cannot be reached, a repository is missing or gated, or a file came out wrong.
        OSError: the disk has too little room.
    """
    known = KNOWN[model]
    files, licences = [], {}
    for part, repository in known.repositories.items():
        listed, licences[part] = _listed(part, repository)
        files += listed
    licences["cut3r"] = CUT3R_LICENCE
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / LICENCES, _licence_text(known, licences))
    tqdm.write(_licence_text(known, licences), file=sys.stderr)
    manifest = _read_manifest(folder)
    wanted = [file for file in files if not _is_there(file, folder, manifest)]
    _check_space(folder, wanted)
    for file in wanted:
        _download(file, folder)
        manifest[f"{file.part}/{file.name}"] = _entry(file, folder)
        write_text(folder / MANIFEST, to_json({"model": model, "licences": licences, "files": manifest}))
    complete = _record_cut3r(folder / known.cut3r, manifest)
    write_text(folder / MANIFEST, to_json({"model": model, "licences": licences, "files": manifest}))
    return FetchReport(_next_steps(known, folder, complete), complete)


def _listed(part: str, repository: str) -> tuple[list[_File], str]:
    """A repository's files and the licence its card states."""
    try:
        info = HfApi().model_info(repository, files_metadata=True)
    except RepositoryNotFoundError as error:
        raise FetchError(
            f"the hub does not show {repository}: it was renamed or removed, or needs a login (`hf auth login`)"
        ) from error
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise FetchError(_unreachable(repository, error)) from error
    card = info.card_data.to_dict() if info.card_data else {}
    files = [
        _File(part, repository, info.sha, item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None)
        for item in info.siblings or []
        if "/" not in item.rfilename and item.rfilename.endswith(_SUFFIXES)
    ]
    if not files:
        raise FetchError(f"{repository} holds no weights at {info.sha}; expected {', '.join(_SUFFIXES)} files")
    return files, card.get("license") or f"not stated; see the page of {repository}"


def _unreachable(what: str, error: Exception) -> str:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return (
        f"cannot reach the hub for {what} ({reason}); check the network, HF_ENDPOINT and HF_HUB_OFFLINE, then run the "
        "same command again: what is there already is kept"
    )


def _download(file: _File, folder: Path) -> None:
    """Into a partial file, which an earlier run may have begun; it gets its name when size and hash are right."""
    path, partial = file.path(folder), file.partial(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(file.repository, file.name, revision=file.revision)
    # the hub client's own download starts anew in every process
    try:
        with partial.open("ab") as out:
            if out.tell() > file.nbytes:
                out.truncate(0)
            http_get(
                url,
                out,
                resume_size=out.tell(),
                headers=build_hf_headers(),
                expected_size=file.nbytes,
                displayed_filename=f"{file.part}/{file.name}",
            )
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled) as error:
        raise FetchError(_unreachable(f"{file.repository}/{file.name}", error)) from error
    if partial.stat().st_size != file.nbytes or file.sha256 not in (None, sha256(partial)):
        partial.unlink()
        raise FetchError(
            f"{file.repository}/{file.name} came out wrong: its size or SHA-256 is not what the hub states; it was "
            "removed, run the same command again"
        )
    partial.replace(path)


def _is_there(file: _File, folder: Path, manifest: dict[str, dict]) -> bool:
    """Whether the file is whole: as the manifest recorded it of this revision, or by its hash."""
    path, known = file.path(folder), manifest.get(f"{file.part}/{file.name}", {})
    if not path.is_file() or path.stat().st_size != file.nbytes:
        return False
    if known.get("bytes") == file.nbytes and file.sha256 in (None, known.get("sha256")):
        return file.sha256 is not None or known.get("revision") == file.revision
    if file.sha256 is None or sha256(path) != file.sha256:
        return False
    manifest[f"{file.part}/{file.name}"] = _entry(file, folder)
    return True


def _entry(file: _File, folder: Path) -> dict:
    digest = file.sha256 or sha256(file.path(folder))
    return {"repository": file.repository, "revision": file.revision, "bytes": file.nbytes, "sha256": digest}


def _record_cut3r(path: Path, manifest: dict[str, dict]) -> bool:
    """Notes the file that a person put there; no hash of it is published that it could be held against."""
    if not path.is_file():
        return False
    if manifest.get(path.name, {}).get("bytes") != path.stat().st_size:
        manifest[path.name] = {"repository": "by hand", "bytes": path.stat().st_size, "sha256": sha256(path)}
    return True


def _check_space(folder: Path, wanted: list[_File]) -> None:
    held = sum(file.partial(folder).stat().st_size for file in wanted if file.partial(folder).is_file())
    needed = sum(file.nbytes for file in wanted) - held
    free = shutil.disk_usage(folder).free
    if wanted and free < needed + _KEPT_FREE_BYTES:
        raise OSError(
            f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are to come and 1 GB stays free; free some, "
            "or fetch elsewhere"
        )


def _read_manifest(folder: Path) -> dict[str, dict]:
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError):
        # it only saves hashing again
        return {}


def _next_steps(known: HubModel, folder: Path, complete: bool) -> str:
    cut3r = folder / known.cut3r
    spec = f"base={folder / 'base'},adapter={folder / 'adapter'},cut3r={cut3r}"
    if not complete:
        return (
            f"one step is left to you: the hub lacks CUT3R's file. Download {known.cut3r_page} in a browser, save it "
            f"as {cut3r} and run the same command again."
        )
    command = "python -m vlm3r_core.weights"
    return f"everything is there.\n  {command} check {spec}\n  {command} convert {spec} OUT"


def _licence_text(known: HubModel, licences: dict[str, str]) -> str:
    lines = [f"* {part} ({known.repositories.get(part, known.cut3r)}): {text}" for part, text in licences.items()]
    return "# Licences of these files\n\nAs their pages state them; the strictest holds for the whole.\n\n" + "\n".join(
        [*lines, ""]
    )
