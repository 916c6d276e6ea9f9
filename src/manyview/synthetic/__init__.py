"""Procedural scenes with exact depth, cameras, points and correspondence."""

from __future__ import annotations

from manyview.synthetic.batch import SceneBatch
from manyview.synthetic.correspondence import Correspondence, correspondence
from manyview.synthetic.options import SceneOptions
from manyview.synthetic.render import render_scenes

__all__ = [
    "Correspondence",
    "SceneBatch",
    "SceneOptions",
    "correspondence",
    "render_scenes",
]
