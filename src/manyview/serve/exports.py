"""Exports of results, made when somebody asks for them."""

from __future__ import annotations

import threading
from pathlib import Path

from ..export import export
from ..export.formats import check_formats
from ..files.lock import sole_writer
from ..files.manifest import MANIFEST_NAME, read_manifest
from ..reconstruction.result.load import load_reconstruction
from ..reconstruction.result.result import Reconstruction
from .answers import files_of
from .queue import JobQueue


class Exports:
    """Exports of the results of a queue; one at a time is made."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._making = threading.Lock()

    def files(self, id: str, name: str) -> list[str]:
        """Names of the files of an export, in the folder of the result.

        An export that the job made is taken as it is; any other is made now, with the default options.

        Raises:
            NoSuchJobError: The job has no result.
            UsageError: There is no such format.
            MissingExtraError: The format needs a package that is not installed.
            OutputError: The disk is full, or something is in the way.
        """
        check_formats([name])
        folder = self._queue.result_folder(id)
        with self._making, sole_writer(folder):
            scene = load_reconstruction(folder)
            found = _made(scene, folder, name)
            if not found:
                export(scene, folder, name, overwrite=True)
                found = _made(scene, folder, name)
        return found


def _made(scene: Reconstruction, folder: Path, name: str) -> list[str]:
    """Names of the files of an export of `scene`; none where it is not there, or not whole."""
    entry = read_manifest(folder / MANIFEST_NAME)["exports"].get(name, {})
    if entry.get("settings_hash") != scene.settings_hash:
        return []
    there = files_of(folder)
    return sorted(entry["files"]) if all(file in there for file in entry["files"]) else []
