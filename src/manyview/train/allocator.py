"""Keep freed memory in the process: every training step allocates the same large buffers."""

from __future__ import annotations

import ctypes
import logging
import sys

logger = logging.getLogger(__name__)

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Configure glibc to reuse large buffers; returns whether it did (False on other systems).

    By default glibc maps every buffer above 32 MB anew and unmaps it when freed, so that each use costs a
    page fault per 4 KB.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018 - other C libraries lack it
        accepted = [
            library.mallopt(_M_MMAP_MAX, 0),
            library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1),
            library.mallopt(_M_TOP_PAD, 64 << 20),
        ]
    except (OSError, AttributeError):
        return False
    logger.debug("freed memory stays in the process: %s", accepted)
    return all(accepted)
