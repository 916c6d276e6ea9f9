"""What a server takes of one job, and how many jobs."""

from __future__ import annotations

import dataclasses

from .._option_checks import check_options
from ..errors import UsageError

MOST_TEXT = 2**20
"""Bytes of options, and of what is said beside them."""


class TooLargeError(UsageError):
    """More than the server takes."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one job may bring, and how many may wait."""

    max_upload_mib: int = 4096
    """Most MiB of files in one job."""
    max_images: int = 2000
    """Most images in one job, and most frames of a video."""
    max_pixels: int = 100_000_000
    """Most pixels of an image or of a frame."""
    max_waiting: int = 100
    """Most jobs that wait."""

    def __post_init__(self) -> None:
        check_options(self, at_least={field.name: 1 for field in dataclasses.fields(self)})

    @property
    def upload_bytes(self) -> int:
        return self.max_upload_mib * 2**20 + 2 * MOST_TEXT
