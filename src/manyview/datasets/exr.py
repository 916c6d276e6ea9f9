"""OpenEXR files of one channel, as depth maps are stored: scan lines, raw or packed by ZIP."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float

_MAGIC = b"v/1\x01"
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f2"), 2: np.dtype("<f4")}
_LINES = {0: 1, 2: 1, 3: 16}
"""Lines of a block by compression: none, ZIPS, ZIP."""


_MOST_PACKED = 1100
"""Times that ZIP can make data smaller."""


def read_exr(data: bytes) -> Float[np.ndarray, "height width"]:
    """The channel of an image, in half or single precision.

    Raises:
        ValueError: The file is damaged, or has several channels, tiles, parts, or another compression.
    """
    try:
        return _read(data)
    except (struct.error, KeyError, IndexError, zlib.error, OverflowError) as error:
        raise ValueError(f"no whole OpenEXR file ({error!r})") from error


def _read(data: bytes) -> np.ndarray:
    if data[:4] != _MAGIC or struct.unpack_from("<I", data, 4)[0] & ~0x4FF:
        raise ValueError("no OpenEXR file of scan lines")
    header, at = _header(data)
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    end = header["channels"].index(b"\0")
    if len(header["channels"]) != end + 1 + 16 + 1:
        raise ValueError("expected one channel")
    pixel = _TYPES[struct.unpack_from("<i", header["channels"], end + 1)[0]]
    packing = header["compression"][0]
    if packing not in _LINES or not (0 < width < 2**16 and 0 < height < 2**16):
        raise ValueError(f"{width}x{height} pixels in compression {packing}; expected none or ZIP")
    if width * height > _MOST_PACKED * len(data):
        raise ValueError(f"{len(data)} bytes cannot hold {width}x{height} pixels")
    lines = np.zeros((height, width), dtype=pixel)
    for start in struct.unpack_from(f"<{-(-height // _LINES[packing])}Q", data, at):
        y, size = struct.unpack_from("<ii", data, start)
        block = lines[y - top : y - top + _LINES[packing]]
        if y < top or not len(block) or size < 0:
            raise ValueError(f"a block begins at line {y}")
        packed = data[start + 8 : start + 8 + size]
        if len(packed) < block.nbytes and packing:
            packed = _unpacked(packed, block.nbytes)
        block[:] = np.frombuffer(packed, pixel, block.size).reshape(block.shape)
    return lines.astype(np.float32)


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    """(attributes, where they end)."""
    attributes, at = {}, 8
    while data[at]:
        name = data.index(b"\0", at)
        kind = data.index(b"\0", name + 1)
        (size,) = struct.unpack_from("<i", data, kind + 1)
        if size < 0:
            raise ValueError("an attribute has a size below zero")
        attributes[data[at:name].decode("latin-1")] = data[kind + 5 : kind + 5 + size]
        at = kind + 5 + size
    return attributes, at + 1


def _unpacked(packed: bytes, size: int) -> bytes:
    """ZIP: differences of bytes, of which the even ones come first."""
    unpacker = zlib.decompressobj()
    values = np.frombuffer(unpacker.decompress(packed, size), np.uint8)
    if len(values) != size:
        raise ValueError("a block is too short")
    steps = values.copy()
    steps[1:] -= 128
    values = np.cumsum(steps, dtype=np.uint8)
    half = (size + 1) // 2
    result = np.empty(size, np.uint8)
    result[::2], result[1::2] = values[:half], values[half:]
    return result.tobytes()
