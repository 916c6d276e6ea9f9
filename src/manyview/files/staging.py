"""Several files written together or not at all: staged in a hidden folder, then moved into place.

`manyview-export.json` in the target folder lists the files that ManyView wrote with their checksums: a later
export replaces only those, and only if they have not changed since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import OutputError
from .manifest import MANIFEST_NAME, read_manifest
from .writing import atomic_file, created_folder, output_errors, partial_name, require_space


@dataclasses.dataclass
class StagedFiles:
    """Write below `path`; after the `with` block `written` holds the final paths."""

    path: Path
    written: list[Path] = dataclasses.field(default_factory=list)

    def file(self, name: str) -> Path:
        """Path of a file to write (forward slashes); its folder is created."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


@contextlib.contextmanager
def staged_files(
    out_dir: Path, name: str, record: Mapping[str, Any], *, needed_bytes: int, overwrite: bool = False
) -> Iterator[StagedFiles]:
    """Move the files of the `with` block into `out_dir` together if it succeeds; remove them otherwise.

    Args:
        out_dir: target folder, created if missing.
        name: key of this set of files in the manifest; `record` is stored under it.
        needed_bytes: size of all files, checked against the free space beforehand.
        overwrite: replace files of an earlier set that have not changed since.

    Raises:
        OutputError: a file is in the way that was not written by ManyView or has changed since, an earlier
            set exists and `overwrite` is false, or the disk is full.
    """
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f"{out_dir}: is a file, a folder was expected; choose another output folder")
    with output_errors(out_dir, needed_bytes), created_folder(out_dir):
        require_space(out_dir, needed_bytes)
        manifest = read_manifest(out_dir / MANIFEST_NAME)
        stage = StagedFiles(out_dir / partial_name())
        stage.path.mkdir()
        try:
            yield stage
            # pycolmap and Pillow may not notice that the disk filled up under them.
            if shutil.disk_usage(out_dir).free == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out_dir))
            files = sorted(item for item in stage.path.rglob("*") if item.is_file())
            sums = {item.relative_to(stage.path).as_posix(): _checksum(item) for item in files}
            for changed in _check_conflicts(out_dir, sums, manifest, overwrite):
                (out_dir / changed).parent.mkdir(parents=True, exist_ok=True)
                os.replace(stage.path / changed, out_dir / changed)
            if overwrite:
                _remove_stale(out_dir, name, sums, manifest)
            manifest["exports"][name] = {**record, "files": sums}
            _write_manifest(out_dir, manifest)
            # Source images come last.
            stage.written = [out_dir / n for n in sorted(sums, key=lambda n: (n.startswith("images/"), n))]
        finally:
            shutil.rmtree(stage.path, ignore_errors=True)


def _check_conflicts(
    out_dir: Path, sums: dict[str, str], manifest: dict[str, Any], overwrite: bool
) -> list[str]:
    """Names that have to be moved into place; raises OutputError if one must not be replaced."""
    ours: dict[str, set[str]] = {}
    for entry in manifest["exports"].values():
        for name, checksum in entry["files"].items():
            ours.setdefault(name, set()).add(checksum)
    changed = []
    for name, checksum in sums.items():
        target = out_dir / name
        present = _checksum(target) if target.is_file() else ""
        if target.exists() and present not in ours.get(name, ()):
            raise OutputError(
                f"{target}: is in the way and is not what ManyView wrote there, so it is not replaced; "
                "move it away or export to another folder"
            )
        if present and present != checksum and not overwrite:
            raise OutputError(
                f"{target}: an earlier export is there; use --overwrite to replace it, or another folder"
            )
        if present != checksum:
            changed.append(name)
    return changed


def _remove_stale(out_dir: Path, name: str, sums: dict[str, str], manifest: dict[str, Any]) -> None:
    """Remove files of the last set of this name that the new one lacks, unless they changed since."""
    exports = manifest["exports"]
    shared = {file for other, entry in exports.items() if other != name for file in entry["files"]}
    for file, checksum in exports.get(name, {"files": {}})["files"].items():
        target = out_dir / file
        stale = file not in sums and file not in shared and target.is_file()
        if stale and _checksum(target) == checksum:
            target.unlink()
            with contextlib.suppress(OSError):  # the folder still holds other things
                target.parent.rmdir()


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(out_dir: Path, manifest: dict[str, Any]) -> None:
    manifest["manyview_version"] = __version__
    with atomic_file(out_dir / MANIFEST_NAME) as path:
        path.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
