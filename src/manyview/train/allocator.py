"""Keep freed memory in the process: a training step asks for the same large buffers again and again."""

from __future__ import annotations

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Tell the C library not to give large buffers back to the system; whether it could be told.

    By default glibc maps every buffer above 32 MB afresh and returns it when freed, so that each use pays
    a page fault for every 4 KB. Only glibc on Linux is concerned; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018 - other C libraries lack it
        told = [
            library.mallopt(_M_MMAP_MAX, 0),
            library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
            library.mallopt(_M_TOP_PAD, 64 << 20),
        ]
    except (OSError, AttributeError):
        return False
    logger.debug("freed memory stays in the process: %s", told)
    return all(told)
