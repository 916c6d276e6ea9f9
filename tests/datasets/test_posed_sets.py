"""Readers of posed images: hand-made folders of every format, and the conventions against real data."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.datasets import read_posed_set, strecha
from manyview.datasets.posed_set import PosedSet
from manyview.errors import InputError
from manyview.geometry.unproject_np import camera_centres, invert_rigid

from .posed_fixtures import (
    VIEWS,
    WRITERS,
    text,
    world_from_cam,
    write_image,
    write_kitti,
    write_plain,
    write_tum,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sequences" / "07"


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_cameras(kind: str, folder: Path) -> None:
    WRITERS[kind](folder)
    found = read_posed_set(folder)
    assert found.format == kind.split(" ")[0] and len(found) == VIEWS and not found.notes
    np.testing.assert_allclose(found.cam_from_world, invert_rigid(world_from_cam()), atol=1e-6)
    np.testing.assert_allclose(camera_centres(found.cam_from_world), world_from_cam()[:, :, 3], atol=1e-6)
    assert [image.is_file() for image in found.images] == [True] * VIEWS
    if found.intrinsics is not None and kind not in ("7-scenes", "nrgbd"):
        expected = [[30, 0, 16], [0, 31, 12], [0, 0, 1]]
        np.testing.assert_allclose(found.intrinsics, np.tile(expected, (VIEWS, 1, 1)))


@pytest.mark.parametrize(("kind", "deep"), [("plain", 65.535), ("7-scenes", None), ("tum", None)])
def test_depth_is_in_metres_and_what_was_not_measured_is_nan(
    kind: str, deep: float | None, folder: Path
) -> None:
    WRITERS[kind](folder)
    depth = read_posed_set(folder).depth
    for index in range(VIEWS):
        values = depth.read(index)
        assert np.isnan(values[0]).all()
        np.testing.assert_allclose(values[2:], index + 1)
        if deep is not None:
            np.testing.assert_allclose(values[1], deep)
    if kind in ("7-scenes", "nrgbd"):
        assert np.isnan(depth.read(0)[1]).all()


def test_the_colour_camera_of_kitti_stands_beside_the_grey_one(folder: Path) -> None:
    write_kitti(folder)
    (folder / "image_0").rename(folder / "image_2")
    found = read_posed_set(folder)
    # P2 = K [I | (0.2, 0.1, 0)]: the grey camera's origin is at x 0.2, y 0.1 of the colour camera.
    expected = invert_rigid(world_from_cam())
    expected[:, :, 3] += [0.2, 0.1, 0.0]
    np.testing.assert_allclose(found.cam_from_world, expected, atol=1e-9)


def test_tum_leaves_out_what_has_no_camera_near_in_time(folder: Path) -> None:
    write_tum(folder)
    write_image(folder / "rgb" / "1341847999.000000.png", 9)
    found = read_posed_set(folder)
    assert len(found) == VIEWS and found.notes == ("1 frames without a camera left out",)


def test_seven_scenes_leaves_out_lost_frames(folder: Path) -> None:
    WRITERS["7-scenes"](folder)
    text(folder / "frame-000002.pose.txt", np.full((4, 4), -np.inf))
    write_image(folder / "frame-000009.color.png", 9)
    found = read_posed_set(folder)
    assert [image.name[:12] for image in found.images] == [f"frame-{i:06}" for i in (0, 1, 3, 4)]
    assert found.notes == ("2 frames without a camera left out",)


def test_spread_keeps_both_ends_and_everything_of_a_view(folder: Path) -> None:
    write_plain(folder)
    whole = read_posed_set(folder)
    few = whole.spread(3)
    assert [image.stem for image in few.images] == ["0", "2", "4"]
    np.testing.assert_array_equal(few.cam_from_world, whole.cam_from_world[[0, 2, 4]])
    assert few.depth.read(1)[5, 5] == 3.0 and len(few.intrinsics) == 3
    assert whole.spread(VIEWS) is whole


def _one_image_less(folder: Path) -> None:
    (folder / "color" / "3.png").unlink()


def _no_rotation(folder: Path) -> None:
    text(
        folder / "poses.txt",
        np.arange(80.0).reshape(5, 16) * 0 + [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1],
    )


def _column_major(folder: Path) -> None:
    rows = np.loadtxt(folder / "poses.txt").reshape(5, 4, 4).transpose(0, 2, 1).reshape(5, 16)
    text(folder / "poses.txt", rows)


def _words(folder: Path) -> None:
    path = folder / "poses.txt"
    path.write_text(path.read_text().replace("0 0 0 1", "0 0 0 one", 1))


def _nothing(folder: Path) -> None:
    (folder / "poses.txt").unlink()


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_one_image_less, "5 cameras .* 4 images"),
        (_no_rotation, r"poses\.txt.* view 0 "),
        (_column_major, r"poses\.txt.*row-major"),
        (_words, r"poses\.txt: line 1 "),
        (_nothing, r"plain: SCENE/poses\.txt"),
    ],
)
def test_a_broken_folder_raises_and_names_the_file(spoil, named: str, folder: Path) -> None:
    write_plain(folder)
    spoil(folder)
    with pytest.raises(InputError, match=named):
        read_posed_set(folder)


def test_depth_of_another_kind_is_refused(folder: Path) -> None:
    write_plain(folder)
    Image.new("RGB", (4, 4)).save(folder / "depth" / "1.png")
    with pytest.raises(InputError, match=r"1\.png"):
        read_posed_set(folder).depth.read(1)
    with pytest.raises(InputError, match="elsewhere"):
        read_posed_set(folder / "elsewhere")


# Against real data: two readers of the same cameras, and depth moved from view to view.


def _linked(target: Path, images: Path, files: dict[str, Path], under: str) -> Path:
    (target / under).mkdir(parents=True)
    for path in images.iterdir():
        (target / under / path.name).symlink_to(path)
    for name, path in files.items():
        (target / name).symlink_to(path)
    return target


@pytest.mark.parametrize("name", ["mvs-fountain-p11", "mvs-herz-jesu-p25"])
def test_camera_files_agree_with_matrices(name: str, shared_data: Path) -> None:
    matrices, files = read_posed_set(shared_data / name), strecha.read(shared_data / name)
    assert matrices.format == "plain" and matrices.images == files.images
    np.testing.assert_allclose(files.cam_from_world, matrices.cam_from_world, atol=1e-4)
    # Within the half pixel by which scaling whole-number centres and scaling corners differ.
    np.testing.assert_allclose(files.intrinsics, matrices.intrinsics, atol=0.5)


def test_kitti_and_tum_tracks_agree_with_matrices(shared_data: Path, tmp_path: Path) -> None:
    kitti = shared_data / "seq-kitti-a"
    rows = {"poses.txt": kitti / "source_poses_kitti.txt"}
    own = read_posed_set(_linked(tmp_path / "kitti", kitti / "gray", rows, "image_0"))
    assert own.format == "kitti"
    np.testing.assert_allclose(own.cam_from_world, read_posed_set(kitti).cam_from_world, atol=1e-4)
    tum = shared_data / "seq-tum-fr3-office"
    matrices = read_posed_set(tum)
    for track, tolerance in (("poses_tum.txt", 1e-5), ("groundtruth_100hz.txt", 0.01)):
        rows = {"groundtruth.txt": tum / track}
        own = read_posed_set(_linked(tmp_path / track, tum / "color", rows, "rgb"))
        assert own.format == "tum" and own.images[0].name == matrices.images[0].name
        assert np.abs(own.cam_from_world - matrices.cam_from_world).max() < tolerance


def _disagreement(posed: PosedSet, gap: int) -> float:
    """Median |dz| in metres of depth moved from view k to view k + gap, over a few k."""
    errors = []
    intrinsics = posed.intrinsics[0]
    for k in range(0, len(posed) - gap, 12):
        here, there = posed.depth.read(k), posed.depth.read(k + gap)
        rows, columns = np.mgrid[2 : here.shape[0] : 6, 2 : here.shape[1] : 6]
        z = here[rows, columns].ravel()
        pixels = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5, np.ones(z.size)])
        world = invert_rigid(posed.cam_from_world[k])
        points = world[:, :3] @ (np.linalg.inv(intrinsics) @ pixels * z) + world[:, 3:]
        moved = posed.cam_from_world[k + gap][:, :3] @ points + posed.cam_from_world[k + gap][:, 3:]
        u, v = (intrinsics @ moved)[:2] / moved[2]
        inside = (moved[2] > 0) & (u >= 0) & (v >= 0) & (u < here.shape[1]) & (v < here.shape[0])
        seen = there[v[inside].astype(int), u[inside].astype(int)]
        errors.append(np.abs(seen - moved[2][inside]))
    return float(np.nanmedian(np.concatenate(errors)))


def test_depth_and_cameras_agree_from_view_to_view(shared_data: Path, tmp_path: Path) -> None:
    """The set as delivered, and its raw frames in 7-Scenes' own layout; inverted cameras must not agree."""
    kitchen = shared_data / "rgbd-redkitchen"
    raw = tmp_path / "seq-01"
    raw.mkdir()
    poses = np.loadtxt(kitchen / "poses_depth_camera.txt").reshape(-1, 4, 4)
    for index, (path, pose) in enumerate(zip(sorted((kitchen / "depth_raw").iterdir()), poses)):
        (raw / f"frame-{index:06}.depth.png").symlink_to(path)
        (raw / f"frame-{index:06}.color.jpg").symlink_to(kitchen / "color" / f"{path.stem}.jpg")
        text(raw / f"frame-{index:06}.pose.txt", pose)
    for folder, kind in ((kitchen, "plain"), (raw, "7-scenes")):
        posed = read_posed_set(folder)
        assert posed.format == kind and len(posed) == 100
        inverted = dataclasses.replace(posed, cam_from_world=invert_rigid(posed.cam_from_world))
        assert _disagreement(posed, 5) < 0.03 < 0.15 < _disagreement(inverted, 5), kind
    assert torch.from_numpy(posed.cam_from_world).isfinite().all()


