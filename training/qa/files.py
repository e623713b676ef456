"""Files of a question set: their names, and writing them whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

QUESTIONS, TABLE, TRAIN = "questions.jsonl", "questions.parquet", "train.json"
SCENES, FRAMES = "scene_metadata.json", "frame_metadata.json"
REJECTED, STATISTICS, MANIFEST = "rejected.json", "statistics.html", "manifest.json"
VIDEOS, PARTS = "videos", "parts"
FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK_BYTES = 1 << 20


def file_name(scene_id: str) -> str:
    """A scene's name as a file's: what a file system may not like is written as in URLs."""
    name = quote(scene_id, safe=" ")
    return name if name.strip(".") else name.replace(".", "%2E")


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """A name to write to beside a path; what is there becomes the path in the end, unless an error came.

    Raises:
        OSError: it cannot be written; where the disk is full the message says what to do.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def disk_full(path: Path) -> OSError:
    """What to tell where there is no room for a file."""
    return OSError(
        errno.ENOSPC,
        f"the disk is full, {path} cannot be written; make room and give the same command again, finished scenes stay",
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    with partial_file(path) as partial:
        partial.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))


def write_lines(path: Path, lines: Iterable[str], *, first: str = "", between: str = "\n", last: str = "\n") -> None:
    """Writes texts one after the other, whole or not at all, without holding them all."""
    with partial_file(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        file.write(first)
        for index, line in enumerate(lines):
            file.write(between if index else "")
            file.write(line)
        file.write(last)


def place_video(source: Path, target: Path, *, move: bool) -> None:
    """Puts a video file or a folder of images where the set wants it, whole or not at all.

    Args:
        source: where it is.
        target: where it belongs; what is there already is replaced.
        move: whether the source may go; else it is linked, or copied where that is not possible.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial"))
    try:
        fresh = work / "fresh"
        if move:
            shutil.move(source, fresh)
        elif source.is_dir():
            shutil.copytree(source, fresh, copy_function=_link_or_copy)
        else:
            _link_or_copy(source, fresh)
        if target.exists():
            os.replace(target, work / "old")
        os.replace(fresh, target)
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(target) from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def sha256(path: Path) -> str:
    """The file's digest."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copyfile(source, target)
