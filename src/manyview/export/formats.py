"""The list of export formats, and `export`."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._option_checks import check_instance, check_options
from ..errors import UsageError
from ..files.manifest import MANIFEST_NAME, read_manifest
from ..files.transaction import output_path
from ..reconstruction.result.result import Reconstruction
from .export_format import ExportFormat, ExportTarget

# Modules of this package that define `FORMAT`; help texts list the formats in this order.
_MODULES = (
    "colmap",
    "ply",
    "glb",
    "npz",
    "depth",
    "nerfstudio",
    "overview",
    "report",
)

FORMATS: dict[str, ExportFormat] = {
    format.name: format
    for format in (importlib.import_module(f".{module}", __package__).FORMAT for module in _MODULES)
}


def check_formats(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown format; call it before anything is written."""
    for name in names:
        if name not in FORMATS:
            raise UsageError(f"there is no export format {name!r}; choose from {', '.join(FORMATS)}")


def export(
    scene: Reconstruction,
    out_dir: str | Path,
    format: str,
    options: Any = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Path]:
    """Export a reconstruction to a folder.

    Args:
        scene: the reconstruction; it is not modified.
        out_dir: target folder, created if missing. Files of others in it are never replaced.
        format: one of `FORMATS`.
        options: an instance of the format's options or a mapping of their fields; None takes the defaults.
        overwrite: replace an earlier export in the same folder.
        progress: called with (done, total) by formats that take long.
        tell: called with lines for a person: command lines that use the files (gsplat, nerfstudio), views
            that are called differently in them, too few points for bundle adjustment.

    Returns:
        The files written.

    Raises:
        UsageError: unknown format or option, or a value that is not allowed.
        MissingExtraError: the format needs a package that is not installed.
        OutputError: a file is in the way, or the disk is full. Nothing is written then.
    """
    check_instance("scene", scene, Reconstruction)
    options = _options(format, options)
    record = _record(scene, options)
    target = ExportTarget(
        Path(out_dir),
        format,
        record,
        overwrite,
        progress or (lambda done, total: None),
        tell or (lambda line: None),
    )
    FORMATS[format].write(scene, options, target)
    return target.written


def is_exported(scene: Reconstruction, out_dir: str | Path, format: str, options: Any = None) -> bool:
    """Whether `out_dir` holds this export of this reconstruction, with these options and all its files.

    Files that were edited since count as there. Raises as `export` does for the format, its options and the
    manifest of the folder.
    """
    out_dir, record = Path(out_dir), _record(scene, _options(format, options))
    entry = read_manifest(out_dir / MANIFEST_NAME)["exports"].get(format, {})
    same = all(entry.get(name) == value for name, value in json.loads(json.dumps(record)).items())
    return same and all(output_path(out_dir, name).is_file() for name in entry["files"])


def _options(format: str, options: Any) -> Any:
    """An instance of the format's options; UsageError for an unknown format or option."""
    check_formats([format])
    chosen = FORMATS[format]
    if options is None or isinstance(options, Mapping):
        known = [field.name for field in dataclasses.fields(chosen.options)]
        unknown = [name for name in options or () if name not in known]
        if unknown:
            raise UsageError(f"format {format!r} has no option {unknown[0]!r}; it has {', '.join(known)}")
        options = chosen.options(**(options or {}))
    if not isinstance(options, chosen.options):
        raise UsageError(f"format {format!r} takes {chosen.options.__name__}, not {type(options).__name__}")
    check_options(options)
    return options


def _record(scene: Reconstruction, options: Any) -> dict[str, Any]:
    """What the manifest of a folder says of an export."""
    return {"settings_hash": scene.settings_hash, "options": dataclasses.asdict(options)}


Reconstruction.export = export  # type: ignore[method-assign, assignment]