@pytest.mark.parametrize("name", ["../../../1.jpg", "/1.jpg", "out/1.jpg"])
@pytest.mark.parametrize("kind", ["colmap", "colmap binary", "eth3d", "tum", "co3d"])
def test_names_in_lists_and_models_do_not_leave_the_set(
    folder: Path, kind: str, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write_image(tmp_path_factory.mktemp("outside") / "1.jpg", 1)
    outside = tmp_path_factory.getbasetemp() / "outside0"
    WRITERS[kind](folder)
    for place in (folder, folder / "images"):
        place.mkdir(exist_ok=True)
        (place / "out").symlink_to(outside)
    if kind == "tum":
        source = folder / "rgb.txt"
        source.write_text(f"1.5 {name}\n")
    elif kind == "co3d":
        source = folder.parent / "frame_annotations.jgz"
        frames = json.loads(gzip.decompress(source.read_bytes()))
        frames[0]["image"]["path"] = f"sequences/07/{name}" if name == "out/1.jpg" else name
        source.write_bytes(gzip.compress(json.dumps(frames).encode()))
    else:
        source = folder / ("dslr_calibration_undistorted" if kind == "eth3d" else "sparse/0")
        model = source / ("images.bin" if kind == "colmap binary" else "images.txt")
        old = b"dslr_images_undistorted/DSC_0001.JPG" if kind == "eth3d" else b"1.jpg"
        model.write_bytes(model.read_bytes().replace(old, name.encode()))
    with pytest.raises(InputError) as caught:
        read_posed_set(folder)
    assert str(source) in str(caught.value) and name in str(caught.value)
