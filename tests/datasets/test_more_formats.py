"""Tanks and Temples, Bonn, the Image Matching Challenge, KITTI depth: their cameras, depth and errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import dataset_named, imc, kitti_depth, read_posed_set, tum
from manyview.errors import InputError, UsageError
from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.geometry.unproject_np import invert_rigid
from manyview.reconstruction.run.options import ReconstructOptions
from tests.models.tiny import tiny_vggt

from .posed_fixtures import (
    VIEWS,
    fake_h5py,
    text,
    world_from_cam,
    write_bonn,
    write_depth,
    write_image,
    write_imc,
    write_kitti_depth,
    write_scannet,
    write_tanks,
)

DRIVE = "2011_09_26_drive_0002_sync"


def test_bonn_turns_the_track_of_the_markers_into_cameras(tmp_path: Path) -> None:
    folder = tmp_path / "rgbd_bonn_crowd2"
    write_bonn(folder)
    found = read_posed_set(folder)
    assert found.format == "bonn" and found.depth.read(1)[5, 5] == 2.0
    np.testing.assert_allclose(found.cam_from_world, invert_rigid(world_from_cam()), atol=1e-9)
    as_they_are = tum.read(folder).cam_from_world
    assert np.abs(as_they_are - found.cam_from_world).max() > 0.5
    # The published calibration is a rotation but for its scale.
    assert np.linalg.det(found.cam_from_world[:, :, :3]) == pytest.approx(np.ones(VIEWS))


def test_bonn_counts_every_image_and_pairs_depth_by_index_where_papers_do(tmp_path: Path) -> None:
    write_bonn(tmp_path / "rgbd_bonn_crowd2")
    # An image before all others, with neither camera nor depth near in time: all depth is one frame late.
    write_image(tmp_path / "rgbd_bonn_crowd2" / "rgb" / "1341847979.000000.png", 9)
    dataset = dataset_named("bonn")
    (scene,) = dataset.scenes(tmp_path)
    timed, counted = dataset.read(scene), dataset.read(scene, every_image=True)
    assert len(timed) == VIEWS and len(counted) == VIEWS + 1
    assert [timed.depth.read(i)[5, 5] for i in (0, 4)] == [1.0, 5.0]
    assert [counted.depth.read(i)[5, 5] for i in (0, 4)] == [1.0, 5.0] and counted.depth.read(5) is None
    assert np.isnan(counted.cam_from_world[0]).all() and counted.with_cameras().images == timed.images
    np.testing.assert_array_equal(counted.cam_from_world[1:], timed.cam_from_world)


def test_frames_are_counted_before_those_without_a_camera_are_dropped(tmp_path: Path) -> None:
    write_scannet(tmp_path / "scannet" / "scene0000_00")
    text(tmp_path / "scannet" / "scene0000_00" / "pose" / "1.txt", np.full((4, 4), -np.inf))
    write_bonn(tmp_path / "bonn" / "rgbd_bonn_crowd2")
    write_image(tmp_path / "bonn" / "rgbd_bonn_crowd2" / "rgb" / "1341847979.000000.png", 9)
    for name, protocol, rule, used in (
        ("scannet", "pi3-trajectory", Frames("every", 2), [0, 3]),
        ("scannet", "pi3-trajectory", Frames("every", 2, count="all"), [0, 2, 4]),
        ("scannet", "pi3-trajectory", Frames("every", 3, first=1, count="all"), [4]),
        ("bonn", "pi3-video-depth-bonn", None, [0, 1, 2, 3, 4, 5]),  # depth needs no camera
    ):
        data, small = dataset_named(name), ReconstructOptions(image_size=28)
        found = evaluate_dataset(
            tiny_vggt(), data, tmp_path / name, PROTOCOLS[protocol], (), ("*",), rule, small, workers=1
        )
        (scene,) = data.scenes(tmp_path / name)
        images = data.read(scene, every_image=True).images
        assert found.scenes[0].frames == tuple(images[i].name for i in used), rule
        assert found.scenes[0].rows[0].failed is None


def test_tanks_without_the_alignment_keeps_its_own_scale(tmp_path: Path) -> None:
    write_tanks(tmp_path / "Barn")
    (tmp_path / "Barn" / "Barn.ply").write_bytes(b"ply")
    aligned = read_posed_set(tmp_path / "Barn")
    assert aligned.unit == "m" and aligned.cloud == tmp_path / "Barn" / "Barn.ply"
    (tmp_path / "Barn" / "Barn_trans.txt").unlink()
    own = read_posed_set(tmp_path / "Barn")
    assert own.unit == "units" and own.cloud is None and "own scale" in own.notes[0]
    paths = [np.linalg.norm(np.diff(invert_rigid(p.cam_from_world)[:, :, 3], axis=0)) for p in (aligned, own)]
    assert paths[0] == pytest.approx(2 * paths[1])


def test_images_of_tanks_are_found_by_their_place(tmp_path: Path) -> None:
    folder = tmp_path / "Barn"
    write_tanks(folder)
    log = folder / "Barn_COLMAP_SfM.log"
    items = log.read_text().splitlines()
    log.write_text("\n".join([*items[15:20], *items[5:10]]))  # the fourth, then the second
    found = read_posed_set(folder)
    assert [image.stem for image in found.images] == ["000002", "000004"]
    np.testing.assert_allclose(found.cam_from_world, invert_rigid(world_from_cam())[[1, 3]], atol=1e-9)
    assert found.notes == ("3 images without a camera left out",)
    (folder / "images" / "000001.jpg").unlink()
    (folder / "images" / "000003.jpg").unlink()
    with pytest.raises(InputError, match=r"4 images .* 3; .*images/"):
        read_posed_set(folder)
    log.write_text("\n".join(items[:-1]))
    with pytest.raises(InputError, match=r"SfM\.log.*4x4"):
        read_posed_set(folder)


def test_calibrations_of_the_image_matching_challenge(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "mount_rushmore" / "set_100"
    write_imc(folder)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="pip install h5py"):
        imc.read(folder)
    fake_h5py(monkeypatch)
    found = read_posed_set(folder)
    np.testing.assert_allclose(found.cam_from_world, invert_rigid(world_from_cam()), atol=1e-12)
    assert found.format == "imc" and found.name == "mount_rushmore" and found.intrinsics[0, 0, 0] == 30
    bag = folder / "sub_set" / "3bag_000.txt"
    np.testing.assert_allclose(imc.read(bag).cam_from_world, found.cam_from_world[[4, 0, 2]])
    damaged = folder / "calibration" / "calibration_2_x.h5"
    damaged.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"calibration_\w+\.h5"):
        imc.read(bag)
    damaged.unlink()
    with pytest.raises(InputError, match=r"calibration_2_x\.h5.*set_100"):
        imc.read(bag)
    (folder / "images" / "4_x.jpg").unlink()
    with pytest.raises(InputError, match=r"4_x .*3bag_000\.txt"):
        imc.read(bag)


def test_kitti_depth_takes_the_images_that_have_depth(tmp_path: Path) -> None:
    folder = tmp_path / "val" / DRIVE
    write_kitti_depth(folder)
    found = kitti_depth.read(folder)
    assert [image.stem for image in found.images] == [f"{i:010}" for i in range(2, VIEWS + 2)]
    depth = found.depth.read(2)
    assert np.isnan(depth[0]).all() and (depth[1] == 3).all()
    (tmp_path / "2011_09_26" / DRIVE / "image_02" / "data" / "0000000003.png").unlink()
    with pytest.raises(InputError, match=r"1 of 5 .*0000000003\.png"):
        kitti_depth.read(folder)


def test_kitti_depth_as_papers_gather_it(tmp_path: Path) -> None:
    root = tmp_path / "depth_selection" / "val_selection_cropped"
    for i in range(3):
        write_image(root / "image_gathered" / f"{DRIVE}_02" / f"{i:010}.png", i)
        values = np.full((24, 32), 512)
        write_depth(root / "groundtruth_depth_gathered" / f"{DRIVE}_02" / f"{i:010}.png", values)
    dataset = dataset_named("kitti-depth")
    (scene,) = dataset.scenes(tmp_path)
    assert scene.name == "2011_09_26_drive_0002"
    assert dataset.read(scene).depth.read(0)[0, 0] == 2


def test_the_selection_of_kitti_depth_is_single_images(tmp_path: Path) -> None:
    root = tmp_path / "depth_selection" / "val_selection_cropped"
    for number in (5, 8):
        name = f"{DRIVE}_image_{number:010}_image_02"
        write_image(root / "image" / f"{name}.png", number)
        text(root / "intrinsics" / f"{name}.txt", np.array([[30, 0, 15.5, 0, 31, 11.5, 0, 0, 1]]))
        values = np.full((24, 32), 256 * number)
        write_depth(
            root / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_{number:010}_image_02.png", values
        )
    dataset = dataset_named("kitti-depth")
    scenes = dataset.scenes(tmp_path)
    names = [f"2011_09_26_drive_0002/{number:010}" for number in (5, 8)]
    assert [scene.name for scene in scenes] == names
    posed = dataset.read(scenes[1])
    assert len(posed) == 1 and posed.depth.read(0)[0, 0] == 8 and posed.intrinsics[0, 0, 2] == 16
    # With intrinsics but without cameras there are points of nothing.
    found = evaluate_dataset(tiny_vggt(), dataset, tmp_path, PROTOCOLS["default"], workers=1)
    figures = found.scenes[0].rows[0].figures
    assert figures["abs_rel"] is not None and figures["accuracy"] is None and figures["ate"] is None
    (root / "groundtruth_depth" / f"{DRIVE}_groundtruth_depth_{8:010}_image_02.png").unlink()
    with pytest.raises(InputError, match=r"\.png: .*groundtruth_depth/"):
        dataset.read(scenes[1])


def test_depth_alone_has_no_figure_of_cameras(tmp_path: Path) -> None:
    write_kitti_depth(tmp_path / "val" / DRIVE)
    data = dataset_named("kitti-depth")
    for name in ("default", "pi3-video-depth-kitti"):
        found = evaluate_dataset(
            tiny_vggt(),
            data,
            tmp_path,
            PROTOCOLS[name],
            only=("*",),
            workers=1,
            references=("identity", "mean-step"),
        )
        for row in found.scenes[0].rows:
            assert row.figures["abs_rel"] is not None
            assert all(row.figures.get(figure) is None for figure in ("auc_30", "ate", "pairs", "accuracy"))
        # The same depth everywhere against 1 to 5 m.
        assert found.scenes[0].rows[1].figures["abs_rel"] > 0.3


def test_protocols_of_video_depth_take_the_frames_of_the_papers(tmp_path: Path) -> None:
    frames = PROTOCOLS["pi3-video-depth-bonn"].frames_of("bonn").choose(400)
    assert frames[0] == 30 and frames[-1] == 139 and len(frames) == 110
    assert PROTOCOLS["pi3-video-depth-kitti"].frames_of("kitti-depth").choose(300) == list(range(110))
    assert Frames("every", 2, first=3).choose(3) == [0, 2]
    with pytest.raises(ValueError, match="first frame"):
        Frames("spread", most=3, first=1)


@pytest.mark.parametrize(("name", "dataset"), [("tanks-pose", "tanks"), ("tanks-pose-200", "tanks")])
def test_protocols_of_poses_run_on_a_miniature(name: str, dataset: str, tmp_path: Path) -> None:
    write_tanks(tmp_path / "Barn")
    found = evaluate_dataset(
        tiny_vggt(), dataset_named(dataset), tmp_path, PROTOCOLS[name], only=("Barn",), workers=1
    )
    assert set(PROTOCOLS[name].columns) <= set(found.scenes[0].rows[0].figures)


def test_errors_name_what_is_expected_where(tmp_path: Path) -> None:
    (tmp_path / "rgbd_bonn_crowd2").mkdir()
    text(tmp_path / "poses.txt", np.eye(4))
    for name, expected in (
        ("bonn", r"rgbd_bonn_balloon2/groundtruth\.txt"),
        ("tanks", r"Barn/Barn_COLMAP_SfM\.log"),
        ("imc", "mount_rushmore/set_100/images"),
        ("kitti-depth", "val/2011_09_26_drive_0002_sync/proj_depth"),
    ):
        with pytest.raises(InputError, match=expected):
            dataset_named(name).scenes(tmp_path)
