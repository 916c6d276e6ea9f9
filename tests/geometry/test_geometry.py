"""Cameras and points: inverses, conventions, and scipy as an oracle for rotations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyview.geometry import unproject_np
from manyview.geometry.align import umeyama
from manyview.geometry.cameras import (
    cameras_to_pose_encoding,
    compose_rigid,
    invert_rigid,
    pose_encoding_to_cameras,
    quat_xyzw_from_rotation,
    relative_to_first,
    rotation_from_quat_xyzw,
)
from manyview.geometry.unproject import camera_points, pixel_grid, project, world_points

seeds = st.integers(0, 10**6)


def random_cameras(seed: int, count: int = 4) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(count, rng=rng).as_matrix()
    return torch.from_numpy(np.concatenate([rotation, rng.normal(size=(count, 3, 1))], -1))


def intrinsics(fx: float = 50.0, fy: float = 55.0, cx: float = 20.0, cy: float = 15.0) -> torch.Tensor:
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_quaternions_agree_with_scipy(seed):
    rotation = Rotation.random(8, rng=np.random.default_rng(seed))
    quat = quat_xyzw_from_rotation(torch.from_numpy(rotation.as_matrix()))
    want = torch.from_numpy(rotation.as_quat(canonical=True))
    torch.testing.assert_close(quat, want, atol=1e-9, rtol=0)
    longer = torch.from_numpy(rotation.as_quat()) * 3.7
    torch.testing.assert_close(rotation_from_quat_xyzw(longer), torch.from_numpy(rotation.as_matrix()))


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_rigid_transforms_form_a_group(seed):
    a, b = random_cameras(seed), random_cameras(seed + 1)
    identity = torch.eye(3, 4, dtype=torch.float64).expand(4, 3, 4)
    torch.testing.assert_close(compose_rigid(a, invert_rigid(a)), identity, atol=1e-12, rtol=0)
    left = invert_rigid(compose_rigid(a, b))
    torch.testing.assert_close(left, compose_rigid(invert_rigid(b), invert_rigid(a)), atol=1e-12, rtol=0)
    torch.testing.assert_close(relative_to_first(a)[0], identity[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(relative_to_first(compose_rigid(a, b[:1].expand_as(a))), relative_to_first(a))


@given(seeds, st.floats(0.2, 2.5), st.floats(0.2, 2.5))
@settings(max_examples=20, deadline=None)
def test_pose_encoding_round_trip(seed, fov_h, fov_w):
    cameras = random_cameras(seed)
    k = intrinsics(40 / 2 / np.tan(fov_w / 2), 30 / 2 / np.tan(fov_h / 2)).expand(4, 3, 3)
    encoding = cameras_to_pose_encoding(cameras, k, 30, 40)
    assert encoding[:, 7:].allclose(torch.tensor([fov_h, fov_w], dtype=torch.float64))
    back, k_back = pose_encoding_to_cameras(encoding, 30, 40)
    torch.testing.assert_close(back, cameras, atol=1e-9, rtol=0)
    torch.testing.assert_close(k_back, k, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("centres", ["half", "integer"])
def test_projection_undoes_unprojection(centres):
    cameras = random_cameras(1)
    k = intrinsics().expand(4, 3, 3)
    depth = torch.rand(4, 30, 40, dtype=torch.float64) + 1
    points = world_points(depth, cameras, k, centres)
    pixels, z = project(points.flatten(1, 2), cameras, k)
    grid = pixel_grid(30, 40, centres, like=depth).flatten(0, 1).expand(4, -1, -1)
    torch.testing.assert_close(pixels, grid)
    torch.testing.assert_close(z, depth.flatten(1))
    assert pixel_grid(2, 2, centres, like=depth)[0, 0, 0] == (0.5 if centres == "half" else 0.0)


def test_the_centre_of_the_image_looks_straight_ahead():
    points = camera_points(torch.full((31, 41), 2.0, dtype=torch.float64), intrinsics(cx=20.5, cy=15.5))
    assert points[15, 20].tolist() == [0.0, 0.0, 2.0]
    assert points[15, 21, 0] > 0 and points[16, 20, 1] > 0
    with pytest.raises(ValueError, match="pixel_centres"):
        pixel_grid(2, 2, "corner", like=points)


@given(seeds, st.booleans())
@settings(max_examples=20, deadline=None)
def test_alignment_finds_the_similarity(seed, with_scale):
    rng = np.random.default_rng(seed)
    source = torch.from_numpy(rng.normal(size=(20, 3)))
    rotation = torch.from_numpy(Rotation.random(rng=rng).as_matrix())
    scale = 2.5 if with_scale else 1.0
    target = scale * source @ rotation.T + torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    s, r, t = umeyama(source, target, with_scale)
    assert float(s) == pytest.approx(scale)
    torch.testing.assert_close(r, rotation, atol=1e-9, rtol=0)
    torch.testing.assert_close(s * source @ r.T + t, target)
    mirrored = source * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    assert torch.det(umeyama(source, mirrored)[1]) == pytest.approx(1.0)


def test_alignment_needs_three_points():
    with pytest.raises(ValueError, match=r"3 .*\(2, 3\)"):
        umeyama(torch.zeros(2, 3), torch.zeros(2, 3))


def test_lens_distortion_is_colmaps_and_inverts() -> None:
    rays = np.random.default_rng(0).uniform(-0.6, 0.6, (50, 2))
    distortion = np.array([-0.12, 0.03, 0.002, -0.001])
    moved = unproject_np.distort(rays, distortion)
    np.testing.assert_allclose(unproject_np.undistort(moved, distortion), rays, atol=1e-12)
    pycolmap = pytest.importorskip("pycolmap")
    camera = pycolmap.Camera(model="OPENCV", width=100, height=80, params=[90, 95, 50, 40, *distortion])
    pixels = camera.img_from_cam(np.column_stack([rays, np.ones(50)]))
    matrix = np.array([[90.0, 0, 50], [0, 95, 40], [0, 0, 1]])
    points, still = np.column_stack([rays, np.ones(50)]) * 3, np.eye(4)[:3]
    projected, _ = unproject_np.project(points, still, matrix, distortion)
    np.testing.assert_allclose(projected, pixels, atol=1e-9)
    again = unproject_np.unproject(projected, np.full(50, 3.0), still, matrix, distortion=distortion)
    np.testing.assert_allclose(again, points, atol=1e-9)
