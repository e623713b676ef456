"""Pictures that lie in files or inside Parquet tables, as pixels. Knows no benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from vlm3r_core.image_encoding import decode_compressed


@dataclass(frozen=True)
class StoredPicture:
    """A picture file kept in a cell of a Parquet table.

    Args:
        path: the table.
        column: of the cell; it holds bytes, a struct with `bytes`, or a list of either.
        row: of the cell.
        index: of the picture in a list.
    """

    path: Path
    column: str
    row: int
    index: int = 0

    def data(self) -> bytes:
        """The bytes of the picture file.

        Raises:
            ValueError: the cell holds no such picture.
        """
        group, row = _row_group(self.path, self.row)
        cell = _column(self.path, self.column, group)[row].as_py()
        cells = cell if isinstance(cell, list) else [cell]
        found = cells[self.index] if self.index < len(cells) else None
        found = found.get("bytes") if isinstance(found, dict) else found
        if not isinstance(found, bytes):
            raise ValueError(
                f"{self.path}: row {self.row} has no picture {self.index} in {self.column}; download the file again"
            )
        return found


def read_picture(picture: Path | StoredPicture) -> np.ndarray:
    """Pixels of a picture, uint8 [H, W, 3].

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded.
    """
    if isinstance(picture, StoredPicture):
        return decode_compressed(picture.data())
    if not picture.is_file():
        raise FileNotFoundError(f"picture {picture} does not exist; unpack the benchmark's images")
    return decode_compressed(picture.read_bytes())


def _row_group(path: Path, row: int) -> tuple[int, int]:
    """Number of the row group that has a row, and the row's place in it."""
    start = 0
    for group, length in enumerate(_group_lengths(path)):
        if row < start + length:
            return group, row - start
        start += length
    raise ValueError(f"{path} has {start} rows, row {row} was asked for; download the file again")


@lru_cache(maxsize=8)
def _group_lengths(path: Path) -> tuple[int, ...]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        return tuple(file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups))


# One row group's pictures may be hundreds of megabytes.
@lru_cache(maxsize=1)
def _column(path: Path, column: str, group: int):
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        return file.read_row_group(group, columns=[column]).column(column)
