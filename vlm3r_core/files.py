"""Files written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# EFBIG is what a limit on file sizes gives.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """A name to write to beside a path; what is written there becomes the path at the end, unless an error came.

    Args:
        path: file to write, replaced if it exists; its folder is made if need be.

    Raises:
        OSError: it cannot be written; what was there stays. Where the disk is full the message says what to do.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the ending stays last: some writers go by it
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        full = f"the disk is full, {path} cannot be written; make room and try again, what was there stays"
        raise OSError(errno.ENOSPC, full) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all; raises as whole_file."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_bytes(path: Path | str, content: bytes) -> None:
    """Writes a file whole or not at all; raises as whole_file."""
    with whole_file(path) as partial:
        partial.write_bytes(content)
