"""All or nothing for exports: files are made in a hidden folder beside their place, then moved there.

`manyview-export.json` in the target folder lists what ManyView wrote, with checksums, so that a later
export knows its own files from those of others and from those that were changed since.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import OutputError
from ..files.writing import atomic_file, created_folder, output_errors, partial_name, require_space

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

MANIFEST_NAME = "manyview-export.json"


@dataclasses.dataclass
class Stage:
    """An export in the making: write below `path`; after the `with` block `written` holds the final paths."""

    path: Path
    needed_bytes: int
    written: list[Path] = dataclasses.field(default_factory=list)

    def file(self, name: str) -> Path:
        """Path of a file to write (forward slashes), its folder made."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


@contextlib.contextmanager
def staged_export(
    scene: Reconstruction,
    out_dir: str | Path,
    format: str,
    options: Any,
    *,
    needed_bytes: int,
    overwrite: bool = False,
) -> Iterator[Stage]:
    """Yield a `Stage`; when the block succeeds its files take their place in `out_dir`, else all vanish.

    Files already there are replaced only if ManyView wrote them, nobody changed them since, and
    `overwrite` is set; identical ones of ours stay. Raises OutputError otherwise, and for a full disk.
    """
    out_dir = Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise OutputError(f"{out_dir}: is a file, a folder was expected; choose another output folder")
    with output_errors(out_dir, needed_bytes), created_folder(out_dir):
        require_space(out_dir, needed_bytes)
        manifest = _read_manifest(out_dir)
        stage = Stage(out_dir / partial_name(), needed_bytes)
        stage.path.mkdir()
        try:
            yield stage
            # pycolmap and Pillow may not notice that the disk filled up under them.
            if shutil.disk_usage(out_dir).free == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out_dir))
            names = sorted(
                item.relative_to(stage.path).as_posix() for item in stage.path.rglob("*") if item.is_file()
            )
            sums = {name: _checksum(stage.path / name) for name in names}
            fresh = _check_conflicts(out_dir, sums, manifest, overwrite)
            _move(stage.path, out_dir, fresh)
            if overwrite:
                _remove_stale(out_dir, format, sums, manifest)
            manifest["exports"][format] = {
                "settings_hash": scene.settings_hash,
                "options": dataclasses.asdict(options),
                "files": sums,
            }
            _write_manifest(out_dir, manifest)
            # What an export is about first, the pictures it comes with last.
            stage.written = [
                out_dir / name for name in sorted(names, key=lambda n: (n.startswith("images/"), n))
            ]
        finally:
            shutil.rmtree(stage.path, ignore_errors=True)


def _check_conflicts(
    out_dir: Path, sums: dict[str, str], manifest: dict[str, Any], overwrite: bool
) -> list[str]:
    """Names that have to be moved into place; raises OutputError if one may not."""
    ours = _known(manifest)
    fresh = []
    for name, checksum in sums.items():
        target = out_dir / name
        if not target.exists():
            fresh.append(name)
            continue
        present = _checksum(target) if target.is_file() else ""
        if present not in ours.get(name, ()):
            raise OutputError(
                f"{target}: is in the way and is not what ManyView wrote there, so it is not replaced; "
                "move it away or export to another folder"
            )
        if present == checksum:
            continue
        if not overwrite:
            raise OutputError(
                f"{target}: an earlier export is there; use --overwrite to replace it, or another folder"
            )
        fresh.append(name)
    return fresh


def _move(stage: Path, out_dir: Path, names: list[str]) -> None:
    for name in names:
        target = out_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / name, target)


def _remove_stale(out_dir: Path, format: str, sums: dict[str, str], manifest: dict[str, Any]) -> None:
    """Remove what the last export of this format wrote and this one did not, unless it was changed since."""
    exports = manifest["exports"]
    used_elsewhere = {name for other, entry in exports.items() if other != format for name in entry["files"]}
    for name, checksum in exports.get(format, {"files": {}})["files"].items():
        target = out_dir / name
        stale = name not in sums and name not in used_elsewhere and target.is_file()
        if stale and _checksum(target) == checksum:
            target.unlink()
            with contextlib.suppress(OSError):  # the folder still holds other things
                target.parent.rmdir()


def _known(manifest: dict[str, Any]) -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for entry in manifest["exports"].values():
        for name, checksum in entry["files"].items():
            known.setdefault(name, set()).add(checksum)
    return known


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(out_dir: Path) -> dict[str, Any]:
    path = out_dir / MANIFEST_NAME
    if not path.exists():
        return {"exports": {}}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for entry in manifest["exports"].values():
            dict.items(entry["files"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise OutputError(
            f"{path}: cannot be read, so ManyView does not know which files here are its own; "
            "remove it or export to another folder"
        ) from error
    return manifest


def _write_manifest(out_dir: Path, manifest: dict[str, Any]) -> None:
    manifest["manyview_version"] = __version__
    with atomic_file(out_dir / MANIFEST_NAME) as path:
        path.write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
