"""Tracks from depth consistency: true points, true places, one pixel one track, occlusion respected."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.export import tracks as tracks_module
from manyview.export.grey_levels import grey_levels, textured
from manyview.export.patch_matching import local_warp, match_patches
from manyview.export.tracks import TrackOptions, build_tracks, scene_tracks
from manyview.geometry.unproject_np import project, unproject
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from tests.analytic_scene import crop_transform, fit_transform, pad_transform, room_scene

PROJECTED = TrackOptions(measure=False)


def errors(scene: Reconstruction, tracks: Tracks) -> np.ndarray:
    cameras, intrinsics = scene.cam_from_world[tracks.view_index], scene.intrinsics[tracks.view_index]
    pixels, z = project(tracks.points[tracks.point_index][:, None], cameras, intrinsics)
    assert (z > 0).all()
    return np.linalg.norm(pixels[:, 0] - tracks.pixels, axis=1)


@pytest.mark.parametrize("min_length", [2, 3])
def test_exact_depth_gives_exact_tracks(min_length: int) -> None:
    scene, truth = room_scene(views=7)
    tracks = build_tracks(scene, dataclasses.replace(PROJECTED, min_length=min_length))
    assert len(tracks.points) > 1000 and tracks.lengths.min() == min_length and tracks.lengths.max() == 7
    error = errors(scene, tracks)
    assert np.percentile(error, 90) < 1e-4 and error.max() <= PROJECTED.max_error_px
    transform = scene.views[0].transform
    for view in range(len(scene)):
        own = tracks.view_index == view
        upright = tracks.pixels[own] / [transform.scale_x, transform.scale_y]
        distance = np.linalg.norm(
            truth.surface(view, upright) - tracks.points[tracks.point_index[own]], axis=1
        )
        # Wrong only where a pixel's four neighbours see two surfaces that meet.
        assert np.percentile(distance, 90) < 1e-4


def test_a_pixel_belongs_to_one_track_and_a_view_sees_a_point_once() -> None:
    scene, _ = room_scene(views=8)
    tracks = build_tracks(scene, PROJECTED)
    columns = np.floor(tracks.pixels).astype(int)
    assert (columns >= 0).all() and (columns < [scene.width, scene.height]).all()
    keys = np.stack([tracks.view_index, columns[:, 1], columns[:, 0]], axis=1)
    assert len(np.unique(keys, axis=0)) == len(keys)
    pairs = np.stack([tracks.point_index, tracks.view_index], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (np.diff(tracks.point_index) >= 0).all()


def test_grey_levels_are_those_of_each_image_and_no_colours_are_held() -> None:
    scene, _ = room_scene(views=6)
    tracemalloc.start()
    blurred, plain = grey_levels(scene)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(plain, scene.images @ weights, rtol=1e-6)
    inner = sum(
        plain[:, 1 + dy : plain.shape[1] - 1 + dy, 1 + dx : plain.shape[2] - 1 + dx] * wy * wx
        for dy, wy in ((-1, 0.25), (0, 0.5), (1, 0.25))
        for dx, wx in ((-1, 0.25), (0, 0.5), (1, 0.25))
    )
    np.testing.assert_allclose(blurred[:, 1:-1, 1:-1], inner, rtol=1e-5)
    assert peak < 8 * plain.size + 40 * plain[0].size


def test_where_nothing_agrees_no_view_tries_every_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    scene, _ = room_scene(views=6)
    depth = scene.z_depth * (1.07 ** np.arange(6, dtype=np.float32))[:, None, None]
    tried = []
    grow = tracks_module._grow

    def count(work, view, seeds, *rest):  # type: ignore[no-untyped-def]
        tried.append((view, len(seeds)))
        return grow(work, view, seeds, *rest)

    monkeypatch.setattr(tracks_module, "_grow", count)
    options = dataclasses.replace(PROJECTED, max_points=600, min_conf_percentile=0.0)
    build_tracks(dataclasses.replace(scene, z_depth=depth), options)
    per_view = [sum(n for v, n in tried if v == view) for view in range(6)]
    assert 0 < max(per_view) <= 8 * 100


def test_padding_is_never_observed() -> None:
    transforms = [pad_transform((200, 320), (56, 56)), crop_transform((240, 320), (56, 56))] * 3
    scene, _ = room_scene(transforms)
    tracks = build_tracks(scene, PROJECTED)
    columns, rows = np.floor(tracks.pixels).astype(int).T
    assert len(tracks.points) > 500 and scene.valid[tracks.view_index, rows, columns].all()


def test_depth_that_disagrees_gives_no_track() -> None:
    scene, _ = room_scene(views=4)
    depth = scene.z_depth * np.array([1.0, 1.1, 1.21, 1.331], np.float32)[:, None, None]
    tracks = build_tracks(dataclasses.replace(scene, z_depth=depth), PROJECTED)
    assert (tracks.lengths > 1).sum() < 0.02 * scene.valid.sum()


def test_noise_shows_in_the_errors_and_stays_below_the_limit() -> None:
    scene, _ = room_scene(views=6, noise=0.005)
    error = errors(scene, build_tracks(scene, PROJECTED))
    assert np.median(error) > 0.01 and error.max() <= PROJECTED.max_error_px


def test_fill_adds_points_that_no_view_observes() -> None:
    scene, _ = room_scene(views=1)
    assert len(scene_tracks(scene).points) == 0
    tracks = scene_tracks(scene, TrackOptions(fill=700))
    assert len(tracks.points) == 700 and (tracks.lengths == 0).all()
    pixels, z = project(tracks.points, scene.cam_from_world[0], scene.intrinsics[0])
    columns, rows = np.floor(pixels).astype(int).T
    np.testing.assert_allclose(pixels - np.floor(pixels), 0.5, atol=1e-6)
    np.testing.assert_allclose(scene.z_depth[0, rows, columns], z, rtol=1e-5)
    assert (scene.depth_conf[0, rows, columns] >= scene.confidence_threshold(50)).all()
    assert len(scene_tracks(scene, TrackOptions(fill=700, max_points=50)).points) == 50


def test_the_old_name_of_fill_still_works(unchecked: None) -> None:
    with pytest.warns(DeprecationWarning):
        assert TrackOptions(min_points=3).fill == 3


def test_filled_points_do_not_repeat_observed_ones() -> None:
    scene, _ = room_scene(views=4)
    few = dataclasses.replace(PROJECTED, min_length=4)
    seen = len(scene_tracks(scene, few).points)
    tracks = scene_tracks(scene, dataclasses.replace(few, fill=seen + 500))
    assert seen > 100 and len(tracks.points) == seen + 500
    assert (tracks.lengths[:seen] == 4).all() and (tracks.lengths[seen:] == 0).all()
    cameras = scene.cameras(np.arange(len(scene)))
    pixels, _ = project(tracks.points[None, seen:], **cameras)
    taken = {(v, *np.floor(p).astype(int)) for v, p in zip(tracks.view_index, tracks.pixels)}
    starts = np.floor(pixels + 1e-9)
    centred = np.abs(pixels - starts - 0.5).max(-1) < 1e-6  # the view that a point comes from
    assert centred.any(0).all()
    assert not any((v, *starts[v, n].astype(int)) in taken for v, n in np.argwhere(centred))


def test_max_points_and_seed() -> None:
    scene, _ = room_scene()
    options = dataclasses.replace(PROJECTED, max_points=300)
    tracks = build_tracks(scene, options)
    assert len(tracks.points) == 300
    np.testing.assert_array_equal(tracks.points, build_tracks(scene, options).points)
    other = build_tracks(scene, dataclasses.replace(options, seed=1))
    assert not np.array_equal(tracks.points, other.points)


def test_few_neighbours_are_spread_over_those_that_overlap() -> None:
    scene, _ = room_scene(views=10)
    tracks = build_tracks(scene, dataclasses.replace(PROJECTED, max_neighbours=3))
    assert tracks.lengths.max() <= 4 and len(tracks.points) > 1000


def test_progress_counts_views() -> None:
    seen: list[tuple[int, int]] = []
    build_tracks(room_scene(views=3)[0], PROJECTED, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_views_without_depth_are_survived() -> None:
    scene, _ = room_scene(views=4)
    depth = scene.z_depth.copy()
    depth[1] = np.nan
    tracks = build_tracks(dataclasses.replace(scene, z_depth=depth), PROJECTED)
    assert 1 not in tracks.view_index and len(tracks.points) > 100


@pytest.mark.parametrize(
    "field", ["max_points", "min_length", "max_neighbours", "depth_tolerance", "max_error_px"]
)
def test_impossible_options_are_refused(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        TrackOptions(**{field: 0})


def rolled(scene: Reconstruction, view: int) -> Reconstruction:
    """The scene with a square view taken with the camera held upright: its picture turned clockwise."""
    cameras, images, depth = scene.cam_from_world.copy(), scene.images.copy(), scene.z_depth.copy()
    # x' = -y and y' = x; the focal lengths change places, the centre of a square stays.
    cameras[view] = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) @ cameras[view]
    images[view], depth[view] = np.rot90(images[view], -1), np.rot90(depth[view], -1)
    matrices = scene.intrinsics.copy()
    matrices[view] = matrices[view][[1, 0, 2]][:, [1, 0, 2]]
    return dataclasses.replace(
        scene, images=images, z_depth=depth, cam_from_world=cameras, intrinsics=matrices
    )


@pytest.mark.parametrize("upright", [False, True])
def test_matching_finds_the_true_place_from_a_wrong_guess(upright: bool) -> None:
    size = 304
    scene, _ = room_scene([fit_transform((size, size), (size, size))] * 3)
    scene = rolled(scene, 2) if upright else scene
    greys = grey_levels(scene)
    rng = np.random.default_rng(0)
    flat = rng.permutation(np.flatnonzero(textured(greys[-1][1])))[:4000]
    seeds = np.stack([flat % size + 0.5, flat // size + 0.5], axis=-1)
    points = unproject(
        seeds, scene.z_depth[1].reshape(-1)[flat], scene.cam_from_world[1], scene.intrinsics[1]
    )
    truth, z = project(points, scene.cam_from_world[2], scene.intrinsics[2])
    inside = (truth > 12).all(1) & (truth < size - 12).all(1) & (z > 0)
    truth, seeds = truth[inside], seeds[inside]
    guesses = truth + rng.uniform(-1.3, 1.3, truth.shape)
    found, pixels = match_patches(scene, greys, 1, seeds, np.full(len(seeds), 2), guesses, 3.0)
    error = np.linalg.norm(pixels - truth, axis=1)[found]
    assert found.mean() > 0.5
    assert np.median(np.linalg.norm(guesses - truth, axis=1)) > 0.8
    assert np.median(error) < 0.1 and np.percentile(error, 80) < 0.3


def test_warp_follows_slanted_surfaces() -> None:
    scene, truth = room_scene([fit_transform((336, 252), (336, 252))] * 3)
    seeds = np.stack(np.meshgrid(np.arange(20, 310, 3) + 0.5, np.arange(20, 230, 3) + 0.5), -1).reshape(-1, 2)
    warp, trusted = local_warp(scene, 0, seeds, np.full(len(seeds), 2))
    camera, intrinsics = scene.cam_from_world[2], scene.intrinsics[2]
    here, right, below = (
        project(truth.surface(0, seeds + np.array(step)), camera, intrinsics)[0]
        for step in ((0, 0), (0.01, 0), (0, 0.01))
    )
    expected = np.stack([right - here, below - here], axis=-1) / 0.01
    error = np.abs(warp - expected).max((1, 2))
    slant = np.abs(expected - np.eye(2)).max((1, 2))
    assert trusted.mean() > 0.7 and np.median(slant) > 0.1
    assert np.percentile(error[trusted], 80) < 0.02


def test_nothing_is_found_in_another_image_or_too_far_away() -> None:
    scene, _ = room_scene([fit_transform((336, 252), (336, 252))] * 2)
    noise = np.random.default_rng(1).integers(0, 255, scene.images[1].shape, dtype=np.uint8)
    scene = dataclasses.replace(scene, images=np.stack([scene.images[0], noise]))
    seeds = np.stack(np.meshgrid(np.arange(20, 300, 5) + 0.5, np.arange(20, 230, 5) + 0.5), -1).reshape(-1, 2)
    for target in (0, 1):
        # In the first view itself, ten pixels beside the true place.
        found, _ = match_patches(
            scene, grey_levels(scene), 0, seeds, np.full(len(seeds), target), seeds + np.array([10, 0]), 3.0
        )
        assert found.mean() < 0.05


def test_flat_areas_have_no_texture() -> None:
    picture = np.full((40, 60), 90, np.float32)
    assert not textured(picture).any()
    picture[:, 30:] = 200  # an edge has structure in one direction only
    assert not textured(picture).any()
    picture[20:, :] -= 60  # a corner has it in two
    places = np.argwhere(textured(picture))
    assert len(places) and (np.abs(places - [20, 30]) <= 5).all()


def test_observations_lie_inside_images_of_mixed_sizes() -> None:
    """Measured places are up to a few network pixels from where the depth says: not on padding."""
    transforms = [pad_transform(size, (84, 84)) for size in [(200, 320), (240, 320)] * 3]
    scene, _ = room_scene(transforms, noise=0.01)
    tracks = build_tracks(scene)
    assert len(tracks.points) > 1000
    for index, view in enumerate(scene.views):
        low, high = view.transform.image_corners
        pixels = tracks.pixels[tracks.view_index == index]
        assert (pixels >= low).all() and (pixels <= high).all()
