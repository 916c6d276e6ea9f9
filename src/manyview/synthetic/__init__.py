"""Procedural scenes with exact depth, cameras, points and correspondence."""

from __future__ import annotations

from manyview.synthetic.batch import SceneBatch
from manyview.synthetic.correspondence import Correspondence, correspondence
from manyview.synthetic.demo import demo_scene
from manyview.synthetic.files import write_scene
from manyview.synthetic.options import SceneOptions
from manyview.synthetic.render import render_scenes

__all__ = [
    "Correspondence",
    "SceneBatch",
    "SceneOptions",
    "correspondence",
    "demo_scene",
    "render_scenes",
    "write_scene",
]
