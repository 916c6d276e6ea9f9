"""Known cameras: what is asked for, the unit of depth, and the world of the result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import manyview
from manyview.errors import UsageError
from manyview.geometry.align import centre_scale
from manyview.geometry.cameras import rotation_from_quat_xyzw
from manyview.models.da3.known import KnownCameras
from manyview.models.priors import Priors
from manyview.models.run_options import RunOptions
from tests.models.tiny_pi3 import tiny_pi3x

from .tiny_da3 import tiny_da3, write_da3


def _cameras(views, seed=0):
    """world_from_cam [views, 4, 4] far from the origin of their world."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4, dtype=torch.float64).repeat(views, 1, 1)
    quat = torch.randn(views, 4, generator=generator, dtype=torch.float64)
    poses[:, :3, :3] = rotation_from_quat_xyzw(quat)
    poses[:, :3, 3] = 100 + 3 * torch.randn(views, 3, generator=generator, dtype=torch.float64)
    return poses


K = torch.tensor([[60, 0, 28], [0, 60, 21], [0, 0, 1.0]], dtype=torch.float64)


def _priors(poses, **more):
    return Priors(poses[None], K.expand(1, len(poses), 3, 3), **more)


def _images(views):
    generator = torch.Generator().manual_seed(2)
    return torch.rand(1, views, 3, 42, 56, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("views", [2, 4, 12])
def test_cameras_are_the_given_ones_and_world_and_unit_scale_depth_alone(views):
    model, poses, images = tiny_da3().double(), _cameras(views), _images(views)
    with torch.no_grad():
        found = model(images, priors=_priors(poses))
        cam_from_world = torch.linalg.inv(poses)[:, :3]
        torch.testing.assert_close(found.cam_from_world[0], cam_from_world)
        torch.testing.assert_close(found.intrinsics[0], K.expand(views, 3, 3))
        # Another world, and another unit: the network sees the same. Two views have no unit, as published.
        moved, unit = poses.clone(), 7 if views > 2 else 1
        moved[:, :3, 3] *= unit
        other = model(images, priors=_priors(_cameras(1, seed=9) @ moved))
        plain = model(images)
    torch.testing.assert_close(other.z_depth, unit * found.z_depth, rtol=1e-6, atol=0)
    assert not torch.allclose(plain.z_depth / plain.z_depth.mean(), found.z_depth / found.z_depth.mean())


def test_one_view_has_the_unit_of_the_cameras():
    model, poses = tiny_da3().double(), _cameras(1)
    with torch.no_grad():
        found = model(_images(1), priors=_priors(poses))
    assert found.z_depth.isfinite().all() and found.cameras_given


@pytest.mark.parametrize("views", [2, 3, 5, 12, 40])
@pytest.mark.parametrize("line", [False, True])
def test_the_scale_of_a_similarity_is_found(views, line):
    given = _cameras(views)[:, :3, 3]
    if line:
        given = given[:1] + torch.arange(views)[:, None] * torch.tensor([[1.0, 2, 3]], dtype=torch.float64)
    predicted = 0.25 * given @ _cameras(1)[0, :3, :3].T + 5
    if views >= 12:  # single wrong predictions do not count
        predicted[3] += 50
    assert float(centre_scale(given, predicted)) == pytest.approx(0.25, rel=1e-9)


def test_centres_in_one_place_have_no_scale():
    same = torch.ones(4, 3, dtype=torch.float64)
    assert float(centre_scale(same, _cameras(4)[:, :3, 3], 3.0)) == 3
    assert float(centre_scale(_cameras(4)[:, :3, 3], same, 3.0)) == 3


def test_what_is_missing_is_named():
    poses, shape = _cameras(3), (1, 3, 3, 42, 56)
    yes = torch.ones(1, 3, dtype=torch.bool)
    no_third = torch.tensor([[True, True, False]])
    for priors, named in (
        (Priors(poses[None]), "view 1 of 3.*intrinsics"),
        (Priors(intrinsics=K.expand(1, 3, 3, 3)), "view 1 of 3.*poses"),
        (_priors(poses, has_pose=no_third), "view 3 of 3.*poses"),
        (_priors(poses, has_intrinsics=no_third), "view 3 of 3.*intrinsics"),
        (_priors(poses, z_depth=torch.ones(1, 3, 42, 56), has_depth=yes), "view 1 of 3.*depth"),
    ):
        with pytest.raises(UsageError, match=named) as error:
            KnownCameras.of(priors, shape)
        assert "\n" not in str(error.value)


def test_a_reference_view_is_not_chosen_among_known_cameras():
    options = RunOptions(reference_view="middle")
    with pytest.raises(UsageError, match="middle"):
        tiny_da3().double()(_images(3), options=options, priors=_priors(_cameras(3)))


def _known(folder, poses, names):
    folder.mkdir()
    rows = (" ".join([name, *(repr(float(x)) for x in pose.flatten())]) for name, pose in zip(names, poses))
    (folder / "poses.txt").write_text("\n".join(rows))
    (folder / "intrinsics.txt").write_text("60 0 31.5\n0 60 23.5\n0 0 1\n")
    return folder


NAMES = ["0.png", "1.png", "2.png", "3.png"]


def test_a_result_has_exactly_the_given_cameras(photos, tmp_path):
    model, poses = manyview.load(write_da3(tmp_path / "da3.safetensors")), _cameras(4).numpy()
    known = manyview.KnownFiles(_known(tmp_path / "known", poses, NAMES))
    result = manyview.reconstruct(photos, model, known=known, image_size=56)
    np.testing.assert_allclose(result.world_from_cam, poses[:, :3], rtol=1e-12, atol=1e-9)
    assert result.intrinsics[0, 0, 0] == pytest.approx(60 * 56 / 64)
    result.save(tmp_path / "out")
    again = manyview.load_reconstruction(tmp_path / "out")
    np.testing.assert_array_equal(again.cam_from_world, result.cam_from_world)
    some = manyview.KnownFiles(_known(tmp_path / "some", poses[:3], NAMES))
    with pytest.raises(UsageError, match=r"3\.png.*poses"):
        manyview.reconstruct(photos, model, known=some, image_size=56)


def test_another_network_is_moved_to_the_known_cameras(photos):
    poses = _cameras(4).numpy()
    known = manyview.KnownViews([np.linalg.inv(pose) for pose in poses[:3]] + [None], K.numpy())
    model = tiny_pi3x()
    found = manyview.reconstruct(photos, model, known=known, point_head=True)
    np.testing.assert_allclose(found.world_from_cam[0], poses[0, :3], atol=1e-5)
    spread = [np.linalg.norm(x[:3] - x[:3].mean(0)) for x in (found.world_from_cam[:, :, 3], poses[:, :3, 3])]
    assert 0.1 < spread[0] / spread[1] < 10
