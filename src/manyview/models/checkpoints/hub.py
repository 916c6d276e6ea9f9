"""Weights from the Hugging Face hub: downloaded once, kept in its cache, usable offline."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ManyViewError, MissingExtraError, UsageError, WeightsError
from .folder import SHARD_INDEXES, SINGLE_FILES, card_licence, shard_names

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+")


@dataclasses.dataclass(frozen=True)
class HubFiles:
    """A weights file (or shard index) of a repository in the local cache, and the commit it belongs to."""

    path: Path
    commit: str | None
    licence: str | None


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form "organisation/repository"."""
    return _HUB_ID.fullmatch(name) is not None


@dataclasses.dataclass(frozen=True)
class HubRequest:
    """One repository at one revision (None: the newest), and how it may be reached.

    `file` names the weights where the usual names are not meant. `offline` None follows the environment
    (HF_HUB_OFFLINE); True never touches the network.
    """

    repo_id: str
    revision: str | None = None
    offline: bool | None = None
    cache_dir: Path | None = None
    progress: bool = True
    file: str | None = None

    def download(self) -> HubFiles:
        """Find or fetch the weights; WeightsError or UsageError says why they cannot be had."""
        hub = _hub()
        with self._progress(hub):
            for name in SINGLE_FILES if self.file is None else (self.file,):
                path = self._fetch(hub, name)
                if path is not None:
                    return self._files(hub, path)
            for name in SHARD_INDEXES if self.file is None else ():
                path = self._fetch(hub, name)
                if path is not None:
                    for shard in shard_names(path):
                        if self._fetch(hub, shard) is None:
                            raise WeightsError(f"{self.repo_id} on the hub lacks the shard {shard}")
                    return self._files(hub, path.parent)
        raise WeightsError(self._nothing_found(hub))

    def _files(self, hub: Any, path: Path) -> HubFiles:
        self._fetch(hub, "config.json")
        folder = path if path.is_dir() else path.parent
        commit = folder.name if folder.parent.name == "snapshots" else None
        return HubFiles(path, commit, self._licence(hub))

    def _fetch(self, hub: Any, name: str) -> Path | None:
        """Local path of one file, or None if the repository (offline: the cache) has no such file."""
        errors = hub.errors
        try:
            path = hub.hf_hub_download(
                self.repo_id,
                name,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=self._offline(hub),
            )
        except errors.LocalEntryNotFoundError as error:
            if self._offline(hub):
                return None
            raise WeightsError(
                f"{self.repo_id} cannot be downloaded: the hub does not answer and {name} is not in the "
                "local cache; check the network, or give a weights file or folder"
            ) from error
        except errors.EntryNotFoundError:
            return None
        except Exception as error:
            known = self._explain(errors, error)
            if known is None:
                raise
            raise known from error
        return Path(path)

    def _explain(self, errors: Any, error: Exception) -> ManyViewError | None:
        """What an exception of the hub's library means, as one of our errors."""
        if isinstance(error, errors.GatedRepoError):
            return WeightsError(
                f"{self.repo_id} is gated: accept its licence on https://huggingface.co/{self.repo_id} "
                "and log in with 'hf auth login'"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return UsageError(
                f"{self.repo_id} is neither a local path nor a repository on the hub that can be seen from "
                "here: check the name, or log in with 'hf auth login' if it is private"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return UsageError(f"{self.repo_id} on the hub has no revision {self.revision!r}")
        if isinstance(error, errors.HFValidationError):
            return UsageError(f"{self.repo_id!r} is not a valid name of a repository on the hub")
        if isinstance(error, errors.OfflineModeIsEnabled):
            return WeightsError(f"{self.repo_id} cannot be downloaded: the hub's offline mode is on")
        if isinstance(error, errors.HfHubHTTPError):
            return WeightsError(f"the hub refused to send {self.repo_id}: {str(error).splitlines()[0]}")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return WeightsError(
                f"the disk is full: {self.repo_id} could not be stored in the hub's cache; free some space, "
                "or choose another folder with cache_dir or HF_HOME"
            )
        # Connection errors of the HTTP libraries (httpx, requests) that the hub's library lets through.
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore", "requests", "urllib3") or isinstance(
            error, (ConnectionError, TimeoutError)
        ):
            return WeightsError(
                f"the download of {self.repo_id} broke off ({type(error).__name__}): run it again, it resumes"
            )
        return None

    def _nothing_found(self, hub: Any) -> str:
        wanted = f"{self.repo_id} (revision {self.revision})" if self.revision else self.repo_id
        if self._offline(hub):
            return (
                f"{wanted} is not in the local cache and offline mode is on: download it once with a network"
            )
        expected = self.file or f"{', '.join(SINGLE_FILES[:2])} or shards of them"
        return f"{wanted} on the hub holds no weights: expected {expected}"

    def _offline(self, hub: Any) -> bool:
        return bool(hub.constants.HF_HUB_OFFLINE if self.offline is None else self.offline)

    def _licence(self, hub: Any) -> str | None:
        """The licence named at the head of the repository's model card, if that is at hand."""
        try:
            card = self._fetch(hub, "README.md")
        except ManyViewError as error:
            logger.debug("no model card of %s: %s", self.repo_id, error)
            return None
        return None if card is None else card_licence(card)

    @contextlib.contextmanager
    def _progress(self, hub: Any) -> Iterator[None]:
        """Hide the hub's progress bars for the time of a download if the caller wants none."""
        quiet = not self.progress and not hub.utils.are_progress_bars_disabled()
        if quiet:
            hub.utils.disable_progress_bars()
        try:
            yield
        finally:
            if quiet:
                hub.utils.enable_progress_bars()


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingExtraError("downloading weights from the hub", "hub") from error
    return huggingface_hub
