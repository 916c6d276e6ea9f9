"""Small reconstructions for the viewer's tests."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from manyview.reconstruction.inputs.views import ViewRecord, ViewTransform
from manyview.reconstruction.result.result import Reconstruction


def wall_scene(views: int = 3, height: int = 12, width: int = 16, **changes: Any) -> Reconstruction:
    """Cameras side by side, 0.1 apart, that look at a slanted wall; confidence rises pixel by pixel."""
    rng = np.random.default_rng(0)
    transform = ViewTransform(
        width, height, 1, width, height, width, height, 1.0, 1.0, 0.0, 0.0, (0, 0, width, height)
    )
    cam_from_world = np.tile(np.eye(4)[:3], (views, 1, 1))
    cam_from_world[:, 0, 3] = -0.1 * np.arange(views)
    intrinsics = np.array([[width, 0.0, width / 2], [0.0, width, height / 2], [0.0, 0.0, 1.0]])
    pixels = views * height * width
    scene = Reconstruction(
        images=rng.integers(0, 256, (views, height, width, 3), dtype=np.uint8),
        cam_from_world=cam_from_world,
        intrinsics=np.tile(intrinsics, (views, 1, 1)),
        z_depth=np.broadcast_to(np.linspace(2, 4, width, dtype=np.float32), (views, height, width)).copy(),
        depth_conf=(1 + np.arange(pixels, dtype=np.float32) / pixels).reshape(views, height, width),
        views=tuple(ViewRecord(f"{i:04d}.png", f"{i:04d}.png", transform) for i in range(views)),
    )
    return dataclasses.replace(scene, **changes) if changes else scene
