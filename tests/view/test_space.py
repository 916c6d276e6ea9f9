"""Where the page puts the scene, and how cameras are drawn on it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.export.frusta import frustum_corners
from manyview.files.spread import evenly_spread
from manyview.geometry.unproject_np import camera_centres
from manyview.view.cameras import CameraShapes, line_colours, small_image
from manyview.view.describe import beside_white, frame_label, headline
from manyview.view.space import PAGE_EXTENT, first_eye, fit_space

from .scenes import wall_scene


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_any_unit_and_offset_fill_the_page(unit):
    scene = wall_scene()
    shift = np.array([300.0, -20.0, 1000.0]) * unit
    cameras = scene.cam_from_world.copy()
    cameras[:, :, 3] = cameras[:, :, 3] * unit - cameras[:, :, :3] @ shift
    scene = dataclasses.replace(
        scene, cam_from_world=cameras, z_depth=(scene.z_depth * unit).astype(np.float32)
    )
    points = scene.world_points.reshape(-1, 3)
    on_page = fit_space(scene, points)(points)
    extent = np.linalg.norm(on_page.max(0) - on_page.min(0))
    assert on_page.dtype == np.float32
    assert 0.6 * PAGE_EXTENT < extent < 1.2 * PAGE_EXTENT
    assert np.abs(on_page).max() < PAGE_EXTENT


def test_up_and_the_first_eye():
    scene = wall_scene()
    points = scene.world_points.reshape(-1, 3)
    space = fit_space(scene, points)
    eye = first_eye(scene, space)
    np.testing.assert_allclose(space.up, [0, -1, 0], atol=1e-12)  # OpenCV: y points down
    assert eye @ space.up > 1  # from above
    centres = space(camera_centres(scene.cam_from_world))
    assert eye[2] < centres[:, 2].min()  # from behind the cameras, which look along +z


def test_cameras_that_look_all_around_or_straight_down_have_an_eye():
    scene = wall_scene(views=4)
    points = scene.world_points.reshape(-1, 3)
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], dtype=float)
    around = scene.cam_from_world.copy()
    around[:, :, :3] = [np.linalg.matrix_power(turn, k) for k in range(4)]
    down = scene.cam_from_world.copy()
    down[:, :, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    for cameras in (around, down):
        turned = dataclasses.replace(scene, cam_from_world=cameras)
        eye = first_eye(turned, fit_space(turned, points))
        assert np.isfinite(eye).all()
        assert np.linalg.norm(eye) > 0.5 * PAGE_EXTENT


def test_a_single_camera_without_points_has_a_place():
    scene = wall_scene(views=1)
    space = fit_space(scene, np.empty((0, 3), np.float32))
    assert np.isfinite(space(camera_centres(scene.cam_from_world))).all()
    assert space.scale == 1.0


def test_frustum_rim_lies_on_the_pixels_rays():
    scene = wall_scene()
    points = scene.world_points.reshape(-1, 3)
    space = fit_space(scene, points)
    shapes = CameraShapes(space(frustum_corners(scene, 0.5)))
    middle, axes, width, height = shapes.image_plane(2, factor=2.0)
    # At twice the size the rim is 1 unit ahead; 16 pixels at a focal length of 16 pixels span 1 unit.
    np.testing.assert_allclose(middle, space(np.array([0.2, 0.0, 1.0])), atol=1e-5)
    np.testing.assert_allclose(axes, np.eye(3), atol=1e-5)
    np.testing.assert_allclose([width, height], [space.scale, 0.75 * space.scale], rtol=1e-5)
    assert shapes.lines(1.0).shape == line_colours(scene).shape == (30, 2, 3)
    assert shapes.lines(1.0, [1]).shape == (10, 2, 3)


def test_images_are_few_small_and_without_padding():
    assert evenly_spread(5, 150) == [0, 1, 2, 3, 4]
    chosen = evenly_spread(1000, 150)
    assert len(chosen) == 150 and chosen[0] == 0 and chosen[-1] == 999
    assert evenly_spread(5, 0) == []
    scene = wall_scene(views=1, height=400, width=600)
    assert small_image(scene, 0).shape == (107, 160, 3)
    padded = dataclasses.replace(scene.views[0].transform, content_box=(100, 0, 500, 400))
    scene = dataclasses.replace(scene, views=(dataclasses.replace(scene.views[0], transform=padded),))
    assert small_image(scene, 0).shape == (160, 160, 3)


def test_views_that_were_not_refined_are_grey():
    scene = wall_scene()
    refinement = {
        "accepted": True,
        "sentence": "two of three",
        "views": [
            {"name": name, "status": status, "camera": 0, "points": 9}
            for name, status in zip(scene.names, ("mapped", "unrefined", "resected"), strict=True)
        ],
    }
    refined = dataclasses.replace(scene, refinement=refinement)
    lines = line_colours(refined).reshape(3, -1, 3)
    assert (np.ptp(lines, axis=-1) == 0).all(axis=1).tolist() == [False, True, False]
    assert "1 (grey)" in headline(refined) and "Cameras" not in headline(scene)
    assert scene.names[1] in headline(refined) and scene.names[0] not in headline(refined)
    assert ["grey" in frame_label(refined, view) for view in range(3)] == [False, True, False]
    rejected = dataclasses.replace(scene, refinement={**refinement, "accepted": False})
    assert np.array_equal(line_colours(rejected), line_colours(scene))


def test_tall_images_get_white_sides_and_others_none():
    tall, wide = np.zeros((40, 20, 3), np.uint8), np.zeros((30, 40, 3), np.uint8)
    padded = beside_white(tall)
    assert padded.shape == (40, 53, 3) and not padded[:, 16:36].any() and (padded[:, [0, -1]] == 255).all()
    assert beside_white(wide).shape == wide.shape
