"""ScanNet's .sens stream: cameras, poses, colour and depth of every frame. Knows no labels and no axis alignment.

Source: the published format, version 4, little endian. A header (sensor name, four 4x4 matrices, compressions, sizes,
depth unit, number of frames), then each frame: pose, two time stamps, two lengths, colour, depth. What follows, motion
data, is not read.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlm3r_core.image_encoding import decode_compressed

VERSION = 4
RAW_COLOR, PNG, JPEG = 0, 1, 2
RAW_DEPTH, ZLIB_DEPTH = 0, 1
_MATRIX = struct.Struct("<16f")
_SIZES = struct.Struct("<ii4IfQ")
_FRAME = struct.Struct("<16f4Q")
_LONGEST_NAME = 4096


@dataclass(frozen=True, eq=False)
class SensFrame:
    """Where a frame is in the file.

    Args:
        T_WC: [4, 4] float64, world from camera as recorded; not finite where tracking was lost.
        color: (offset, bytes) of the colour picture; depth likewise.
    """

    T_WC: np.ndarray
    color: tuple[int, int]
    depth: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sens:
    """An indexed stream.

    Args:
        path: the file; pictures are read from it when asked for.
        K_color: [3, 3] pixels, whole numbers at pixel centres; K_depth likewise.
        color_size: (width, height) in pixels; depth_size likewise.
        color_coding: RAW_COLOR, PNG or JPEG; depth_coding RAW_DEPTH or ZLIB_DEPTH.
        depth_unit_m: metres of one step of depth.
        frames: in the order of time.
    """

    path: Path
    K_color: np.ndarray
    K_depth: np.ndarray
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    color_coding: int
    depth_coding: int
    depth_unit_m: float
    frames: tuple[SensFrame, ...]

    def color(self, index: int) -> np.ndarray:
        """Colour of a frame, uint8 [H, W, 3].

        Raises:
            ValueError: it cannot be decoded, or has another size than the header says.
        """
        width, height = self.color_size
        content = self._bytes(self.frames[index].color)
        try:
            if self.color_coding == RAW_COLOR:
                return np.frombuffer(content, np.uint8).reshape(height, width, 3)
            rgb = decode_compressed(content)
            if rgb.shape[:2] != (height, width):
                raise ValueError(f"expected {width} x {height} pixels, got {rgb.shape[1]} x {rgb.shape[0]}")
        except ValueError as error:
            raise ValueError(f"{self.path.name}: colour of frame {index}: {error}") from None
        return rgb

    def depth_m(self, index: int) -> np.ndarray:
        """Depth of a frame along the camera's z, float32 [H, W] metres, 0 where unknown.

        Raises:
            ValueError: it cannot be decoded, or has another size than the header says.
        """
        width, height = self.depth_size
        content = self._bytes(self.frames[index].depth)
        try:
            if self.depth_coding == ZLIB_DEPTH:
                content = zlib.decompress(content)
            steps = np.frombuffer(content, "<u2").reshape(height, width)
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{self.path.name}: depth of frame {index}: {error}") from None
        return steps * np.float32(self.depth_unit_m)

    def _bytes(self, place: tuple[int, int]) -> bytes:
        with self.path.open("rb") as file:
            file.seek(place[0])
            return file.read(place[1])


def open_sens(path: Path | str) -> Sens:
    """Reads a stream's header and where its frames are; no picture is decoded.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another version or coding, a number that makes no sense, or a file that ends too early.
    """
    path = Path(path)
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(path, file, size_bytes)
        (version,) = reader.take(struct.Struct("<I"), "its version")
        if version != VERSION:
            raise ValueError(f"{path.name} is no .sens stream of version {VERSION}, its version is {version}")
        (name_bytes,) = reader.take(struct.Struct("<Q"), "its sensor's name")
        if name_bytes > _LONGEST_NAME:
            raise ValueError(f"{path.name} is damaged: its sensor's name would have {name_bytes} bytes")
        reader.skip(name_bytes, "its sensor's name")
        matrices = [np.array(reader.take(_MATRIX, "its cameras")).reshape(4, 4) for _ in range(4)]
        color_coding, depth_coding, *sizes, steps_per_m, count = reader.take(_SIZES, "its picture sizes")
        _check(path, color_coding, depth_coding, sizes, steps_per_m)
        if count > size_bytes // _FRAME.size:
            raise ValueError(f"{path.name} is damaged: {size_bytes} bytes cannot hold {count} frames")
        frames = tuple(_frame(reader, f"frame {index} of {count}") for index in range(count))
    return Sens(
        path,
        K_color=matrices[0][:3, :3],
        K_depth=matrices[2][:3, :3],
        color_size=(sizes[0], sizes[1]),
        depth_size=(sizes[2], sizes[3]),
        color_coding=color_coding,
        depth_coding=depth_coding,
        depth_unit_m=1.0 / steps_per_m,
        frames=frames,
    )


@dataclass
class _Reader:
    """Reads on and says what was being read where the file ends too early."""

    path: Path
    file: object
    size_bytes: int

    def take(self, layout: struct.Struct, what: str) -> tuple:
        content = self.file.read(layout.size)
        if len(content) < layout.size:
            self._ends(what)
        return layout.unpack(content)

    def skip(self, count: int, what: str) -> tuple[int, int]:
        """Passes over bytes and returns (offset, bytes)."""
        start = self.file.tell()
        if start + count > self.size_bytes:
            self._ends(what)
        self.file.seek(start + count)
        return start, count

    def _ends(self, what: str) -> None:
        raise ValueError(f"{self.path.name} is cut off: it ends in {what}; get the file again")


def _frame(reader: _Reader, what: str) -> SensFrame:
    *numbers, _, _, color_bytes, depth_bytes = reader.take(_FRAME, what)
    return SensFrame(np.array(numbers).reshape(4, 4), reader.skip(color_bytes, what), reader.skip(depth_bytes, what))


def _check(path: Path, color_coding: int, depth_coding: int, sizes: list[int], steps_per_m: float) -> None:
    if color_coding not in (RAW_COLOR, PNG, JPEG):
        raise ValueError(f"{path.name}: colour coding {color_coding} is not known, expected raw, PNG or JPEG (0, 1, 2)")
    if depth_coding not in (RAW_DEPTH, ZLIB_DEPTH):
        raise ValueError(f"{path.name}: depth coding {depth_coding} is not known, expected raw or zlib (0, 1)")
    if min(sizes) < 1 or max(sizes) > 1 << 16 or not (np.isfinite(steps_per_m) and steps_per_m > 0):
        raise ValueError(f"{path.name} is damaged: pictures of {sizes} pixels, {steps_per_m} steps of depth a metre")
