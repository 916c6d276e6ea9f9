"""Parts of mapping that need no COLMAP: cameras, pairs, held-out matches, priors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.refine.mapping import KnownViewCameras
from manyview.refine.mapping.adjust import fuse
from manyview.refine.mapping.cameras import intrinsics_of, start_cameras
from manyview.refine.mapping.held_out import Features, connected_components, split_matches
from manyview.refine.mapping.known_poses import known_from_found
from manyview.refine.mapping.pairs import first_pairs, second_pairs
from manyview.refine.options import RefineOptions
from tests.analytic_scene import fit_transform, look_at, room_scene

WIDE, TALL = fit_transform((320, 240), (56, 42)), fit_transform((240, 320), (56, 42))


def with_focals(scene, focals):
    views = tuple(dataclasses.replace(v, focal_35mm=f) for v, f in zip(scene.views, focals))
    return dataclasses.replace(scene, views=views)


@pytest.mark.parametrize(
    ("camera", "groups"),
    [
        ("auto", [[0, 1], [2], [3, 4]]),
        ("per-size", [[0, 1, 2], [3, 4]]),
        ("per-view", [[i] for i in range(5)]),
    ],
)
def test_views_share_cameras_by_size_and_exif(camera: str, groups: list) -> None:
    scene = with_focals(room_scene([WIDE, WIDE, WIDE, TALL, TALL])[0], [None, None, 28.0, None, None])
    found = start_cameras(scene, RefineOptions(camera=camera))
    assert [list(each.views) for each in found] == groups
    assert all(each.params[1:3] == pytest.approx((each.width / 2, each.height / 2)) for each in found)


def test_one_camera_for_several_sizes_is_refused() -> None:
    scene, _ = room_scene([WIDE, TALL], ["wide.png", "tall.png"])
    with pytest.raises(UsageError, match=r"(?s)wide.png.*tall.png.*per-size"):
        start_cameras(scene, RefineOptions(camera="shared"))


def test_focals_start_at_exif_before_the_network_and_known_ones_stay() -> None:
    scene, truth = room_scene(views=3)
    (network,) = start_cameras(scene, RefineOptions())
    assert network.params[0] == pytest.approx(0.9 * 320 * 1.01) and network.focal_sigma is not None
    (exif,) = start_cameras(with_focals(scene, [30.0] * 3), RefineOptions())
    assert exif.params[0] == pytest.approx(30.0 * 400 / 43.2666) and exif.focal_sigma < network.focal_sigma
    known = truth.upright_intrinsics.copy()
    known[2] = np.nan
    given = KnownViewCameras(np.full((3, 3, 4), np.nan), known)
    fixed, free = start_cameras(scene, RefineOptions(), given)
    assert (fixed.views, fixed.focal_sigma, free.views) == ((0, 1), None, (2,))
    matrix, distortion = intrinsics_of(fixed.model, np.array(fixed.params))
    np.testing.assert_allclose(matrix, known[0])
    assert not distortion.any()


def test_parameters_of_every_model_are_a_matrix_and_distortion() -> None:
    assert intrinsics_of("RADIAL", np.array([9.0, 4, 3, 0.1, 0.2]))[1].tolist() == [0.1, 0.2, 0, 0]
    matrix, distortion = intrinsics_of("OPENCV", np.array([9.0, 8, 4, 3, 0.1, 0.2, 0.3, 0.4]))
    assert matrix[1, 1] == 8 and distortion.tolist() == [0.1, 0.2, 0.3, 0.4]


def test_all_pairs_of_few_views_and_linearly_many_of_many() -> None:
    few, _ = room_scene(views=6)
    assert len(first_pairs(few, RefineOptions())) == 15
    options, counts = RefineOptions(all_pairs=2, neighbours=8), []
    for views in (40, 80):
        pairs = first_pairs(room_scene([WIDE] * views)[0], options)
        assert len(set(pairs)) == len(pairs) and all(0 <= i < j < views for i, j in pairs)
        assert {(i, i + 1) for i in range(views - 1)} <= set(pairs)
        counts.append(len(pairs))
    assert counts[0] <= 40 * 8 and counts[1] <= 2.2 * counts[0]


def test_views_that_share_neighbours_are_tried_next() -> None:
    inliers = {(0, 1): 90, (1, 2): 80, (2, 3): 70}
    found = second_pairs(inliers, set(inliers), views=5, neighbours=4, all_pairs=2)
    assert found == [(0, 2), (1, 3)]
    assert second_pairs(inliers, set(inliers), views=5, neighbours=4, all_pairs=50) == []


def test_components_are_those_of_the_graph() -> None:
    edges = [np.array([[0, 5], [5, 9]]), np.array([[9, 2], [3, 4]])]
    assert connected_components(10, edges).tolist() == [0, 1, 0, 3, 3, 0, 6, 7, 8, 0]
    assert connected_components(3, []).tolist() == [0, 1, 2]
    chain = np.stack([np.arange(999), np.arange(1, 1000)], axis=1)[::-1]
    assert not connected_components(1000, [chain]).any()


def test_no_place_is_both_mapped_and_held_out() -> None:
    rng = np.random.default_rng(0)
    pixels = [rng.uniform(0, 100, (200, 2)) for _ in range(4)]
    pixels[1][100:150] = pixels[1][:50]  # two orientations of one place
    matches = {
        (i, j): np.stack([rng.permutation(200)[:80], rng.permutation(200)[:80]], axis=1)
        for i in range(4)
        for j in range(i + 1, 4)
        if (i, j) != (0, 3)
    }
    features = Features.of(pixels)
    mapped, held = split_matches(features, matches, seed=0)
    nodes = [np.concatenate([found.reshape(-1) for found in part.values()]) for part in (mapped, held)]
    places = [set(map(tuple, features.pixels[each])) for each in nodes]
    assert places[0] and places[1] and not places[0] & places[1]
    again = split_matches(features, matches, seed=0)[1]
    assert all((again[pair] == found).all() for pair, found in held.items())
    assert split_matches(features, {}, seed=0) == ({}, {})


def test_what_images_tell_wins_over_the_prior_and_the_prior_where_they_tell_nothing() -> None:
    estimate, prior, sigma = np.array([500.0, 0.1]), np.array([600.0, 0.0]), np.array([60.0, 0.2])
    sure = fuse(estimate, np.diag([1e-4, 1e-8]), prior, sigma)
    np.testing.assert_allclose(sure, estimate, rtol=1e-4)
    unsure = fuse(estimate, np.diag([1e8, 1e-8]), prior, sigma)
    np.testing.assert_allclose(unsure, [600.0, 0.1], rtol=1e-3)
    np.testing.assert_array_equal(fuse(estimate, None, prior, sigma), prior)


def test_two_cameras_find_the_known_world() -> None:
    known = np.stack([look_at(np.array(p, float), np.zeros(3)) for p in ((0, 0, -4), (1, 0, -3))])
    turn = look_at(np.array([1.0, 2, 3]), np.zeros(3))
    # found = known seen from another world: x_known = 2 R x_found + t
    found = known.copy()
    found[:, :, :3] = known[:, :, :3] @ turn[:, :3]
    found[:, :, 3] = (known[:, :, :3] @ turn[:, 3] + known[:, :, 3]) / 2
    scale, rotation, translation = known_from_found(found, known)
    assert scale == pytest.approx(2.0)
    np.testing.assert_allclose(rotation, turn[:, :3], atol=1e-12)
    np.testing.assert_allclose(translation, turn[:, 3], atol=1e-12)
