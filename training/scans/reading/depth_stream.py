"""ScanNet++'s iPhone depth: one file of compressed pictures, in either of its two layouts. Knows no poses.

Source: the published tools. Either the whole file is one raw deflate stream of float32 metres; or each picture has its
length in front, and is lz4 (uint16 millimetres) or raw deflate (float32 metres).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from pathlib import Path

import lz4.block
import numpy as np

SIZE = (256, 192)  # width, height
_PIXELS = SIZE[0] * SIZE[1]
_CHUNK_BYTES = 1 << 20


def read_depths(path: Path, wanted: Collection[int]) -> dict[int, np.ndarray]:
    """Some pictures of a depth stream, float32 [192, 256] metres by number; those beyond the end are missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is neither layout, or damaged.
    """
    lengths = _lengths(path)
    try:
        return _from_stream(path, set(wanted)) if lengths is None else _from_pieces(path, lengths, wanted)
    except (zlib.error, lz4.block.LZ4BlockError, ValueError) as error:
        raise ValueError(f"{path.name} is no readable depth stream: {error}") from None


def _lengths(path: Path) -> list[int] | None:
    """Bytes of each picture; None where lengths do not lead to the end of the file, so that it has none."""
    left, lengths = path.stat().st_size, []
    with path.open("rb") as file:
        while left:
            length = int.from_bytes(file.read(4), "little")
            left -= 4 + length
            if left < 0 or not length:
                return None
            lengths.append(length)
            file.seek(length, 1)
    return lengths


def _from_pieces(path: Path, lengths: list[int], wanted: Collection[int]) -> dict[int, np.ndarray]:
    starts = np.cumsum([4, *(length + 4 for length in lengths)])
    found = {}
    with path.open("rb") as file:
        for number in sorted(wanted):
            if 0 <= number < len(lengths):
                file.seek(int(starts[number]))
                found[number] = _picture(file.read(lengths[number]))
    return found


def _picture(content: bytes) -> np.ndarray:
    try:
        millimetres = np.frombuffer(lz4.block.decompress(content, uncompressed_size=2 * _PIXELS), "<u2")
    except lz4.block.LZ4BlockError:
        return np.frombuffer(zlib.decompress(content, wbits=-zlib.MAX_WBITS), "<f4").reshape(SIZE[::-1])
    return millimetres.reshape(SIZE[::-1]) * np.float32(1e-3)


def _from_stream(path: Path, wanted: set[int]) -> dict[int, np.ndarray]:
    unpack, found, number, held = zlib.decompressobj(-zlib.MAX_WBITS), {}, 0, b""
    last, one = max(wanted, default=-1), 4 * _PIXELS
    with path.open("rb") as file:
        while number <= last and (content := file.read(_CHUNK_BYTES)):
            held += unpack.decompress(content)
            whole = len(held) // one
            for place in range(whole):
                if number + place in wanted:
                    piece = held[place * one : (place + 1) * one]
                    found[number + place] = np.frombuffer(piece, "<f4").reshape(SIZE[::-1])
            held, number = held[whole * one :], number + whole
    if number <= last and (held or not unpack.eof):
        raise ValueError(f"it is cut off after {number} pictures")
    return found
