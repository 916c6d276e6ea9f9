"""Export of a `Reconstruction` to files that other programs read."""

from __future__ import annotations

import sys
import types

from .colmap import ColmapOptions
from .depth import DepthOptions
from .formats import FORMATS, check_formats, export, is_exported
from .glb import GlbOptions
from .nerfstudio import NerfstudioOptions
from .npz import NpzOptions
from .overview import OverviewOptions
from .ply import PlyOptions
from .report import ReportOptions
from .tracks import TrackOptions

__all__ = [
    "FORMATS",
    "ColmapOptions",
    "DepthOptions",
    "GlbOptions",
    "NerfstudioOptions",
    "NpzOptions",
    "OverviewOptions",
    "PlyOptions",
    "ReportOptions",
    "TrackOptions",
    "check_formats",
    "export",
    "is_exported",
]


class _CallablePackage(types.ModuleType):
    """`manyview.export(scene, ...)` is `manyview.export.export(scene, ...)`."""

    __call__ = staticmethod(export)


sys.modules[__name__].__class__ = _CallablePackage
