"""An export: its files are staged in a hidden folder, then moved into place together or not at all.

`manyview-export.json` in the target folder lists the files that ManyView wrote with their checksums: a later
export replaces only those, and only if they have not changed since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import OutputError
from .lock import sole_writer
from .manifest import MANIFEST_NAME, read_manifest
from .schema import file_sha256
from .transaction import commit, output_path, staging
from .writing import check_whole, require_space


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
    out_dir: Path,
    name: str,
    record: Mapping[str, Any],
    *,
    needed_bytes: int,
    overwrite: bool = False,
    exact_folders: Sequence[str] = (),
) -> Iterator[StagedFiles]:
    """Move the files of the `with` block into `out_dir` together if it succeeds; remove them otherwise.

    Args:
        out_dir: target folder, created if missing.
        name: key of this set of files in the manifest; `record` is stored under it.
        needed_bytes: size of all files, checked against the free space beforehand.
        overwrite: replace files of an earlier set that have not changed since.
        exact_folders: folders of the set that are to hold its files and no others: with `overwrite` what
            earlier sets of any name left there is removed.

    Raises:
        OutputError: a file is in the way that was not written by ManyView or has changed since, an earlier
            set exists and `overwrite` is false, another process writes there, or the disk is full.
    """
    with sole_writer(out_dir, needed_bytes):
        require_space(out_dir, needed_bytes)
        manifest = read_manifest(out_dir / MANIFEST_NAME)
        with staging(out_dir) as path:
            stage = StagedFiles(path)
            yield stage
            files = sorted(item for item in path.rglob("*") if item.is_file())
            check_whole(out_dir, files)
            sums = {item.relative_to(path).as_posix(): file_sha256(item) for item in files}
            changed = _check_conflicts(out_dir, sums, manifest, overwrite)
            stale = _stale(out_dir, name, sums, manifest) if overwrite else []
            stale += _left_over(out_dir, exact_folders, {*sums, *stale}, manifest, overwrite)
            manifest["exports"][name] = {**record, "files": sums}
            manifest["manyview_version"] = __version__
            stage.file(MANIFEST_NAME).write_text(json.dumps(manifest, indent=1, sort_keys=True), "utf-8")
            commit(out_dir, {file: path / file for file in (*changed, MANIFEST_NAME)}, stale)
        # Source images come last.
        stage.written = [out_dir / n for n in sorted(sums, key=lambda n: (n.startswith("images"), n))]


def _check_conflicts(
    out_dir: Path, sums: dict[str, str], manifest: dict[str, Any], overwrite: bool
) -> list[str]:
    """Names that have to be moved into place; raises OutputError if one must not be replaced."""
    ours = _ours(manifest)
    changed = []
    for name, checksum in sums.items():
        target, present = out_dir / name, _present(out_dir, name)
        if present and present not in ours.get(name, ()):
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


def _left_over(
    out_dir: Path, folders: Sequence[str], known: set[str], manifest: dict[str, Any], overwrite: bool
) -> list[str]:
    """Files of earlier sets in `folders` that are not `known`; raises OutputError for one that must stay."""
    ours, found = _ours(manifest), []
    for folder in folders:
        for path in sorted((out_dir / folder).rglob("*")):
            name = path.relative_to(out_dir).as_posix()
            if name in known or (path.is_dir() and not path.is_symlink()):
                continue
            if _present(out_dir, name) not in ours.get(name, ()):
                raise OutputError(
                    f"{path}: is not of this export, and {folder}/ must hold the files of this export alone, "
                    "which programs pair in sorted order; move it away or export to another folder"
                )
            if not overwrite:
                raise OutputError(
                    f"{path}: is left from an earlier export; use --overwrite to remove it, or another folder"
                )
            found.append(name)
    return found


def _ours(manifest: dict[str, Any]) -> dict[str, set[str]]:
    """Checksums with which each file was written, by name."""
    ours: dict[str, set[str]] = {}
    for entry in manifest["exports"].values():
        for name, checksum in entry["files"].items():
            ours.setdefault(name, set()).add(checksum)
    return ours


def _stale(out_dir: Path, name: str, sums: dict[str, str], manifest: dict[str, Any]) -> list[str]:
    """Files of the last set of this name that the new one lacks, unless they changed since."""
    exports = manifest["exports"]
    kept = {
        file for other, entry in exports.items() if other != name for file in entry["files"]
    } | sums.keys()
    earlier = exports.get(name, {"files": {}})["files"]
    return [
        file for file, checksum in earlier.items() if file not in kept and _present(out_dir, file) == checksum
    ]


def _present(out_dir: Path, name: str) -> str | None:
    """Checksum of a file in the output folder, or None if there is none."""
    path = output_path(out_dir, name)
    return file_sha256(path) if path.exists() else None
