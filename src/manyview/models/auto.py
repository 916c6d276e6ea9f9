"""The model that is taken where none is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..errors import MissingExtraError, NotDownloadedError, UsageError
from ..files.writing import format_bytes
from .checkpoints.hub import HubFiles, named_request
from .checkpoints.named import NamedModel
from .families import find_model

AUTO = "auto"
"""The name that stands for `PREFERRED` where it can be had, and else for `FALLBACK`."""

PREFERRED = "da3-base"
FALLBACK = "manyview-photos"
BUNDLED = "manyview-small"
"""The model of the demo and of the tables on rendered scenes."""

# A user without a network waits for so many seconds, and no longer.
_TIMEOUT_S = 4.0


@dataclasses.dataclass(frozen=True)
class Choice:
    """What `auto` takes: weights that have a name, their files in the hub's cache, and why, as a sentence.

    `files` is None for the model in the package, and for one that is still to be downloaded.
    """

    row: NamedModel
    files: HubFiles | None
    reason: str


def choose_model(
    offline: bool | None = None,
    cache_dir: Path | None = None,
    progress: bool = True,
    *,
    download: bool = True,
) -> Choice:
    """The preferred model if it is in the hub's cache or can be downloaded, else the one in the package.

    Args:
        offline: True never touches the network, None follows HF_HUB_OFFLINE.
        cache_dir: Folder of the hub's cache (None: the usual one).
        progress: Whether a download shows a progress bar.
        download: False only asks whether the hub answers.

    Raises:
        WeightsError: A download broke off after it had begun.
    """
    preferred, fallback = find_model(PREFERRED), find_model(FALLBACK)
    assert preferred is not None and fallback is not None
    name = f"{preferred.name} ({preferred.licence})"
    try:
        request = named_request(preferred, offline, cache_dir, progress, timeout_s=_TIMEOUT_S)
        files = request.cached()
        if files is not None:
            return Choice(preferred, files, f"auto takes {name}, which is in the cache")
        size = "" if preferred.size_bytes is None else f" of {format_bytes(preferred.size_bytes)}"
        if not download:
            request.ask()
            return Choice(preferred, None, f"auto takes {name}, a download{size}")
        return Choice(preferred, request.download(), f"auto takes {name}, after a download{size}")
    except (NotDownloadedError, MissingExtraError, UsageError) as error:
        what = "comes with the package and is rough on most photographs"
        return Choice(fallback, None, f"auto takes {FALLBACK}, which {what}: {error}")
