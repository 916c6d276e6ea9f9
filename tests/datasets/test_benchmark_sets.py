"""ScanNet++, HiRoom, DTU-64, Waymo and NYU-v2: what is particular to them, and what is missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from manyview.datasets import Scene, dataset_named, read_posed_set
from manyview.datasets.exr import read_exr
from manyview.errors import InputError
from manyview.evaluate.protocols.published import PROTOCOLS
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.geometry.unproject_np import invert_rigid
from tests.models.tiny import tiny_vggt

from .fixture_files import VIEWS, cam_from_world, world_from_cam, write_image
from .published_layouts import (
    exr_bytes,
    write_dtu64,
    write_hiroom,
    write_nyu,
    write_scannetpp_da3,
    write_scannetpp_iphone,
    write_waymo,
)


@pytest.mark.parametrize(
    ("name", "write", "places", "names"),
    [
        ("scannet++", write_scannetpp_iphone, ("data/09c1414f1b", "data/1ada7a0617"), None),
        ("scannet++", write_scannetpp_da3, ("fb5a96b1a2",), None),
        ("hiroom", write_hiroom, ("hiroom/data/828738/a/cam_08", "hiroom/data/828750/b/cam_09"), None),
        ("dtu-64", write_dtu64, ("scan24", "scan105"), None),
        (
            "waymo",
            write_waymo,
            ("segment-10_with_camera_labels.tfrecord",),
            ("segment-10_with_camera_labels/1",),
        ),
    ],
)
def test_scenes_are_found_in_the_layout_of_the_download(
    name: str, write, places: tuple[str, ...], names: tuple[str, ...] | None, tmp_path: Path
) -> None:
    for place in places:
        write(tmp_path / place)
    dataset = dataset_named(name)
    found = dataset.scenes(tmp_path)
    expected = names or tuple(place.removeprefix("data/").removeprefix("hiroom/data/") for place in places)
    assert {scene.name for scene in found} >= set(expected)
    posed = dataset.read(found[0])
    assert posed.name == found[0].name and len(posed) == VIEWS
    np.testing.assert_allclose(posed.cam_from_world, cam_from_world(), atol=1e-6)


def test_scannetpp_takes_the_iphone_and_its_mesh(tmp_path: Path) -> None:
    write_scannetpp_da3(tmp_path)
    mesh = tmp_path / "scans" / "mesh_aligned_0.05.ply"
    mesh.parent.mkdir()
    mesh.write_bytes(b"ply")
    found = read_posed_set(tmp_path)
    assert found.cloud == mesh and found.images[0].parent.name == "iphone"
    assert [found.depth.read(i)[5, 5] for i in range(VIEWS)] == [1.0, 2.0, 3.0, 4.0, 5.0]
    write_scannetpp_iphone(tmp_path)
    assert read_posed_set(tmp_path).images == found.images  # the merged folder goes first
    (tmp_path / "merge_dslr_iphone").rename(tmp_path / "elsewhere")
    official = read_posed_set(tmp_path)
    assert official.images[0].parent.name == "rgb" and official.depth.read(1).shape == (12, 16)
    cameras = tmp_path / "iphone" / "colmap" / "cameras.txt"
    cameras.write_text(cameras.read_text().replace("0 0 0 0", "0.1 0 0 0"))
    assert "distorted" in read_posed_set(tmp_path).notes[0]
    (tmp_path / "iphone" / "rgb").rename(tmp_path / "iphone" / "not extracted")
    with pytest.raises(InputError, match=re.escape("iphone/rgb")):
        read_posed_set(tmp_path)


def test_hiroom_leaves_out_masked_depth_and_frames_without_a_camera(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "828738" / "a" / "cam_08"
    write_hiroom(folder)
    cloud = tmp_path / "fused_pcd" / "828738-a-cam_08.ply"
    cloud.parent.mkdir()
    cloud.write_bytes(b"ply")
    (folder / "pose" / "0001.npy").unlink()
    data = dataset_named("hiroom")
    (scene,) = data.scenes(tmp_path)
    found = data.read(scene)
    assert [image.stem for image in found.images] == ["0000", "0002", "0003", "0004"] and found.cloud == cloud
    depth = found.depth.read(1)
    np.testing.assert_allclose(depth[:, :16], 3, atol=1e-3)
    assert np.isnan(depth[:, 16:]).all()
    listed = tmp_path / "selected_scene_list_val.txt"
    listed.write_text("828738/a/cam_08\n")
    assert data.scenes(tmp_path) == (scene,)
    listed.write_text("828738/a/cam_09\n")
    with pytest.raises(InputError, match="HiRoom"):
        data.scenes(tmp_path)
    (folder / "cam_K.npy").unlink()
    with pytest.raises(InputError, match=r"cam_K\.npy: is missing"):
        data.read(scene)
    (folder / "pose" / "0002.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"0002\.npy"):
        data.read(scene)


def test_the_reference_view_of_dtu64_comes_first(tmp_path: Path) -> None:
    write_dtu64(tmp_path / "scan24")
    camera = (tmp_path / "Cameras" / "00000001_cam.txt").read_text()
    for i in range(VIEWS, 64):
        write_image(tmp_path / "scan24" / "image" / f"{i:08}.png", i % VIEWS)
        (tmp_path / "Cameras" / f"{i:08}_cam.txt").write_text(camera)
    data = dataset_named("dtu-64")
    found = data.read(data.scenes(tmp_path)[0])
    order = [int(image.stem) for image in found.images]
    assert order == [33, *range(33), *range(34, 64)] and found.unit == "mm"
    np.testing.assert_allclose(found.cam_from_world[[0, 1, 2]], cam_from_world()[[1, 0, 1]], atol=1e-9)
    assert len(data.split("da3")) == 13
    (tmp_path / "Cameras" / "00000040_cam.txt").unlink()
    with pytest.raises(InputError, match=r"00000040_cam\.txt: is missing; expected scan24/image"):
        data.read(data.scenes(tmp_path)[0])
    write_image(tmp_path / "scan24" / "image" / "x.png", 0)
    with pytest.raises(InputError, match=r"x\.png"):
        data.read(data.scenes(tmp_path)[0])


def test_each_camera_of_a_waymo_segment_is_a_scene(tmp_path: Path) -> None:
    folder = tmp_path / "segment-10.tfrecord"
    write_waymo(folder)
    data = dataset_named("waymo")
    scenes = data.scenes(tmp_path)
    assert [scene.name for scene in scenes] == ["segment-10/1", "segment-10/2"]
    second = data.read(scenes[1])
    expected = world_from_cam()
    expected[:, :, 3] += 1
    np.testing.assert_allclose(second.cam_from_world, invert_rigid(expected), atol=1e-9)
    depth = second.depth.read(3)
    assert (depth[::2] == 5).all() and np.isnan(depth[1::2]).all()
    assert data.read(Scene("front", folder)).images == data.read(scenes[0]).images
    (folder / "00003_2.npz").write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"00003_2\.npz"):
        data.read(scenes[1])
    (folder / "00003_1.npz").unlink()
    with pytest.raises(InputError, match=r"00003_1\.npz: is missing"):
        data.read(scenes[0])


def test_channels_of_openexr_come_back() -> None:
    values = np.random.default_rng(0).random((37, 21)).astype(np.float32)
    values[5:30] = 0
    for packed in (True, False):
        data = exr_bytes(values, packed)
        np.testing.assert_array_equal(read_exr(data), values)
        for cut in (3, 30, 200, len(data) - 4):
            with pytest.raises(ValueError):
                read_exr(data[:cut])
        with pytest.raises(ValueError, match="cannot hold"):
            read_exr(data.replace(b"\x14\0\0\0\x24\0\0\0", b"\xff\x7f\0\0\xff\x7f\0\0"))


def test_openexr_as_ffmpeg_writes_it(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    values = np.random.default_rng(1).random((40, 48)).astype(np.float32) * 80
    values[::3] = 0
    stream = av.codec.CodecContext.create("exr", "w")
    stream.width, stream.height, stream.pix_fmt, stream.time_base = 48, 40, "grayf32le", 1
    stream.options = {"compression": "zip16"}
    packets = stream.encode(av.VideoFrame.from_ndarray(values, "grayf32le"))
    data = b"".join(bytes(packet) for packet in packets)
    np.testing.assert_array_equal(read_exr(data), values)


def test_images_of_nyu_are_scenes_of_depth_alone(tmp_path: Path) -> None:
    for name in ("00001", "00002"):
        write_nyu(tmp_path / "val" / "nyu_images" / f"{name}.png")
    data = dataset_named("nyu")
    scenes = data.scenes(tmp_path)
    assert [scene.name for scene in scenes] == ["00001", "00002"]
    depth = data.read(scenes[1]).depth.read(0)
    assert np.isnan(depth[0]).all() and (depth[1:] == 2.5).all()
    protocol = dataclasses.replace(PROTOCOLS["default"], measures=PROTOCOLS["default"].measures[:3])
    found = evaluate_dataset(tiny_vggt(), data, tmp_path, protocol, only=("00001",), workers=1)
    figures = found.scenes[0].rows[0].figures
    assert figures["abs_rel"] is not None and figures["ate"] is None
    (tmp_path / "val" / "nyu_depths" / "00002.npy").unlink()
    with pytest.raises(InputError, match=r"nyu_depths.00002\.npy: is missing"):
        data.read(scenes[1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scannet++", "iphone"),
        ("hiroom", "fused_pcd"),
        ("dtu-64", r"Cameras/00000000_cam\.txt"),
        ("waymo", r"00000_1\.npz"),
        ("nyu", r"nyu_depths/NAME\.npy"),
    ],
)
def test_an_empty_root_says_what_is_expected(name: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=expected):
        dataset_named(name).scenes(tmp_path)
