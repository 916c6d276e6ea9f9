"""The overview shows the views, their depth, the points and every camera."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from manyview.export import OverviewOptions, export
from manyview.export.colours import by_order
from manyview.export.overview import overview
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import fit_transform, room_scene


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    transforms = [fit_transform((320, 240), (64, 48))] * 5
    return room_scene(transforms, [f"{index}.png" for index in range(5)])[0]


def colours_near(image: Image.Image, colour: np.ndarray, tolerance: int = 40) -> int:
    pixels = np.asarray(image).astype(int).reshape(-1, 3)
    return int((np.abs(pixels - colour.astype(int)).max(1) < tolerance).sum())


def test_size_and_file(scene, tmp_path):
    (path,) = export(scene, tmp_path, "overview", OverviewOptions(width=700))
    with Image.open(path) as image:
        assert image.size[0] == 700 and image.mode == "RGB"


def test_views_and_cameras_are_drawn(scene):
    page = overview(scene, OverviewOptions(views=2, width=800))
    left = np.asarray(page.crop((12, 12, 12 + 382, 12 + 286)).resize((64, 48))).astype(int)
    assert np.abs(left - scene.images[0].astype(int)).mean() < 12
    for colour in by_order(5):
        assert colours_near(page, colour) > 30


def test_a_moved_camera_and_another_depth_change_the_image(scene):
    options = OverviewOptions(width=600)
    before = np.asarray(overview(scene, options)).astype(int)
    moved = scene.cam_from_world.copy()
    moved[2, :, 3] += 0.5
    for changed in (
        dataclasses.replace(scene, cam_from_world=moved),
        dataclasses.replace(scene, z_depth=scene.z_depth * np.linspace(1, 1.5, 64, dtype=np.float32)),
    ):
        after = np.asarray(overview(changed, options)).astype(int)
        assert np.abs(after - before).max() > 100


def test_one_view_without_any_depth(scene):
    empty = dataclasses.replace(scene, z_depth=np.full_like(scene.z_depth, np.nan))
    assert overview(empty, OverviewOptions(width=600)).width == 600
