"""ManyView: photos or a video in; cameras, depth maps and a point cloud out, in one forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .attention.plan import Plan
    from .errors import ManyViewError
    from .models.load import load
    from .reconstruction.inputs.options import InputOptions
    from .reconstruction.known.arrays import KnownViews
    from .reconstruction.known.files import KnownFiles
    from .reconstruction.result.load import load_reconstruction
    from .reconstruction.result.result import Reconstruction
    from .reconstruction.run.engine import reconstruct
    from .reconstruction.run.options import ReconstructOptions
    from .streaming.stream import stream

__all__ = [
    "InputOptions",
    "KnownFiles",
    "KnownViews",
    "ManyViewError",
    "Plan",
    "ReconstructOptions",
    "Reconstruction",
    "__version__",
    "load",
    "load_reconstruction",
    "reconstruct",
    "stream",
]

_HOMES = {
    "InputOptions": "reconstruction.inputs.options",
    "KnownFiles": "reconstruction.known.files",
    "KnownViews": "reconstruction.known.arrays",
    "ManyViewError": "errors",
    "Plan": "attention.plan",
    "ReconstructOptions": "reconstruction.run.options",
    "Reconstruction": "reconstruction.result.result",
    "load": "models.load",
    "load_reconstruction": "reconstruction.result.load",
    "reconstruct": "reconstruction.run.engine",
    "stream": "streaming.stream",
}


def __getattr__(name: str) -> Any:
    # Public names load on first use, so that `manyview --help` does not wait for PyTorch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
