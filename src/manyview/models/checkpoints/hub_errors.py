"""What the exceptions of the hub's library mean, each as one sentence."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from ...errors import ManyViewError, NotDownloadedError, UsageError, WeightsError

# Of the HTTP libraries that the hub's library has used so far; it lets their exceptions through.
_HTTP_LIBRARIES = ("httpx", "httpcore", "requests", "urllib3")


@contextlib.contextmanager
def hub_errors(hub: Any, repo_id: str, revision: str | None = None, *, started: bool) -> Iterator[None]:
    """Raise errors of ours for those of the hub's library; `started`: after the first byte of the weights."""
    try:
        yield
    except ManyViewError:
        raise
    except Exception as error:
        found = _started(repo_id, error) if started else None
        found = found or _explained(hub.errors, repo_id, revision, error)
        if found is None:
            raise
        raise found from error


def _started(repo_id: str, error: Exception) -> ManyViewError | None:
    """For a download that broke off; None for an answer of the hub."""
    broken = _is_connection_error(error) or (isinstance(error, OSError) and "size" in str(error))
    if not broken or getattr(error, "response", None) is not None:
        return None
    return WeightsError(
        f"the download of {repo_id} broke off ({type(error).__name__}): run it again, it resumes; "
        "--offline works with the weights that are here"
    )


def _explained(errors: Any, repo_id: str, revision: str | None, error: Exception) -> ManyViewError | None:
    if isinstance(error, errors.GatedRepoError):
        return NotDownloadedError(
            f"{repo_id} is gated: accept its licence on https://huggingface.co/{repo_id} "
            "and log in with 'hf auth login'"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(
            f"{repo_id} is neither a local path nor a repository on the hub that can be seen from "
            "here: check the name, or log in with 'hf auth login' if it is private"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"{repo_id} on the hub has no revision {revision!r}")
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"{repo_id!r} is not a valid name of a repository on the hub")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return NotDownloadedError(f"{repo_id} cannot be downloaded: the hub's offline mode is on")
    if isinstance(error, errors.HfHubHTTPError):
        return NotDownloadedError(f"the hub refused to send {repo_id}: {str(error).splitlines()[0]}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return full_disk(repo_id)
    if isinstance(error, PermissionError):
        return NotDownloadedError(
            f"{repo_id} could not be stored: {error.filename} may not be written; choose another folder "
            "with cache_dir or HF_HOME"
        )
    # Also what the library makes of a connection that fails between two questions.
    if _is_connection_error(error) or isinstance(error, errors.LocalEntryNotFoundError):
        return NotDownloadedError(
            f"{repo_id} cannot be downloaded: the hub does not answer and the weights are not in the local "
            "cache; check the network, or give a weights file or folder"
        )
    return None


def full_disk(repo_id: str) -> WeightsError:
    """For weights that do not fit on the disk of the cache."""
    return NotDownloadedError(
        f"the disk is full: {repo_id} could not be stored in the hub's cache; free some space, "
        "or choose another folder with cache_dir or HF_HOME"
    )


def _is_connection_error(error: Exception) -> bool:
    library = type(error).__module__.split(".")[0]
    return library.startswith(_HTTP_LIBRARIES) or isinstance(error, (ConnectionError, TimeoutError))
