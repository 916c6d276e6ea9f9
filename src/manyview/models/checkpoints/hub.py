"""Weights from the Hugging Face hub: downloaded once, kept in its cache, usable offline."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import ManyViewError, MissingExtraError, NotDownloadedError, WeightsError
from ...files.writing import format_bytes
from .folder import SHARD_INDEXES, SINGLE_FILES, card_licence, shard_names
from .hub_errors import hub_errors
from .hub_file import RemoteFile, fetch, within
from .named import NamedModel

logger = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[\w.\-]+")
TIMEOUT_S = 10.0
"""Seconds that a hub may take for its first answer."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class HubFiles:
    """Weights of a repository in the local cache, a file or the folder of shards, and their commit."""

    path: Path
    commit: str | None
    licence: str | None

    @property
    def size_bytes(self) -> int:
        """Bytes of the file, or of all files of the folder."""
        files = self.path.iterdir() if self.path.is_dir() else (self.path,)
        return sum(file.stat().st_size for file in files if file.is_file())


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form "organisation/repository"."""
    return _HUB_ID.fullmatch(name) is not None


@dataclasses.dataclass(frozen=True)
class HubRequest:
    """One repository at one revision (None: the newest), and how it may be reached.

    `file` names the weights where the usual names are not meant. `offline` None follows the environment
    (HF_HUB_OFFLINE); True makes no request. `licence` is logged before a download, if it is known.
    `timeout_s`: seconds after which a request that the hub has not answered fails (None: `TIMEOUT_S`).
    """

    repo_id: str
    revision: str | None = None
    offline: bool | None = None
    cache_dir: Path | None = None
    progress: bool = True
    file: str | None = None
    licence: str | None = None
    timeout_s: float | None = None

    def download(self) -> HubFiles:
        """Find or fetch the weights; WeightsError or UsageError says why they cannot be had.

        NotDownloadedError if nothing of them is here and nothing could be fetched. The cache is enough where
        the revision is a commit, and where the hub does not answer.
        """
        hub = _hub()
        if self._offline(hub) or _COMMIT.fullmatch(self.revision or ""):
            found = self._cached(hub)
            if found is None and self._offline(hub):
                raise NotDownloadedError(self._not_cached)
            if found is not None:
                return found
        try:
            return self._downloaded(hub)
        except NotDownloadedError:
            found = self._cached(hub)
            if found is None:
                raise
            return found

    def cached(self) -> HubFiles | None:
        """The weights in the cache, or None; never touches the network."""
        try:
            return self._cached(_hub())
        except WeightsError:  # shards of which some are missing
            return None

    def ask(self) -> None:
        """Raise NotDownloadedError or UsageError unless the hub answers, without downloading anything."""
        hub = _hub()
        if self._offline(hub):
            raise NotDownloadedError(self._not_cached)
        self._ask(hub, self._single_files[0])

    @property
    def _not_cached(self) -> str:
        state = "is not in the local cache and offline mode is on"
        return f"{self._wanted} {state}: download it once with a network"

    @property
    def _wanted(self) -> str:
        return f"{self.repo_id} (revision {self.revision})" if self.revision else self.repo_id

    @property
    def _single_files(self) -> tuple[str, ...]:
        return SINGLE_FILES if self.file is None else (self.file,)

    @property
    def _indexes(self) -> tuple[str, ...]:
        return SHARD_INDEXES if self.file is None else ()

    def _cached(self, hub: Any) -> HubFiles | None:
        for name in self._single_files:
            path = self._local(hub, name)
            if path is not None:
                return self._files(hub, path, local=True)
        for name in self._indexes:
            path = self._local(hub, name)
            if path is not None:
                for shard in shard_names(path):
                    if self._local(hub, shard) is None:
                        raise WeightsError(f"{self.repo_id} in the local cache lacks the shard {shard}")
                return self._files(hub, path.parent, local=True)
        return None

    def _downloaded(self, hub: Any) -> HubFiles:
        for name in self._single_files:
            file = self._ask(hub, name)
            if file is not None:
                return self._files(hub, self._fetched(hub, [file])[0])
        for name in self._indexes:
            file = self._ask(hub, name)
            if file is not None:
                index = self._library(hub, name)
                assert index is not None
                shards = {shard: self._ask(hub, shard) for shard in shard_names(index)}
                lacking = [shard for shard, one in shards.items() if one is None]
                if lacking:
                    raise WeightsError(f"{self.repo_id} on the hub lacks the shard {lacking[0]}")
                return self._files(hub, self._fetched(hub, [s for s in shards.values() if s])[0].parent)
        expected = self.file or f"{', '.join(SINGLE_FILES[:2])} or shards of them"
        raise WeightsError(f"{self._wanted} on the hub holds no weights: expected {expected}")

    def _ask(self, hub: Any, name: str) -> RemoteFile | None:
        """What the hub says of a file; None if the repository has no such file."""
        url = hub.hf_hub_url(self.repo_id, name, revision=self.revision)
        with hub_errors(hub, self.repo_id, self.revision, started=False):
            seconds = self.timeout_s or TIMEOUT_S
            try:
                found = within(seconds, lambda: hub.get_hf_file_metadata(url=url, timeout=seconds))
            except hub.errors.EntryNotFoundError:
                return None
            if not found.commit_hash or not found.etag:
                raise ConnectionError("an answer of something else than a hub")
        url = hub.hf_hub_url(self.repo_id, name, revision=found.commit_hash)
        return RemoteFile(name, url, found.commit_hash, found.etag, found.size)

    def _fetched(self, hub: Any, files: list[RemoteFile]) -> list[Path]:
        """Local paths of weights, which come last: where they are, the smaller files are too."""
        folder = self._cache(hub) / f"models--{self.repo_id.replace('/', '--')}"
        lacking = [file for file in files if file.is_large and not (folder / "blobs" / file.etag).exists()]
        self._library(hub, "config.json")
        if lacking:
            licence = self.licence or self._licence(hub) or "not stated"
            size = format_bytes(sum(file.size or 0 for file in lacking))
            # Programs that do not set up logging see it, too.
            text = "downloading %s once: %s, licence %s, to %s"
            logger.warning(text, self.repo_id, size, licence, folder)
        for file in lacking:
            with contextlib.nullcontext() if self.progress else _without_bars(hub):
                fetch(hub, file, folder, self.repo_id)
        paths = [self._library(hub, file.name) for file in files]
        return [path for path in paths if path is not None]

    def _files(self, hub: Any, path: Path, local: bool = False) -> HubFiles:
        folder = path if path.is_dir() else path.parent
        commit = folder.name if folder.parent.name == "snapshots" else None
        return HubFiles(path, commit, self._licence(hub, local))

    def _library(self, hub: Any, name: str) -> Path | None:
        """Local path of a file, which the hub's library downloads if it is not in its cache; None without."""
        with hub_errors(hub, self.repo_id, self.revision, started=True), _without_bars(hub):
            try:
                return Path(
                    hub.hf_hub_download(self.repo_id, name, revision=self.revision, cache_dir=self.cache_dir)
                )
            except hub.errors.LocalEntryNotFoundError:
                raise
            except hub.errors.EntryNotFoundError:
                return None

    def _local(self, hub: Any, name: str) -> Path | None:
        """Local path of a file that is in the cache."""
        with hub_errors(hub, self.repo_id, self.revision, started=False):
            # Of the library's functions this one alone never asks the hub for anything.
            path = hub.try_to_load_from_cache(
                self.repo_id, name, cache_dir=self.cache_dir, revision=self.revision
            )
        return Path(path) if isinstance(path, str) else None

    def _cache(self, hub: Any) -> Path:
        return Path(self.cache_dir or hub.constants.HF_HUB_CACHE).expanduser().resolve()

    def _offline(self, hub: Any) -> bool:
        return bool(hub.constants.HF_HUB_OFFLINE if self.offline is None else self.offline)

    def _licence(self, hub: Any, local: bool = False) -> str | None:
        """The licence named at the head of the repository's model card, if that is at hand."""
        try:
            card = self._local(hub, "README.md") if local else self._library(hub, "README.md")
        except ManyViewError as error:
            logger.debug("no model card of %s: %s", self.repo_id, error)
            return None
        return None if card is None else card_licence(card)


@contextlib.contextmanager
def _without_bars(hub: Any) -> Iterator[None]:
    """Hide the progress bars of the hub's library."""
    shown = not hub.utils.are_progress_bars_disabled()
    if shown:
        hub.utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            hub.utils.enable_progress_bars()


def named_request(
    row: NamedModel,
    offline: bool | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
    timeout_s: float | None = None,
) -> HubRequest:
    """What is asked of the hub for weights that have a name there."""
    assert row.hub_id is not None
    return HubRequest(
        row.hub_id, row.revision, offline, cache_dir, progress, row.file, row.licence, timeout_s
    )


def _hub() -> Any:
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.file_download
        import huggingface_hub.utils
    except ImportError as error:
        raise MissingExtraError("downloading weights from the hub", "hub") from error
    return huggingface_hub
