"""Pixels of many views in unnamed temporary files (TMPDIR), so that reading does not fill the memory."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from jaxtyping import UInt8

from ...errors import OutputError
from ...files.writing import output_errors
from .network_image import NetworkImage

_REMEDY = "free some space, or set the environment variable TMPDIR to a folder on another disk"


def _disk_errors(needed_bytes: int) -> contextlib.AbstractContextManager[None]:
    """Raises OutputError, which names the temporary folder, when the disk is full."""
    return output_errors(Path(tempfile.gettempdir()), needed_bytes, _REMEDY)


def _temporary_file() -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(prefix="manyview-"))
    except OSError as error:
        raise OutputError(f"no temporary file can be made ({error.strerror}); {_REMEDY}") from error


def _reserve(handle: int, size: int) -> None:
    """Space for `size` bytes, or OSError: a map of a file that finds no space would end the program."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


class PixelSpool:
    """Keeps pixels in the order in which they come and gives them back in that order; a context manager."""

    def __init__(self) -> None:
        self._file = _temporary_file()

    def __enter__(self) -> PixelSpool:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of what a full disk left unwritten, which `keep` has reported
            self._file.close()

    def keep(self, view: NetworkImage) -> NetworkImage:
        """The view with its pixels on the disk; what it keeps of them is their shape."""
        with _disk_errors(view.pixels.nbytes):
            self._file.write(np.ascontiguousarray(view.pixels).data)
            self._file.flush()
        shape = np.broadcast_to(np.uint8(0), view.pixels.shape)
        return dataclasses.replace(view, pixels=shape)

    def rewind(self) -> None:
        self._file.seek(0)

    def next(self, shape: tuple[int, ...]) -> UInt8[np.ndarray, "height width 3"]:
        """The next view's pixels."""
        return np.frombuffer(self._file.read(math.prod(shape)), dtype=np.uint8).reshape(shape)


class DiskImages:
    """A uint8 array on the disk, mapped; it goes with the last reference to it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = max(1, math.prod(shape))
        with _temporary_file() as file:
            with _disk_errors(size):
                _reserve(file.fileno(), size)
            self._map = mmap.mmap(file.fileno(), size)
        self.array: UInt8[np.ndarray, "views height width 3"] = np.frombuffer(
            self._map, dtype=np.uint8, count=math.prod(shape)
        ).reshape(shape)

    def release(self) -> None:
        """Let the system reclaim the memory of what was read; it is read again when needed."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
