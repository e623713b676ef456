"""Which scans of a collection are wanted and what they lack. Opens none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

SPLITS = ("train", "val", "all")


def names_in_split(roots: Sequence[Path], file_name: str, split: str) -> frozenset[str] | None:
    """The scans of a split; None for all of them.

    Args:
        roots: folders in which the list may be.
        file_name: of the list, one name a line.
        split: one of SPLITS.

    Raises:
        FileNotFoundError: there is no list. Benchmarks ask about the scans of the other split, so none is guessed.
        ValueError: the list is empty or not a text.
    """
    if split == "all":
        return None
    for root in roots:
        path = root / file_name
        if path.is_file():
            names = frozenset(path.read_text(encoding="utf-8", errors="replace").split())
            if not names:
                raise ValueError(f"{path} names no scan")
            return names
    raise FileNotFoundError(
        f"expected {file_name} in {roots[0]}, the list of the scans of split {split!r}: it keeps benchmark scans "
        "out of training data; put it there, or ask for the split 'all'"
    )


def lacking(folder: Path, names: Iterable[str]) -> str:
    """Which files a scan lacks, as the reason why it is skipped; "" where it has them all."""
    gone = [name for name in names if not (folder / name).is_file()]
    return f"there is no {', no '.join(gone)} in {folder.name}" if gone else ""


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder by name; none where it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []
