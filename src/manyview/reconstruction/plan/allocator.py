"""What the C library and oneDNN keep of freed memory while results are made: little."""

from __future__ import annotations

import ctypes
import logging
import os
import sys

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_GIVEN_BACK = 1 << 20
_ONEDNN_CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def bound_caches() -> bool:
    """Give freed memory back to the system, and let oneDNN keep few primitives; for a program's start.

    By default glibc raises the size from which buffers are mapped one by one to 32 MiB as they are freed, and
    fragments of smaller ones stay in the process: a pass takes 1.2 to 4 times its tensors. With a fixed size
    of 1 MiB it takes what they take, so that the estimate of memory holds for the process. oneDNN reads its
    setting (which the environment may already have) when PyTorch is first imported.

    Returns:
        Whether the C library took it: False on systems without glibc.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(_ONEDNN_CAPACITY, "64")
    return _configure({_M_MMAP_THRESHOLD: _GIVEN_BACK, _M_TRIM_THRESHOLD: _GIVEN_BACK, _M_ARENA_MAX: 1})


def _configure(settings: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018 - other C libraries lack it
        accepted = [library.mallopt(name, value) for name, value in settings.items()]
    except (OSError, AttributeError):
        return False
    logger.debug("glibc's malloc took %s of %s", accepted, settings)
    return all(accepted)
