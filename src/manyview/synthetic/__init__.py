"""Procedural scenes with exact depth, cameras, points and correspondence."""

from __future__ import annotations

from .batch import SceneBatch
from .correspondence import Correspondence, correspondence
from .demo import demo_scene
from .files import write_scene
from .options import SceneOptions
from .render import render_scenes

__all__ = [
    "Correspondence",
    "SceneBatch",
    "SceneOptions",
    "correspondence",
    "demo_scene",
    "render_scenes",
    "write_scene",
]
