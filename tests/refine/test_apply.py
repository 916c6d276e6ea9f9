"""What becomes of a result when structure from motion has found cameras: the gate, world, depth, labels."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from manyview.geometry.unproject_np import camera_centres, project
from manyview.reconstruction.result.load import load_reconstruction
from manyview.refine.apply import apply_solution
from manyview.refine.solution import Solution
from tests.analytic_scene import room_scene

from .solutions import network_room, solution_of, turned


def _failed(scene) -> list[str]:
    return [test["name"] for test in scene.refinement["tests"] if not test["passed"]]


def test_better_cameras_are_accepted_in_the_networks_world() -> None:
    scene, exact, truth = network_room()
    refined = apply_solution(scene, solution_of(exact, truth))
    assert refined.refinement["accepted"], refined.refinement["sentence"]
    # Depth of the median view is right, so the unit of length is that of the truth, and the first camera too.
    np.testing.assert_allclose(refined.cam_from_world, exact.cam_from_world, atol=0.02)
    np.testing.assert_allclose(refined.intrinsics, exact.intrinsics, rtol=1e-9)
    assert np.median(np.abs(refined.z_depth / exact.z_depth - 1)) < 0.02
    spread = [np.median(r / e) for r, e in zip(refined.z_depth, exact.z_depth)]
    assert np.ptp(spread) < 0.02  # the network's scales disagreed by half
    before, after = (
        {test["name"]: test[key] for test in refined.refinement["tests"]} for key in ("before", "after")
    )
    assert after["held-out error, pixels"] < 1 < before["held-out error, pixels"]
    pixels, _ = project(
        refined.tracks.points[refined.tracks.point_index][:, None],
        refined.cam_from_world[refined.tracks.view_index],
        refined.intrinsics[refined.tracks.view_index],
    )
    assert np.abs(pixels[:, 0] - refined.tracks.pixels).max() < 0.5
    json.dumps(refined.refinement, allow_nan=False)


def test_what_was_refined_is_stored_and_read(tmp_path) -> None:
    scene, exact, truth = network_room()
    solution = dataclasses.replace(solution_of(exact, truth), distortion=np.full((6, 4), 1e-4))
    refined = apply_solution(scene, solution)
    back = load_reconstruction(refined.save(tmp_path / "result"))
    assert back.refinement == refined.refinement
    np.testing.assert_array_equal(back.distortion, refined.distortion)
    np.testing.assert_array_equal(back.tracks.pixels, refined.tracks.pixels)


def test_worse_cameras_are_not_accepted() -> None:
    scene, exact, truth = network_room()
    solution = solution_of(exact, truth)
    worse = dataclasses.replace(solution, cam_from_world=turned(solution.cam_from_world, 9.0, 0.1, seed=3))
    refined = apply_solution(scene, worse)
    assert not refined.refinement["accepted"] and _failed(refined)
    for name in ("cam_from_world", "intrinsics", "z_depth"):
        np.testing.assert_array_equal(getattr(refined, name), getattr(scene, name))
    assert refined.tracks is None and refined.distortion is None
    assert {view["status"] for view in refined.refinement["views"]} == {"unrefined"}


def test_a_second_refinement_that_fails_keeps_the_first() -> None:
    scene, exact, truth = network_room()
    solution = solution_of(exact, truth)
    first = apply_solution(scene, solution)
    worse = dataclasses.replace(solution, cam_from_world=turned(solution.cam_from_world, 9.0, 0.1, seed=3))
    second = apply_solution(first, worse)
    assert second.refinement["accepted"] and second.refinement["sentence"] != first.refinement["sentence"]
    assert second.tracks is first.tracks


def test_exact_cameras_stay() -> None:
    _, exact, truth = network_room()
    solution = solution_of(exact, truth, noise_px=0.0)
    slightly = turned(solution.cam_from_world, 0.05, 0.0)
    refined = apply_solution(exact, dataclasses.replace(solution, cam_from_world=slightly))
    assert "held-out error, better than before" in _failed(refined)


def test_views_without_a_camera_move_with_their_neighbours() -> None:
    scene, exact, truth = network_room(views=8)
    refined = apply_solution(scene, solution_of(exact, truth, without=(0, 5)))
    assert refined.refinement["accepted"]
    assert [view["status"] for view in refined.refinement["views"]].count("unrefined") == 2
    assert refined.refinement["views"][5]["depth_from"] == "other views"
    # Relative to a neighbour it is as far off as the network was, and not farther.
    for view in (0, 5):
        off = np.linalg.norm(
            camera_centres(refined.cam_from_world)[view] - camera_centres(exact.cam_from_world)[view]
        )
        assert off < 1.0
    np.testing.assert_allclose(refined.intrinsics[5], exact.intrinsics[5], rtol=1e-9)  # one camera took all
    assert not np.isin(refined.tracks.view_index, [0, 5]).any()


def test_one_bad_view_does_not_spoil_the_others() -> None:
    scene, exact, truth = network_room(views=8)
    solution = solution_of(exact, truth)
    cameras = solution.cam_from_world.copy()
    cameras[3] = turned(cameras[3:4], 40.0, 0.5)[0]
    intrinsics = solution.intrinsics.copy()
    intrinsics[6, 0, 0] *= 30
    refined = apply_solution(
        scene, dataclasses.replace(solution, cam_from_world=cameras, intrinsics=intrinsics)
    )
    assert refined.refinement["accepted"], refined.refinement["sentence"]
    statuses = [view["status"] for view in refined.refinement["views"]]
    assert [index for index, status in enumerate(statuses) if status == "unrefined"] == [3, 6]


def _nothing(solution: Solution) -> Solution:
    views = len(solution.status)
    none = np.zeros(len(solution.tracks.points), dtype=bool)
    return dataclasses.replace(
        solution, cam_from_world=np.full((views, 3, 4), np.nan), status=("unrefined",) * views,
        tracks=solution.tracks.select(none),
    )  # fmt: skip


def _no_matches(solution: Solution) -> Solution:
    held = solution.held_out
    return dataclasses.replace(
        solution, held_out=type(held)(*(getattr(held, f.name)[:0] for f in dataclasses.fields(held)))
    )


def _standing_still(solution: Solution) -> Solution:
    """All cameras in nearly one place: nothing but far points."""
    cameras = solution.cam_from_world.copy()
    cameras[:, :, 3] *= 1e-4
    tracks = dataclasses.replace(solution.tracks, points=solution.tracks.points * 1e3)
    return dataclasses.replace(solution, cam_from_world=cameras, tracks=tracks)


def _other_focal(solution: Solution) -> Solution:
    intrinsics = solution.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= 10
    return dataclasses.replace(solution, intrinsics=intrinsics)


@pytest.mark.parametrize("spoil", [_nothing, _no_matches, _standing_still, _other_focal])
def test_nothing_is_lost_where_nothing_was_found(spoil) -> None:
    scene, exact, truth = network_room()
    refined = apply_solution(scene, spoil(solution_of(exact, truth)))
    assert not refined.refinement["accepted"] and refined.refinement["sentence"]
    np.testing.assert_array_equal(refined.cam_from_world, scene.cam_from_world)
    json.dumps(refined.refinement, allow_nan=False)


def test_a_world_of_known_poses_stays() -> None:
    scene, exact, truth = network_room()
    solution = solution_of(exact, truth)
    given = dataclasses.replace(solution, in_given_world=True, status=("fixed",) * 6)
    refined = apply_solution(dataclasses.replace(scene, metric={"model": "m", "factor": 1.0}), given)
    assert refined.refinement["accepted"] and refined.metric is None
    np.testing.assert_allclose(refined.cam_from_world, solution.cam_from_world, atol=1e-9)
    assert np.median(refined.z_depth / exact.z_depth) == pytest.approx(0.3, rel=0.02)
    # With so few matches that nothing can be compared, what is known is taken as it is.
    assert apply_solution(scene, _no_matches(given)).refinement["accepted"]


def test_points_of_the_point_head_move_with_their_view() -> None:
    scene, exact, truth = network_room()
    points = scene.world_points
    scene = dataclasses.replace(scene, head_points=points, head_points_conf=scene.depth_conf)
    refined = apply_solution(scene, solution_of(exact, truth))
    camera = refined.cam_from_world[4]
    np.testing.assert_allclose(
        (refined.head_points[4] @ camera[:, :3].T + camera[:, 3])[..., 2], refined.z_depth[4], rtol=1e-3
    )


def test_quality_knows_the_lens() -> None:
    """Distortion that belongs to the images is no contradiction between them, and left out it is one."""
    exact, _ = room_scene(views=4)
    lens = np.tile([0.2, 0.0, 0.0, 0.0], (4, 1))
    pinhole, distorted = exact.with_quality(), dataclasses.replace(exact, distortion=lens).with_quality()
    assert pinhole.quality["figures"]["reprojection_px"] != distorted.quality["figures"]["reprojection_px"]
