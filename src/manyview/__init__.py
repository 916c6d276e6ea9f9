"""ManyView: photos or a video in; cameras, depth maps and a point cloud out, in one forward pass.

Quick start:

    import manyview

    model = manyview.load()                              # or "da3-base", "facebook/VGGT-1B", a weights file
    scene = manyview.reconstruct("photos/", model)       # a folder, a video, images, arrays, tensors
    scene.cam_from_world, scene.intrinsics               # [S, 3, 4] and [S, 3, 3], OpenCV axes
    scene.z_depth, scene.world_points                    # [S, H, W] and [S, H, W, 3]
    cloud = scene.point_cloud(min_conf_percentile=50.0)  # coloured world points
    scene.quality                                        # "good", "doubtful" or "bad", and why
    exact = scene.refine()                               # exact cameras, from the original images

    scene.save("result")                                 # manyview.load_reconstruction reads it back
    manyview.export(scene, "result", "colmap")           # or "ply", "glb", "npz", "nerfstudio", ...

    fast = manyview.reconstruct("photos/", model, accel="avggt")  # cheaper global attention
    for update in manyview.stream("walk.mp4", model):    # frames as they arrive
        update.cam_from_world

Everything that goes wrong with files, options or memory raises a subclass of `ManyViewError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .attention.plan import Plan
    from .errors import ManyViewError
    from .export import export
    from .models.load import load
    from .models.network import Network
    from .models.predictions import Predictions
    from .reconstruction.inputs.options import InputOptions
    from .reconstruction.known.arrays import KnownViews
    from .reconstruction.known.files import KnownFiles
    from .reconstruction.result.load import load_reconstruction
    from .reconstruction.result.points import PointCloud
    from .reconstruction.result.result import Reconstruction
    from .reconstruction.run.engine import reconstruct
    from .reconstruction.run.options import ReconstructOptions
    from .refine import refine
    from .refine.options import RefineOptions
    from .streaming.engine import StreamUpdate
    from .streaming.stream import stream

__all__ = [
    "InputOptions",
    "KnownFiles",
    "KnownViews",
    "ManyViewError",
    "Network",
    "Plan",
    "PointCloud",
    "Predictions",
    "ReconstructOptions",
    "Reconstruction",
    "RefineOptions",
    "StreamUpdate",
    "__version__",
    "export",
    "load",
    "load_reconstruction",
    "reconstruct",
    "refine",
    "stream",
]

# Public names load on first use, so that `manyview --help` does not wait for PyTorch.
_MODULES = {
    "InputOptions": "reconstruction.inputs.options",
    "KnownFiles": "reconstruction.known.files",
    "KnownViews": "reconstruction.known.arrays",
    "ManyViewError": "errors",
    "Network": "models.network",
    "Plan": "attention.plan",
    "PointCloud": "reconstruction.result.points",
    "Predictions": "models.predictions",
    "ReconstructOptions": "reconstruction.run.options",
    "Reconstruction": "reconstruction.result.result",
    "RefineOptions": "refine.options",
    "StreamUpdate": "streaming.engine",
    "load": "models.load",
    "load_reconstruction": "reconstruction.result.load",
    "reconstruct": "reconstruction.run.engine",
    "stream": "streaming.stream",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name in ("export", "refine"):  # the package itself, which is called as its function
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("load", "reconstruct", "stream"):  # before an old PyTorch fails on what it does not have
        importlib.import_module(f"{__name__}.errors").require_torch()
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if _MODULES[name].startswith("reconstruction"):
        for package in ("export", "refine"):  # they bring the methods of `Reconstruction` of their names
            importlib.import_module(f"{__name__}.{package}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
