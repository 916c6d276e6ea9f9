"""The viewer in the browser."""

from __future__ import annotations

from .options import ViewOptions
from .viewer import Viewer, start_viewer

__all__ = ["ViewOptions", "Viewer", "start_viewer"]
