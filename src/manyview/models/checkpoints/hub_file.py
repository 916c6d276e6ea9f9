"""One large file of the hub: asked for within a time limit, downloaded so that it resumes, and checked."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from ...errors import WeightsError
from ...files.schema import file_sha256
from ...files.writing import format_bytes
from .hub_errors import full_disk, hub_errors

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file of a repository as the hub describes it; `etag` is its SHA-256 if it is a large one."""

    name: str
    url: str
    commit: str
    etag: str
    size: int | None

    @property
    def is_large(self) -> bool:
        """Whether the hub states its checksum."""
        return self.size is not None and _SHA256.fullmatch(self.etag) is not None


def within(seconds: float, ask: Callable[[], T]) -> T:
    """What `ask` returns or raises; TimeoutError after so many seconds, even where names are looked up."""
    answer: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answer.put((ask(), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = answer.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def partial_path(folder: Path, file: RemoteFile) -> Path:
    """Where a download of `file` into the cache's folder of its repository is kept until it is whole."""
    return folder / "blobs" / f"{file.etag}.manyview.incomplete"


def fetch(hub: Any, file: RemoteFile, folder: Path, repo_id: str) -> None:
    """Bring a large file into the cache's folder of its repository, as `hf_hub_download` looks for it.

    What an earlier call left is resumed. WeightsError if it breaks off, does not fit on the disk, or is not
    what the hub states.
    """
    assert file.size is not None
    blob, part = folder / "blobs" / file.etag, partial_path(folder, file)
    lock = folder.parent / ".locks" / folder.name / f"{file.etag}.lock"  # the hub's library takes it too
    with hub_errors(hub, repo_id, started=True):
        for path in (blob, lock):
            path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(str(lock)):
            if blob.exists():
                return
            have = part.stat().st_size if part.exists() else 0
            if have > file.size:
                have = 0
                part.unlink()
            if shutil.disk_usage(blob.parent).free < file.size - have:
                raise full_disk(repo_id)
            if have:
                logger.info("%s is resumed after %s", file.name, format_bytes(have))
            with part.open("ab") as target:
                hub.file_download.http_get(
                    file.url,
                    target,
                    resume_size=have,
                    headers=hub.utils.build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.name,
                )
            if file_sha256(part) != file.etag:
                part.unlink()
                raise WeightsError(
                    f"{file.name} of {repo_id} arrived with another checksum than the hub states and was "
                    "removed: run it again"
                )
            os.replace(part, blob)


def discard_damaged(path: Path, sha256: str | None = None) -> bool:
    """Remove a file of the hub's cache whose content is not that of its checksum; whether it was so.

    Args:
        path: A file in a snapshot folder; others are left alone.
        sha256: Its checksum where that is known already.
    """
    blob = Path(os.path.realpath(path))
    if not path.is_symlink() or blob.parent.name != "blobs" or _SHA256.fullmatch(blob.name) is None:
        return False
    if (sha256 or file_sha256(blob)) == blob.name:
        return False
    with contextlib.suppress(OSError):
        blob.unlink()
        path.unlink()
    return True
