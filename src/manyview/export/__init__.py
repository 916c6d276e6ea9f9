"""From a `Reconstruction` to files that other programs read; the result itself is never touched."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..reconstruction.result.result import Reconstruction
from .colmap import ColmapOptions, export_colmap
from .depth import DepthOptions, export_depth
from .glb import GlbOptions, export_glb
from .nerfstudio import NerfstudioOptions, export_nerfstudio
from .npz import NpzOptions, export_npz
from .overview import OverviewOptions, export_overview
from .ply import PlyOptions, export_ply
from .report import ReportOptions, export_report
from .tracks import TrackOptions

__all__ = [
    "FORMATS",
    "ColmapOptions",
    "DepthOptions",
    "Format",
    "GlbOptions",
    "NerfstudioOptions",
    "NpzOptions",
    "OverviewOptions",
    "PlyOptions",
    "ReportOptions",
    "TrackOptions",
    "check_formats",
    "export",
]


@dataclasses.dataclass(frozen=True)
class Format:
    """One format: the function that writes it, the type of its options, and what it is good for."""

    write: Callable[..., list[Path]]
    options: type
    about: str


FORMATS: dict[str, Format] = {
    "colmap": Format(
        export_colmap, ColmapOptions, "sparse model with tracks: gsplat, COLMAP, bundle adjustment"
    ),
    "ply": Format(export_ply, PlyOptions, "point cloud and cameras: MeshLab, CloudCompare, Blender"),
    "glb": Format(export_glb, GlbOptions, "points and cameras in one file: browsers, Blender, phones"),
    "npz": Format(export_npz, NpzOptions, "every array, for numpy"),
    "depth": Format(export_depth, DepthOptions, "16-bit depth PNG per view"),
    "nerfstudio": Format(export_nerfstudio, NerfstudioOptions, "transforms.json: ns-train"),
    "overview": Format(export_overview, OverviewOptions, "one PNG: views, depth, points and cameras"),
    "report": Format(export_report, ReportOptions, "one HTML page that shows what came out"),
}


def check_formats(names: list[str]) -> None:
    """Raise UsageError for a name that is no format; call it before anything is written."""
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
) -> list[Path]:
    """Write `scene` to `out_dir` in one of `FORMATS` and return the files written.

    `options` is an instance of the format's options or a mapping of their fields; None takes the
    defaults. `progress` is called with (done, total) by formats that take long. Raises UsageError for
    unknown formats or options, OutputError if the folder holds something else or the disk is full.
    """
    check_formats([format])
    chosen = FORMATS[format]
    if isinstance(options, Mapping):
        known = [field.name for field in dataclasses.fields(chosen.options)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise UsageError(f"format {format!r} has no option {unknown[0]!r}; it has {', '.join(known)}")
        options = chosen.options(**options)
    if options is not None and not isinstance(options, chosen.options):
        raise UsageError(f"format {format!r} takes {chosen.options.__name__}, not {type(options).__name__}")
    extra = {"progress": progress} if "progress" in inspect.signature(chosen.write).parameters else {}
    return chosen.write(scene, out_dir, options, overwrite=overwrite, **extra)


Reconstruction.export = export  # type: ignore[method-assign]
